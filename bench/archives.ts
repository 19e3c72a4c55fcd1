/**
 * Loading images of 2, 100 and 300 MiB, each of one layer, in a VM of 2 GiB: as kubernethes does it, next to `podman load` of the
 * same file in the same boot. Seconds, and the most memory that was gone meanwhile. The last line is JSON.
 *
 * Needs an image of the dev flavour that was built here (./build_vm.sh --dev): its shell runs archives/main.ts.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { daemons } from '../guest/daemons.ts';
import { bundleDaemons } from '../guest/image/daemons.ts';
import { imageOf, tar } from '../lib/archives/images.fixture.ts';
import { print, printError, printJson } from '../lib/daemon/terminal.ts';
import { casesOf, guestPrograms, inShell, startDevVm } from '../test/vm/dev-vm.ts';

const state = resolve(import.meta.dirname, '../.state/bench-archives');
const SIZES_MIB = [2, 100, 300];
const PATIENCE_MS = 600_000;
const AIM = 2.2;
const MIB = 1024 * 1024;

interface Measured {
  way: string;
  mib: number;
  seconds: number;
  peakMiB: number;
  keptMiB: number;
  error: string;
}

export async function benchArchives(): Promise<void> {
  rmSync(state, { recursive: true, force: true });
  mkdirSync(state, { recursive: true });
  await guestPrograms(state);
  const volume = join(state, 'volume');
  const { leftOut } = daemons.find(({ name }) => name === 'kubernethes')!;
  for (const [name, bytes] of await bundleDaemons([{ name: 'archives', leftOut }], import.meta.dirname))
    writeFileSync(join(volume, name), bytes, { mode: 0o644 });
  mkdirSync(join(volume, 'archives'));
  for (const mib of SIZES_MIB) await writeImage(join(volume, 'archives'), mib);

  printError('booting a VM of the dev flavour');
  const vm = await startDevVm(state);
  try {
    const command = 'node /mnt/host_volume/archives.mjs';
    const output = await inShell(vm, command, (said) => said.includes('{"case":"end"}\r'), PATIENCE_MS);
    report([...casesOf(output).values()].filter((found) => 'way' in found) as unknown as Measured[]);
  } finally {
    await vm.kill();
  }
}

/** Bytes that nothing packs, in files of 1 MiB. */
async function writeImage(folder: string, mib: number): Promise<void> {
  const files = Array.from({ length: mib }, (_, i) => [`file-${i}`, randomBytes(MIB)] as [string, Buffer]);
  const { digest, items } = imageOf([await tar(files)]);
  writeFileSync(join(folder, `${digest}.tar`), await tar(items), { mode: 0o644 });
}

function report(results: readonly Measured[]): void {
  print('', `${cpus().length} × ${cpus()[0]?.model.trim()}`, '');
  print(
    '| image | loaded by | seconds | peak MiB | of its size | then kept |',
    '|---:|---|---:|---:|---:|---:|',
  );
  for (const { way, mib, seconds, peakMiB, keptMiB, error } of results) {
    const end = error === '' ? `${keptMiB}` : `failed: ${error}`;
    print(`| ${mib} MiB | ${way} | ${seconds} | ${peakMiB} | ${(peakMiB / mib).toFixed(2)}x | ${end} |`);
  }
  print('', `aim: ${AIM}x at the peak`);
  const of = (way: string, mib: number) => results.find((one) => one.way === way && one.mib === mib);
  const ratios = SIZES_MIB.map((mib) => {
    const [ours, theirs] = [of('kubernethes', mib), of('podman load', mib)];
    const comparable = ours?.error === '' && theirs?.error === '';
    const ratio = (a: number, b: number) => (comparable ? Math.round((a / b) * 100) / 100 : null);
    return {
      mib,
      seconds: ratio(ours?.seconds ?? 0, theirs?.seconds ?? 0),
      peak: ratio(ours?.peakMiB ?? 0, theirs?.peakMiB ?? 0),
    };
  });
  printJson({ results, toPodmanLoad: ratios });
}
