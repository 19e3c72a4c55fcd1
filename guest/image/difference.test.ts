import { zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { ImageManifest } from '../../lib/protocol/image.ts';
import { type Entry, type ImageContents, initramfsEntries } from './contents.ts';
import { cpioArchive, readCpio } from './cpio.ts';
import { compareImages, isEmpty, unexplained } from './difference.ts';
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
  owner: '0:0',
  attributes: '',
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

  it("differ in a file's owner, and in its attributes, such as capabilities", () => {
    for (const change of [{ owner: '800:0' }, { owner: '0:6' }, { attributes: '00000000' }]) {
      const root = new Map(image.root).set('/etc/hosts', { ...entry('a'), ...change });
      expect(compareImages(image, { ...image, root }).root.map(({ name }) => name)).toEqual(['/etc/hosts']);
    }
  });

  it('that differ in a part, and in nothing that is listed of it, are said to', () => {
    const parts = (digit: string) =>
      new Map(['root.img', 'vmlinuz'].map((name) => [name, { ...file, sha256: digit.repeat(64) }]));
    const [a, b] = [
      { ...image, parts: parts('1') },
      { ...image, parts: parts('2') },
    ];
    expect(unexplained(compareImages(a, b))).toEqual([
      expect.stringMatching(/^root\.img differs, although no file in it does/),
      expect.stringMatching(/^vmlinuz differs; its contents are not compared/),
    ]);
    const root = new Map(image.root).set('/etc/hosts', entry('b'));
    expect(unexplained(compareImages(a, { ...b, root })).join()).not.toContain('root.img');
    expect(unexplained(compareImages(a, a))).toEqual([]);
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
    const packed = zstdCompressSync(archive);
    for (let length = 0; length < packed.length; length++) {
      expect(() => initramfsEntries(packed.subarray(0, length))).toThrow(/zstd|unpacked/);
    }
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

  it('is refused when anything follows that a kernel would lay over it', () => {
    const second = cpioArchive([
      { path: 'init', kind: 'file', bytes: Buffer.from('evil'), executable: true },
    ]);
    const one = zstdCompressSync(archive);
    const shown = (packed: Buffer) => {
      try {
        return initramfsEntries(packed).size;
      } catch (error) {
        return codeOf(error);
      }
    };
    expect(shown(one)).toBe(3);
    expect(shown(zstdCompressSync(Buffer.concat([archive, second])))).toBe('CPIO_INVALID');
    expect(shown(zstdCompressSync(Buffer.concat([archive, Buffer.alloc(4), second])))).toBe('CPIO_INVALID');
    expect(shown(zstdCompressSync(Buffer.concat([archive, Buffer.alloc(512)])))).toBe('CPIO_INVALID');
    for (const after of [zstdCompressSync(second), second, Buffer.alloc(4), Buffer.from([0])]) {
      expect(shown(Buffer.concat([one, after]))).toBe('IMAGE_INVALID');
    }
  });

  it.each([
    [1, '00000007', 'inode'],
    [3, '00000320', 'owner'],
    [4, '00000320', 'group'],
    [5, '00000003', 'count of links'],
    [6, '00000001', 'time'],
    [10, '00000001', 'device'],
    [13, '00000001', 'sum'],
  ])('is refused when field %i of a record says %s: its %s would not be shown', (index, value) => {
    const other = Buffer.from(archive);
    other.write(value, 6 + (index - 1) * 8, 'latin1');
    expect(() => readCpio(other)).toThrow(/holds more/);
  });

  it.each(['../init', '/init', './init', 'bin/./sh', 'bin/sh'])(
    'is refused with a second or odd path: %s',
    (path) => {
      const entries = [
        { path: 'bin/sh', kind: 'link', target: 'busybox' } as const,
        { path, kind: 'link', target: 'evil' } as const,
      ];
      expect(() => readCpio(cpioArchive(entries))).toThrow(/twice, or leads elsewhere/);
    },
  );
});
