import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { type Draft, makeRecord, type Permitter, withCertificate } from '../../lib/protocol/records/make.ts';
import {
  ALICE,
  AUTHORITY,
  certify,
  FOUNDER,
  idOf,
  MALLORY,
  SECOND,
  write,
} from '../../lib/protocol/records/network.fixture.ts';
import { MAX_ORDINAL, ordinalRanges } from '../../lib/protocol/records/ordinals.ts';
import { keysFor, NOON } from '../../lib/protocol/records/records.fixture.ts';
import { encodeCommentary, encodeRevocation } from '../../lib/protocol/records/statements.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { solveWork } from '../../lib/protocol/records/work.ts';
import { chainOf, GENESIS } from './chain.fixture.ts';
import type { RecordsNode } from './node.ts';
import type { RecordQuery } from './query.ts';
import { freshRecords, NOW, openNode } from './records.fixture.ts';

const root = recordId(GENESIS);
const keyOf = (seed: Uint8Array) => toHex(publicKeyOfSeed(seed));
const named = (name: string, ordinal: bigint) => ({ keys: keysFor(name), ordinal });
const range = (name: string, from = 0n, to = MAX_ORDINAL) => ({
  claimKey: keysFor(name).claimKey,
  tags: ordinalRanges(keysFor(name).ordinalKey, from, to),
});
const at = (seconds: number) => NOON + seconds * SECOND;

async function nodeWith(records: readonly DagRecord[], options = {}): Promise<RecordsNode> {
  const node = await openNode(freshRecords(), options);
  for (const record of records) await node.add(encodeRecord(record), 'peer');
  expect(node.count).toBe(records.length + 1);
  return node;
}
const idsOf = (node: RecordsNode, query: RecordQuery) =>
  node.query(query).sets.map((set) => set.map(({ id }) => id));

/** Founder and authority write without work or certificate. */
const by = (owner: Uint8Array, seconds: number, change: Partial<Draft> = {}) =>
  write(owner, { links: [root], timestamp: at(seconds), ...change });

describe('records are found', () => {
  const one = by(FOUNDER, 1, { names: [named('a', 1n), named('b', 1n)] });
  const two = by(FOUNDER, 2, { names: [named('a', 2n)] });
  const three = by(AUTHORITY, 3, { names: [named('a', 30n)] });
  const all = [one, two, three];

  test('by ranges of the ordinals of a name, and by several names', async () => {
    const node = await nodeWith(all);
    const found = (query: RecordQuery) => idsOf(node, query).flat().toSorted();
    const ids = (...records: DagRecord[]) => records.map(idOf).toSorted();
    expect(found({ names: [range('a')] })).toEqual(ids(one, two, three));
    expect(found({ names: [range('a', 2n, 29n)] })).toEqual(ids(two));
    expect(found({ names: [range('a', 1n, 2n)] })).toEqual(ids(one, two));
    expect(found({ names: [range('b'), range('a')] })).toEqual(ids(one));
    expect(found({ names: [range('a', 2n, 3n), range('b')] })).toEqual([]);
    expect(found({ names: [range('c')] })).toEqual([]);
  });

  test('by owner and by time', async () => {
    const node = await nodeWith(all);
    expect(idsOf(node, { owners: [keyOf(AUTHORITY)] })).toEqual([[idOf(three)]]);
    expect(idsOf(node, { names: [range('a')], owners: [keyOf(AUTHORITY)] })).toEqual([[idOf(three)]]);
    expect(idsOf(node, { owners: [keyOf(MALLORY)] })).toEqual([]);
    expect(idsOf(node, { from: at(2), to: at(3) })).toEqual([[idOf(two)], [idOf(three)]]);
    expect(idsOf(node, { names: [range('a')], to: at(1) })).toEqual([[idOf(one)]]);
  });

  test('up to a limit, which the answer tells of', async () => {
    const node = await nodeWith(all);
    const { sets, isCut } = node.query({ names: [range('a')], limit: 2 });
    expect([sets.length, isCut]).toEqual([2, true]);
    expect(node.query({ names: [range('a')], limit: 3 }).isCut).toBe(false);
    expect(node.query({ from: at(0), limit: 2 }).isCut).toBe(true);
    const code = (query: RecordQuery) => codeOf(catching(() => node.query(query)));
    const [whole] = range('a').tags;
    const many = Array.from({ length: 600 }, () => whole!);
    for (const query of [
      {},
      { from: 0, limit: 0 },
      { from: 0, limit: 10_001 },
      { names: Array.from({ length: 16 }, () => range('a')) },
      { names: [{ ...range('a'), tags: many }] },
      { owners: Array.from({ length: 257 }, () => keyOf(ALICE)) },
      { from: 0, oracles: Array.from({ length: 65 }, () => root) },
    ]) {
      expect(code(query)).toBe('RECORDS_QUERY');
    }
  });
});

