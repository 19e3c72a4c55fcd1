/** Updating the lock, with apt itself, from an archive that is made here and signed by a key of the test. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { keysMissing, TestKeys } from '../../test/support/test-keys.ts';
import { packagesPath } from './archive-index.ts';
import { downloadFile } from './download.ts';
import { fetchIndices } from './local-mirror.ts';
import { updateLock } from './lock.ts';
import { firmwarePackages, guestPackages, kernelMetapackage, suites, toolPackages } from './package-sets.ts';
import { parseLock } from './packages.ts';

const missing =
  keysMissing ??
  (existsSync('/usr/bin/apt-get') && existsSync('/usr/bin/xz') ? undefined : 'needs apt and xz');
const DAY = 86_400_000;
const names = ['base-files', 'busybox-static', ...guestPackages, ...toolPackages, ...firmwarePackages.names];

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'dstack-lock-'));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

function stanza(name: string, version: string, more = ''): string {
  const sha256 = createHash('sha256').update(`${name} ${version}`).digest('hex');
  return `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nMaintainer: a <a@b.test>\n${more}Filename: pool/main/${name}_${version}_amd64.deb\nSize: 7\nSHA256: ${sha256}\nDescription: it\n`;
}

function packagesOf(suite: string, version: string): string {
  const kernel = 'linux-image-7.9-amd64';
  const own = [...new Set(names)].map((name) =>
    stanza(name, version, name === 'base-files' ? 'Essential: yes\n' : ''),
  );
  const kernels = [
    stanza(kernelMetapackage.name, version, `Depends: ${kernel} (= ${version})\n`),
    stanza(kernel, version),
  ];
  return [...own, ...(suite === kernelMetapackage.suite ? kernels : [])].join('\n');
}

describe.skipIf(missing !== undefined)('moving the lock on', () => {
  let keys: TestKeys;
  beforeAll(() => {
    keys = new TestKeys();
    keys.make('archive');
  });
  afterAll(() => keys.remove());
  const keyring = () => keys.keyring(join(work, 'keys.gpg'), 'archive');

  /** A signed archive whose packages have this version, valid for `days`. */
  function publish(version: string, days: number): void {
    for (const { suite, archive } of suites) {
      const dists = join(work, 'origin', archive, 'dists', suite);
      const file = join(dists, packagesPath);
      mkdirSync(dirname(file), { recursive: true });
      const text = Buffer.from(packagesOf(suite, version));
      const packed = execFileSync('xz', ['-c'], { input: text });
      writeFileSync(file, packed);
      const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
      const date = (at: number) => new Date(at).toUTCString().replace('GMT', 'UTC');
      const release = `Origin: Test
Suite: ${suite}
Codename: ${suite}
Date: ${date(Date.now() - 20 * DAY)}
Valid-Until: ${date(Date.now() + days * DAY)}
Architectures: amd64
Components: main
SHA256:
 ${hash(packed)} ${packed.length} ${packagesPath}
 ${hash(text)} ${text.length} ${packagesPath.replace(/\.xz$/, '')}
`;
      writeFileSync(join(dists, 'InRelease'), keys.sign(release, ['archive']));
    }
  }

  /** What `image lock --update` does. */
  const mirror = () => join(work, 'mirror');
  const fetched = () => {
    const url = (archive: string) => pathToFileURL(join(work, 'origin', archive)).href;
    const mirrors = { debian: url('debian'), 'debian-security': url('debian-security') };
    return fetchIndices(mirrors, mirror(), () => {}, keyring());
  };
  const update = async (dated = false) => {
    const file = join(work, 'packages.lock');
    await updateLock({ mirror: mirror(), dated, keyring: keyring() }, file);
    return parseLock(readFileSync(file, 'utf8'));
  };

  it('goes by the very indices that were verified: what the mirror shows a moment later plays no part', async () => {
    publish('2.0', 7);
    await fetched();
    publish('1.0', 7);
    const lock = await update();
    expect(new Set(lock.map(({ version }) => version))).toEqual(new Set(['2.0']));
    expect(lock.map(({ root, name }) => `${root} ${name}`)).toContain('kernel linux-image-7.9-amd64');
    expect(lock.find(({ name }) => name === 'podman')).toMatchObject({
      archive: 'debian',
      path: 'pool/main/podman_2.0_amd64.deb',
    });
  });

  it('needs no mirror any more', async () => {
    publish('2.0', 7);
    await fetched();
    rmSync(join(work, 'origin'), { recursive: true });
    expect((await update()).length).toBeGreaterThan(20);
  });

  it('refuses an index that has expired, unless a dated copy was named', async () => {
    publish('1.0', -1);
    await fetched();
    expect(await update().then(() => 'moved', codeOf)).toBe('INDEX_EXPIRED');
    expect((await update(true)).length).toBeGreaterThan(20);
  });

  it.each([
    ['InRelease', 'INDEX_SIGNATURE'],
    [packagesPath, 'INDEX_HASH'],
  ])('verifies its own copy of %s', async (name, code) => {
    publish('2.0', 7);
    await fetched();
    const file = join(mirror(), 'debian/dists/trixie', name);
    const bytes = readFileSync(file);
    bytes[100]! ^= 1;
    writeFileSync(file, bytes);
    expect(await update().then(() => 'moved', codeOf)).toBe(code);
  });
});

describe.skipIf(process.getuid?.() !== 0 || !existsSync('/usr/lib/apt/apt-helper'))(
  'a download (as root)',
  () => {
    it("is made by apt's own user, and the file belongs to root", async () => {
      const users: string[] = [];
      const server = createServer((request, response) => {
        // proc(5): the socket whose own port is the caller's; its user is the eighth word.
        const port = request.socket.remotePort!.toString(16).toUpperCase().padStart(4, '0');
        const line = readFileSync('/proc/net/tcp', 'utf8')
          .split('\n')
          .find((text) => new RegExp(`^ *\\d+: [0-9A-F]{8}:${port} `).test(text));
        users.push(line!.trim().split(/\s+/)[7]!);
        response.end('content');
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      try {
        chmodSync(work, 0o700);
        const to = join(work, 'file');
        await downloadFile(`http://127.0.0.1:${(server.address() as AddressInfo).port}/file`, to);
        expect(readFileSync(to, 'utf8')).toBe('content');
        const apt = execFileSync('id', ['-u', '_apt'], { encoding: 'utf8' }).trim();
        expect(users).toEqual([apt]);
        expect(execFileSync('stat', ['-c', '%u', to], { encoding: 'utf8' })).toBe('0\n');
      } finally {
        server.close();
      }
    });
  },
);
