import {
  appendFileSync,
  copyFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { recordId, withoutValue } from '../../lib/protocol/records/identity.ts';
import { DRIFT, FOUNDER, idOf, MALLORY, write } from '../../lib/protocol/records/network.fixture.ts';
import { bytesOf, NOON } from '../../lib/protocol/records/records.fixture.ts';
import { chainOf, GENESIS } from './chain.fixture.ts';
import { createRecords, INDEX_FILE, LOG_FILE } from './folder.ts';
import { RecordIndex } from './index.ts';
import type { RecordsNode } from './node.ts';
import { freshFolder, freshRecords, NOW, openNode } from './records.fixture.ts';
import type { Verdict } from './types.ts';

const chain = chainOf(8);
const addAll = (node: RecordsNode, records: readonly DagRecord[], from = 'peer') =>
  Promise.all(records.map((record) => node.add(encodeRecord(record), from)));
const spoiled = (record: DagRecord): DagRecord => ({
  ...record,
  signature: record.signature.with(3, record.signature[3]! ^ 1),
});

describe('a folder', () => {
  test('is made once, of good genesis records, and is its owner’s alone', async () => {
    const folder = join(freshFolder(), 'new');
    createRecords(folder, encodeRecord(GENESIS));
    expect(codeOf(catching(() => createRecords(folder, encodeRecord(GENESIS))))).toBe('RECORDS_EXISTS');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const node = await openNode(folder);
    await addAll(node, chain);
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o077, name).toBe(0);
    const other = freshFolder();
    expect(codeOf(catching(() => createRecords(other, encodeRecord(spoiled(GENESIS)))))).toBe(
      'RECORD_SIGNATURE',
    );
    expect(codeOf(catching(() => createRecords(other, encodeRecord(chain[0]!))))).toBe('RECORD_GENESIS');
    await expect(openNode(other)).rejects.toMatchObject({ code: 'RECORDS_FOLDER' });
  });

  test('is one node’s at a time', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    await expect(openNode(folder)).rejects.toMatchObject({ code: 'RECORDS_HELD' });
    await node.close();
    expect((await openNode(folder)).count).toBe(1);
  });
});

