/**
 * Resolves the package sets with apt: what `npx dstack image lock --update` writes to packages.lock.
 *
 * apt runs in a folder of its own: this machine's sources, preferences, keys and installed packages play no part. It reads copies of
 * the signed indices that were verified here and contacts no mirror, so nobody can show it other ones.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { debianKeyring, requireCurrent } from './archive-index.ts';
import { indexFiles, readIndex } from './local-mirror.ts';
import type { Mirrors } from './mirrors.ts';
import {
  bootPackages,
  firmwarePackages,
  guestPackages,
  kernelMetapackage,
  laterTools,
  type RootName,
  suites,
  toolPackages,
} from './package-sets.ts';
import { type ArchiveName, formatLock, type LockedPackage, parseLock } from './packages.ts';
import { run } from './run.ts';

export const lockFile = join(import.meta.dirname, 'packages.lock');

export interface LockSources {
  /** A folder with the suites' signed indices, as `fetchIndices` leaves it. */
  readonly mirror: string;
  /** Accepts expired indices: those of a date that was asked for. */
  readonly dated: boolean;
  readonly keyring?: string;
}

/**
 * Resolves all roots, by the indices of a local mirror alone.
 * @throws DstackError INDEX_EXPIRED, MIRROR_INCOMPLETE, and those of `readRelease` and `readPackages`.
 */
async function resolveLock(sources: LockSources): Promise<LockedPackage[]> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-apt-'));
  try {
    // apt's own unprivileged user reads here.
    chmodSync(folder, 0o755);
    const mirrors = await verifiedCopies(sources, join(folder, 'mirror'));
    const apt = await isolatedApt(folder, mirrors, sources);
    await apt('apt-get', ['update', '-q', '-o', 'APT::Update::Error-Mode=any']);
    const resolve = async (root: RootName, names: readonly string[]) =>
      parsePrintUris(await apt('apt-get', [...installArgs, ...names]), root, mirrors);
    const kernel = await kernelPackages(apt);
    return [
      ...(await resolve('guest', ['?essential', ...guestPackages])),
      // Without their dependencies: their maintainer scripts and initramfs tools never run.
      ...(await resolve('kernel', [...kernel, ...bootPackages])).filter(
        (p) => kernel.includes(p.name) || bootPackages.includes(p.name),
      ),
      ...(await resolve('tools', toolPackages)),
      ...(await resolve('firmware', firmwarePackages.names)),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Copies the indices and verifies the copies, which nobody but this process can write to. */
async function verifiedCopies(sources: LockSources, to: string): Promise<Mirrors> {
  for (const { suite, archive } of suites) {
    const dists = join(archive, 'dists', suite);
    for (const name of indexFiles) {
      await mkdir(dirname(join(to, dists, name)), { recursive: true });
      await copyFile(join(sources.mirror, dists, name), join(to, dists, name));
      chmodSync(join(to, dists, name), 0o644);
    }
    const { release } = await readIndex(join(to, dists), suite, sources.keyring);
    if (!sources.dated) requireCurrent(release);
  }
  // With one slash, as apt prints it.
  const url = (archive: ArchiveName) => `file:${join(to, archive)}`;
  return { debian: url('debian'), 'debian-security': url('debian-security') };
}

const installArgs = ['install', '--print-uris', '-qq', '-y', '--no-install-recommends'];

/**
 * Reads the lines of `apt-get --print-uris`: `'uri' file size SHA256:hex`.
 * @throws DstackError APT_OUTPUT for a line that is not of that form, or that lies on another mirror.
 */
export function parsePrintUris(text: string, root: RootName, mirrors: Mirrors): LockedPackage[] {
  const archives = Object.entries(mirrors) as [ArchiveName, string][];
  return text
    .split('\n')
    .filter((line) => line.startsWith("'"))
    .map((line) => {
      const match = /^'([^']+)' (\S+)_(\S+)_(?:amd64|all)\.deb (\d+) SHA256:([0-9a-f]{64})$/.exec(line);
      const archive = archives.find(([, base]) => match?.[1]?.startsWith(`${base}/pool/`));
      if (match === null || archive === undefined) {
        throw new DstackError('APT_OUTPUT', `apt printed an unexpected line: ${line}`);
      }
      return {
        root,
        name: match[2]!,
        version: decodeURIComponent(match[3]!),
        sha256: match[5]!,
        size: Number(match[4]),
        archive: archive[0],
        path: match[1]!.slice(archive[1].length + 1),
      };
    });
}

