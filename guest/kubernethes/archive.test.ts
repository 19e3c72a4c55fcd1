import { createHash } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { extract, type Header, pack } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { verifiedStream, verifyArchive } from './archive.ts';
import { readTar } from './tar.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dstack-archive-'));
});
afterAll(() => rm(folder, { recursive: true }));

type Item = [Partial<Header> | string, (string | Buffer)?];

const hash = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex');

function tar(items: readonly Item[]): Promise<Buffer> {
  const archive = pack();
  for (const [header, content] of items) {
    archive.entry((typeof header === 'string' ? { name: header } : header) as Header, content ?? '');
  }
  archive.finalize();
  return buffer(archive);
}

/** An image of several layers, and the parts that a test may replace. */
function image(layers: readonly string[] = ['layer one', 'layer two']) {
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['/greet'] },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${hash(layer)}`) },
  });
  const digest = hash(config);
  const names = layers.map((layer) => `${hash(layer)}.tar`);
  const index = [{ Config: `${digest}.json`, RepoTags: ['x:1'], Layers: names }];
  const items: Item[] = [
    ...layers.map((layer, i): Item => [names[i]!, layer]),
    [`${digest}.json`, config],
    ['manifest.json', JSON.stringify(index)],
  ];
  return { layers, config, digest, names, index, items };
}

async function onFile<T>(
  bytes: Buffer,
  use: (file: Awaited<ReturnType<typeof open>>) => Promise<T>,
): Promise<T> {
  const path = join(folder, `${Math.random()}.tar`);
  await writeFile(path, bytes);
  const file = await open(path, 'r');
  try {
    return await use(file);
  } finally {
    await file.close();
    await rm(path);
  }
}

const verdict = (bytes: Buffer, digest: string): Promise<string> =>
  onFile(bytes, (file) =>
    verifyArchive(file, bytes.length, digest).then(
      () => 'accepted',
      (error) => codeOf(error),
    ),
  );

const replaced = (items: readonly Item[], name: string, content: string): Item[] =>
  items.map((item) => (item[0] === name ? [name, content] : item));

describe('verifyArchive', () => {
  test('accepts what podman save writes, links for old readers and all', async () => {
    const { items, digest, names } = image();
    const legacy: Item[] = [
      [{ name: 'abc/', type: 'directory' }],
      ['abc/VERSION', '1.0'],
      [{ name: 'abc/layer.tar', type: 'symlink', linkname: `../${names[0]}` }],
      ['repositories', '{"x":{"1":"abc"}}'],
    ];
    expect(await verdict(await tar([...items, ...legacy]), digest)).toBe('accepted');
  });

  test('hands on the checked bytes under its own names, and nothing else', async () => {
    const { items, digest, config, layers, names } = image(['one', 'two', 'one']);
    const extra: Item[] = [
      ['index.json', '{"manifests":[]}'],
      ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
      ['blobs/sha256/evil', 'x'],
    ];
    // The third layer is the first again: one entry, named twice.
    const bytes = await tar([...items.slice(0, 2), ...items.slice(3), ...extra]);
    const out = await onFile(bytes, async (file) =>
      buffer(verifiedStream(file, bytes.length, await verifyArchive(file, bytes.length, digest))),
    );
    const found = new Map<string, string>();
    const reader = extract();
    reader.on('entry', (header, stream, next) => {
      void buffer(stream).then((content) => {
        found.set(header.name, content.toString());
        next();
      });
    });
    await new Promise<void>((resolve) => reader.on('finish', () => resolve()).end(out));
    expect([...found.keys()].sort()).toEqual(
      ['manifest.json', `${digest}.json`, names[0]!, names[1]!].sort(),
    );
    expect(found.get(`${digest}.json`)).toBe(config);
    expect(found.get(names[0]!)).toBe(layers[0]);
    expect(JSON.parse(found.get('manifest.json')!)).toEqual([
      { Config: `${digest}.json`, RepoTags: [], Layers: names },
    ]);
  });

  test('a wrong digest', async () => {
    expect(await verdict(await tar(image().items), image(['other']).digest)).toBe('ARCHIVE_DIGEST_MISMATCH');
  });

  test('a config that was changed, or whose name lies', async () => {
    const { items, digest, config } = image();
    const changed = replaced(items, `${digest}.json`, config.replace('/greet', '/steal'));
    expect(await verdict(await tar(changed), digest)).toBe('ARCHIVE_DIGEST_MISMATCH');
    const other = image(['evil']);
    const pointing = replaced(
      [...items, [`${other.digest}.json`, other.config]],
      'manifest.json',
      JSON.stringify(other.index),
    );
    expect(await verdict(await tar(pointing), digest)).toBe('ARCHIVE_DIGEST_MISMATCH');
  });

  test('layers that were changed, swapped, left out or added', async () => {
    const { items, digest, index, names } = image();
    const layersOf = (layers: string[]) =>
      replaced(items, 'manifest.json', JSON.stringify([{ ...index[0], Layers: layers }]));
    expect(await verdict(await tar(replaced(items, names[1]!, 'layer 2wo')), digest)).toBe(
      'ARCHIVE_LAYER_MISMATCH',
    );
    expect(await verdict(await tar(layersOf([names[1]!, names[0]!])), digest)).toBe('ARCHIVE_LAYER_MISMATCH');
    expect(await verdict(await tar(layersOf([names[0]!])), digest)).toBe('ARCHIVE_LAYER_MISMATCH');
    expect(await verdict(await tar(layersOf([...names, names[0]!])), digest)).toBe('ARCHIVE_LAYER_MISMATCH');
    expect(await verdict(await tar(layersOf([names[0]!, 'gone.tar'])), digest)).toBe('ARCHIVE_MALFORMED');
  });

  test('a second image beside the first, or none', async () => {
    const { items, digest, index } = image();
    const two = replaced(items, 'manifest.json', JSON.stringify([...index, ...image(['b']).index]));
    expect(await verdict(await tar(two), digest)).toBe('ARCHIVE_MALFORMED');
    expect(await verdict(await tar(replaced(items, 'manifest.json', '[]')), digest)).toBe(
      'ARCHIVE_MALFORMED',
    );
    expect(await verdict(await tar(items.slice(0, -1)), digest)).toBe('ARCHIVE_MALFORMED');
  });

  test('two entries of one name: readers disagree which one counts', async () => {
    const { items, digest } = image();
    expect(await verdict(await tar([...items, items.at(-1)!]), digest)).toBe('ARCHIVE_MALFORMED');
    expect(await verdict(await tar([...items, ['./manifest.json', '[]']]), digest)).toBe('ARCHIVE_MALFORMED');
  });

  test.each(['/etc/passwd', '../x', 'a/../../x', 'a\\..\\x'])(
    'a name that leads elsewhere: %s',
    async (name) => {
      const { items, digest } = image();
      expect(await verdict(await tar([...items, [name, 'x']]), digest)).toBe('ARCHIVE_MALFORMED');
    },
  );

  test('links and devices in place of files', async () => {
    const { items, digest, names } = image();
    const link: Item = [{ name: names[0]!, type: 'symlink', linkname: '/dev/vda' }];
    expect(await verdict(await tar([link, ...items.slice(1)]), digest)).toBe('ARCHIVE_LINK_ESCAPE');
    const [config, manifest] = items.slice(2);
    for (const [name, content] of [config!, manifest!]) {
      const behind: Item[] = [
        [{ name: name as string, type: 'symlink', linkname: 'real' }],
        ['real', content ?? ''],
      ];
      const others = items.filter(([other]) => other !== name);
      expect(await verdict(await tar([...others, ...behind]), digest)).toBe('ARCHIVE_NOT_REGULAR');
    }
    for (const type of ['link', 'fifo', 'block-device', 'character-device'] as const) {
      const special: Item = [{ name: 'x', type, linkname: 'manifest.json' }];
      expect(await verdict(await tar([...items, special]), digest)).toBe('ARCHIVE_NOT_REGULAR');
    }
  });

  /** As engines before version 25 save: a folder for each layer, and a link where an equal layer was written before. */
  const olderEngine = (links: readonly (string | undefined)[], layers = ['one', 'two', 'one', 'one']) => {
    const { digest, config } = image(layers);
    const names = layers.map((_, i) => `${String(i).repeat(64)}/layer.tar`);
    const items: Item[] = [
      ...layers.flatMap((layer, i): Item[] => {
        const linkname = links[i];
        const folder = `${String(i).repeat(64)}/`;
        const content: Item =
          linkname === undefined ? [names[i]!, layer] : [{ name: names[i]!, type: 'symlink', linkname }];
        return [[{ name: folder, type: 'directory' }], [`${folder}VERSION`, '1.0'], content];
      }),
      [`${digest}.json`, config],
      ['manifest.json', JSON.stringify([{ Config: `${digest}.json`, RepoTags: ['x:1'], Layers: names }])],
    ];
    return { items, digest, layers };
  };
  const layer = (i: number) => `../${String(i).repeat(64)}/layer.tar`;

  test('equal layers as links to one another, as older engines write them', async () => {
    const { items, digest, layers } = olderEngine([undefined, undefined, layer(0), layer(2)]);
    const bytes = await tar(items);
    expect(await verdict(bytes, digest)).toBe('accepted');
    const found = await onFile(bytes, (file) => verifyArchive(file, bytes.length, digest));
    expect(
      found.layers.map(({ entry }) => bytes.toString('utf8', entry.offset, entry.offset + entry.size)),
    ).toEqual(layers);
    const out = await onFile(bytes, (file) =>
      buffer(verifiedStream(file, bytes.length, found)).then(Buffer.from),
    );
    const written = await onFile(out, (file) => readTar(file, out.length));
    // manifest.json, the config, and two layers that differ; no link.
    expect(written.map(({ kind }) => kind)).toEqual(['file', 'file', 'file', 'file']);
  });

  test("a link of more than 100 characters, in GNU's form and in POSIX's", async () => {
    const long = `${'./'.repeat(60)}${layer(0)}`;
    const { items, digest } = olderEngine([undefined, undefined, undefined, long]);
    expect(long.length).toBeGreaterThan(100);
    expect(await verdict(await tar(items), digest)).toBe('accepted');
    const gnu = Buffer.concat([
      Buffer.from(withChecksum(gnuHeader('K', long.length + 1))),
      Buffer.concat([Buffer.from(`${long}\0`), Buffer.alloc(512)]).subarray(0, 512),
      await tar(olderEngine([undefined]).items),
    ]);
    const [first] = await onFile(gnu, (file) => readTar(file, gnu.length));
    expect(first).toMatchObject({ name: `${'0'.repeat(64)}/`, kind: 'directory' });
    const linkOnly = await tar([[{ name: 'a', type: 'symlink', linkname: 'short' }]]);
    const named = Buffer.concat([gnu.subarray(0, 1024), linkOnly]);
    expect(await onFile(named, (file) => readTar(file, named.length))).toMatchObject([
      { name: 'a', kind: 'symlink', target: long },
    ]);
  });

  test.each([
    ['ARCHIVE_LAYER_MISMATCH', [undefined, undefined, layer(1)]],
    ['ARCHIVE_MALFORMED', [undefined, undefined, '../gone/layer.tar']],
    ['ARCHIVE_NOT_REGULAR', [undefined, undefined, '']],
    ['ARCHIVE_NOT_REGULAR', [undefined, undefined, '.']],
    ['ARCHIVE_LINK_ESCAPE', [undefined, undefined, '/etc/shadow']],
    ['ARCHIVE_LINK_ESCAPE', [undefined, undefined, '../../layer.tar']],
    ['ARCHIVE_LINK_ESCAPE', [undefined, undefined, `x/../../..${layer(0).slice(2)}`]],
    ['ARCHIVE_LINK_LOOP', [undefined, undefined, 'layer.tar']],
    ['ARCHIVE_LINK_LOOP', [undefined, undefined, layer(3), layer(2)]],
  ] as const)('%s for layers with links %j', async (code, links) => {
    const { items, digest } = olderEngine(links);
    expect(await verdict(await tar(items), digest)).toBe(code);
  });

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
    ['xz', () => Buffer.from('fd377a585a0000', 'hex')],
    ['bzip2', () => Buffer.from('BZh9')],
    ['lz4', () => Buffer.from('04224d1864', 'hex')],
  ])('an archive packed with %s is called so', async (name, packed) => {
    const { items, digest } = image();
    const bytes = packed(await tar(items));
    expect(await verdict(bytes, digest)).toBe('ARCHIVE_COMPRESSED');
    await expect(onFile(bytes, (file) => readTar(file, bytes.length))).rejects.toThrow(name);
  });

  test('a truncated archive, wherever it ends', async () => {
    const { items, digest } = image();
    const bytes = await tar(items);
    // Up to the end of the last entry's content; the rest is padding and the end marker.
    for (let length = 0; length <= bytes.length - 1024 - 512; length += 256) {
      expect(await verdict(bytes.subarray(0, length), digest)).toBe('ARCHIVE_TRUNCATED');
    }
  });

  test('a config for another machine, and one that is no config', async () => {
    for (const config of [
      '{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
      '[]',
      '{',
      'x'.repeat(2e6),
    ]) {
      const digest = hash(config);
      const index = JSON.stringify([{ Config: 'c', Layers: ['l'] }]);
      expect(
        await verdict(
          await tar([
            ['c', config],
            ['l', ''],
            ['manifest.json', index],
          ]),
          digest,
        ),
      ).toBe('ARCHIVE_MALFORMED');
    }
  });

  test('a header that asks for a huge allocation', async () => {
    const { items, digest } = image();
    const pax = { name: 'x', pax: { comment: 'x'.repeat(100_000) } } as Header;
    expect(await verdict(await tar([...items, [pax, 'x']]), digest)).toBe('ARCHIVE_MALFORMED');
    const huge = await tar(items);
    huge.write('77777777777\0', 124, 'latin1');
    expect(await verdict(withChecksum(huge), digest)).toBe('ARCHIVE_TRUNCATED');
    huge.set([0xff, ...Array(11).fill(0xff)], 124);
    expect(await verdict(withChecksum(huge), digest)).toBe('ARCHIVE_MALFORMED');
  });

  test('arbitrary bytes and arbitrary damage: a typed refusal, or an image that is exactly right', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (bytes) => {
        expect(await verdict(Buffer.from(bytes), 'ab'.repeat(32))).toMatch(/^ARCHIVE_/);
      }),
      { numRuns: 50 },
    );
    const { items, digest, config, layers } = image();
    const good = await tar(items);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bytes = Buffer.from(good);
        bytes[at] = bytes[at]! ^ flip;
        const outcome = await onFile(bytes, (file) =>
          verifyArchive(file, bytes.length, digest).then(
            async (found) => {
              const contents = found.layers.map(({ entry }) =>
                bytes.toString('utf8', entry.offset, entry.offset + entry.size),
              );
              return [Buffer.from(found.config).toString(), ...contents];
            },
            (error) => codeOf(error),
          ),
        );
        if (typeof outcome === 'string') expect(outcome).toMatch(/^ARCHIVE_/);
        else expect(outcome).toEqual([config, ...layers]);
      }),
      { numRuns: 300 },
    );
  });
});

describe('readTar', () => {
  test('reads what tar-stream writes: long names, prefixes, any content', async () => {
    const entry = fc.tuple(
      fc.stringMatching(/^[a-z0-9äß]([a-z0-9äß/._-]{0,250}[a-z0-9])?$/),
      fc.string({ maxLength: 2000 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(entry, { maxLength: 8, selector: ([name]) => name }), async (files) => {
        const bytes = await tar(files);
        const read = await onFile(bytes, (file) => readTar(file, bytes.length));
        expect(read.map(({ name, kind }) => [name, kind])).toEqual(files.map(([name]) => [name, 'file']));
        expect(read.map(({ offset, size }) => bytes.toString('utf8', offset, offset + size))).toEqual(
          files.map(([, text]) => text),
        );
      }),
      { numRuns: 60 },
    );
  });
});

/** A GNU header for a long name (L) or a long link (K). */
function gnuHeader(type: string, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write('././@LongLink', 0, 'latin1');
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  header.write(type, 156, 'latin1');
  header.write('ustar  \0', 257, 'latin1');
  return header;
}

/** The archive with its first header's checksum recomputed. */
function withChecksum(bytes: Buffer): Buffer {
  bytes.fill(0x20, 148, 156);
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)(
  'layers packed with %s, as newer engines save them, are called what they are',
  async (_, packed) => {
    const { layers, config, digest } = image();
    const blobs = layers.map((layer) => packed(Buffer.from(layer)));
    const names = blobs.map((blob) => `blobs/sha256/${hash(blob)}`);
    const index = [{ Config: `blobs/sha256/${digest}`, RepoTags: ['x:1'], Layers: names }];
    const archive = await tar([
      [`blobs/sha256/${digest}`, config],
      ...blobs.map((blob, at): Item => [names[at]!, blob]),
      ['manifest.json', JSON.stringify(index)],
    ]);
    expect(await verdict(archive, digest)).toBe('ARCHIVE_COMPRESSED');
  },
);