describe('what is added', () => {
  test('in any order, is there after a start, each after what it stands on', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    const told: string[] = [];
    node.subscribe((items) => told.push(...items.map(({ id }) => id)));
    const verdicts = await addAll(node, chain.toReversed());
    expect(verdicts.slice(0, -1).every(({ kind }) => kind === 'waiting')).toBe(true);
    expect(verdicts.at(-1)).toMatchObject({ kind: 'members' });
    expect(told).toEqual(chain.map(idOf));
    const expected = [GENESIS, ...chain];
    const check = (one: RecordsNode) => {
      expect(one.count).toBe(expected.length);
      expect([...one.items()].map(({ id }) => id)).toEqual(expected.map(idOf));
      for (const record of expected) expect(one.get(idOf(record))).toEqual(encodeRecord(record));
    };
    check(node);
    await node.close();
    await expect(node.add(encodeRecord(chain[0]!), 'peer')).rejects.toMatchObject({
      code: 'RECORDS_STOPPED',
    });
    check(await openNode(folder));
  });

  test('is acknowledged and shown when it is on the disk, and not before', async () => {
    const gate = Promise.withResolvers<void>();
    const node = await openNode(freshRecords(), {
      fileOf: (handle) => ({
        // At once: only the sync is waited for.
        write: async (bytes, at) => void writeSync(handle.fd, bytes, 0, bytes.length, at),
        sync: () => gate.promise,
      }),
    });
    // Whatever this test finds: the node is closed after it.
    onTestFinished(() => gate.resolve());
    const told: unknown[] = [];
    node.subscribe((items) => told.push(...items));
    const first = encodeRecord(chain[0]!);
    let acknowledged = 0;
    // Twice: who offers what is known waits too.
    const adding = [first, first].map((bytes) => node.add(bytes, 'peer').then(() => acknowledged++));
    // What stands on it is judged meanwhile.
    const second = node.add(encodeRecord(chain[1]!), 'peer');
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect([acknowledged, told.length, node.count, node.has(idOf(chain[0]!))]).toEqual([0, 0, 1, false]);
    gate.resolve();
    await Promise.all(adding);
    expect(await second).toMatchObject({ kind: 'members' });
    expect([acknowledged, told.length, node.count, node.has(idOf(chain[0]!))]).toEqual([2, 2, 3, true]);
  });

  test('together, shares one sync', async () => {
    let syncs = 0;
    const node = await openNode(freshRecords(), {
      fileOf: (handle) => ({
        write: async (bytes, at) => void (await handle.write(bytes, 0, bytes.length, at)),
        sync: async () => void syncs++,
      }),
    });
    await addAll(node, chain);
    expect(syncs).toBe(1);
  });

  test('belongs to the node: what its bytes are used for afterwards changes nothing', async () => {
    const node = await openNode(freshRecords());
    const bytes = encodeRecord(chain[0]!);
    const adding = node.add(bytes, 'peer');
    bytes.fill(0);
    await adding;
    expect(node.get(idOf(chain[0]!))).toEqual(encodeRecord(chain[0]!));
  });

  test('is judged once: what was refused stays refused, also where only its identity is known', async () => {
    const node = await openNode(freshRecords());
    const bad = encodeRecord(spoiled(chain[0]!));
    const verdicts: Verdict[] = [];
    for (const bytes of [bad, bad, encodeRecord(chain[0]!), encodeRecord(chain[0]!), bad]) {
      verdicts.push(await node.add(bytes, 'peer'));
    }
    const refused = { kind: 'refused', code: 'RECORD_SIGNATURE' };
    expect(verdicts).toMatchObject([refused, refused, { kind: 'members' }, { kind: 'known' }, refused]);
  });

  test('without its value is completed by a copy that has it, in the index too', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    const [first] = chain as [DagRecord];
    await node.add(encodeRecord(withoutValue(first)), 'peer');
    expect(node.get(idOf(first))).toEqual(encodeRecord(withoutValue(first)));
    expect([node.lacksValue(idOf(first)), node.lackingValues(9)]).toEqual([true, [idOf(first)]]);
    expect(await node.add(encodeRecord(first), 'peer')).toEqual({ kind: 'restored', id: idOf(first) });
    expect(node.get(idOf(first))).toEqual(encodeRecord(first));
    expect([node.lacksValue(idOf(first)), node.lackingValues(9)]).toEqual([false, []]);
    expect(node.count).toBe(2);
    const dump = [...node.dump()];
    await node.close();
    rmSync(join(folder, INDEX_FILE));
    const again = await openNode(folder);
    expect([...again.dump()]).toEqual(dump);
    expect(again.get(idOf(first))).toEqual(encodeRecord(first));
  });

  test('without values is told of in the order in which it came, from anywhere on', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    await addAll(node, [...chain.slice(0, 2), ...chain.slice(2, 6).map(withoutValue), ...chain.slice(6)]);
    const ids = chain.map(idOf);
    expect(node.lackingValues(9)).toEqual(ids.slice(2, 6));
    expect(node.lackingValues(2, ids[2])).toEqual(ids.slice(3, 5));
    expect(node.lackingValues(9, ids[5])).toEqual([]);
    expect([node.lacksValue(ids[0]!), node.lacksValue(ids[2]!), node.lacksValue('ff'.repeat(32))]).toEqual([
      false,
      true,
      false,
    ]);
    expect(node.inOrder(['ff'.repeat(32), ...ids.toReversed()])).toEqual(ids);
    await node.close();
    rmSync(join(folder, INDEX_FILE));
    expect((await openNode(folder)).lackingValues(9)).toEqual(ids.slice(2, 6));
  });

  test('of the future is not kept, and is taken when its time has come', async () => {
    let now = NOW;
    const node = await openNode(freshRecords(), { now: () => now });
    const record = write(FOUNDER, { links: [recordId(GENESIS)], timestamp: NOW + DRIFT + 5 });
    expect(await node.add(encodeRecord(record), 'peer')).toEqual({
      kind: 'early',
      id: idOf(record),
      until: NOW + 5,
    });
    expect([node.count, node.waiting()]).toEqual([1, []]);
    now += 5;
    expect(await node.add(encodeRecord(record), 'peer')).toMatchObject({ kind: 'members' });
  });

  test('and waits takes its own peer’s room, until the peer is forgotten', async () => {
    const node = await openNode(freshRecords(), { room: { records: 2, bytes: 1 << 20 } });
    const orphans = [1, 2, 3].map((n) => write(FOUNDER, { links: [bytesOf(`${n}`)] }));
    const verdicts = await addAll(node, orphans, 'mallory');
    expect(verdicts).toMatchObject([
      { kind: 'waiting' },
      { kind: 'waiting' },
      { kind: 'refused', code: 'RECORD_LIMBO_FULL' },
    ]);
    expect(node.wanted()).toEqual([1, 2].map((n) => toHex(bytesOf(`${n}`))));
    expect(await node.add(encodeRecord(chain[1]!), 'alice')).toMatchObject({ kind: 'waiting' });
    node.forget('mallory');
    expect(node.waiting()).toEqual([idOf(chain[1]!)]);
    // That there was no room is not held against the bytes.
    expect(await node.add(encodeRecord(orphans[2]!), 'mallory')).toMatchObject({ kind: 'waiting' });
  });

  test('by whom genesis lets nothing do without a permit is refused, and nothing of it is kept', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    const size = statSync(join(folder, LOG_FILE)).size;
    const links = [recordId(GENESIS)];
    const refused = await node.add(encodeRecord(write(MALLORY, { links })), 'peer');
    expect(refused).toMatchObject({ kind: 'refused', code: 'RECORD_LINKS' });
    expect(await node.add(utf8('noise'), 'peer')).toMatchObject({ kind: 'refused', code: 'RECORD_VERSION' });
    expect(statSync(join(folder, LOG_FILE)).size).toBe(size);
  });

  test('a subscriber that fails harms nobody, and one that left is told nothing', async () => {
    const errors: unknown[] = [];
    const log = { info: () => {}, warn: () => {}, error: (fields: object) => void errors.push(fields) };
    const node = await openNode(freshRecords(), { log });
    const told: string[] = [];
    node.subscribe(() => {
      throw new Error('mine');
    });
    const leave = node.subscribe((items) => told.push(...items.map(({ id }) => id)));
    await addAll(node, chain.slice(0, 1));
    leave();
    await addAll(node, chain.slice(1, 2));
    expect(told).toEqual([idOf(chain[0]!)]);
    expect(errors).toHaveLength(2);
  });
});

