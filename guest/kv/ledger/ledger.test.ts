import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { auditLog, fetchHead } from '../../../lib/ledger/audit.ts';
import { readCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { MemoryLog, origin, put, remove, salts, signer } from '../../../lib/ledger/log.fixture.ts';
import { noteSigner } from '../../../lib/ledger/note.ts';
import { POLICY_KEY, policyValue } from '../../../lib/ledger/policy.ts';
import { hasValue, verifyReceipt } from '../../../lib/ledger/receipt.ts';
import { toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../../lib/protocol/errors.ts';
import { ListedRevisions, openOn, type Revisions, SimulatedDisk, startOn } from './ledger.fixture.ts';
import type { KvLedger } from './ledger.ts';
import { logResource, receiptOf } from './receipts.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const numbered = (count: number, from = 0): Revisions =>
  Array.from({ length: count }, (_, at) =>
    at % 7 === 3 ? [remove(`o/${from + at}`), put('a/app/x', `${at}`)] : [put(`o/${from + at}`, `${at}`)],
  );
const OWNER = utf8('o/');

/** Fails unless the log on the disk is the one that these revisions make. */
async function requireLog(ledger: KvLedger, revisions: Revisions): Promise<void> {
  const fetch = async (path: string) => (await logResource(ledger, path))!.bytes;
  const head = await fetchHead(fetch, origin, [signer]);
  await auditLog(fetch, head);
  const { size } = head;
  expect(toHex(head.root)).toBe(toHex(new MemoryLog(revisions.slice(0, size)).root()));
}

async function stopped(ledger: KvLedger): Promise<DstackError> {
  const waited = ledger.onDisk(1_000_000n).catch((error: unknown) => error);
  const error = await Promise.race([waited, sleep(60_000, 'it goes on')]);
  expect(error).toBeInstanceOf(DstackError);
  return error as DstackError;
}

describe('what is covered', () => {
  test('is a revision whose leaf is in the tree, and none before', async () => {
    const source = new ListedRevisions(numbered(3));
    const ledger = await startOn(new SimulatedDisk(), source);
    await ledger.covered(1n);
    await ledger.covered(4n);
    let isCovered = false;
    const waiting = ledger.covered(6n).then(() => {
      isCovered = true;
    });
    source.push([put('o/a', 'b')]);
    await ledger.covered(5n);
    await new Promise(setImmediate);
    expect(isCovered).toBe(false);
    source.push([put('o/a', 'c')]);
    await waiting;
    expect(ledger.sizes.tree).toBe(5);
    await ledger.close();
  });

  test('where the disk is asked for, is on the disk', async () => {
    const disk = new SimulatedDisk();
    const ledger = await startOn(disk, new ListedRevisions(numbered(300)));
    await ledger.onDisk(301n);
    expect(ledger.sizes.disk).toBe(300);
    const after = await openOn(disk.afterPowerLoss(() => 0));
    expect(after.sizes.disk).toBe(300);
    await ledger.close();
  });

  test('many revisions are one batch', async () => {
    const disk = new SimulatedDisk();
    const ledger = await startOn(disk, new ListedRevisions(numbered(200)));
    await ledger.onDisk(201n);
    // Entries, records, places, the lowest level, and the head; each written and synced.
    expect(disk.operations).toBe(10);
    expect(ledger.durable).toBe(201n);
    await ledger.close();
    await expect(ledger.covered(500n)).rejects.toThrowError(refusal('LEDGER_STOPPED'));
  });

  test('waits for the disk when too much is in memory alone', async () => {
    const disk = new SimulatedDisk();
    disk.failAt = 1;
    const ledger = await startOn(disk, new ListedRevisions(Array(20_010).fill([put('o/a', '')])), {
      pauseMs: 60_000,
    });
    await ledger.covered(20_001n);
    await expect(ledger.covered(20_005n)).rejects.toThrowError(refusal('LEDGER_STOPPED'));
  });
});

describe('the log that is served', () => {
  const revisions = [
    ...numbered(300),
    [
      {
        ...put('', ''),
        key: POLICY_KEY,
        value: policyValue({ publicPrefixes: [utf8('o/3')], leases: true }),
      },
    ],
    ...numbered(300, 300),
  ];

  test('is what the revisions make, in every file', async () => {
    const ledger = await startOn(new SimulatedDisk(), new ListedRevisions(revisions));
    await ledger.onDisk(602n);
    const log = new MemoryLog(revisions);
    for (const [path, bytes] of log.files())
      expect(toHex((await logResource(ledger, path))!.bytes), path).toBe(toHex(bytes));
    for (const path of [
      'tile/0/003',
      'tile/0/002.p/90',
      'tile/1/000',
      'tile/2/000.p/1',
      'heads',
      '../heads',
      '',
    ])
      expect(await logResource(ledger, path), path).toBeUndefined();
    // A narrower bundle and tile of an earlier head stay.
    for (const path of ['tile/0/002.p/5', 'tile/entries/002.p/5'])
      expect(toHex((await logResource(ledger, path))!.bytes)).toBe(toHex(log.files(517).get(path)!));
    await ledger.close();
  });

  test('has a head without leaves before there are any', async () => {
    const ledger = await startOn(new SimulatedDisk(), new ListedRevisions());
    expect(readCheckpoint(ledger.head()).size).toBe(0);
    await requireLog(ledger, []);
    await ledger.close();
  });
});

describe('receipts', () => {
  test('prove a revision to who wrote it, and to nobody else', async () => {
    const source = new ListedRevisions(numbered(600));
    const ledger = await startOn(new SimulatedDisk(), source, { pauseMs: 60_000 });
    for (const index of [0, 3, 255, 256, 599]) {
      const proven = verifyReceipt(await receiptOf(ledger, BigInt(index + 2), OWNER), origin, [signer]);
      expect(proven.events.map(({ ownKey }) => Buffer.from(ownKey).toString())).toEqual([`${index}`]);
    }
    const app = verifyReceipt(await receiptOf(ledger, 5n, utf8('a/app/')), origin, [signer]);
    expect(app.events.map(({ ownKey, index }) => [Buffer.from(ownKey).toString(), index])).toEqual([
      ['x', 1],
    ]);
    expect(hasValue(app.events[0]!, utf8('3'))).toBe(true);
    for (const [revision, prefix] of [
      [2n, 'a/app/'],
      [2n, 'a/'],
      [602n, 'o/'],
      [1n, 'o/'],
      [0n, 'o/'],
    ] as const)
      await expect(receiptOf(ledger, revision, utf8(prefix))).rejects.toThrowError(refusal('RECEIPT_NONE'));
    await ledger.close();
  });

  test('say that a value was current', async () => {
    const ledger = await startOn(new SimulatedDisk(), new ListedRevisions(numbered(9)));
    const read = { key: utf8('o/2'), revision: 9n };
    const proven = verifyReceipt(await receiptOf(ledger, 4n, OWNER, () => {}, read), origin, [signer]);
    expect(proven.current?.revision).toBe(9n);
    await ledger.close();
  });

  test('of before a restart and a compaction are made again, and those given out hold', async () => {
    const disk = new SimulatedDisk();
    const source = new ListedRevisions(numbered(500));
    const first = await startOn(disk, source);
    const before = await receiptOf(first, 5n, OWNER);
    await first.close();
    source.compacted = 450n;
    const second = await startOn(disk, source);
    source.push(...numbered(10, 500));
    await second.onDisk(511n);
    const after = verifyReceipt(await receiptOf(second, 5n, OWNER), origin, [signer]);
    expect(toHex(after.leafHash)).toBe(toHex(verifyReceipt(before, origin, [signer]).leafHash));
    expect([source.followedAfter, after.size]).toEqual([450n, 510]);
    await second.close();
  });
});

describe('a start', () => {
  const revisions = numbered(700);
  async function kept(): Promise<{ disk: SimulatedDisk; source: ListedRevisions }> {
    const disk = new SimulatedDisk();
    const source = new ListedRevisions(revisions);
    const ledger = await startOn(disk, source);
    await ledger.onDisk(source.newest);
    await ledger.close();
    return { disk, source };
  }

  test('makes the last leaves again, not all, and goes on', async () => {
    const { disk, source } = await kept();
    const ledger = await startOn(disk, source);
    expect(source.followedAfter).toBe(BigInt(700 - 256 + 1));
    source.push(...numbered(60, 700));
    await ledger.onDisk(source.newest);
    await requireLog(ledger, source.revisions);
    await ledger.close();
  });

  test.each([
    ['a leaf of a full tile', 'level0', 100],
    ['a hash of the level above', 'level1', 10],
    ['an entry', 'entries', -20],
  ])('refuses %s that is another', async (_, file, at) => {
    const { disk } = await kept();
    disk.spoil(file, at < 0 ? (await disk.size(file)) + at : file === 'level0' ? 8_192 * 2 + at : at);
    await expect(openOn(disk)).rejects.toThrowError(/LEDGER|ledger|bundle/);
  });

  test('refuses files that are shorter than its head says, and a head of another key', async () => {
    const { disk } = await kept();
    await expect(openOn(disk, { signer: noteSigner(origin, new Uint8Array(32)) })).rejects.toThrowError(
      refusal('LEDGER_MISMATCH'),
    );
    await disk.cut('records', 5);
    await expect(openOn(disk)).rejects.toThrowError(refusal('LEDGER_MISMATCH'));
  });

  test('refuses an etcd that is behind its head, or has another past', async () => {
    const { disk } = await kept();
    const behind = new ListedRevisions(revisions.slice(0, 699));
    await expect(startOn(disk, behind)).rejects.toThrowError(refusal('LEDGER_MISMATCH'));
    const other = new ListedRevisions(revisions.with(650, [put('o/650', 'another')]));
    const ledger = await startOn(disk, other);
    expect((await stopped(ledger)).cause).toEqual(refusal('LEDGER_MISMATCH'));
    await ledger.close();
  });

  test('takes up the policy where it was', async () => {
    const disk = new SimulatedDisk();
    const change = {
      ...put('', ''),
      key: POLICY_KEY,
      value: policyValue({ publicPrefixes: [OWNER], leases: false }),
    };
    const source = new ListedRevisions([...numbered(5), [change], ...numbered(5, 5)]);
    const first = await startOn(disk, source);
    await first.onDisk(source.newest);
    await first.close();
    source.push(...numbered(5, 10));
    const second = await startOn(disk, source);
    await second.onDisk(source.newest);
    await requireLog(second, source.revisions);
    expect(source.followedAfter).toBe(7n);
    await second.close();
  });

  test('refuses revisions that were compacted before they were in it', async () => {
    const { disk, source } = await kept();
    source.push(...numbered(20, 700));
    source.compacted = 705n;
    await expect(startOn(disk, source)).rejects.toThrowError(refusal('LEDGER_GAP'));
    source.compacted = 701n;
    const ledger = await startOn(disk, source);
    await ledger.covered(source.newest);
    await ledger.close();
  });
});

describe('a revision that is not the next one stops it', () => {
  test.each([
    ['one left out', 7n],
    ['one again', 5n],
    ['an earlier one', 2n],
  ])('%s', async (_, wrong) => {
    const source = new ListedRevisions(numbered(5));
    let told: DstackError | undefined;
    const ledger = await openOn(new SimulatedDisk(), { onStop: (error) => (told = error) });
    const follow: ListedRevisions['follow'] = async (after, each, signal) => {
      for (let revision = after + 1n; revision <= 5n; revision += 1n) each(revision, [put('o/a', '')]);
      each(wrong, [put('o/b', '')]);
      return source.follow(after, each, signal);
    };
    await ledger.follow({ follow, compactRevision: () => 0n }, 6n);
    expect((await stopped(ledger)).cause).toEqual(refusal('LEDGER_GAP'));
    expect(told).toEqual(refusal('LEDGER_GAP'));
    await expect(ledger.covered(9n)).rejects.toThrowError(refusal('LEDGER_STOPPED'));
    await ledger.close();
  });

  test('and so does one that was compacted meanwhile', async () => {
    const ledger = await openOn(new SimulatedDisk());
    const follow = () => Promise.reject(new DstackError('REVISIONS_COMPACTED', 'compacted'));
    await ledger.follow({ follow, compactRevision: () => 0n }, 1n);
    expect((await stopped(ledger)).cause).toEqual(refusal('LEDGER_GAP'));
    await ledger.close();
  });
});

describe('a disk that fails', () => {
  test.each([
    ['EIO', undefined],
    ['ENOSPC', 'fsync'],
  ])('with %s at any operation (%s): nothing more is acknowledged, and it says so', async (code, only) => {
    for (let failAt = 1; failAt <= 20; failAt += 1) {
      const disk = new SimulatedDisk();
      Object.assign(disk, { failAt, code, only });
      let told: DstackError | undefined;
      const source = new ListedRevisions();
      const ledger = await startOn(disk, source, {
        onStop: (error) => (told = error),
      });
      const acknowledged: number[] = [];
      const refused: string[] = [];
      for (let at = 0; at < 6; at += 1) {
        source.push([put(`o/${at}`, '')]);
        await ledger.onDisk(BigInt(at + 2)).then(
          () => acknowledged.push(at),
          (error: DstackError) => refused.push(error.code),
        );
      }
      expect(told).toEqual(refusal('LEDGER_DISK'));
      expect(refused.length).toBeGreaterThan(0);
      expect(new Set(refused)).toEqual(new Set(['LEDGER_STOPPED']));
      const after = await openOn(disk.afterPowerLoss(() => 0));
      expect(after.sizes.disk).toBeGreaterThanOrEqual(acknowledged.length);
      await ledger.close();
    }
  });

  test.each([1, 4, 9])(
    'without room for a write, from operation %i on: it waits, and goes on',
    async (failAt) => {
      const disk = new SimulatedDisk();
      Object.assign(disk, { failAt, code: 'ENOSPC', only: 'write' });
      const stops: string[] = [];
      const options = { onStop: (error: DstackError) => stops.push(error.code), mostBehind: 3 };
      const source = new ListedRevisions();
      const ledger = await startOn(disk, source, options);
      for (let at = 0; at < 12; at += 1) source.push([put(`o/${at}`, '')]);
      const covered = ledger.covered(13n).then(() => 'covered', codeOf);
      await expect.poll(() => disk.failed).toBe(true);
      expect(ledger.sizes).toEqual({ tree: 12, disk: 0 });
      expect(await Promise.race([covered, 'waiting'])).toBe('waiting');
      disk.failAt = Number.POSITIVE_INFINITY;
      disk.failed = false;
      expect(await covered).toBe('covered');
      await ledger.onDisk(13n);
      expect(stops).toEqual([]);
      await ledger.close();
      const again = await startOn(
        disk.afterPowerLoss(() => 0),
        source,
      );
      expect(again.sizes).toEqual({ tree: 12, disk: 12 });
      await again.close();
    },
  );

  test('without room when it ends: what is not there is made again at the next start', async () => {
    const disk = new SimulatedDisk();
    Object.assign(disk, { failAt: 1, code: 'ENOSPC', only: 'write' });
    const stops: string[] = [];
    const source = new ListedRevisions([[put('o/0', '')]]);
    const ledger = await startOn(disk, source, { onStop: (error) => stops.push(error.code) });
    await ledger.covered(2n);
    await ledger.close();
    expect(stops).toEqual([]);
    const again = await startOn(
      disk.afterPowerLoss(() => 1),
      source,
    );
    await again.onDisk(2n);
    await again.close();
  });
});

test('whenever the power goes, and whatever of the writes was kept: no signed head is lost, and the log goes on as it was', async () => {
  const revisions = numbered(560);
  const plan = fc.record({
    crashes: fc.array(
      fc.record({ failAt: fc.integer({ min: 1, max: 45 }), step: fc.integer({ min: 1, max: 120 }) }),
      {
        minLength: 1,
        maxLength: 4,
      },
    ),
    kept: fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
  });
  await fc.assert(
    fc.asyncProperty(plan, async ({ crashes, kept }) => {
      let disk = new SimulatedDisk();
      let known = 0;
      // What etcd has told of is durable there: it comes back with all of it.
      let told = 1;
      for (const { failAt, step } of crashes) {
        disk.failAt = failAt;
        const source = new ListedRevisions(revisions.slice(0, told));
        const ledger = await startOn(disk, source, { pauseMs: 0 });
        for (let size = source.revisions.length; size < revisions.length && !disk.failed; size += step) {
          source.push(...revisions.slice(size, size + step));
          told = source.revisions.length;
          await ledger.onDisk(source.newest).catch(() => {});
          known = Math.max(known, readCheckpoint(ledger.head()).size);
        }
        await ledger.close();
        disk = disk.afterPowerLoss(() => kept.next().value);
      }
      const source = new ListedRevisions(revisions);
      const ledger = await startOn(disk, source);
      expect(ledger.sizes.disk).toBeGreaterThanOrEqual(known);
      await ledger.onDisk(source.newest);
      await requireLog(ledger, revisions);
      await ledger.close();
    }),
    { numRuns: 40 },
  );
});

test('two ledgers of the same revisions, batched differently, are one tree', async () => {
  const revisions = numbered(520);
  const heads = await Promise.all(
    [1, 37, 520].map(async (step) => {
      const source = new ListedRevisions();
      const ledger = await startOn(new SimulatedDisk(), source, { salts });
      for (let at = 0; at < 520; at += step) {
        source.push(...revisions.slice(at, at + step));
        if (step > 1) await ledger.onDisk(source.newest);
      }
      await ledger.onDisk(source.newest);
      const head = ledger.head();
      await ledger.close();
      return head;
    }),
  );
  expect(new Set(heads).size).toBe(1);
});
