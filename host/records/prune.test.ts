import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test, vi } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId, withoutValue } from '../../lib/protocol/records/identity.ts';
import { withCertificate } from '../../lib/protocol/records/make.ts';
import { ALICE, certify, FOUNDER, idOf, SECOND, write } from '../../lib/protocol/records/network.fixture.ts';
import { keysFor, NOON } from '../../lib/protocol/records/records.fixture.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { GENESIS } from './chain.fixture.ts';
import { INDEX_FILE, LOG_FILE } from './folder.ts';
import type { RecordsNode } from './node.ts';
import { rebuildRecords } from './rebuild.ts';
import { freshFolder, freshRecords, openNode } from './records.fixture.ts';

const LARGE = new Uint8Array(900).fill(7);
const first = recordId(GENESIS);
const under = (name: string, seconds: number, value: Uint8Array, ...links: Uint8Array[]) =>
  write(FOUNDER, {
    links: [first, ...links],
    names: [{ keys: keysFor(name), ordinal: 1n }],
    value,
    timestamp: NOON + seconds * SECOND,
  });

/** Its hash would take more room. */
const small = under('small', 10, utf8('x'));

/** What its owner has replaced, twice; and what it has not. */
const oldest = under('page', 10, LARGE);
const middle = under('page', 20, LARGE, recordId(oldest));
const newest = under('page', 30, LARGE, recordId(middle));
const other = under('other', 10, LARGE);
const nameless = write(FOUNDER, { links: [first], value: LARGE, timestamp: NOON + 10 * SECOND });
const certificate = certify([first]);
/** Another owner's under the same name, later. */
const foreign = write(
  ALICE,
  {
    links: [first, recordId(oldest)],
    names: [{ keys: keysFor('page'), ordinal: 1n }],
    value: LARGE,
    timestamp: NOON + 15 * SECOND,
  },
  withCertificate(recordId(certificate)),
);
const all = [oldest, middle, newest, other, small, nameless, certificate, foreign];

async function fill(node: RecordsNode): Promise<void> {
  for (const record of all)
    expect(await node.add(encodeRecord(record), 'peer')).toMatchObject({ kind: 'members' });
}

async function filled(folder = freshRecords()): Promise<{ folder: string; node: RecordsNode }> {
  const node = await openNode(folder);
  await fill(node);
  return { folder, node };
}

const prunedIn = (node: RecordsNode): DagRecord[] =>
  all.filter((record) => decodeRecord(node.get(idOf(record))!).value.kind === 'pruned');
const sizeOf = (folder: string): number => statSync(join(folder, LOG_FILE)).size;

/** The index that the log alone gives. */
async function rebuiltDump(folder: string): Promise<string[]> {
  const copy = freshFolder();
  copyFileSync(join(folder, LOG_FILE), join(copy, LOG_FILE));
  return [...(await openNode(copy)).dump()];
}

