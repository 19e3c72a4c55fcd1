/** Peers by records that do what they like: what it costs, and whom. */
import { Type } from 'typebox';
import { expect, onTestFinished, test } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import { Liar } from '../records/wire/sockets.fixture.ts';
import { Charges } from './charges.ts';
import { numberOf, someKinds, someRequest } from './gossip.fixture.ts';
import { type Message, type MessageKind, messageId } from './message-kind.ts';
import { MessageStore, type MessageStoreOptions } from './message-store.ts';
import { RECORDS, type RecordsHost, recordsHost } from './records.fixture.ts';

/** From this on messages are forged, and from that on of no use. */
const [FORGED, STALE] = [1_000, 100_000];

/** A host and what its checks have seen. */
async function judging(
  more: Parameters<typeof recordsHost>[0] = {},
): Promise<RecordsHost & { judged: number[] }> {
  const judged: number[] = [];
  const kinds = someKinds(async (message) => {
    const n = numberOf(message);
    judged.push(n);
    if (n >= STALE) throw new DstackError('GOSSIP_STALE', 'too old');
    if (n >= FORGED) throw new DstackError('GOSSIP_SIGNATURE', 'forged');
    return message;
  });
  return { ...(await recordsHost({ kinds, ...more })), judged };
}

const held = ({ gossip }: RecordsHost): number[] =>
  gossip.messages
    .after(0, 5000)
    .map(({ message }) => numberOf(message))
    .toSorted((a, b) => a - b);

const bodyOf = (n: number): Uint8Array => RECORDS.encode(someRequest(n));
const idOf = (bytes: Uint8Array): string => toHex(recordId(decodeRecord(bytes)));

/** Offers these and gives what it is asked for, until it is cut off or nothing was asked for a while. @returns how often it was asked */
async function pour(at: number, label: string, bodies: readonly Uint8Array[]): Promise<number> {
  const byId = new Map(bodies.map((body) => [idOf(body), body]));
  let asked = 0;
  try {
    const liar = await Liar.at(at, RECORDS.network, label);
    onTestFinished(() => liar.socket.end());
    liar.say({ kind: 'announce', ids: [...byId.keys()] });
    while (asked < bodies.length) {
      const quiet = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 20_000));
      const message = await Promise.race([liar.hearUntil('want'), quiet]);
      if (message === undefined) break;
      for (const id of message.ids) {
        asked += 1;
        liar.say({ kind: 'records', records: [byId.get(id)!] });
      }
    }
  } catch {
    // Cut off.
  }
  return asked;
}

const some = (from: number, count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, n) => bodyOf(from + n));

test('who sends what no honest relay passes on is heard as long as its address has credit, however many keys it makes', async () => {
  const host = await judging();
  const begun = performance.now();
  for (let nth = 0; nth < 8; nth++) await pour(host.at.port, `forger ${nth}`, some(FORGED + 100 * nth, 30));
  const seconds = (performance.now() - begun) / 1000;
  await expect.poll(() => host.judged.length).toBeGreaterThan(50);
  // As charges.ts gives: at once, and in a second; and one for each connection that it ended with.
  expect(host.judged.length).toBeLessThanOrEqual(64 + seconds / 2 + 8);
  await expect.poll(() => host.charges).toContain('SYNC_RECORD');
  expect(held(host)).toEqual([]);
  // A peer that the operator chose pays for nobody else.
  const good = await recordsHost();
  const other = await judging({ peers: [good.at] });
  await good.gossip.publish(someRequest(1));
  await expect.poll(() => held(other)).toEqual([1]);
});

test('what is of no use is asked for slowly, and once', async () => {
  const host = await judging();
  const begun = performance.now();
  void pour(host.at.port, 'late', some(STALE, 1_000));
  await expect.poll(() => host.judged.length, { timeout: 120_000 }).toBeGreaterThanOrEqual(512);
  await new Promise((resolve) => setTimeout(resolve, 6_000));
  const seconds = (performance.now() - begun) / 1000;
  // As charges.ts gives: so many at once, and then each second.
  expect(host.judged.length).toBeLessThanOrEqual(512 + 4 * seconds + 2);
  expect(new Set(host.judged).size).toBe(host.judged.length);
});

test('good messages of one address take the room of one stranger, whatever its keys', async () => {
  const host = await judging();
  for (let nth = 0; nth < 4; nth++) await pour(host.at.port, `flooder ${nth}`, some(1 + 50 * nth, 50));
  // Not all, if this machine was so slow that it gave a peer up.
  await expect.poll(() => host.judged.length).toBeGreaterThan(100);
  // As message-log.ts has it.
  expect(held(host).length).toBe(64);
});

