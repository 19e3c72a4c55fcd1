import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import type { Header } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf } from '../protocol/errors.ts';
import { checkedLayer, findImage, layerBytes } from './archive.ts';
import { hash, type Item, imageOf, layerOf, tar, tarHeader, withChecksum } from './images.fixture.ts';
import { Room } from './layer.ts';
import { type ByteSource, readTar } from './tar.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dstack-archive-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** An image of layers with these contents. */
const image = (contents: readonly string[] = ['layer one', 'layer two']) =>
  imageOf(contents.map((content) => layerOf(content)));

/** All that the engine would get of the image: its config, and its layers to their ends. */
async function taken(file: ByteSource, length: number, digest: string, room = new Room(2 ** 30)) {
  const found = await findImage(file, length, digest);
  const layers: Buffer[] = [];
  for (const layer of found.layers) {
    const chunks: Buffer[] = [];
    for await (const chunk of checkedLayer(file, length, layer, room)) chunks.push(chunk);
    layers.push(Buffer.concat(chunks));
  }
  return { config: Buffer.from(found.config).toString(), layers };
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

const verdict = (bytes: Buffer, digest: string, room?: Room): Promise<string> =>
  onFile(bytes, (file) =>
    taken(file, bytes.length, digest, room).then(
      () => 'accepted',
      (error) => codeOf(error),
    ),
  );

const replaced = (items: readonly Item[], name: string, content: string | Buffer): Item[] =>
  items.map((item) => (item[0] === name ? [name, content] : item));

describe('an archive', () => {
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

  test('gives its config and its layers, and nothing else, whatever lies beside them', async () => {
    const { items, digest, config, layers } = image(['one', 'two', 'one']);
    const extra: Item[] = [
      ['index.json', '{"manifests":[]}'],
      ['oci-layout', '{"imageLayoutVersion":"1.0.0"}'],
      ['blobs/sha256/evil', 'x'],
      [`${hash('evil')}.tar`, 'evil'],
    ];
    // The third layer is the first again: one entry, named twice.
    const bytes = await tar([...items.slice(0, 2), ...items.slice(3), ...extra]);
    expect(await onFile(bytes, (file) => taken(file, bytes.length, digest))).toEqual({ config, layers });
    const found = await onFile(bytes, (file) => findImage(file, bytes.length, digest));
    expect(layerBytes(found)).toBe(layers[0]!.length + layers[1]!.length);
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
    expect(await verdict(await tar(replaced(items, names[1]!, layerOf('layer 2wo'))), digest)).toBe(
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
    const contents = layers.map((layer) => layerOf(layer));
    const names = layers.map((_, i) => `${String(i).repeat(64)}/layer.tar`);
    const items: Item[] = [
      ...layers.flatMap((_, i): Item[] => {
        const linkname = links[i];
        const folder = `${String(i).repeat(64)}/`;
        const content: Item =
          linkname === undefined
            ? [names[i]!, contents[i]!]
            : [{ name: names[i]!, type: 'symlink', linkname }];
        return [[{ name: folder, type: 'directory' }], [`${folder}VERSION`, '1.0'], content];
      }),
      [`${digest}.json`, config],
      ['manifest.json', JSON.stringify([{ Config: `${digest}.json`, RepoTags: ['x:1'], Layers: names }])],
    ];
    return { items, digest, layers: contents };
  };
  const layer = (i: number) => `../${String(i).repeat(64)}/layer.tar`;

  test('equal layers as links to one another, as older engines write them', async () => {
    const { items, digest, layers } = olderEngine([undefined, undefined, layer(0), layer(2)]);
    const bytes = await tar(items);
    expect(await verdict(bytes, digest)).toBe('accepted');
    const { layers: got } = await onFile(bytes, (file) => taken(file, bytes.length, digest));
    expect(got).toEqual(layers);
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
        const outcome = await onFile(bytes, (file) => taken(file, bytes.length, digest).catch(codeOf));
        if (typeof outcome === 'string') expect(outcome).toMatch(/^ARCHIVE_/);
        else expect(outcome).toEqual({ config, layers });
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

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)(
  'layers packed with %s, as newer engines save them, are called what they are',
  async (_, packed) => {
    const { layers, config, digest } = image();
    const blobs = layers.map((layer) => packed(layer));
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

const padded = (type: string, text: string): Buffer =>
  Buffer.concat([tarHeader('x', text.length, type), Buffer.from(text.padEnd(512, '\0'))]);
const pax = (records: string): Buffer => padded('x', records);
const longName = (name: string): Buffer => padded('L', name);

describe('a layer that is right, and still not one to be unpacked', () => {
  const alone = async (layer: Buffer, room?: Room) => {
    const { items, digest } = imageOf([layer]);
    return verdict(await tar(items), digest, room);
  };

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ])('a bomb that %s packed, under the hash of what it is packed to', async (_, packed) => {
    expect(await alone(packed(Buffer.alloc(10_000_000)))).toBe('ARCHIVE_COMPRESSED');
  });

  test("sparse files, in GNU's old form and in POSIX's", async () => {
    const old = Buffer.concat([tarHeader('bomb', 512, 'S'), Buffer.alloc(512), Buffer.alloc(1024)]);
    expect(await alone(old)).toBe('ARCHIVE_SPARSE');
    const pax = { name: 'bomb', pax: { 'GNU.sparse.realsize': '1099511627776' } } as unknown as Header;
    expect(await alone(await tar([[pax, 'x']]))).toBe('ARCHIVE_SPARSE');
    // The archive itself, too.
    const { items, digest } = image();
    const outer = { name: 'bomb', pax: { 'GNU.sparse.major': '1' } } as unknown as Header;
    expect(await verdict(await tar([...items, [outer, 'x']]), digest)).toBe('ARCHIVE_SPARSE');
    expect(await verdict(Buffer.concat([tarHeader('bomb', 0, 'S'), await tar(items)]), digest)).toBe(
      'ARCHIVE_SPARSE',
    );
  });

  test('a FIFO, at which whoever opens it waits for ever', async () => {
    expect(await alone(Buffer.concat([tarHeader('etc/localtime', 0, '6'), Buffer.alloc(1024)]))).toBe(
      'ARCHIVE_FIFO',
    );
  });

  test('more small files than there is room for, though together they are small', async () => {
    const many = await tar(Array.from({ length: 500 }, (_, i): Item => [`f${i}`, 'x']));
    expect(many.length).toBeLessThan(600_000);
    expect(await alone(many, new Room(500 * 5120))).toBe('accepted');
    expect(await alone(many, new Room(500 * 5120 - 1))).toBe('ARCHIVE_TOO_LARGE');
    // Over all layers together; one that is there twice counts once.
    const { items, digest } = imageOf([layerOf('a'), layerOf('b'), layerOf('a')]);
    const bytes = await tar(items.filter((_, i) => i !== 2));
    expect(await verdict(bytes, digest, new Room(2 * 5120))).toBe('accepted');
    expect(await verdict(bytes, digest, new Room(2 * 5120 - 1))).toBe('ARCHIVE_TOO_LARGE');
  });

  test('extended attributes count: they are in memory, where no limit of the file system finds them', async () => {
    const attribute = { pax: { 'SCHILY.xattr.user.x': 'x'.repeat(50_000) } };
    const file = (_: unknown, i: number): Item => [{ name: `f${i}`, ...attribute } as unknown as Header, ''];
    const bytes = await tar(Array.from({ length: 20 }, file));
    expect(await alone(bytes, new Room(20 * 52_000))).toBe('accepted');
    expect(await alone(bytes, new Room(20 * 50_000))).toBe('ARCHIVE_TOO_LARGE');
  });

  test.each([
    ['a name', tarHeader('a/../../etc/passwd', 0)],
    ['a hard link', tarHeader('a', 0, '1', '../../etc/shadow')],
    ['a name behind an empty one', Buffer.concat([pax('8 path=\n'), tarHeader('../x', 0)])],
    ['a long name before another', Buffer.concat([longName('../x'), pax('9 path=a\n'), tarHeader('x', 0)])],
    ['a link behind an empty one', Buffer.concat([pax('13 linkpath=\n'), tarHeader('a', 0, '1', '../x')])],
  ])('%s that leads out of it', async (_, header) => {
    expect(await alone(Buffer.concat([header, Buffer.alloc(1024)]))).toBe('ARCHIVE_MALFORMED');
  });

  test("a layer's own links, folders, devices and long names are the container's business", async () => {
    const long = `${'folder/'.repeat(40)}file`;
    const bytes = await tar([
      [{ name: 'bin', type: 'symlink', linkname: '../../usr/bin' }],
      [{ name: 'sh', type: 'link', linkname: 'bin/busybox' }],
      [{ name: 'null', type: 'character-device', devmajor: 1, devminor: 3 }],
      [{ name: 'var/', type: 'directory' }],
      [long, 'x'.repeat(5000)],
      [{ name: 'ü', pax: { comment: 'x' } } as unknown as Header, 'y'],
    ]);
    expect(await alone(bytes)).toBe('accepted');
    // Folders that never end are names only.
    expect(await alone(Buffer.alloc(0))).toBe('accepted');
  });

  test.each([
    ['no tar archive', Buffer.alloc(1024, 'x')],
    ['an end within a header', Buffer.concat([layerOf('a').subarray(0, 1024), Buffer.alloc(100, 'x')])],
    ['an end within a file', layerOf('a'.repeat(5000)).subarray(0, 1024)],
    ['an extended header without end', tarHeader('x', 2 ** 30, 'x')],
  ])('%s', async (_, layer) => {
    expect(await alone(layer)).toBe('ARCHIVE_MALFORMED');
  });

  test('arbitrary damage is of no consequence: a typed refusal, or nothing noticed', async () => {
    const good = await tar([
      ['a', 'x'.repeat(700)],
      [{ name: 'b', pax: { comment: 'c' } } as unknown as Header, 'y'],
      ['c/'.repeat(80), ''],
    ]);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const layer = Buffer.from(good);
        layer[at] = layer[at]! ^ flip;
        expect(await alone(layer)).toMatch(/^(accepted|ARCHIVE_[A-Z]+)$/);
      }),
      { numRuns: 150 },
    );
  });
});

describe('a host that changes the archive while it is read', () => {
  /** The good archive, and from the `nth` read of a layer's bytes on another. */
  function changing(good: Buffer, then: Buffer, nth: number): ByteSource {
    let reads = 0;
    return {
      read: async (target, offset, length, position) => {
        if (length > 1024) reads += 1;
        const from = reads > nth ? then : good;
        return {
          bytesRead: position < from.length ? from.copy(target, offset, position, position + length) : 0,
        };
      },
    };
  }

  const layers = [layerOf('a'.repeat(3_000_000)), layerOf('b'.repeat(3_000_000))];
  test.each([
    ['between the check and the load', 0],
    ['within a layer', 2],
    ['within the last piece of the last layer', 5],
  ])('%s', async (_, nth) => {
    const { items, digest } = imageOf(layers);
    const good = await tar(items);
    const evil = await tar([
      [items[0]![0], layerOf('e'.repeat(3_000_000))],
      [items[1]![0], layerOf('e'.repeat(3_000_000))],
      ...items.slice(2),
    ]);
    expect(evil.length).toBe(good.length);
    await expect(taken(changing(good, evil, nth), good.length, digest)).rejects.toMatchObject({
      code: 'ARCHIVE_LAYER_MISMATCH',
    });
    const whole = await taken(changing(good, evil, 100), good.length, digest);
    expect(whole.layers.map(hash)).toEqual(layers.map(hash));
    await expect(
      taken(changing(good, good.subarray(0, 100_000), nth), good.length, digest),
    ).rejects.toMatchObject({ code: 'ARCHIVE_TRUNCATED' });
  });

  test('the end of a layer that is not right is never handed on', async () => {
    const { items, digest } = imageOf(layers);
    const good = await tar(items);
    const evil = Buffer.from(good);
    evil[good.indexOf('aaa') + 5] = 1;
    const file = changing(evil, evil, 0);
    const found = await findImage(file, evil.length, digest);
    let bytes = 0;
    const reading = async () => {
      for await (const chunk of checkedLayer(file, evil.length, found.layers[0]!, new Room(2 ** 30)))
        bytes += chunk.length;
    };
    await expect(reading()).rejects.toMatchObject({ code: 'ARCHIVE_LAYER_MISMATCH' });
    expect(bytes).toBeLessThan(layers[0]!.length);
  });
});
