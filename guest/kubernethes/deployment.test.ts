import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { fetcher } from './deployment.ts';
import type { Engine } from './engine.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-deploy-'));
  for (const folder of ['host/manifests', 'host/archives', 'scratch'])
    mkdirSync(join(root, folder), { recursive: true });
  writeFileSync(join(root, 'meminfo'), 'MemAvailable: 1000000 kB\n');
});
afterEach(() => rmSync(root, { recursive: true }));

const sha = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const image = `sha256:${'ab'.repeat(32)}`;
const bytes = formatManifest({ version: 1, app: 'greeting', containers: [{ name: 'web', image }] });
const hash = toHex(manifestHash(bytes));

/** Only what the fetcher needs of an engine; it keeps the image if `keeps` says so. */
function loader(keeps = true) {
  const loaded = new Set<string>();
  const engine = {
    hasImage: async (digest: string) => loaded.has(digest),
    loadImage: async (archive: Readable) => {
      const name = /"Config":"([0-9a-f]{64})\.json"/.exec((await buffer(archive)).toString('latin1'))?.[1];
      if (keeps) loaded.add(name!);
    },
  };
  const places = {
    hostVolume: join(root, 'host'),
    scratch: join(root, 'scratch'),
    meminfo: join(root, 'meminfo'),
  };
  return fetcher(engine as unknown as Engine, places);
}

const code = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

test('a manifest is found by its hash and belongs to the app', async () => {
  expect(await code(loader().manifest('greeting', hash))).toBe('MANIFEST_MISSING');
  writeFileSync(join(root, `host/manifests/${hash}.json`), bytes);
  expect((await loader().manifest('greeting', hash)).app).toBe('greeting');
  expect(await code(loader().manifest('other', hash))).toBe('MANIFEST_WRONG_APP');
});

test('the bytes must hash to what the contract says, even if they parse', async () => {
  writeFileSync(join(root, `host/manifests/${'cd'.repeat(32)}.json`), bytes);
  expect(await code(loader().manifest('greeting', 'cd'.repeat(32)))).toBe('MANIFEST_HASH_MISMATCH');
});

test('a hash that is none never becomes a path', async () => {
  expect(await code(loader().manifest('greeting', '../../etc/passwd'))).toBe('ENCODING_HEX');
  expect(await code(loader().image('../../etc/passwd'))).toBe('ENCODING_HEX');
});

test('an image is checked, loaded once, and its copy deleted', async () => {
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha('layer')}`] },
  });
  const digest = sha(config);
  const archive = pack();
  archive.entry({ name: 'c.json' }, config);
  archive.entry({ name: 'l.tar' }, 'layer');
  archive.entry({ name: 'manifest.json' }, JSON.stringify([{ Config: 'c.json', Layers: ['l.tar'] }]));
  archive.finalize();
  const path = join(root, `host/archives/${digest}.tar`);
  expect(await code(loader().image(digest))).toBe('ARCHIVE_MISSING');
  writeFileSync(path, await buffer(archive));

  expect(await code(loader(false).image(digest))).toBe('ARCHIVE_NOT_LOADED');
  const good = loader();
  await good.image(digest);
  rmSync(path);
  await good.image(digest);

  writeFileSync(join(root, `host/archives/${'ef'.repeat(32)}.tar`), 'x'.repeat(600));
  expect(await code(loader().image('ef'.repeat(32)))).toBe('ARCHIVE_MALFORMED');
  expect(readdirSync(join(root, 'scratch'))).toEqual([]);
});

test('no more is copied than memory allows', async () => {
  writeFileSync(join(root, 'meminfo'), 'MemAvailable: 66536 kB\n');
  writeFileSync(join(root, `host/archives/${'ef'.repeat(32)}.tar`), Buffer.alloc(600_000));
  expect(await code(loader().image('ef'.repeat(32)))).toBe('ARCHIVE_TOO_LARGE');
});