test('a message that says the same in another way is none', async () => {
  const host = await judging();
  const good = decodeRecord(bodyOf(1));
  const others: Partial<DagRecord>[] = [
    { timestamp: 1 },
    { shared: true },
    { value: { kind: 'whole', bytes: utf8(JSON.stringify(someRequest(1))) } },
    { value: { kind: 'whole', bytes: utf8('{"type":') } },
    { value: { kind: 'whole', bytes: Uint8Array.from([0, 0, 2, 0, 0]) } },
    { value: { kind: 'whole', bytes: Uint8Array.from([0, 0, 1, 0, 1, ...new Uint8Array(64)]) } },
    { value: { kind: 'whole', bytes: Uint8Array.from([0, 255, 255, 255, 255, ...new Uint8Array(64)]) } },
  ];
  for (const [nth, change] of others.entries())
    await pour(host.at.port, `speller ${nth}`, [encodeRecord({ ...good, ...change })]);
  expect(host.judged).toEqual([]);
  await expect.poll(() => host.charges.filter((code) => code === 'SYNC_RECORD')).toHaveLength(others.length);
  // Whoever signs it, the message is the same.
  await pour(host.at.port, 'signer', [encodeRecord({ ...good, signature: new Uint8Array(64) })]);
  await expect.poll(() => held(host)).toEqual([1]);
});

const noteKind: MessageKind = {
  type: 'note',
  schema: Strict({ type: Type.Literal('note'), subject: Type.String(), text: Type.String() }),
  subjectOf: ({ subject }) => String(subject),
  admit: async (message) => message,
};

test('a message in parts of which some do not come keeps nobody else’s out', async () => {
  const kinds = [...someKinds(), noteKind];
  const host = await recordsHost({ kinds });
  const notes: Message[] = Array.from({ length: 10 }, (_, n) => ({
    type: 'note',
    subject: 'ab'.repeat(32),
    text: `${n}`.repeat(100_000),
  }));
  const heads = notes.map((note) => RECORDS.encode(note));
  const liar = await Liar.at(host.at.port, RECORDS.network, 'half');
  onTestFinished(() => liar.socket.end());
  const byId = new Map(heads.map((head) => [idOf(head), head]));
  liar.say({ kind: 'announce', ids: [...byId.keys()] });
  const { ids } = await liar.hearUntil('want');
  for (const id of ids) liar.say({ kind: 'records', records: [byId.get(id)!] });
  // It is asked for the parts, and says nothing. So many are waited for, of one peer.
  await liar.hearUntil('want');
  const unfinished = () =>
    host.carrier.figures().find(({ name }) => name === 'dstack_relay_records_unfinished')!.value;
  await expect.poll(unfinished).toBeGreaterThan(0);
  await pour(host.at.port, 'another', heads);
  expect(unfinished()).toBeLessThanOrEqual(2 * 4);
  // Another has them.
  const good = await recordsHost({ kinds, peers: [host.at] });
  for (const note of notes.slice(0, 3)) await good.gossip.publish(note);
  for (const note of notes.slice(0, 3))
    await expect.poll(() => host.gossip.get(messageId(note))?.message).toEqual(note);
});

/** Of more than one part, and with the same first part. */
const alike = (end: string): Message => ({
  type: 'note',
  subject: 'ab'.repeat(32),
  text: 'x'.repeat(100_000) + end,
});

test('messages with a part in common come in, both', async () => {
  const kinds = [...someKinds(), noteKind];
  const source = await recordsHost({ kinds });
  for (const end of ['a', 'b', 'c']) await source.gossip.publish(alike(end));
  const host = await recordsHost({ kinds, peers: [source.at] });
  for (const end of ['a', 'b', 'c'])
    await expect
      .poll(() => host.gossip.get(messageId(alike(end))) !== undefined, { timeout: 10_000 })
      .toBe(true);
});

test('a message keeps its parts when another one with such a part is gone', () => {
  const there = new Map(['a', 'b'].map((end) => [messageId(alike(end)), { message: alike(end) }]));
  const exchange = {
    get: (id: Hex) => there.get(id),
    holds: (id: Hex) => there.has(id),
  } as unknown as MessageStoreOptions['exchange'];
  const store = new MessageStore({
    records: RECORDS,
    exchange,
    charges: new Charges(),
    sourceOf: () => '',
    pause: async () => false,
  });
  const [kept, gone] = [...there.keys()] as [Hex, Hex];
  store.show([kept, gone]);
  there.delete(gone);
  store.prune();
  for (const part of RECORDS.of(alike('a')).parts) expect(store.get(part)).toBeDefined();
  const own = RECORDS.of(alike('b')).parts[1]!;
  expect(store.get(own)).toBeUndefined();
  there.delete(kept);
  store.prune();
  for (const part of RECORDS.of(alike('a')).parts) expect(store.get(part)).toBeUndefined();
});