type Apt = (command: 'apt-get' | 'apt-cache', args: readonly string[]) => Promise<string>;

/** The packages that hold the kernel image, its modules and its list of built-in modules. */
async function kernelPackages(apt: Apt): Promise<string[]> {
  const { name, suite, flavour } = kernelMetapackage;
  const policy = await apt('apt-cache', ['policy', name]);
  const version = /^ {2}Candidate: (\S+)$/m.exec(policy)?.[1];
  if (version === undefined) throw new DstackError('APT_OUTPUT', `${suite} has no ${name}`);
  const dependsOf = async (what: string) => {
    const text = await apt('apt-cache', ['show', '--no-all-versions', what]);
    return /^Depends: (.*)$/m.exec(text)?.[1] ?? '';
  };
  const release = new RegExp(`linux-image-(\\d\\S*-${flavour})`).exec(
    await dependsOf(`${name}=${version}`),
  )?.[1];
  if (release === undefined) throw new DstackError('APT_OUTPUT', `${name} ${version} names no kernel`);
  // Newer kernels are packaged in parts; before, one package held all.
  const parts = ['linux-binary', 'linux-modules', 'linux-base'].map((part) => `${part}-${release}`);
  const depends = await dependsOf(`linux-image-${release}`);
  const split = parts.filter((part) => depends.includes(`${part} `));
  return split.length > 0 ? split : [`linux-image-${release}`];
}

async function isolatedApt(
  folder: string,
  mirrors: Mirrors,
  { dated, keyring = debianKeyring }: LockSources,
): Promise<Apt> {
  const keys = join(folder, 'keyring.gpg');
  await copyFile(keyring, keys);
  chmodSync(keys, 0o644);
  await mkdir(join(folder, 'state/lists/partial'), { recursive: true });
  await mkdir(join(folder, 'cache/archives/partial'), { recursive: true });
  writeFileSync(join(folder, 'status'), '');
  writeFileSync(
    join(folder, 'sources.list'),
    suites
      .map(({ suite, archive }) => `deb [arch=amd64 signed-by=${keys}] ${mirrors[archive]} ${suite} main\n`)
      .join(''),
  );
  const pinned = ['linux-image-*', 'linux-binary-*', 'linux-modules-*', 'linux-base-*'].join(' ');
  writeFileSync(
    join(folder, 'preferences'),
    [
      ['*', firmwarePackages.suite, -1],
      [firmwarePackages.names.join(' '), firmwarePackages.suite, 990],
      [laterTools.names.join(' '), laterTools.suite, 990],
      [pinned, kernelMetapackage.suite, 990],
    ]
      .map(
        ([names, suite, priority]) =>
          `Package: ${names}\nPin: release n=${suite}\nPin-Priority: ${priority}\n`,
      )
      .join('\n'),
  );
  const config = join(folder, 'apt.conf');
  writeFileSync(
    config,
    `Dir "${folder}";
Dir::Etc::parts "${folder}/none";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "${folder}/sources.list";
Dir::Etc::sourceparts "${folder}/none";
Dir::Etc::preferences "${folder}/preferences";
Dir::Etc::preferencesparts "${folder}/none";
Dir::State "${folder}/state";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}/cache";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Check-Valid-Until "${!dated}";
`,
  );
  return (command, args) => run(command, args, { env: { APT_CONFIG: config, LC_ALL: 'C.UTF-8' } });
}

/** What an update of the lock changes, as lines `root name version`. */
export interface LockUpdate {
  readonly removed: readonly string[];
  readonly added: readonly string[];
  readonly packages: number;
}

/** Moves a lock on to what the indices of a local mirror name. */
export async function updateLock(sources: LockSources, file = lockFile): Promise<LockUpdate> {
  const before = existsSync(file) ? parseLock(readFileSync(file, 'utf8')) : [];
  const text = formatLock(await resolveLock(sources));
  // Read it back, so that apt's output is held to the same rules.
  const after = parseLock(text);
  const line = (p: LockedPackage) => `${p.root} ${p.name} ${p.version}`;
  const had = new Set(before.map(line));
  const has = new Set(after.map(line));
  writeFileSync(file, text);
  return {
    removed: [...had].filter((entry) => !has.has(entry)),
    added: [...has].filter((entry) => !had.has(entry)),
    packages: after.length,
  };
}