describe('values are thrown away', () => {
  test('those alone that their owner has replaced, unless more is asked for', async () => {
    const { node } = await filled();
    expect(await node.prunable({})).toEqual({ discarded: 2, bytes: 2 * LARGE.length });
    expect(prunedIn(node)).toEqual([]);
    expect(await node.prune({})).toMatchObject({ discarded: 2, bytes: 2 * LARGE.length });
    expect(prunedIn(node)).toEqual([oldest, middle]);
    expect(await node.prune({})).toMatchObject({ discarded: 0 });
  });

  test.each([
    ['by age', { before: NOON + 20 * SECOND, current: true }, [oldest, other, nameless, foreign]],
    ['by size', { atLeast: LARGE.length, current: true }, [oldest, middle, newest, other, nameless, foreign]],
    ['by a size that none has', { atLeast: LARGE.length + 1, current: true }, []],
    ['by owner', { owners: [toHex(publicKeyOfSeed(ALICE))], current: true }, [foreign]],
    [
      'by name',
      {
        names: [
          {
            claimKey: keysFor('page').claimKey,
            tags: [{ from: new Uint8Array(8), to: new Uint8Array(8).fill(255) }],
          },
        ],
        current: true,
      },
      [oldest, middle, newest, foreign],
    ],
    ['by age, of what was replaced', { before: NOON + 20 * SECOND }, [oldest]],
  ])('%s', async (_, choice, expected) => {
    const { node } = await filled();
    await node.prune(choice);
    expect(prunedIn(node).map(idOf)).toEqual(expected.map(idOf));
  });

  test('and their space is given back; records, order, winners, weights and links are as before', async () => {
    const { folder, node } = await filled();
    const question = {
      names: [
        {
          claimKey: keysFor('page').claimKey,
          tags: [{ from: new Uint8Array(8), to: new Uint8Array(8).fill(255) }],
        },
      ],
    };
    const seen = () =>
      node
        .query(question)
        .sets.map((set) => set.map(({ id, trust, isCollider, weight }) => [id, trust, isCollider, weight]));
    const [items, before, winners] = [[...node.items()], sizeOf(folder), seen()];
    const { before: said, after } = await node.prune({});
    expect([said, after]).toEqual([before, sizeOf(folder)]);
    expect(before - after).toBe(2 * (LARGE.length - 32));
    expect([...node.items()]).toEqual(items);
    expect(seen()).toEqual(winners);
    expect(node.get(idOf(middle))).toEqual(encodeRecord(withoutValue(middle)));
    expect(readdirSync(folder).filter((name) => name.startsWith(LOG_FILE))).toEqual([LOG_FILE]);
    expect(statSync(join(folder, LOG_FILE)).mode & 0o777).toBe(0o600);
    // And it takes records as before.
    const more = under('page', 40, LARGE, recordId(middle));
    expect(await node.add(encodeRecord(more), 'peer')).toMatchObject({ kind: 'members' });
    await node.close();
    expect([...(await openNode(folder)).items()]).toHaveLength(items.length + 1);
  });

  test('the index is the one that the log alone gives, after it, after more records, and after a rebuild', async () => {
    const { folder, node } = await filled();
    await node.prune({});
    expect([...node.dump()]).toEqual(await rebuiltDump(folder));
    await node.add(encodeRecord(under('page', 40, LARGE, recordId(newest))), 'peer');
    const dump = [...node.dump()];
    expect(dump).toEqual(await rebuiltDump(folder));
    await node.close();
    await rebuildRecords(folder);
    const withoutSalt = (lines: string[]) => lines.filter((line) => !line.startsWith('covered'));
    expect(withoutSalt([...(await openNode(folder)).dump()])).toEqual(withoutSalt(dump));
  });

  test('the older entry of a record whose value came later goes too', async () => {
    const { folder, node } = await filled();
    const late = under('late', 50, LARGE);
    await node.add(encodeRecord(withoutValue(late)), 'peer');
    const smaller = sizeOf(folder);
    await node.add(encodeRecord(late), 'peer');
    await node.prune({ atLeast: LARGE.length + 1 });
    expect(sizeOf(folder)).toBe(smaller + LARGE.length - 32);
    expect(node.get(idOf(late))).toEqual(encodeRecord(late));
    expect([...node.dump()]).toEqual(await rebuiltDump(folder));
  });

  test('records that come meanwhile are taken after it', async () => {
    const { folder, node } = await filled();
    const later = under('page', 60, LARGE, recordId(newest));
    const both = await Promise.allSettled([node.prune({}), node.add(encodeRecord(later), 'peer')]);
    expect(both).toMatchObject([{ value: { discarded: 2 } }, { value: { kind: 'members' } }]);
    expect(node.get(idOf(later))).toEqual(encodeRecord(later));
    await node.close();
    expect((await openNode(folder)).get(idOf(later))).toEqual(encodeRecord(later));
  });
});

