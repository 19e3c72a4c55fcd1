import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { type Item, imageOf, layerOf, pull, tar } from '../../lib/archives/images.fixture.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { fetcher } from './deployment.ts';
import type { Engine } from './engine.ts';
import { handover } from './handover.ts';
import { loadBudget } from './host-files.ts';
import { keptIn } from './kept.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-deploy-'));
  for (const folder of ['host/manifests', 'host/archives'])
    mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, 'meminfo'), 'MemAvailable: 1000000 kB\n');
});
afterEach(() => rmSync(root, { recursive: true }));
const offering = handover(0);
afterAll(() => offering.close());

const image = `sha256:${'ab'.repeat(32)}`;
const bytes = formatManifest({ version: 1, app: 'greeting', containers: [{ name: 'web', image }] });
const hash = toHex(manifestHash(bytes));

/** Only what the fetcher needs of an engine; it keeps the image if `keeps` says so. */
function loader(keeps = true, volumes: string[] = []) {
  const loaded = new Set<string>();
  const engine = {
    hasImage: async (digest: string) => loaded.has(digest),
    assertReadable: async () => {},
    imageVolumes: async () => volumes,
    pullImage: async (reference: string) => {
      const { digest } = await pull(reference);
      if (keeps) loaded.add(digest);
    },
  };
  return fetcherOf(engine);
}

function fetcherOf(engine: object) {
  const places = { hostVolume: join(root, 'host'), storage: root, meminfo: join(root, 'meminfo') };
  return fetcher(engine as unknown as Engine, places, keptIn(join(root, 'kept')), offering);
}

const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

test('a manifest is found by its hash and belongs to the app', async () => {
  expect(await code(loader().manifest('greeting', hash))).toBe('MANIFEST_MISSING');
  writeFileSync(join(root, `host/manifests/${hash}.json`), bytes);
  expect((await loader().manifest('greeting', hash)).app).toBe('greeting');
  expect(await code(loader().manifest('other', hash))).toBe('MANIFEST_WRONG_APP');
});

test('a manifest that was checked once needs no host any more', async () => {
  writeFileSync(join(root, `host/manifests/${hash}.json`), bytes);
  await loader().manifest('greeting', hash);
  rmSync(join(root, `host/manifests/${hash}.json`));
  expect((await loader().manifest('greeting', hash)).app).toBe('greeting');
  expect(await code(loader().manifest('other', hash))).toBe('MANIFEST_WRONG_APP');
});

test('the bytes must hash to what the contract says, even if they parse', async () => {
  writeFileSync(join(root, `host/manifests/${'cd'.repeat(32)}.json`), bytes);
  expect(await code(loader().manifest('greeting', 'cd'.repeat(32)))).toBe('MANIFEST_HASH_MISMATCH');
});

test('a hash that is none never becomes a path', async () => {
  expect(await code(loader().manifest('greeting', '../../etc/passwd'))).toBe('ENCODING_HEX');
  expect(await code(loader().image('../../etc/passwd', []))).toBe('ENCODING_HEX');
});

const archiveAt = (digest: string): string => join(root, `host/archives/${digest}.tar`);

test('an image is checked, loaded once, and the host not asked for it again', async () => {
  const { digest, items } = imageOf([layerOf('layer')]);
  expect(await code(loader().image(digest, []))).toBe('ARCHIVE_MISSING');
  writeFileSync(archiveAt(digest), await tar(items));

  expect(await code(loader(false).image(digest, []))).toBe('ARCHIVE_NOT_LOADED');
  const good = loader();
  await good.image(digest, []);
  expect(await code(loader(true, ['/tmp', '/var/lib/data']).image(digest, ['/tmp']))).toBe('IMAGE_VOLUME');
  expect(await code(loader(true, ['/tmp']).image(digest, ['/tmp', '/run']))).toBe('accepted');
  rmSync(archiveAt(digest));
  await good.image(digest, []);

  writeFileSync(archiveAt('ef'.repeat(32)), 'x'.repeat(600));
  expect(await code(loader().image('ef'.repeat(32), []))).toBe('ARCHIVE_MALFORMED');
});

test('an image of which the engine would have too much to say, to whoever lists what it has, is not loaded', async () => {
  for (const config of [
    { Labels: { x: '<'.repeat(700_000 / 6) } },
    { ExposedPorts: { '1-65535/tcp': {} } },
  ]) {
    const { digest, items } = imageOf([layerOf('layer')], { config });
    writeFileSync(archiveAt(digest), await tar(items));
    let pulls = 0;
    const engine = {
      hasImage: async () => false,
      pullImage: async () => {
        pulls += 1;
      },
    };
    expect(await code(fetcherOf(engine).image(digest, []))).toBe('IMAGE_CONFIG');
    expect(pulls).toBe(0);
  }
});

test('an image that the engine cannot read by itself is refused, also one that it has', async () => {
  const engine = {
    hasImage: async () => true,
    imageVolumes: async () => [],
    assertReadable: () => Promise.reject(new DstackError('IMAGE_FILES', 'a FIFO')),
  };
  expect(await code(fetcherOf(engine).image('ab'.repeat(32), []))).toBe('IMAGE_FILES');
});