describe('of records that conflict', () => {
  const names = [named('a', 1n)];
  const first = by(FOUNDER, 10, { names });
  // Dated earlier, and newer to this node.
  const collider = by(AUTHORITY, 5, { names });
  const firstAgain = write(FOUNDER, {
    names,
    links: [recordId(first)],
    timestamp: at(20),
    value: utf8('new'),
  });

  test('the one seen first is shown first, with its owner’s newest value; the collider is not believed', async () => {
    const node = await nodeWith([first, collider, firstAgain]);
    const [set] = node.query({ names: [range('a')] }).sets;
    expect(set).toMatchObject([
      { id: idOf(firstAgain), owner: keyOf(FOUNDER), trust: 1, isCollider: false, weight: 0 },
      { id: idOf(collider), owner: keyOf(AUTHORITY), trust: 0, isCollider: true, weight: 0 },
    ]);
    expect(decodeRecord(set![0]!.bytes)).toEqual(firstAgain);
  });

  test('what came before this node had all that its peers had is no collider, also for a rebuilt index', async () => {
    let isSynchronised = false;
    const node = await nodeWith([first, collider], { isSynchronised: () => isSynchronised });
    const [set] = node.query({ names: [range('a')] }).sets;
    // Of equal trust and weight: the earlier one.
    expect(set).toMatchObject([
      { id: idOf(collider), trust: 1 },
      { id: idOf(first), trust: 1 },
    ]);
    isSynchronised = true;
    const third = by(AUTHORITY, 30, { names, value: utf8('again') });
    await node.add(encodeRecord(third), 'peer');
    expect(node.query({ names: [range('a')], from: at(30) }).sets[0]).toMatchObject([{ isCollider: true }]);
  });

  test('in the shared mode owners do not meet', async () => {
    const records = [FOUNDER, AUTHORITY].map((owner) => by(owner, 1, { names, shared: true }));
    const node = await nodeWith(records);
    const { sets } = node.query({ names: [range('a')] });
    expect(sets).toHaveLength(2);
    expect(sets.flat().map(({ trust, weight }) => ({ trust, weight }))).toEqual([
      { trust: 1, weight: undefined },
      { trust: 1, weight: undefined },
    ]);
  });

  test('oracles that the reader names count, others do not', async () => {
    const node = await nodeWith([first, collider]);
    const comment = by(AUTHORITY, 30, {
      type: 'commentary',
      value: encodeCommentary({ subject: recordId(first), opinion: 'suspect' }),
    });
    await node.add(encodeRecord(comment), 'peer');
    const trusts = (oracles: Uint8Array[]) =>
      node.query({ names: [range('a')], owners: [keyOf(FOUNDER)], oracles }).sets[0]![0]!;
    expect(trusts([])).toMatchObject({ trust: 1, suspectedBy: [] });
    const oracle = publicKeyOfSeed(AUTHORITY);
    expect(trusts([oracle])).toMatchObject({ trust: 0.5, suspectedBy: [toHex(oracle)] });
    expect(trusts([publicKeyOfSeed(ALICE)])).toMatchObject({ trust: 1, suspectedBy: [] });
  });

  test('what a revoked certificate let in has no trust', async () => {
    const [base] = chainOf(1) as [DagRecord];
    const certificate = certify([root]);
    const links = [recordId(base), recordId(certificate)];
    const alices = write(ALICE, { names, links, timestamp: at(5) }, withCertificate(recordId(certificate)));
    const node = await nodeWith([base, certificate, alices]);
    const trust = () => node.query({ names: [range('a')] }).sets[0]![0];
    expect(trust()).toMatchObject({ trust: 1, isRevoked: false });
    const revoke = (serial: bigint, owner: Uint8Array) =>
      node.add(encodeRecord(by(owner, 40, { type: 'revocation', value: encodeRevocation(serial) })), 'peer');
    await revoke(2n, AUTHORITY);
    expect(trust()).toMatchObject({ trust: 1 });
    await revoke(1n, AUTHORITY);
    expect(trust()).toMatchObject({ trust: 0, isRevoked: true });
  });
});