describe('the order of all records', () => {
  test('is by time, then by identity, from anywhere to anywhere', async () => {
    const node = await openNode(freshRecords());
    const links = [recordId(GENESIS)];
    const same = Array.from({ length: 520 }, (_, n) =>
      write(FOUNDER, { links, timestamp: NOON + 1000, value: utf8(`${n}`) }),
    );
    await addAll(node, [...same, ...chain]);
    const all = [...node.items()];
    expect(all).toHaveLength(same.length + chain.length + 1);
    const sorted = all.toSorted((a, b) => a.timestamp - b.timestamp || (a.id < b.id ? -1 : 1));
    expect(all).toEqual(sorted);
    for (const [from, before] of [
      [0, 5],
      [3, 500],
      [500, 522],
      [522, 529],
    ] as const) {
      expect([...node.items({ from: all[from]!, before: all[before]! })]).toEqual(all.slice(from, before));
    }
    expect([...node.items({ from: { timestamp: NOON + 1000, id: '80' }, limit: 3 })]).toEqual(
      all
        .filter(({ timestamp, id }) => timestamp > NOON + 1000 || (timestamp === NOON + 1000 && id >= '80'))
        .slice(0, 3),
    );
    expect([...node.items({ from: { timestamp: NOON + 10_000_000, id: '' } })]).toEqual([]);
  });
});

