/**
 * The power fails while programs write: QEMU is killed, several times on the same disk, and each boot finds everything that
 * an fsync had acknowledged. The last boots get the disk cut short, and whole again.
 *
 * What QEMU has passed to the host's kernel survives QEMU; a power failure of the host itself is not simulated here.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Vm } from '../../host/vm/vm.ts';
import { casesOf, guestPrograms, inShell, startDevVm } from './dev-vm.ts';

const CUTS = 5;
const directory = mkdtempSync(join(tmpdir(), 'dstack-cut-'));
const disk = join(directory, 'data.img');
/** How many writes each round saw acknowledged. */
const safe: Record<string, number> = {};
let diskId: unknown;
let vm: Vm | undefined;

beforeAll(() => guestPrograms(directory, 'power-cut'));
afterAll(async () => {
  await vm?.kill();
  rmSync(directory, { recursive: true, force: true });
});

interface Boot {
  /** What the guest found on the disk. */
  status: Record<string, unknown>;
  /** Writes that were acknowledged before the cut. */
  written: number;
}

/** Boots and lets it write until that many writes are safe, or the disk was refused; then cuts the power. */
async function bootAndCut(round: number, writes: number): Promise<Boot> {
  vm = await startDevVm(directory);
  const lastSafe = (output: string) =>
    Number(
      output
        .match(/^safe (\d+)\r?$/gm)
        ?.at(-1)
        ?.trim()
        .slice(5) ?? 0,
    );
  const output = await inShell(
    vm,
    `modprobe loop; node /mnt/host_volume/power-cut.mjs ${round}`,
    (text) => lastSafe(text) >= writes || text.includes('\n{"case":"end"}'),
    240_000,
  );
  await vm.kill();
  return { status: casesOf(output).get(`round ${round}`)!, written: lastSafe(output) };
}

/** All of the earlier rounds' acknowledged writes are there. */
function expectAll(status: Record<string, unknown>): void {
  expect(status).toMatchObject({ state: 'ready', diskId });
  const { records, files } = status as Record<'records' | 'files', Record<string, number>>;
  for (const [round, count] of Object.entries(safe)) {
    expect(records[round], `records of round ${round}`).toBeGreaterThanOrEqual(count);
    expect(files[round], `files of round ${round}`).toBeGreaterThanOrEqual(count);
  }
  console.log(`acknowledged ${JSON.stringify(safe)}, on the disk ${JSON.stringify({ records, files })}`);
}

test(`${CUTS} cuts under load: every acknowledged write is there, and nothing was formatted`, {
  timeout: 900_000,
}, async () => {
  for (let round = 1; round <= CUTS; round++) {
    const { status, written } = await bootAndCut(round, 10 + 17 * round);
    if (round === 1) diskId = status.diskId;
    expectAll(status);
    safe[round] = written;
    expect(written).toBeGreaterThan(0);
  }
});

test('cut short by the host, the disk is refused; whole again, it has everything', {
  timeout: 400_000,
}, async () => {
  const copy = join(directory, 'copy');
  execFileSync('cp', ['--sparse=always', disk, copy]);
  truncateSync(disk, statSync(disk).size - 8 * 1024 * 1024);
  const cut = await bootAndCut(CUTS + 1, 1);
  expect(cut).toMatchObject({ status: { state: 'failed', code: 'DISK_TOO_SMALL' }, written: 0 });
  execFileSync('cp', ['--sparse=always', copy, disk]);
  const whole = await bootAndCut(CUTS + 2, 1);
  expectAll(whole.status);
});
