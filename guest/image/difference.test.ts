import { zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { type Entry, type ImageContents, initramfsEntries } from './contents.ts';
import { cpioArchive, readCpio } from './cpio.ts';
import { compareImages, isEmpty } from './difference.ts';
import type { LockedPackage } from './packages.ts';
import { textDifference } from './text-difference.ts';

const file = { sha256: 'a'.repeat(64), size: 1 };
const manifest: ImageManifest = {
  version: 1,
  flavour: 'sim',
  builtAt: 1,
  commandLine: 'console=ttyS0 panic=-1 dstack.blocks=7',
  rootHash: 'b'.repeat(64),
  kernelRelease: '7.2',
  packages: 1,
  lockHash: 'c'.repeat(64),
  files: { vmlinuz: file, 'initramfs.cpio.zst': file, 'root.img': file, 'firmware.bin': file },
  defaultShape: { cpus: 2, memoryMiB: 2048 },
  measurement: `0x${'d'.repeat(64)}`,
};
const openssl: LockedPackage = {
  root: 'guest',
  name: 'openssl',
  version: '1',
  sha256: 'e'.repeat(64),
  size: 1,
  archive: 'debian',
  path: 'pool/o.deb',
};
const entry = (text: string, mode = 0o644): Entry => ({
  kind: 'file',
  mode,
  size: text.length,
  content: text,
  read: async () => Buffer.from(text),
});
const image: ImageContents = {
  folder: '',
  manifest,
  packages: [openssl],
  parts: new Map([['vmlinuz', file]]),
  root: new Map([
    ['/etc/hosts', entry('a')],
    ['/usr/bin/node', entry('b', 0o755)],
  ]),
  initramfs: new Map([['/init', entry('c', 0o755)]]),
};

describe('two images', () => {
  it('that are the same do not differ', () => {
    expect(isEmpty(compareImages(image, { ...image }))).toBe(true);
  });

  it('differ in files by content, by mode, by being there', () => {
    const root = new Map([
      ['/etc/hosts', entry('a', 0o600)],
      ['/etc/new', entry('n')],
    ]);
    const { root: changes } = compareImages(image, { ...image, root });
    expect(changes.map(({ name, before, after }) => [name, before?.mode, after?.mode])).toEqual([
      ['/etc/hosts', 0o644, 0o600],
      ['/etc/new', undefined, 0o644],
      ['/usr/bin/node', 0o755, undefined],
    ]);
  });

  it('differ in packages, words of the command line and facts', () => {
    const other = compareImages(image, {
      ...image,
      packages: [{ ...openssl, version: '2', sha256: '0'.repeat(64) }],
      manifest: { ...manifest, commandLine: 'console=ttyS0 dstack.blocks=8 panic=-1', builtAt: 2 },
    });
    expect(other.packages?.map(({ name, before, after }) => [name, before?.version, after?.version])).toEqual(
      [['guest openssl', '1', '2']],
    );
    expect(other.commandLine).toEqual([
      { name: 'dstack.blocks', before: 'dstack.blocks=7', after: 'dstack.blocks=8' },
    ]);
    expect(other.facts).toEqual([{ name: 'builtAt', before: '1', after: '2' }]);
  });

  it('say nothing of packages when one came without its list', () => {
    const { packages, ...without } = image;
    expect(packages).toBeDefined();
    expect(compareImages(image, without).packages).toBeUndefined();
  });
});

describe('two texts', () => {
  const lines = (a: string, b: string) => textDifference(Buffer.from(a), Buffer.from(b));

  it('of lines differ as diff -u says it', async () => {
    expect(await lines('one\ntwo\n', 'one\n2\n')).toEqual(['@@ -1,2 +1,2 @@', ' one', '-two', '+2']);
  });

  it('of a bundle differ in the part between what they share', async () => {
    const bundle = (word: string) => `${'x'.repeat(900)};log("${word}");${'y'.repeat(900)}`;
    const [where, before, after] = (await lines(bundle('before'), bundle('after')))!;
    expect(where).toBe('@@ character 906 @@');
    expect(before).toMatch(/^-x+;log\("\[before\]"\);y+$/);
    expect(after).toMatch(/^\+x+;log\("\[after\]"\);y+$/);
    expect(before!.length).toBeLessThan(200);
  });

  it('are not compared when one is no text', async () => {
    expect(await textDifference(Buffer.from([0, 1]), Buffer.from('a'))).toBeUndefined();
    expect(await textDifference(Buffer.from([0xff, 0xfe]), Buffer.from('a'))).toBeUndefined();
  });
});

describe('an initramfs', () => {
  const archive = cpioArchive([
    { path: 'bin', kind: 'folder' },
    { path: 'bin/sh', kind: 'link', target: 'busybox' },
    { path: 'init', kind: 'file', bytes: Buffer.from('#!'), executable: true },
  ]);

  it('is read as it was written', () => {
    const entries = initramfsEntries(zstdCompressSync(archive));
    expect([...entries].map(([name, { kind, mode, size }]) => [name, kind, mode, size])).toEqual([
      ['/bin', 'folder', 0o755, 0],
      ['/bin/sh', 'link', 0o777, 0],
      ['/init', 'file', 0o755, 2],
    ]);
    expect(entries.get('/bin/sh')?.content).toBe('busybox');
  });

  it('is refused when it is cut off, or no such archive', () => {
    for (let length = 0; length < archive.length; length += 5) {
      expect(() => readCpio(archive.subarray(0, length))).toThrow(/CPIO|record/);
    }
    try {
      initramfsEntries(Buffer.from('not zstd'));
      expect.unreachable();
    } catch (error) {
      expect(codeOf(error)).toBe('IMAGE_INVALID');
    }
  });
});