describe('the index', () => {
  test('that is gone, of another version, spoiled, or behind, is made from the log, and equal', async () => {
    const folder = freshRecords();
    const path = join(folder, INDEX_FILE);
    const node = await openNode(folder);
    await addAll(node, chain.slice(0, 4));
    await node.close();
    copyFileSync(path, `${path}.old`);
    const whole = await openNode(folder);
    await addAll(whole, chain.slice(4));
    const dump = [...whole.dump()];
    expect(dump.length).toBeGreaterThan(30);
    await whole.close();
    const spoil: Record<string, () => void> = {
      gone: () => rmSync(path),
      noise: () => writeFileSync(path, bytesOf('noise')),
      cut: () => truncateSync(path, 5000),
      behind: () => copyFileSync(`${path}.old`, path),
    };
    for (const [how, change] of Object.entries(spoil)) {
      change();
      const again = await openNode(folder);
      expect([...again.dump()], how).toEqual(dump);
      await again.close();
    }
  });

  test('of another log is not used', async () => {
    const [one, other] = [freshRecords(), freshRecords()];
    const node = await openNode(one);
    await addAll(node, chain);
    await node.close();
    copyFileSync(join(one, INDEX_FILE), join(other, INDEX_FILE));
    expect((await openNode(other)).count).toBe(1);
  });

  test('links go both ways', async () => {
    const node = await openNode(freshRecords());
    await addAll(node, chain);
    expect(node.childrenOf(idOf(chain[0]!), 10)).toEqual([idOf(chain[1]!), idOf(chain[2]!)]);
    expect(node.childrenOf(idOf(chain.at(-1)!), 10)).toEqual([]);
  });
});