describe('a record that is made here', () => {
  const draft = { type: 'datum' as const, names: [named('mine', 1n)], value: utf8('mine') };

  test('stands on trusted tips, and ties them together', async () => {
    const tips = [1, 2].map((n) => by(FOUNDER, n, { names: [named('a', BigInt(n))] }));
    const collider = by(AUTHORITY, 3, { names: [named('a', 1n)] });
    const node = await nodeWith([...tips, collider]);
    const id = await node.make(draft, FOUNDER);
    const record = decodeRecord(node.get(id)!);
    expect(record.links.map(toHex).toSorted()).toEqual(tips.map(idOf).toSorted());
    expect(record.timestamp).toBe(NOW);
    const next = decodeRecord(node.get(await node.make({ ...draft, value: utf8('next') }, FOUNDER))!);
    expect(next.links.map(toHex)).toContain(id);
    expect(next.links.map(toHex)).not.toContain(idOf(collider));
    expect(next.links).toHaveLength(2);
  });

  test('of an owner with a certificate that is in force names it; without one it needs a permit', async () => {
    const [base] = chainOf(1) as [DagRecord];
    const certificate = certify([root], { notAfter: NOW + 1000 });
    const old = certify([root], { serial: 2n });
    const node = await nodeWith([base, certificate, old]);
    const record = decodeRecord(node.get(await node.make(draft, ALICE))!);
    expect(record.permit).toEqual({ kind: 'certificate', certificate: recordId(certificate) });
    await expect(node.make(draft, MALLORY)).rejects.toMatchObject({ code: 'RECORDS_PERMIT' });
    await expect(node.make({ ...draft, value: new Uint8Array(2000) }, ALICE)).rejects.toMatchObject({
      code: 'RECORD_VALUE',
    });
  });

  test('adds its weight to all that it stands on, by which conflicts are decided where trust is equal', async () => {
    const names = [named('a', 1n)];
    const [light, heavy] = [by(FOUNDER, 5, { names }), by(AUTHORITY, 10, { names })];
    const node = await nodeWith([light, heavy], { isSynchronised: () => false });
    const best = () => node.query({ names: [range('a')] }).sets[0]![0];
    expect([node.weightOf(idOf(heavy)), node.weightOf('00'.repeat(32))]).toEqual([0, undefined]);
    expect(best()).toMatchObject({ id: idOf(light), weight: 0 });
    const permitter: Permitter = (seedFor) => solveWork(seedFor(3), 3);
    const worked = makeRecord(
      { ...draft, timestamp: at(20), links: [root, recordId(heavy)] },
      MALLORY,
      permitter,
    );
    await node.add(encodeRecord(worked), 'peer');
    expect([light, heavy, GENESIS].map((record) => node.weightOf(idOf(record)))).toEqual([0, 3, 3]);
    expect(best()).toMatchObject({ id: idOf(heavy), weight: 3 });
    // Work that was not done is refused.
    const none: Permitter = () => ({
      kind: 'work',
      difficulty: 7,
      nonce: new Uint8Array(16),
      solution: new Uint8Array(68),
    });
    await expect(node.make(draft, FOUNDER, none)).rejects.toMatchObject({ code: 'RECORD_WORK' });
  });
});

function catching(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}
