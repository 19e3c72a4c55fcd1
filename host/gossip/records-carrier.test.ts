import { Type } from 'typebox';
import { expect, test } from 'vitest';
import { openStore } from '../../lib/framework/store.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { decodeRecord } from '../../lib/protocol/records/codec.ts';
import { genesisOf } from '../../lib/protocol/records/genesis.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import { freePort } from '../../test/support/free-port.ts';
import { createRecords } from '../records/folder.ts';
import { freshFolder, openNode } from '../records/records.fixture.ts';
import { keyOf } from '../records/wire/sockets.fixture.ts';
import { RecordWire } from '../records/wire/wire.ts';
import { numberOf, someAnswer, someKinds, someRequest } from './gossip.fixture.ts';
import { type MessageKind, messageId } from './message-kind.ts';
import { MessageRecords } from './message-records.ts';
import { DOMAIN, RECORDS, type RecordsHost, recordsHost } from './records.fixture.ts';
import { RecordsCarrier } from './records-carrier.ts';

const held = ({ gossip }: RecordsHost): number[] =>
  gossip.messages
    .after(0, 5000)
    .map(({ message }) => numberOf(message))
    .toSorted((a, b) => a - b);
const withoutKey = ({ at: { host, port } }: RecordsHost) => ({ host, port });

/** A kind whose messages may be long. */
const noteKind: MessageKind<{ type: 'note'; subject: string; text: string }> = {
  type: 'note',
  schema: Strict({ type: Type.Literal('note'), subject: Type.String(), text: Type.String() }),
  subjectOf: ({ subject }) => subject,
  admit: async (message) => message,
};
const note = (text: string) => ({ type: 'note', subject: 'ab'.repeat(32), text }) as const;
const withNotes = [...someKinds(), noteKind as unknown as MessageKind];

test('two relays and one that comes later have the same messages, whoever had them first', async () => {
  const one = await recordsHost();
  const other = await recordsHost({ peers: [one.at] });
  await one.gossip.publish(someRequest(1));
  await other.gossip.publish(someRequest(2));
  await expect
    .poll(() => [held(one), held(other)])
    .toEqual([
      [1, 2],
      [1, 2],
    ]);
  const late = await recordsHost({ peers: [withoutKey(other)] });
  await expect.poll(() => held(late)).toEqual([1, 2]);
  await late.gossip.publish(someAnswer(messageId(someRequest(1))));
  await expect.poll(() => one.gossip.messages.count().loose).toBe(3);
  // The relay that was dialled is the one that the operator named; those that dial it are strangers.
  expect(late.carrier.status()).toEqual([{ peer: `records://127.0.0.1:${other.at.port}`, reachable: true }]);
  expect(sources(late)).toEqual(['self', `records://127.0.0.1:${other.at.port}`]);
  expect(sources(one)).toEqual(['self', 'records/127.0.0.1']);
});

const sources = ({ gossip }: RecordsHost): string[] =>
  [...new Set(gossip.messages.after(0, 100).map(({ source }) => source))].toSorted().toReversed();

test.each([['with their keys'], ['without']])(
  'two relays that name each other %s are both peers of the settings, whichever connection stays',
  async (how) => {
    // Ports and keys have to be known before either starts.
    const stores = [openStore(':memory:'), openStore(':memory:')] as const;
    const ports = [await freePort(), await freePort()] as const;
    const keys = stores.map(
      (store) => new RecordsCarrier({ domain: DOMAIN, store, log: { info() {}, warn() {} }, peers: [] }).key,
    );
    const hostOf = (nth: 0 | 1) => {
      const other = { host: '127.0.0.1', port: ports[1 - nth]! };
      return recordsHost({
        store: stores[nth],
        peers: [how === 'without' ? other : { ...other, key: keys[1 - nth]! }],
        carrier: { listen: { host: '127.0.0.1', port: ports[nth] } },
      });
    };
    const [one, other] = await Promise.all([hostOf(0), hostOf(1)]);
    await expect
      .poll(() => [one, other].map((host) => host.carrier.status()[0]!.reachable))
      .toEqual([true, true]);
    // Each has learned who the other is, by its own dialling or by the key.
    await one.gossip.publish(someRequest(1));
    await other.gossip.publish(someRequest(2));
    await expect
      .poll(() => [held(one), held(other)])
      .toEqual([
        [1, 2],
        [1, 2],
      ]);
    expect([sources(one), sources(other)]).toEqual([
      ['self', `records://127.0.0.1:${ports[1]}`],
      ['self', `records://127.0.0.1:${ports[0]}`],
    ]);
  },
);

test('a peer that is named by its key is one also where only it can dial', async () => {
  const store = openStore(':memory:');
  const { key } = new RecordsCarrier({ domain: DOMAIN, store, log: { info() {}, warn() {} }, peers: [] });
  const port = await freePort();
  const one = await recordsHost({ peers: [{ host: '127.0.0.1', port, key }] });
  const other = await recordsHost({ store, peers: [one.at] });
  await other.gossip.publish(someRequest(1));
  await expect.poll(() => held(one)).toEqual([1]);
  expect(sources(one)).toEqual([`records://127.0.0.1:${port}`]);
  expect(one.carrier.status()).toEqual([{ peer: `records://127.0.0.1:${port}`, reachable: true }]);
});

