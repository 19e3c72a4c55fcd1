/** The initramfs: busybox, dmsetup, a few modules and `initramfs/init`. */
import { readFileSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { libraryClosure } from './elf.ts';
import { bootModules, kernelModules, moduleBytes, simulatedModules, tdxModules } from './kernel.ts';
import { run } from './run.ts';

/** Writes the initramfs, compressed, to `output`. */
export async function buildInitramfs(
  kernelRoot: string,
  release: string,
  toolRoot: string,
  output: string,
): Promise<void> {
  const modulesFolder = join(kernelRoot, 'usr/lib/modules', release);
  const modules = kernelModules(modulesFolder, bootModules);
  /** The modules that these need beyond those that are loaded anyway. */
  const more = (names: readonly string[]) =>
    kernelModules(modulesFolder, [...bootModules, ...names]).filter((path) => !modules.includes(path));
  const [tdx, simulated] = [more(tdxModules), more(simulatedModules)];
  const listOf = (paths: readonly string[]) =>
    Buffer.from(paths.map((path) => `${basename(path)}\n`).join(''));
  const files = new Map<string, Buffer>([
    ['init', readFileSync(join(import.meta.dirname, 'initramfs/init'))],
    ['bin/busybox', readFileSync(join(kernelRoot, 'usr/bin/busybox'))],
    ['modules/order', listOf(modules)],
    ['modules/tdx', listOf(tdx)],
    ['modules/simulated', listOf(simulated)],
  ]);
  for (const path of [...modules, ...tdx, ...simulated]) {
    files.set(`modules/${basename(path)}`, await moduleBytes(modulesFolder, path));
  }
  const dmsetup = 'usr/sbin/dmsetup';
  for (const path of [dmsetup, ...libraryClosure(toolRoot, [dmsetup])]) {
    const at = path === dmsetup ? 'bin/dmsetup' : path.replace(/^usr\//, '');
    files.set(at, readFileSync(realpathSync(join(toolRoot, path))));
  }
  const raw = `${output}.cpio`;
  await writeFile(raw, cpioArchive(entriesOf(files)));
  const zstd = toolCommand('zstd', ['-q', '-19', '--single-thread', '--rm', '-f', raw, '-o', output]);
  await run(zstd.command, zstd.args, { env: zstd.env });
}

function entriesOf(files: ReadonlyMap<string, Buffer>): CpioEntry[] {
  const folders = new Set(['dev', 'proc', 'sys', 'root']);
  for (const path of files.keys()) {
    for (let at = dirname(path); at !== '.'; at = dirname(at)) folders.add(at);
  }
  return [
    ...[...folders].toSorted().map((path): CpioEntry => ({ path, kind: 'folder' })),
    ...[...files]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(
        ([path, bytes]): CpioEntry => ({
          path,
          kind: 'file',
          bytes,
          executable: !path.startsWith('modules/'),
        }),
      ),
  ];
}