describe('what was thrown away', () => {
  test('is asked of no peer, and not taken from one', async () => {
    const { folder, node } = await filled();
    await node.prune({});
    expect([node.lacksValue(idOf(oldest)), node.lackingValues(10)]).toEqual([false, []]);
    expect(await node.add(encodeRecord(oldest), 'peer')).toEqual({ kind: 'known', id: idOf(oldest) });
    await node.close();
    const again = await openNode(folder);
    expect([again.lacksValue(idOf(oldest)), again.lackingValues(10)]).toEqual([false, []]);
  });

  test('is asked for again where somebody wants it', async () => {
    const { folder, node } = await filled();
    await node.prune({});
    expect(await node.wantAgain()).toBe(2);
    expect(node.lackingValues(10)).toEqual([idOf(oldest), idOf(middle)]);
    expect(await node.add(encodeRecord(oldest), 'peer')).toEqual({ kind: 'restored', id: idOf(oldest) });
    expect(node.get(idOf(oldest))).toEqual(encodeRecord(oldest));
    expect(node.lackingValues(10)).toEqual([idOf(middle)]);
    expect([...node.dump()]).toEqual(await rebuiltDump(folder));
    expect(await node.wantAgain()).toBe(0);
  });
});

describe('a node that was killed', () => {
  test('with the new log beside the old one has the old one, and no draft', async () => {
    const { folder, node } = await filled();
    const log = join(folder, LOG_FILE);
    await node.close();
    const before = readFileSync(log);
    for (const left of ['compacted', 'former']) writeFileSync(`${log}.${left}`, before.subarray(0, 500));
    const again = await openNode(folder);
    expect(again.count).toBe(all.length + 1);
    expect(readFileSync(log)).toEqual(before);
    for (const left of ['compacted', 'former']) expect(existsSync(`${log}.${left}`)).toBe(false);
  });

  test('after the new log was in place, and before the index was, has an index of the new one', async () => {
    const { folder, node } = await filled();
    await node.close();
    const old = readFileSync(join(folder, INDEX_FILE));
    const pruning = await openNode(folder);
    await pruning.prune({});
    await pruning.close();
    writeFileSync(join(folder, INDEX_FILE), old);
    const again = await openNode(folder);
    expect(prunedIn(again)).toEqual([oldest, middle]);
    expect([...again.dump()]).toEqual(await rebuiltDump(folder));
  });
});

test('where the index can’t be changed, log and index are as they were, and the node goes on', async () => {
  const { folder, node } = await filled();
  const [log, dump] = [readFileSync(join(folder, LOG_FILE)), [...node.dump()]];
  const full = Object.assign(new Error('database or disk is full'), { errcode: 13 });
  const commit = vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (
    this: DatabaseSync,
    sql,
  ) {
    if (sql === 'COMMIT') throw full;
    this.prepare(sql).run();
  });
  await expect(node.prune({})).rejects.toMatchObject({ code: 'RECORDS_PRUNE_ROOM' });
  commit.mockRestore();
  expect([readFileSync(join(folder, LOG_FILE)), [...node.dump()]]).toEqual([log, dump]);
  expect(readdirSync(folder).filter((name) => name.startsWith(LOG_FILE))).toEqual([LOG_FILE]);
  const more = under('page', 40, LARGE, recordId(middle));
  expect(await node.add(encodeRecord(more), 'peer')).toMatchObject({ kind: 'members' });
  expect([...node.dump()]).toEqual(await rebuiltDump(folder));
});

test('what fails after the exchange undoes nothing: what is acknowledged from then on is in the log that is there', async () => {
  const { folder, node } = await filled();
  const full = Object.assign(new Error('database or disk is full'), { errcode: 13 });
  const checkpoint = vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (
    this: DatabaseSync,
    sql,
  ) {
    if (sql.includes('wal_checkpoint')) throw full;
    this.prepare(sql).run();
  });
  const pruned = await Promise.allSettled([node.prune({})]);
  checkpoint.mockRestore();
  expect(pruned).toMatchObject([{ status: 'fulfilled' }]);
  const more = under('page', 40, LARGE, recordId(middle));
  expect(await node.add(encodeRecord(more), 'peer')).toMatchObject({ kind: 'members' });
  await node.close();
  const again = await openNode(folder);
  expect(again.get(idOf(more))).toEqual(encodeRecord(more));
  expect(prunedIn(again)).toEqual([oldest, middle]);
});

