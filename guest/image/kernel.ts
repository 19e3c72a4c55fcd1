/** The kernel's modules: which ones the VM gets, and their dependencies. */
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { run } from './run.ts';

/** Loaded by the initramfs in this order, each after its dependencies: for the root, the host volume, the network card. */
export const bootModules: readonly string[] = [
  'virtio_blk',
  'dm-verity',
  'erofs',
  '9pnet_virtio',
  '9p',
  'virtio_net',
];

/** Loaded by the initramfs of a production image on hardware that has TDX. */
export const tdxModules: readonly string[] = ['configfs', 'tdx-guest'];

/** Loaded by the initramfs of the other images: the simulated platform's files come by 9P over a console. */
export const simulatedModules: readonly string[] = ['9pnet_fd'];

/** Loaded on demand, from the root. Some are built into newer kernels. */
export const rootModules: readonly string[] = [
  'virtio-rng',
  // The data disk
  'dm-crypt',
  'dm-integrity',
  'loop',
  'ext4',
  'quota_v2',
  'crc32c-cryptoapi',
  'xts',
  'gcm',
  'ctr',
  'authenc',
  'essiv',
  'aesni-intel',
  // Containers and their network
  'overlay',
  'bridge',
  'br_netfilter',
  'veth',
  'dummy',
  'nf_tables',
  'nf_conntrack',
  'nft_ct',
  'nft_chain_nat',
  'nft_masq',
  'nft_nat',
  'nft_redir',
  'nft_fib_inet',
  'nft_fib_ipv4',
  'nft_fib_ipv6',
  'nft_reject_inet',
  'nft_limit',
  'nft_connlimit',
  'nft_log',
];

/** Paths below `kernel/` (without `.xz`) of `names` and all they need, each after its dependencies. */
export function moduleClosure(
  modulesDep: string,
  modulesBuiltin: string,
  names: readonly string[],
): string[] {
  const dependencies = new Map<string, string[]>();
  for (const line of modulesDep.split('\n')) {
    const [path, needs] = line.split(':');
    if (path === undefined || needs === undefined) continue;
    dependencies.set(moduleName(path), [
      withoutXz(path),
      ...needs.trim().split(/\s+/).filter(Boolean).map(withoutXz),
    ]);
  }
  const builtin = new Set(modulesBuiltin.split('\n').map(moduleName));
  const closure: string[] = [];
  for (const name of names) {
    const found = dependencies.get(canonical(name));
    if (found === undefined) {
      if (builtin.has(canonical(name))) continue;
      throw new DstackError('MODULE_MISSING', `the locked kernel has no module ${name}`);
    }
    // modules.dep lists dependencies nearest first: the last one needs nothing.
    for (const path of found.toReversed()) if (!closure.includes(path)) closure.push(path);
  }
  return closure;
}

/** The folder of an unpacked kernel's modules, with an index of all of them. */
export async function indexKernel(kernelRoot: string, release: string): Promise<void> {
  const depmod = toolCommand('depmod', ['-b', kernelRoot, release]);
  await run(depmod.command, depmod.args, { env: depmod.env });
}

/**
 * Copies the modules `names` and their dependencies from the unpacked kernel to `target`/usr/lib/modules/<release>,
 * uncompressed (the file system compresses; decompressing xz at each boot costs more than it saves), and indexes them.
 * A module's signature is appended to its uncompressed bytes and stays.
 */
export async function installModules(
  kernelRoot: string,
  release: string,
  names: readonly string[],
  target: string,
): Promise<void> {
  const source = join(kernelRoot, 'usr/lib/modules', release);
  const destination = join(target, 'usr/lib/modules', release);
  await rm(destination, { recursive: true, force: true });
  for (const path of kernelModules(source, names)) {
    await mkdir(dirname(join(destination, path)), { recursive: true });
    await writeFile(join(destination, path), await moduleBytes(source, path));
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order']) {
    await copyFile(join(source, name), join(destination, name));
  }
  await indexKernel(target, release);
}

/** Module paths below `source` (a folder with modules.dep), dependencies first. */
export function kernelModules(source: string, names: readonly string[]): string[] {
  const read = (name: string) => readFileSync(join(source, name), 'utf8');
  return moduleClosure(read('modules.dep'), read('modules.builtin'), names);
}

/** A module's uncompressed bytes. */
export async function moduleBytes(source: string, path: string): Promise<Buffer> {
  const plain = join(source, path);
  if (existsSync(plain)) return readFileSync(plain);
  const xz = toolCommand('xz', ['--decompress', '--keep', '--force', `${plain}.xz`]);
  await run(xz.command, xz.args, { env: xz.env });
  const bytes = readFileSync(plain);
  await rm(plain);
  return bytes;
}

function moduleName(path: string): string {
  return canonical(basename(withoutXz(path)).replace(/\.ko$/, ''));
}

/** The kernel takes - and _ for the same. */
function canonical(name: string): string {
  return name.replaceAll('-', '_');
}

function withoutXz(path: string): string {
  return path.replace(/\.xz$/, '');
}
