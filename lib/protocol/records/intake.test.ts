import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, utf8 } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import type { DagRecord } from './format.ts';
import { recordId, withoutValue } from './identity.ts';
import { Intake, type LimboRoom, type Outcome } from './intake.ts';
import { withCertificate } from './make.ts';
import {
  ALICE,
  AUTHORITY,
  bytesIn,
  certify,
  DRIFT,
  FOUNDER,
  genesisRecord,
  idOf,
  MALLORY,
  MemoryMembers,
  NOW,
  networkOf,
  SECOND,
  write,
} from './network.fixture.ts';
import { bytesOf, NOON } from './records.fixture.ts';
import { encodeRevocation } from './statements.ts';

const genesis = networkOf();
const ROOM: LimboRoom = { records: 100, bytes: 1 << 20 };

const offer = (intake: Intake, bytes: Uint8Array, from = 'peer', now = NOW): Outcome | string => {
  try {
    return intake.offer(bytes, from, now);
  } catch (error) {
    return codeOf(error);
  }
};

/** Some history, and what is not part of it. */
const history = (() => {
  const first = genesisRecord();
  const root = recordId(first);
  const one = write(FOUNDER, { links: [root], timestamp: NOON + SECOND });
  const two = write(FOUNDER, { links: [root], timestamp: NOON + SECOND, value: utf8('two') });
  const links = [recordId(one), recordId(two)];
  const certificate = certify(links);
  const under = withCertificate(recordId(certificate));
  const alices = (seconds: number, on: readonly DagRecord[]) =>
    write(ALICE, { links: on.map(recordId), timestamp: NOON + seconds * SECOND }, under);
  const early = alices(3, [one, two]);
  const later = alices(100, [early, two]);
  const revocation = write(AUTHORITY, {
    type: 'revocation',
    links: [recordId(later)],
    timestamp: NOON + 200 * SECOND,
    value: encodeRevocation(1n),
  });
  // Its certificate is revoked, in what it stands on too: that is for readers to judge.
  const revoked = alices(210, [later, revocation]);
  const last = alices(300, [revoked, certificate]);
  const backdated = alices(10, [later, last]);
  const expired = alices(1801, [later, last]);
  const mallorys = write(MALLORY, { links, timestamp: NOON + 5 * SECOND }, under);
  const onRefused = alices(400, [backdated, last]);
  const onThat = alices(401, [onRefused, mallorys]);
  return {
    members: [first, one, two, certificate, early, later, revocation, revoked, last],
    refused: [backdated, expired, mallorys],
    heirs: [onRefused, onThat],
  };
})();
const expected = history.members.map(idOf).toSorted();

/** The same record with a signature that is not good: the same identity. */
const spoiled = (record: DagRecord): DagRecord => ({
  ...record,
  signature: record.signature.with(3, record.signature[3]! ^ 1),
});

test('however many waited for one record are members with it', () => {
  const many = 300;
  const first = genesisRecord();
  const parent = write(FOUNDER, { links: [recordId(first)], timestamp: NOON + SECOND });
  const heirs = Array.from({ length: many }, (_, n) =>
    write(FOUNDER, { links: [recordId(parent)], timestamp: NOON + 2 * SECOND + n }),
  );
  const intake = new Intake(genesis, new MemoryMembers(), { records: many, bytes: 1 << 22 });
  offer(intake, bytesIn(first));
  for (const heir of heirs) expect(offer(intake, bytesIn(heir))).toMatchObject({ kind: 'waiting' });
  // A call takes some hundred thousand arguments, and less where the stack is deep: here two hundred.
  const push = Array.prototype.push;
  const bounded = function (this: unknown[], ...items: unknown[]): number {
    if (items.length > 200) throw new RangeError('Maximum call stack size exceeded');
    return Reflect.apply(push, this, items) as number;
  };
  const define = (value: typeof push) =>
    Object.defineProperty(Array.prototype, 'push', { value, writable: true, configurable: true });
  define(bounded as typeof push);
  try {
    expect(offer(intake, bytesIn(parent))).toMatchObject({ kind: 'members', ids: { length: many + 1 } });
  } finally {
    define(push);
  }
});

