/**
 * Builds an image twice, from copies of these sources, and compares the results bit by bit. The builds differ in what
 * must not matter: folder, time, umask, language, time zone, and whether there is a network.
 */
import { spawn } from 'node:child_process';
import { chmod, cp, mkdir, readdir, realpath, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { sha256File } from './download.ts';

/** The circumstances of one build. */
export interface Circumstances {
  readonly name: string;
  /** Below the working folder. */
  readonly folder: string;
  readonly umask: string;
  readonly language: string;
  readonly timeZone: string;
  /** In a network namespace of its own, with nothing in it. */
  readonly offline: boolean;
}

export const circumstances: readonly [Circumstances, Circumstances] = [
  { name: 'first', folder: 'a', umask: '022', language: 'C.UTF-8', timeZone: 'UTC', offline: false },
  {
    name: 'second',
    folder: 'another-place/with-a-longer-name',
    umask: '077',
    language: 'tr_TR.UTF-8',
    timeZone: 'Pacific/Kiritimati',
    offline: true,
  },
];

/** What a build produced. */
export interface Built {
  readonly folder: string;
  readonly seconds: number;
  readonly files: ReadonlyMap<string, { readonly sha256: string; readonly size: number }>;
}

export interface ReproduceOptions {
  readonly repository: string;
  /** Emptied first; takes some 4 GB. */
  readonly work: string;
  readonly mirror: string;
  readonly flavour: Flavour;
  readonly progress: (message: string) => void;
}

/**
 * Copies the sources to `work` and builds there, from nothing but the local mirror.
 * @throws DstackError BUILD_FAILED with the end of the build's output.
 */
export async function buildApart(how: Circumstances, options: ReproduceOptions): Promise<Built> {
  const folder = join(options.work, how.folder);
  await rm(folder, { recursive: true, force: true });
  await copySources(options.repository, folder, how.umask);
  return buildAgain(how, options);
}

/** Builds again in the folder of `buildApart`, with its cache. */
export async function buildAgain(how: Circumstances, options: ReproduceOptions): Promise<Built> {
  const folder = join(options.work, how.folder);
  const output = join(folder, 'build', `image-${options.flavour}`);
  const start = performance.now();
  await build(how, folder, options);
  const seconds = (performance.now() - start) / 1000;
  const files = new Map<string, { sha256: string; size: number }>();
  for (const name of (await readdir(output)).toSorted()) {
    const file = join(output, name);
    files.set(name, { sha256: await sha256File(file), size: (await stat(file)).size });
  }
  return { folder: output, seconds, files };
}

/** Names of the files that differ, or that only one of the two has. */
export function differences(a: Built, b: Built): string[] {
  const names = [...new Set([...a.files.keys(), ...b.files.keys()])].toSorted();
  return names.filter((name) => a.files.get(name)?.sha256 !== b.files.get(name)?.sha256);
}

const notSources = new Set(['.git', '.cache', '.state', 'build', 'node_modules', 'host.env']);

/** As a checkout under `umask` would write them. npm's packages are shared: they are read only. */
async function copySources(repository: string, folder: string, umask: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  // Entry by entry, because a folder cannot be copied into itself.
  for (const name of await readdir(repository)) {
    if (notSources.has(name) || name.endsWith('.log')) continue;
    await cp(join(repository, name), join(folder, name), { recursive: true, verbatimSymlinks: true });
  }
  await applyUmask(folder, Number.parseInt(umask, 8));
  await symlink(await realpath(join(repository, 'node_modules')), join(folder, 'node_modules'));
}

async function applyUmask(folder: string, umask: number): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    const executable = ((await stat(path)).mode & 0o100) !== 0;
    await chmod(path, (executable ? 0o777 : 0o666) & ~umask);
  }
}

async function build(how: Circumstances, folder: string, options: ReproduceOptions): Promise<void> {
  const environment = {
    DSTACK_MIRROR: pathToFileURL(join(options.mirror, 'debian')).href,
    DSTACK_SECURITY_MIRROR: pathToFileURL(join(options.mirror, 'debian-security')).href,
    LC_ALL: how.language,
    LANGUAGE: how.language,
    TZ: how.timeZone,
  };
  const command = [
    // Only root may leave the network, and the build needs root anyway.
    ...(process.getuid?.() === 0 ? [] : ['sudo']),
    ...(how.offline ? ['unshare', '--net', '--'] : []),
    ...['env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)],
    ...['./build_vm.sh', '--flavour', options.flavour],
  ];
  // A child inherits the umask that its parent has at that moment.
  const umask = process.umask(Number.parseInt(how.umask, 8));
  const child = spawn(command[0]!, command.slice(1), { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  process.umask(umask);
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      said.push(line);
      options.progress(line);
    });
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) {
    throw new DstackError('BUILD_FAILED', `the ${how.name} build failed`, { details: said.slice(-20) });
  }
}
