import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { BadDisk } from '../../test/kv/support/bad-disk.ts';

const fixture = join(import.meta.dirname, 'full.fixture.ts');

// The index is the first to need another block, or the log, in the middle of a group.
test.each([
  ['index', 7868, 20, 'database or disk is full'],
  ['log', 7968, 400, 'ENOSPC'],
])(
  'on a disk that is full, seen by the %s: what was acknowledged is there, all else is told so; with room it goes on',
  async (_, kilobytes, atOnce, said) => {
    const disk = await BadDisk.mount('full', 8);
    try {
      disk.run(`head -c ${kilobytes}K /dev/zero > ballast`);
      const args = [fixture, join(disk.folder, 'records'), join(disk.folder, 'ballast'), `${atOnce}`];
      const { stdout } = await promisify(execFile)(...disk.enter(process.execPath, args));
      const seen = JSON.parse(stdout);
      expect(seen).toMatchObject({
        codes: ['RECORDS_STOPPED'],
        stopped: expect.stringMatching(`${said}.*make room`),
        shown: seen.acknowledged,
        kept: seen.acknowledged,
        atLast: 401,
        wentOn: expect.any(Number),
      });
      expect(seen.acknowledged).toBeLessThan(400);
      // Half of them were given again, to the node that had stopped.
      expect(seen.wentOn).toBeGreaterThanOrEqual(201);
      expect(seen.wentOn).toBeGreaterThan(seen.acknowledged);
    } finally {
      await disk.remove();
    }
  },
);