test('a peer whose key is not the one of the settings is not spoken to', async () => {
  const one = await recordsHost();
  const other = await recordsHost({ peers: [{ ...one.at, key: toHex(keyOf('another').publicKey) }] });
  await one.gossip.publish(someRequest(1));
  await expect.poll(() => other.charges.filter((code) => code === 'WIRE_KEY').length).toBeGreaterThan(3);
  expect(held(other)).toEqual([]);
  // Said once to each operator whose setting it is; of strangers nothing, however often they come.
  expect(other.said).toEqual(['no connection by records with a relay: WIRE_KEY']);
  expect(one.said).toEqual([]);
});

test('a message that is longer than a value travels in parts, by their digests', async () => {
  const one = await recordsHost({ kinds: withNotes });
  const other = await recordsHost({ kinds: withNotes, peers: [one.at] });
  const long = note('long '.repeat(25_000));
  // Both parts of it are the same record.
  const even = note('x'.repeat(2 * 65_536 - JSON.stringify(note('')).length));
  for (const message of [note('short'), long, even]) await one.gossip.publish(message);
  expect([long, even].map((message) => RECORDS.of(message).parts.length)).toEqual([2, 2]);
  for (const message of [long, even])
    await expect.poll(() => other.gossip.get(messageId(message))?.message).toEqual(message);
});

test('what is not held any more is no record any more, and is not fetched again from who still has it', async () => {
  const judged: number[] = [];
  const kinds = someKinds(async (message) => {
    judged.push(numberOf(message));
    if (isOver) throw new DstackError('GOSSIP_STALE', 'too old');
    return message;
  });
  let isOver = false;
  const one = await recordsHost();
  const other = await recordsHost({ peers: [one.at], kinds });
  await one.gossip.publish(someRequest(1));
  await expect.poll(() => held(other)).toEqual([1]);
  isOver = true;
  const subject = other.gossip.messages.subjectOf(someRequest(1));
  other.gossip.messages.forget(subject);
  await expect.poll(() => figure(other, 'dstack_relay_records_held')).toBe(0);
  // It is offered again, judged once more, and left alone.
  await expect.poll(() => judged).toEqual([1, 1]);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(judged).toEqual([1, 1]);
  expect(other.carrier.status()[0]!.reachable).toBe(true);
  // And the other way round: who has it not can't give it.
  one.gossip.messages.forget(subject);
  await expect.poll(() => figure(one, 'dstack_relay_records_held')).toBe(0);
}, 120_000);

test('what is on chain and not here any more is asked for at once', async () => {
  const limits = { interval: 3_600_000, again: 3_600_000 };
  const one = await recordsHost({ carrier: { limits } });
  const other = await recordsHost({ peers: [one.at], carrier: { limits } });
  await one.gossip.publish(someRequest(1));
  await expect.poll(() => held(other)).toEqual([1]);
  const subject = other.gossip.messages.subjectOf(someRequest(1));
  other.gossip.messages.forget(subject);
  await expect.poll(() => figure(other, 'dstack_relay_records_held')).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(held(other)).toEqual([]);
  other.gossip.messages.seek(subject);
  await expect.poll(() => held(other)).toEqual([1]);
});

const figure = ({ carrier }: RecordsHost, name: string): number | undefined =>
  carrier.figures().find((one) => one.name === name)?.value;

test('what can not be judged yet is judged again soon', async () => {
  let isReady = false;
  const kinds = someKinds(async (message) => {
    if (!isReady) throw new Retryable('RPC_UNREACHABLE', 'not yet');
    return message;
  });
  const one = await recordsHost();
  const other = await recordsHost({ peers: [one.at], kinds });
  await one.gossip.publish(someRequest(1));
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(held(other)).toEqual([]);
  isReady = true;
  await expect.poll(() => held(other)).toEqual([1]);
});

test('the records of a network are records: a node of records keeps them as anybody’s', async () => {
  const folder = freshFolder();
  createRecords(folder, RECORDS.genesis);
  const node = await openNode(folder, { now: Date.now });
  const wire = new RecordWire({ store: node, staticKey: keyOf('node') });
  const one = await recordsHost({ kinds: withNotes });
  try {
    await one.gossip.publish(someRequest(1));
    await one.gossip.publish(note('long '.repeat(25_000)));
    wire.dial(one.at);
    // Genesis, a request, a note and its two parts.
    await expect.poll(() => node.count).toBe(5);
    const bytes = node.get(RECORDS.of(someRequest(1)).id)!;
    expect(RECORDS.read(decodeRecord(bytes))).toEqual(decodeValue(bytes));
    expect(JSON.parse(Buffer.from(decodeValue(bytes)).toString())).toEqual(someRequest(1));
  } finally {
    await wire.stop();
  }
});

function decodeValue(bytes: Uint8Array): Uint8Array {
  const { value } = decodeRecord(bytes);
  return value.kind === 'whole' ? value.bytes : value.hash;
}

test('all relays of a network find the same first record by themselves, those of another find another', () => {
  const again = new MessageRecords({ ...DOMAIN });
  expect(again.network).toBe(RECORDS.network);
  expect(toHex(genesisOf(decodeRecord(RECORDS.genesis)).id)).toBe(RECORDS.network);
  expect(new MessageRecords({ ...DOMAIN, chainId: 2 }).network).not.toBe(RECORDS.network);
  // A vector: it must never change, or relays of two releases would not speak.
  expect(RECORDS.network).toBe('18b867b5149a3ef49f1a04363ee8951205c470c1b0ce23a1a76afff6f2de4236');
  expect(toHex(recordId(decodeRecord(RECORDS.encode(someRequest(1)))))).toBe(RECORDS.of(someRequest(1)).id);
  expect(fromHex(RECORDS.network)).toHaveLength(32);
});