test('any order of arrival gives the same members, each after what it stands on', () => {
  const all = [
    ...history.members,
    ...history.members.map(spoiled),
    ...history.members.filter(({ type }) => type === 'datum').map(withoutValue),
    ...history.refused,
    ...history.heirs,
    // Some twice.
    ...history.members.slice(2, 5),
  ].map(bytesIn);
  fc.assert(
    fc.property(fc.shuffledSubarray(all, { minLength: all.length }), (arriving) => {
      const members = new MemoryMembers();
      const intake = new Intake(genesis, members, ROOM);
      for (const [i, bytes] of arriving.entries()) offer(intake, bytes, `peer ${i % 3}`);
      expect(members.ids).toEqual(expected);
      expect([...members.all.values()].filter(({ record }) => record.value.kind === 'pruned')).toEqual([]);
      const seen = new Set<string>();
      for (const { id, record } of members.all.values()) {
        for (const link of record.links) expect(seen).toContain(Buffer.from(link).toString('hex'));
        seen.add(id);
      }
      // What is left in limbo is no member's.
      expect(intake.waiting().every((id) => history.heirs.map(idOf).includes(id))).toBe(true);
    }),
    { numRuns: 25 },
  );
});

describe('limbo', () => {
  const inOrder = history.members.map(bytesIn);
  const fresh = (room = ROOM) => {
    const members = new MemoryMembers();
    return { members, intake: new Intake(genesis, members, room) };
  };

  test('says what is missing, wants what nobody has offered, and lets all in with the last', () => {
    const { members, intake } = fresh();
    for (const bytes of inOrder.slice(1).toReversed()) {
      expect(offer(intake, bytes)).toMatchObject({ kind: 'waiting' });
    }
    expect(intake.wanted()).toEqual([expected.find((id) => id === idOf(history.members[0]!))]);
    expect(members.ids).toEqual([]);
    const outcome = offer(intake, inOrder[0]!) as Extract<Outcome, { kind: 'members' }>;
    expect(outcome.ids.toSorted()).toEqual(expected);
    expect(intake.waiting()).toEqual([]);
    expect(intake.wanted()).toEqual([]);
    expect(offer(intake, inOrder[3]!)).toEqual({ kind: 'known', id: idOf(history.members[3]!) });
  });

  test('a bad copy does not shut out the good one, before or after', () => {
    const { members, intake } = fresh();
    offer(intake, inOrder[0]!);
    const record = history.members[1]!;
    expect(offer(intake, bytesIn(spoiled(record)))).toBe('RECORD_SIGNATURE');
    expect(offer(intake, bytesIn(record))).toMatchObject({ kind: 'members' });
    expect(offer(intake, bytesIn(spoiled(record)))).toEqual({ kind: 'known', id: idOf(record) });
    expect(members.all.get(idOf(record))!.record).toEqual(record);
    expect(members.ids).toHaveLength(2);
  });

  test('a copy without its value does not shut out the value, before or after, nor in limbo', () => {
    const record = history.members[1]!;
    const [whole, pruned] = [bytesIn(record), bytesIn(withoutValue(record))];
    const valueIn = ({ all }: MemoryMembers) => all.get(idOf(record))!.record.value;

    const late = fresh();
    offer(late.intake, inOrder[0]!);
    expect(offer(late.intake, pruned)).toMatchObject({ kind: 'members' });
    const falsified = bytesIn(spoiled(record));
    expect(offer(late.intake, falsified)).toBe('RECORD_SIGNATURE');
    expect(valueIn(late.members).kind).toBe('pruned');
    expect(offer(late.intake, whole)).toEqual({ kind: 'restored', id: idOf(record) });
    expect(valueIn(late.members)).toEqual(record.value);
    expect(offer(late.intake, pruned)).toEqual({ kind: 'known', id: idOf(record) });
    expect(valueIn(late.members)).toEqual(record.value);

    const waiting = fresh();
    for (const bytes of [pruned, whole, pruned]) {
      expect(offer(waiting.intake, bytes)).toMatchObject({ kind: 'waiting' });
    }
    offer(waiting.intake, inOrder[0]!);
    expect(valueIn(waiting.members)).toEqual(record.value);
    expect(waiting.intake.waiting()).toEqual([]);
  });

  test('what waits for something refused is out with it', () => {
    const { intake } = fresh();
    for (const record of history.heirs) offer(intake, bytesIn(record));
    for (const bytes of inOrder) offer(intake, bytes);
    expect(intake.waiting().toSorted()).toEqual(history.heirs.map(idOf).toSorted());
    expect(offer(intake, bytesIn(history.refused[0]!))).toBe('RECORD_BACKDATED');
    expect(intake.waiting()).toEqual([]);
    expect(intake.wanted()).toEqual([]);
  });

  test('a peer fills its own room, and nobody else’s', () => {
    const { members, intake } = fresh({ records: 2, bytes: 1 << 20 });
    const orphans = Array.from({ length: 4 }, (_, i) =>
      bytesIn(write(FOUNDER, { links: [bytesOf(`${i}`)] })),
    );
    expect(orphans.map((bytes) => codeOrKind(offer(intake, bytes, 'mallory')))).toEqual([
      'waiting',
      'waiting',
      'RECORD_LIMBO_FULL',
      'RECORD_LIMBO_FULL',
    ]);
    expect(codeOrKind(offer(intake, inOrder[1]!, 'alice'))).toBe('waiting');
    // Members need no room, and make some.
    expect(codeOrKind(offer(intake, inOrder[0]!, 'mallory'))).toBe('members');
    expect(members.ids).toHaveLength(2);
    intake.forget('mallory');
    expect(intake.waiting()).toEqual([]);
    expect(orphans.slice(2).map((bytes) => codeOrKind(offer(intake, bytes, 'mallory')))).toEqual([
      'waiting',
      'waiting',
    ]);
  });

  test('a room is also one of bytes, and what left it makes place', () => {
    const bytes = inOrder[1]!;
    const { intake } = fresh({ records: 100, bytes: bytes.length + 10 });
    expect(codeOrKind(offer(intake, bytes))).toBe('waiting');
    expect(codeOrKind(offer(intake, inOrder[2]!))).toBe('RECORD_LIMBO_FULL');
    expect(codeOrKind(offer(intake, inOrder[0]!))).toBe('members');
    const orphan = bytesIn(write(FOUNDER, { links: [bytesOf('x')] }));
    expect(codeOrKind(offer(intake, orphan))).toBe('waiting');
  });

  test('it keeps bytes of its own', () => {
    const { members, intake } = fresh();
    const buffer = inOrder[1]!.slice();
    offer(intake, buffer);
    buffer.fill(0);
    offer(intake, inOrder[0]!);
    const kept = members.all.get(idOf(history.members[1]!))!;
    expect(Buffer.compare(kept.bytes, inOrder[1]!)).toBe(0);
  });

  test('a record of the future waits for the clock alone, and is a member then', () => {
    const { members, intake } = fresh();
    for (const bytes of inOrder.slice(0, 3)) offer(intake, bytes);
    const links = [fromHex(idOf(history.members[1]!))];
    const record = write(FOUNDER, { links, timestamp: NOW + DRIFT + 5 });
    const early = offer(intake, bytesIn(record));
    expect(early).toEqual({ kind: 'early', id: idOf(record), until: NOW + 5 });
    expect(members.ids).toHaveLength(3);
    expect(codeOrKind(offer(intake, bytesIn(record), 'peer', NOW + 5))).toBe('members');
  });
});

function codeOrKind(outcome: Outcome | string): string {
  return typeof outcome === 'string' ? outcome : outcome.kind;
}
