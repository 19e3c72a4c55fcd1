import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { MemoryLog } from '../../../lib/ledger/log.fixture.ts';
import { toHex } from '../../../lib/protocol/encoding.ts';
import { openDisk } from './disk.ts';
import { killedRevisions } from './killed.fixture.ts';
import { ListedRevisions, startOn } from './ledger.fixture.ts';
import { FILES } from './log-files.ts';

const REVISIONS = 400;
/** More operations than the two batches take, so that the last round ends by itself. */
const OPERATIONS = 24;
const fixture = join(import.meta.dirname, 'killed.fixture.ts');

/** Runs it; how many revisions it had acknowledged, and whether it was killed. */
async function runUntilKilled(
  folder: string,
  killAt: number,
): Promise<{ acknowledged: number; killed: boolean }> {
  const child = spawn(process.execPath, [fixture, folder, `${killAt}`, `${REVISIONS}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  expect(code === 0 || signal === 'SIGKILL').toBe(true);
  return { acknowledged: Number(output.trim().split('\n').at(-1)), killed: signal === 'SIGKILL' };
}

test('killed at every operation on the disk: what was acknowledged is there, and the log is the same', async () => {
  const revisions = killedRevisions(REVISIONS);
  const log = new MemoryLog(revisions);
  const folder = mkdtempSync(join(tmpdir(), 'dstack-killed-'));
  let kills = 0;
  const round = async (killAt: number) => {
    const own = join(folder, `${killAt}`);
    const { acknowledged, killed } = await runUntilKilled(own, killAt);
    kills += killed ? 1 : 0;
    const source = new ListedRevisions(revisions);
    const ledger = await startOn(await openDisk(own, FILES), source);
    const { size, root } = readCheckpoint(ledger.head());
    expect(size).toBeGreaterThanOrEqual(acknowledged);
    expect(toHex(root)).toBe(toHex(log.root(size)));
    await ledger.onDisk(source.newest);
    expect(toHex(readCheckpoint(ledger.head()).root)).toBe(toHex(log.root()));
    await ledger.close();
  };
  try {
    for (let killAt = 1; killAt <= OPERATIONS; killAt += 2)
      await Promise.all([round(killAt), round(killAt + 1)]);
  } finally {
    rmSync(folder, { recursive: true });
  }
  expect(kills).toBeGreaterThan(18);
  expect(kills).toBeLessThan(OPERATIONS);
}, 300_000);
