import { describe, expect, test } from 'vitest';
import { auditLog, fetchHead, requireContinues, requireContinuesFrom } from './audit.ts';
import { openCheckpoint, signCheckpoint } from './checkpoint.ts';
import { buildLeaf } from './leaf.ts';
import { fetchFrom, MemoryLog, origin, put, salts, signer } from './log.fixture.ts';
import { NOTHING_PUBLIC } from './policy.ts';
import { bundled } from './tiles.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const events = Array.from({ length: 700 }, (_, at) => [put(`o/${at}`, `${at}`)]);
const log = new MemoryLog(events);
const headOf = (note: string) => openCheckpoint(note, origin, [signer]);
const audit = async (files: Map<string, Buffer>, from?: number) => {
  const fetch = fetchFrom(files);
  const head = await fetchHead(fetch, origin, [signer]);
  const seen: number[] = [];
  await auditLog(fetch, head, {
    ...(from === undefined ? {} : { from }),
    onLeaf: (_, index) => seen.push(index),
  });
  return seen;
};

test.each([0, 1, 255, 256, 257, 512, 700])('a log of %i leaves is what its head says', async (size) => {
  expect(await audit(log.files(size))).toEqual(Array.from({ length: size }, (_, at) => at));
});

test('only the entries from a place on are read, with the rest of the tiles still checked', async () => {
  expect((await audit(log.files(), 600))[0]).toBe(512);
});

describe('forged, each with its code', () => {
  const flip = (path: string, at: number) => {
    const files = log.files();
    const bytes = Buffer.from(files.get(path)!);
    bytes[at]! ^= 1;
    return files.set(path, bytes);
  };

  test.each([
    ['a hash of a full tile', 'tile/0/000', 40, 'LOG_TILE'],
    ['a hash of the last tile', 'tile/0/002.p/188', 40, 'LOG_ROOT'],
    ['a hash of the level above', 'tile/1/000.p/2', 40, 'LOG_ROOT'],
    ['a byte of an entry', 'tile/entries/001', 40, 'LOG_ENTRY'],
  ])('%s', async (_, path, at, code) => {
    await expect(audit(flip(path, at))).rejects.toThrowError(refusal(code));
  });

  test('a tile cut short, a bundle cut short, a file that is missing', async () => {
    const cut = (path: string, bytes: number) => {
      const files = log.files();
      return files.set(path, files.get(path)!.subarray(0, bytes));
    };
    await expect(audit(cut('tile/0/000', 8_160))).rejects.toThrowError(refusal('TILE_SHORT'));
    await expect(audit(cut('tile/entries/000', 100))).rejects.toThrowError(refusal('BUNDLE_INVALID'));
    const files = log.files();
    files.delete('tile/0/001');
    await expect(audit(files)).rejects.toThrowError(/no tile/);
  });

  test('a head that nobody signed, or of another tree', async () => {
    const files = log.files();
    const note = files.get('checkpoint')!.toString();
    files.set('checkpoint', Buffer.from(note.replace('\n700\n', '\n699\n')));
    await expect(audit(files)).rejects.toThrowError(refusal('NOTE_SIGNATURE'));
    const other = signCheckpoint({ origin, size: 700, root: log.root(699) }, [signer]);
    files.set('checkpoint', Buffer.from(other));
    await expect(audit(files)).rejects.toThrowError(refusal('LOG_ROOT'));
  });

  test('a revision that is not the next, signed or not', async () => {
    const wrong = new MemoryLog(events.slice(0, 3));
    wrong.leaves[2] = buildLeaf(9n, events[2]!, NOTHING_PUBLIC, salts);
    await expect(audit(wrong.files())).rejects.toThrowError(refusal('LOG_GAP'));
    const nonsense = new MemoryLog(events.slice(0, 3));
    nonsense.leaves[1] = { entry: Buffer.from('not a leaf'), records: [] };
    await expect(audit(nonsense.files())).rejects.toThrowError(refusal('LEAF_INVALID'));
    expect(bundled(nonsense.leaves[1].entry)).toHaveLength(12);
  });
});

describe('an earlier head', () => {
  const fork = new MemoryLog(events.with(300, [put('o/300', 'another')]));
  const continues = (earlier: string, files: Map<string, Buffer>) =>
    requireContinues(fetchFrom(files), headOf(earlier), headOf(files.get('checkpoint')!.toString()));

  test.each([0, 1, 255, 256, 300, 512, 699, 700])('of %i leaves is of the same log', async (size) => {
    await continues(log.checkpoint(size), log.files());
  });

  test.each([301, 512, 700])('of %i leaves of a fork is not', async (size) => {
    await expect(continues(fork.checkpoint(size), log.files())).rejects.toThrowError(refusal('LOG_FORKED'));
  });

  test('before the fork it is of both', async () => {
    await continues(log.checkpoint(300), fork.files());
  });

  test('may not be the larger one', async () => {
    await expect(continues(log.checkpoint(700), log.files(600))).rejects.toThrowError(
      refusal('LOG_ROLLED_BACK'),
    );
  });

  describe('of the log of before a restore', () => {
    const fetch = fetchFrom(log.files());
    const head = headOf(log.checkpoint());
    const at = (size: number) => ({ ...headOf(log.checkpoint(size)), origin: 'old' });
    const restored = { ...head, continues: [at(512)] };

    test.each([1, 300, 512])('of %i leaves is continued', async (size) => {
      await requireContinuesFrom(fetch, at(size), restored);
    });

    test('with more than was taken over shows what is lost', async () => {
      await expect(requireContinuesFrom(fetch, at(600), restored)).rejects.toThrowError(
        refusal('LOG_ROLLED_BACK'),
      );
    });

    test('that the head does not name is of another log', async () => {
      await expect(requireContinuesFrom(fetch, at(300), head)).rejects.toThrowError(
        refusal('CHECKPOINT_ORIGIN'),
      );
    });

    test('with another history is a fork, whatever the head says', async () => {
      const forged = { ...headOf(fork.checkpoint(400)), origin: 'old' };
      await expect(requireContinuesFrom(fetch, forged, restored)).rejects.toThrowError(refusal('LOG_FORKED'));
    });
  });
});