test('what is wrong with the archive is said, not what the engine makes of it; and no load of it counts', async () => {
  const { digest, items } = imageOf([layerOf('a'.repeat(3_000_000)), layerOf('b')]);
  const bytes = await tar(items);
  bytes[2_000_000] = 1;
  writeFileSync(archiveAt(digest), bytes);
  expect(await code(loader().image(digest, []))).toBe('ARCHIVE_LAYER_MISMATCH');
  // One that is content with half of it, and says that it has the image.
  const content = {
    hasImage: async () => false,
    assertReadable: async () => {},
    imageVolumes: async () => [],
    pullImage: (reference: string) => pull(reference).then(undefined, () => undefined),
  };
  expect(await code(fetcherOf(content).image(digest, []))).toBe('ARCHIVE_LAYER_MISMATCH');
  bytes[2_000_000] = 'a'.charCodeAt(0);
  writeFileSync(archiveAt(digest), bytes);
  const refusing = { ...content, pullImage: () => Promise.reject(new DstackError('ENGINE_LOAD', 'no')) };
  expect(await code(fetcherOf(refusing).image(digest, []))).toBe('ENGINE_LOAD');
});

test('an archive that is swapped or changed after the check, and before its layers are read, is refused', async () => {
  const { digest, items } = imageOf([layerOf('a'.repeat(3_000_000))]);
  const good = await tar(items);
  const evil = Buffer.from(good);
  evil[1_000_000] = 'e'.charCodeAt(0);
  const loaded: string[] = [];
  const whenPulled = (change: () => void) =>
    fetcherOf({
      hasImage: async (digest: string) => loaded.includes(digest),
      assertReadable: async () => {},
      imageVolumes: async () => [],
      pullImage: async (reference: string) => {
        change();
        loaded.push((await pull(reference)).digest);
      },
    });
  writeFileSync(archiveAt(digest), good);
  // The same file with other bytes.
  expect(await code(whenPulled(() => writeFileSync(archiveAt(digest), evil)).image(digest, []))).toBe(
    'ARCHIVE_LAYER_MISMATCH',
  );
  writeFileSync(archiveAt(digest), good);
  expect(await code(whenPulled(() => truncateSync(archiveAt(digest), 2_000_000)).image(digest, []))).toBe(
    'ARCHIVE_TRUNCATED',
  );
  expect(loaded).toEqual([]);
  // Another file in its place: what was opened is what is read.
  writeFileSync(archiveAt(digest), good);
  const swap = () => {
    rmSync(archiveAt(digest));
    writeFileSync(archiveAt(digest), evil);
  };
  expect(await code(whenPulled(swap).image(digest, []))).toBe('accepted');
});

test('two apps that want one image at once have it loaded once', async () => {
  let asked = 0;
  const path = join(root, `host/archives/${'ef'.repeat(32)}.tar`);
  writeFileSync(path, Buffer.alloc(600_000));
  const engine = {
    hasImage: async () => {
      asked += 1;
      return false;
    },
  };
  const files = fetcherOf(engine);
  const both = ['ef', 'ef'].map((byte) => code(files.image(byte.repeat(32), [])));
  expect(await Promise.all(both)).toEqual(['ARCHIVE_MALFORMED', 'ARCHIVE_MALFORMED']);
  expect(asked).toBe(2);
});

test('what other loads take is not there for this one', async () => {
  const big = 400 * 1024 * 1024;
  const budget = (promised?: number) => loadBudget(join(root, 'meminfo'), root, promised);
  expect(await budget()).toBeGreaterThan(big);
  expect(await budget(big)).toBe((await budget()) - big);
  expect(await budget(2 ** 40)).toBe(0);
});

test('an image for which there is no room is refused before anything of it is given out', async () => {
  const { digest, items } = imageOf([layerOf('x'.repeat(600_000))]);
  writeFileSync(archiveAt(digest), await tar(items));
  let pulls = 0;
  const engine = {
    hasImage: async () => false,
    pullImage: async () => {
      pulls += 1;
    },
  };
  // Room for the image, but not for it twice.
  writeFileSync(join(root, 'meminfo'), `MemAvailable: ${65536 + 1100} kB\n`);
  expect(await code(fetcherOf(engine).image(digest, []))).toBe('ARCHIVE_TOO_LARGE');
  expect(pulls).toBe(0);
  writeFileSync(join(root, 'meminfo'), `MemAvailable: ${65536 + 1200} kB\n`);
  expect(await code(fetcherOf(engine).image(digest, []))).toBe('ARCHIVE_NOT_LOADED');
  expect(pulls).toBe(1);
});

test('an image of many small files is refused when it is larger unpacked than there is room', async () => {
  const files = Array.from({ length: 500 }, (_, i): Item => [`f${i}`, 'x']);
  const { digest, items } = imageOf([await tar(files)]);
  writeFileSync(archiveAt(digest), await tar(items));
  writeFileSync(join(root, 'meminfo'), `MemAvailable: ${65536 + 2000} kB\n`);
  expect(await code(loader().image(digest, []))).toBe('ARCHIVE_TOO_LARGE');
  writeFileSync(join(root, 'meminfo'), `MemAvailable: ${65536 + 4000} kB\n`);
  expect(await code(loader().image(digest, []))).toBe('accepted');
});