describe('a disk that fails', () => {
  test.each(['EIO', 'ENOSPC'])(
    'nothing is acknowledged, nothing more is taken, what is there is shown: %s',
    async (code) => {
      let isBad = false;
      const errors: object[] = [];
      const log = { info: () => {}, warn: () => {}, error: (fields: object) => void errors.push(fields) };
      const folder = freshRecords();
      const node = await openNode(folder, {
        log,
        roomAfter: 3_600_000,
        fileOf: (handle) => ({
          write: async (bytes, at) => void (await handle.write(bytes, 0, bytes.length, at)),
          sync: () => (isBad ? Promise.reject(Object.assign(new Error(code), { code })) : handle.datasync()),
        }),
      });
      await addAll(node, chain.slice(0, 2));
      isBad = true;
      const adding = await Promise.allSettled(
        [...chain.slice(1, 5)].map((record) => node.add(encodeRecord(record), 'peer')),
      );
      expect(adding.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected']);
      isBad = false;
      const stopped = {
        code: 'RECORDS_STOPPED',
        message: expect.stringContaining(code === 'EIO' ? 'check the disk' : 'make room'),
      };
      await expect(node.add(encodeRecord(chain[5]!), 'peer')).rejects.toMatchObject(stopped);
      expect(node.stopped).toMatchObject(stopped);
      expect(errors).toHaveLength(1);
      expect(node.count).toBe(3);
      expect(node.get(idOf(chain[1]!))).toEqual(encodeRecord(chain[1]!));
      await node.close();
      const again = await openNode(folder);
      await addAll(again, chain);
      expect(again.count).toBe(chain.length + 1);
    },
  );

  test.each(['written', 'found'])(
    'that was full: with room it goes on, without a start, where it could not be %s',
    async (where) => {
      let isFull = false;
      const folder = freshRecords();
      const full = () => Promise.reject(Object.assign(new Error('no room'), { code: 'ENOSPC' }));
      const node = await openNode(folder, {
        roomAfter: 20,
        fileOf: (handle) => ({
          // Some of it is in the file all the same.
          write: async (bytes, at) =>
            void (await handle.write(bytes, 0, bytes.length - (isFull ? 3 : 0), at)),
          sync: () => (isFull && where === 'written' ? full() : handle.datasync()),
        }),
      });
      const insert = vi.spyOn(RecordIndex.prototype, 'insert');
      onTestFinished(() => insert.mockRestore());
      await addAll(node, chain.slice(0, 2));
      const told: string[] = [];
      node.subscribe((items) => told.push(...items.map(({ id }) => id)));
      if (where === 'found') {
        insert.mockImplementationOnce(() => {
          throw Object.assign(new Error('database or disk is full'), { errcode: 13 });
        });
      } else isFull = true;
      const adding = await Promise.allSettled(
        chain.slice(2, 5).map((record) => node.add(encodeRecord(record), 'peer')),
      );
      expect(adding.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
      expect([node.stopped?.code, node.count]).toEqual(['RECORDS_STOPPED', 3]);
      expect(node.stopped?.message).toMatch('make room, and the node goes on by itself');
      isFull = false;
      await expect.poll(() => node.stopped).toBeUndefined();
      // What was in the log is a member, as after a start, and the rest can be given again.
      expect(node.count).toBe(where === 'found' ? 6 : 3);
      await addAll(node, chain.slice(2));
      expect(node.count).toBe(chain.length + 1);
      expect(told).toEqual(chain.slice(2).map(idOf));
      const dump = [...node.dump()];
      await node.close();
      rmSync(join(folder, INDEX_FILE));
      const again = await openNode(folder);
      expect([...again.dump()]).toEqual(dump);
      for (const record of chain) expect(again.get(idOf(record))).toEqual(encodeRecord(record));
    },
  );

  test('that was full: it cuts off what was written in vain, so that a shorter group leaves none of it behind', async () => {
    let isFull = false;
    const folder = freshRecords();
    const node = await openNode(folder, {
      roomAfter: 20,
      fileOf: (handle) => ({
        write: async (bytes, at) => void (await handle.write(bytes, 0, bytes.length, at)),
        sync: () =>
          isFull
            ? Promise.reject(Object.assign(new Error('no room'), { code: 'EDQUOT' }))
            : handle.datasync(),
      }),
    });
    isFull = true;
    await Promise.allSettled(chain.map((record) => node.add(encodeRecord(record), 'peer')));
    isFull = false;
    await expect.poll(() => node.stopped).toBeUndefined();
    await addAll(node, chain.slice(0, 1));
    await node.close();
    const again = await openNode(folder);
    expect([...again.items()].map(({ id }) => id)).toEqual([GENESIS, chain[0]!].map(idOf));
  });

  test('that fails otherwise stays as it is until a start', async () => {
    let isBad = true;
    const node = await openNode(freshRecords(), {
      roomAfter: 1,
      fileOf: (handle) => ({
        write: async (bytes, at) => void (await handle.write(bytes, 0, bytes.length, at)),
        sync: () =>
          isBad ? Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' })) : handle.datasync(),
      }),
    });
    await expect(node.add(encodeRecord(chain[0]!), 'peer')).rejects.toMatchObject({
      code: 'RECORDS_STOPPED',
    });
    isBad = false;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(`${node.stopped?.message}`).toMatch('start the node again');
  });

  test('in the middle of a write: the rest is cut off at the start, and that is said', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    await addAll(node, chain);
    await node.close();
    const path = join(folder, LOG_FILE);
    const { size } = statSync(path);
    appendFileSync(path, bytesOf('half an entry'));
    const warnings: object[] = [];
    const log = { info: () => {}, warn: (fields: object) => void warnings.push(fields), error: () => {} };
    const again = await openNode(folder, { log });
    expect(warnings).toEqual([{ folder, bytes: 32 }]);
    expect([again.count, statSync(path).size]).toEqual([chain.length + 1, size]);
  });

  test('whose bytes changed: the record is not given out', async () => {
    const folder = freshRecords();
    const node = await openNode(folder);
    await addAll(node, chain);
    const path = join(folder, LOG_FILE);
    const bytes = readFileSync(path);
    const at = bytes.indexOf(encodeRecord(chain[3]!));
    writeFileSync(path, bytes.with(at + 50, bytes[at + 50]! ^ 1));
    expect(codeOf(catching(() => node.get(idOf(chain[3]!))))).toBe('RECORDS_LOG_DAMAGED');
    expect(node.get(idOf(chain[4]!))).toEqual(encodeRecord(chain[4]!));
  });
});

function catching(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}