test('without room for the new log nothing changes, and the node goes on', async () => {
  const folder = freshRecords();
  let isFull = false;
  const node = await openNode(folder, {
    fileOf: (handle) => ({
      async write(bytes, at) {
        if (isFull) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
        await handle.write(bytes, 0, bytes.length, at);
      },
      sync: () => handle.datasync(),
    }),
  });
  await fill(node);
  const [log, dump] = [readFileSync(join(folder, LOG_FILE)), [...node.dump()]];
  isFull = true;
  await expect(node.prune({})).rejects.toMatchObject({ code: 'RECORDS_PRUNE_ROOM' });
  isFull = false;
  expect([readFileSync(join(folder, LOG_FILE)), [...node.dump()]]).toEqual([log, dump]);
  expect(readdirSync(folder).filter((name) => name.startsWith(LOG_FILE))).toEqual([LOG_FILE]);
  expect(await node.prune({})).toMatchObject({ discarded: 2 });
});

test('questions are answered in every turn of it, from the old log or the new one', async () => {
  const { node } = await filled();
  const seen = new Set<string>();
  let isDone = false;
  const look = () => {
    for (const record of [newest, other, foreign]) {
      try {
        seen.add(toHex(recordId(decodeRecord(node.get(idOf(record))!))));
      } catch (error) {
        seen.add(codeOf(error));
      }
    }
    if (!isDone) setImmediate(look);
  };
  setImmediate(look);
  await node.prune({});
  isDone = true;
  expect([...seen].toSorted()).toEqual([newest, other, foreign].map(idOf).toSorted());
});

test('on a full disk, where nobody asks meanwhile, the new log takes the room of the index, which is made again', async () => {
  const folder = freshRecords();
  // As much room as the index has.
  let hasRoom: () => boolean = () => true;
  const fileOf = (handle: FileHandle) => ({
    async write(bytes: Uint8Array, at: number) {
      if (!hasRoom()) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      await handle.write(bytes, 0, bytes.length, at);
    },
    sync: () => handle.datasync(),
  });
  const node = await openNode(folder, { fileOf });
  await fill(node);
  const items = [...node.items()];
  const [before, dump] = [readFileSync(join(folder, LOG_FILE)), [...node.dump()]];

  // Not even with that: nothing is lost.
  hasRoom = () => false;
  await expect(node.prune({}, true)).rejects.toMatchObject({ code: 'RECORDS_PRUNE_ROOM' });
  const dumped = () => {
    try {
      return [...node.dump()];
    } catch (error) {
      return [String(error)];
    }
  };
  expect([readFileSync(join(folder, LOG_FILE)), dumped()]).toEqual([before, dump]);

  hasRoom = () => !existsSync(join(folder, INDEX_FILE));
  await expect(node.prune({})).rejects.toMatchObject({ code: 'RECORDS_PRUNE_ROOM' });
  expect(await node.prune({}, true).catch(codeOf)).toMatchObject({ discarded: 2, before: before.length });
  expect(prunedIn(node)).toEqual([oldest, middle]);
  expect([[...node.items()], [...node.dump()]]).toEqual([items, await rebuiltDump(folder)]);
  expect(readdirSync(folder).filter((name) => name.startsWith(LOG_FILE))).toEqual([LOG_FILE]);

  // And with the room that there is now, records are taken.
  hasRoom = () => true;
  const more = under('page', 40, LARGE, recordId(middle));
  expect(await node.add(encodeRecord(more), 'peer')).toMatchObject({ kind: 'members' });
  expect([...node.dump()]).toEqual(await rebuiltDump(folder));
  await node.close();
  expect((await openNode(folder)).count).toBe(items.length + 1);
});

test('a node that is closed throws nothing away any more, and lets its folder go once what was begun is done', async () => {
  const folder = freshRecords();
  const node = await openNode(folder);
  for (const record of all) await node.add(encodeRecord(record), 'peer');
  // Waited for from here on: a refusal may come before the node is closed.
  const asked = Promise.allSettled([node.prune({}), node.prune({}), node.prune({})]);
  await node.close();
  const [first, ...later] = await asked;
  expect(first).toMatchObject({ status: 'fulfilled', value: { discarded: 2 } });
  for (const one of later) expect(one).toMatchObject({ reason: { code: 'RECORDS_STOPPED' } });
  const again = await openNode(folder);
  expect(prunedIn(again)).toEqual([oldest, middle]);
  await again.close();
});
