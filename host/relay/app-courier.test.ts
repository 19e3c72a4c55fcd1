import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Item, imageOf, layerOf, tar, tarHeader } from '../../lib/archives/images.fixture.ts';
import { sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { appId, formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';
import { AppCourier, type AppCourierOptions } from './app-courier.ts';
import { APP_FILE_KINDS, AppFiles, type OpenAppFile } from './app-files.ts';
import { type AppRouteLimits, appRoutes } from './app-routes.ts';

const { digest, items } = imageOf([layerOf('a'.repeat(2_000_000)), layerOf('b')]);
const archive = await tar(items);
const manifest = formatManifest({
  version: 1,
  app: 'greeting',
  containers: [{ name: 'web', image: `sha256:${digest}` }],
});
const hash = toHex(manifestHash(manifest));

let root = '';
const ended: (() => unknown)[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-courier-'));
});
afterEach(async () => {
  for (const end of ended.splice(0)) await end();
  rmSync(root, { recursive: true });
});

/** A volume with these files. */
function volume(name: string, files: Readonly<Record<string, Uint8Array>> = {}): string {
  const folder = join(root, name);
  for (const kind of APP_FILE_KINDS) mkdirSync(join(folder, kind), { recursive: true });
  for (const [path, bytes] of Object.entries(files)) writeFileSync(join(folder, path), bytes);
  return folder;
}
const whole = { [`manifests/${hash}.json`]: manifest, [`archives/${digest}.tar`]: archive };

/** A relay's routes over a volume. */
async function relay(folder: string, limits?: AppRouteLimits, files = new AppFiles(folder)): Promise<string> {
  const app: FastifyInstance = fastify({ forceCloseConnections: true });
  app.setErrorHandler(async (error, _, reply) =>
    reply.status(codeOf(error) === 'GOSSIP_RATE' ? 429 : 404).send({ code: codeOf(error) }),
  );
  appRoutes(app, files, limits);
  ended.push(() => app.close());
  return app.listen({ host: '127.0.0.1', port: 0 });
}

async function peer(answer: RequestListener): Promise<string> {
  const server: Server = createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ended.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const viewOf = (app: string, now: string, next = now): AppView => ({
  app: to0x(appId(app)),
  manifestHash: parseHex(`0x${now}`),
  latest: parseHex(`0x${next}`),
  from: 0n,
});
/** What the contract shows: one app with this manifest, now and next. */
const appsShown = (now: string = hash, next = now): AppView[] => [viewOf('greeting', now, next)];

function courier(folder: string, peers: readonly string[], options: Partial<AppCourierOptions> = {}) {
  const said: string[] = [];
  const outcomes: string[] = [];
  const log = (fields: object) => void said.push(JSON.stringify(fields));
  const one = new AppCourier({
    files: new AppFiles(folder),
    peers,
    apps: async () => appsShown(),
    metrics: { count: (_name, _help, labels) => void outcomes.push(labels!.outcome!) },
    log: { info: log, warn: log },
    bounds: { stalledAfter: 60_000, spare: 0 },
    ...options,
  });
  ended.push(() => one.stop());
  return { look: () => one.look(), one, said, outcomes };
}

const namesIn = (folder: string): string[] => readdirSync(join(folder, 'archives'));
const readArchive = (folder: string): Buffer => readFileSync(join(folder, `archives/${digest}.tar`));

test('a relay with nothing gets what the contract names from one that has it, and passes it on', async () => {
  const [a, b, c] = [volume('a', whole), volume('b'), volume('c')];
  const first = courier(b, [await relay(a)]);
  await first.look();
  expect(first.outcomes).toEqual(['taken', 'taken']);
  const second = courier(c, [await relay(volume('none')), await relay(b)]);
  await second.look();
  expect(readArchive(c).equals(archive)).toBe(true);
  expect(readFileSync(join(c, `manifests/${hash}.json`))).toEqual(Buffer.from(manifest));
  expect(namesIn(c)).toEqual([`${digest}.tar`]);
  // The guest reads it as another user.
  expect(statSync(join(c, `archives/${digest}.tar`)).mode & 0o444).toBe(0o444);
  await second.look();
  expect(second.outcomes).toEqual(['taken', 'taken']);
});

test("secrets come as ciphertext, by the hash that the manifest has; one that is something else is nobody's", async () => {
  const envelope = utf8('an envelope');
  const [name, other] = [toHex(sha256(envelope)), toHex(sha256(utf8('another')))];
  const withSecrets = formatManifest({
    version: 2,
    app: 'greeting',
    secrets: [
      { name: 'db', envelope: name },
      { name: 'token', envelope: other },
    ],
    containers: [{ name: 'web', image: `sha256:${digest}`, secrets: ['db', 'token'] }],
  });
  const own = toHex(manifestHash(withSecrets));
  const files = {
    [`manifests/${own}.json`]: withSecrets,
    [`secrets/${name}.json`]: envelope,
    [`archives/${digest}.tar`]: archive,
  };
  const apps = async () => appsShown(own);
  const [b, c] = [volume('b'), volume('c')];
  // One relay has all but one of them, the other one something else in its place.
  const liar = await relay(volume('liar', { [`secrets/${other}.json`]: utf8('an older one') }));
  const first = courier(b, [await relay(volume('a', files)), liar], { apps });
  await first.look();
  expect(readdirSync(join(b, 'secrets'))).toEqual([`${name}.json`]);
  expect(readFileSync(join(b, `secrets/${name}.json`))).toEqual(Buffer.from(envelope));
  expect(first.outcomes).toEqual(['taken', 'taken', 'SECRET_HASH_MISMATCH', 'taken']);
  await courier(c, [await relay(b)], { apps }).look();
  expect(readFileSync(join(c, `secrets/${name}.json`))).toEqual(Buffer.from(envelope));
  // The guest reads it as another user.
  expect(statSync(join(c, `secrets/${name}.json`)).mode & 0o444).toBe(0o444);
});

test('what comes next is there before it is in force', async () => {
  const b = volume('b');
  const { look } = courier(b, [await relay(volume('a', whole))], {
    apps: async () => appsShown('0'.repeat(64), hash),
  });
  await look();
  expect(namesIn(b)).toEqual([`${digest}.tar`]);
});

test('what the operator has put there stays', async () => {
  const mine = { ...whole, [`archives/${digest}.tar`]: Buffer.from('mine') };
  const b = volume('b', mine);
  const { look, outcomes } = courier(b, [await relay(volume('a', whole))]);
  await look();
  expect(readArchive(b).toString()).toBe('mine');
  expect(outcomes).toEqual([]);
});

/** Serves the manifest, and the archive as `archiveAnswer` does. */
const serving =
  (archiveAnswer: RequestListener): RequestListener =>
  (req, res) => {
    if (!req.url!.includes('/archives/'))
      res.writeHead(200, { etag: '"m"', 'content-length': manifest.length }).end(manifest);
    else archiveAnswer(req, res);
  };

test('what was cut off goes on where it was, at the same peer, and is hashed as a whole', async () => {
  const b = volume('b');
  const ranges: (string | undefined)[] = [];
  const flaky = await peer(
    serving((req, res) => {
      ranges.push(req.headers.range);
      const from = Number(/bytes=(\d+)-/.exec(req.headers.range ?? '')?.[1] ?? 0);
      const headers = { etag: '"v1"', 'content-length': archive.length - from };
      if (from === 0) res.writeHead(200, headers);
      else
        res.writeHead(206, {
          ...headers,
          'content-range': `bytes ${from}-${archive.length - 1}/${archive.length}`,
        });
      if (ranges.length > 1) return void res.end(archive.subarray(from));
      res.write(archive.subarray(0, 700_000));
      setTimeout(() => res.destroy(), 100);
    }),
  );
  const first = courier(b, [flaky]);
  await first.look();
  expect(first.outcomes.at(-1)).toBe('HTTP_UNREACHABLE');
  expect(namesIn(b).filter((name) => name.endsWith('.tar'))).toEqual([]);
  // Another process.
  const second = courier(b, [flaky]);
  await second.look();
  expect(second.outcomes).toEqual(['taken']);
  expect(ranges).toEqual([undefined, 'bytes=700000-']);
  expect(readArchive(b).equals(archive)).toBe(true);
  expect(namesIn(b)).toEqual([`${digest}.tar`]);
});

const markOf = (peer: string): string => toHex(sha256(utf8(peer))).slice(0, 16);

test('a peer that goes on elsewhere than it was asked to is refused, and what was there stays as it is', async () => {
  const b = volume('b');
  const url = await peer(
    serving((_, res) =>
      res
        .writeHead(206, {
          etag: '"v"',
          'content-length': archive.length - 5_000,
          'content-range': `bytes 0-${archive.length - 5_001}/${archive.length}`,
        })
        .end(archive.subarray(0, archive.length - 5_000)),
    ),
  );
  const part = join(b, `archives/${digest}.tar.${markOf(url)}.part`);
  writeFileSync(part, archive.subarray(0, 5_000));
  writeFileSync(`${part}.tag`, '"v"');
  const { look, outcomes } = courier(b, [url]);
  await look();
  expect(outcomes.at(-1)).toBe('APP_FILE_PEER');
  expect(readFileSync(part).equals(archive.subarray(0, 5_000))).toBe(true);
});

test('a file that the peer has replaced meanwhile begins anew', async () => {
  const [a, b] = [volume('a', whole), volume('b')];
  const url = await relay(a);
  const mark = markOf(url);
  writeFileSync(join(b, `archives/${digest}.tar.${mark}.part`), 'the beginning of another file');
  writeFileSync(join(b, `archives/${digest}.tar.${mark}.part.tag`), '"another"');
  const { look } = courier(b, [url]);
  await look();
  expect(readArchive(b).equals(archive)).toBe(true);
});

const evil = await tar(
  items.map((item, i): Item => (i === 0 ? [item[0], layerOf('e'.repeat(2_000_000))] : item)),
);
const send = (bytes: Buffer, headers: object = {}): RequestListener =>
  serving((_, res) =>
    res.writeHead(200, { etag: '"v"', 'content-length': bytes.length, ...headers }).end(bytes),
  );

test.each<[string, string, RequestListener]>([
  ['another layer', 'ARCHIVE_LAYER_MISMATCH', send(evil)],
  ['another image', 'ARCHIVE_DIGEST_MISMATCH', send(await tar(imageOf([layerOf('x')]).items))],
  ['half of it, called whole', 'ARCHIVE_TRUNCATED', send(archive.subarray(0, 1_000_000))],
  ['an archive that is packed', 'ARCHIVE_COMPRESSED', send(Buffer.from('1f8b0800', 'hex'))],
  ['nothing', 'ARCHIVE_TRUNCATED', send(Buffer.alloc(0))],
  [
    'a manifest of another app',
    'MANIFEST_HASH_MISMATCH',
    (_, res) => res.writeHead(200, { etag: '"m"', 'content-length': 2 }).end('{}'),
  ],
  [
    '2 GiB',
    'APP_FILE_TOO_LARGE',
    serving((_, res) => res.writeHead(200, { etag: '"v"', 'content-length': 2 ** 31 }).flushHeaders()),
  ],
])('a peer that sends %s is told apart, and left: %s', async (_, code, answer) => {
  const b = volume('b');
  let asked = 0;
  const liar = await peer((req, res) => {
    asked += 1;
    answer(req, res);
  });
  const { look, outcomes, said } = courier(b, [liar, await relay(volume('a', whole))]);
  await look();
  expect(outcomes).toContain(code);
  expect(said.find((line) => line.includes(code))).toContain(liar);
  expect(readArchive(b).equals(archive)).toBe(true);
  expect(namesIn(b)).toEqual([`${digest}.tar`]);
  // It is asked no more, whatever is wanted.
  const before = asked;
  rmSync(join(b, `archives/${digest}.tar`));
  await look();
  expect(asked).toBe(before);
  expect(readArchive(b).equals(archive)).toBe(true);
});

test.each<[string, string, RequestListener]>([
  ['answers nothing', 'HTTP_UNREACHABLE', () => {}],
  [
    'stops',
    'HTTP_UNREACHABLE',
    serving(
      (_, res) =>
        void res
          .writeHead(200, { etag: '"v"', 'content-length': archive.length })
          .write(archive.subarray(0, 1000)),
    ),
  ],
  [
    'gives a byte now and then',
    'APP_FILE_SLOW',
    serving((_, res) => {
      res.writeHead(200, { etag: '"v"', 'content-length': archive.length });
      const timer = setInterval(() => res.write('x'), 50);
      const end = setTimeout(() => res.destroy(), 30_000);
      res.on('close', () => {
        clearInterval(timer);
        clearTimeout(end);
      });
    }),
  ],
  ['fails', 'APP_FILE_PEER', (_, res) => res.writeHead(500).end()],
  [
    'leads elsewhere',
    'HTTP_UNREACHABLE',
    (_, res) => res.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
  ],
  ['says no length', 'APP_FILE_PEER', (_, res) => res.writeHead(200, { etag: '"m"' }).end(manifest)],
  [
    'says no tag',
    'APP_FILE_PEER',
    (_, res) => res.writeHead(200, { 'content-length': manifest.length }).end(manifest),
  ],
  [
    'has a tag that is a path',
    'APP_FILE_PEER',
    (_, res) => res.writeHead(200, { etag: '"../../x"', 'content-length': manifest.length }).end(manifest),
  ],
])('a peer that %s costs a moment: %s', { timeout: 300_000 }, async (_, code, answer) => {
  const b = volume('b');
  const { look, outcomes } = courier(b, [await peer(answer), await relay(volume('a', whole))], {
    // The other one has to be quick enough for it, on a slow machine too.
    bounds: { stalledAfter: 3_000, spare: 0 },
  });
  await look();
  expect(outcomes).toContain(code);
  expect(readArchive(b).equals(archive)).toBe(true);
});

test('a peer that takes its time holds up one file, and not each of them', async () => {
  const images = ['a', 'b', 'c'].map((content) => imageOf([layerOf(content.repeat(300_000))]));
  const containers = images.map(({ digest: image }, i) => ({ name: `c${i}`, image: `sha256:${image}` }));
  const file = formatManifest({ version: 1, app: 'greeting', containers });
  const name = toHex(manifestHash(file));
  const files: Record<string, Uint8Array> = { [`manifests/${name}.json`]: file };
  for (const image of images) files[`archives/${image.digest}.tar`] = await tar(image.items);
  let asked = 0;
  const slow = await peer((_, res) => {
    asked += 1;
    res.writeHead(200, { etag: '"v"', 'content-length': 2 ** 29 });
    // Enough for each span, and never enough.
    const timer = setInterval(() => res.write(Buffer.alloc(70_000)), 50);
    res.on('close', () => clearInterval(timer));
  });
  const b = volume('b', { [`manifests/${name}.json`]: file });
  const { look } = courier(b, [slow, await relay(volume('a', files))], {
    apps: async () => appsShown(name),
    bounds: { stalledAfter: 3_000, within: 8_000, spare: 0 },
  });
  await look();
  expect(namesIn(b).sort()).toEqual(images.map((image) => `${image.digest}.tar`).sort());
  expect(asked).toBe(1);
});

test('a peer that does not have a file takes away nothing of what another gave of it', async () => {
  const b = volume('b');
  const requests: (string | undefined)[] = [];
  const first = await relay(volume('a', whole));
  const cut = await peer((req, res) => {
    if (!req.url!.includes('archives')) return void res.writeHead(404).end();
    requests.push(req.headers.range);
    res.writeHead(200, { etag: '"v"', 'content-length': archive.length });
    res.write(archive.subarray(0, 1_000_000), () => setTimeout(() => res.destroy(), 50));
  });
  rmSync(join(root, `a/archives/${digest}.tar`));
  const { look } = courier(b, [cut, first]);
  await look();
  expect(requests).toEqual([undefined]);
  const next = courier(b, [first, cut]);
  await next.look();
  expect(requests).toEqual([undefined, 'bytes=1000000-']);
});

const other = 'ef'.repeat(32);

test('a draft that nothing would go on with is removed, and nothing but drafts', async () => {
  const b = volume('b', { [`manifests/${hash}.json`]: manifest });
  const url = await relay(volume('none'));
  const mark = markOf(url);
  const put = (kind: string, ...names: string[]) => {
    for (const name of names) writeFileSync(join(b, kind, name), 'x');
  };
  const wanted = [`${digest}.tar.${mark}.part`, `${digest}.tar.${mark}.part.tag`];
  const foreign = [
    `${other}.tar`,
    `${other}.tar.part`,
    `${other}.tar.${mark}.part.old`,
    `${other}.tar.${'g'.repeat(16)}.part`,
    `${other}.json.${mark}.part`,
    `${'ef'.repeat(31)}.tar.${mark}.part`,
    `x${other}.tar.${mark}.part`,
    'mine.part',
  ];
  put('archives', ...wanted, ...foreign, `${other}.tar.${mark}.part`, `${other}.tar.${mark}.part.tag`);
  put(
    'manifests',
    `${hash}.json.${mark}.part`,
    `${other}.json.${mark}.part`,
    `${other}.json.${mark}.part.tag`,
  );
  mkdirSync(join(b, `archives/${'aa'.repeat(32)}.tar.${mark}.part`));
  symlinkSync('mine.part', join(b, `archives/${'bb'.repeat(32)}.tar.${mark}.part`));
  const { look, said } = courier(b, [url]);
  await look();
  expect(namesIn(b).sort()).toEqual(
    [
      ...[...wanted, ...foreign],
      ...[`${'aa'.repeat(32)}.tar.${mark}.part`, `${'bb'.repeat(32)}.tar.${mark}.part`],
    ].sort(),
  );
  expect(readdirSync(join(b, 'manifests'))).toEqual([`${hash}.json`]);
  expect(said).toContain(JSON.stringify({ kind: 'archives', hashes: [other] }));
});

test('while a manifest is missing, nobody knows of which archives a draft may still be needed', async () => {
  const b = volume('b');
  const url = await relay(volume('none'));
  const draft = `${other}.tar.${markOf(url)}.part`;
  for (const name of [`archives/${draft}`, `manifests/${other}.json.${markOf(url)}.part`])
    writeFileSync(join(b, name), 'x');
  let wanted = appsShown();
  const { look } = courier(b, [url], { apps: async () => wanted });
  await look();
  expect(namesIn(b)).toEqual([draft]);
  expect(readdirSync(join(b, 'manifests'))).toEqual([]);
  wanted = appsShown('0'.repeat(64));
  await look();
  expect(namesIn(b)).toEqual([]);
});

test('no drafts are removed in a folder that a link leads to, or where that cannot be done', async () => {
  const b = volume('b', whole);
  const url = await relay(volume('none'));
  const draft = `${other}.tar.${markOf(url)}.part`;
  renameSync(join(b, 'archives'), join(root, 'elsewhere'));
  symlinkSync(join(root, 'elsewhere'), join(b, 'archives'));
  writeFileSync(join(root, 'elsewhere', draft), 'x');
  await courier(b, [url]).look();
  expect(namesIn(b).sort()).toEqual([`${digest}.tar`, draft].sort());
  // No folder at all.
  const c = volume('c', { [`manifests/${hash}.json`]: manifest });
  rmSync(join(c, 'archives'), { recursive: true });
  const { look, outcomes } = courier(c, [await relay(volume('a', whole))]);
  await look();
  expect(outcomes).toEqual(['taken']);
});

describe('an image that no node runs', () => {
  /** Two apps: the image of the first is refused wherever it comes from. */
  const twoApps = (bad: string): AppView[] => [viewOf('bad', bad), viewOf('greeting', hash)];
  const volumeWith = (image: { digest: string }, bytes: Buffer): [string, string] => {
    const of = { name: 'web', image: `sha256:${image.digest}` };
    const file = formatManifest({ version: 1, app: 'bad', containers: [of] });
    const name = toHex(manifestHash(file));
    const files = { [`manifests/${name}.json`]: file, [`archives/${image.digest}.tar`]: bytes };
    return [name, volume('a', { ...whole, ...files })];
  };

  test('is the fault of no peer: its bytes are right, and other apps get theirs', async () => {
    const sparse = Buffer.concat([tarHeader('bomb', 512, 'S'), Buffer.alloc(512), Buffer.alloc(1024)]);
    const image = imageOf([sparse, layerOf('b')]);
    const [name, a] = volumeWith(image, await tar(image.items));
    const b = volume('b');
    const { look, outcomes } = courier(b, [await relay(a)], { apps: async () => twoApps(name) });
    await look();
    expect(outcomes).toEqual(['taken', 'taken', 'taken', 'taken']);
    // Still, of such a layer every byte is compared, and of those behind it.
    const other = await tar(image.items.map((item, i): Item => (i === 1 ? [item[0], layerOf('x')] : item)));
    rmSync(join(b, `archives/${image.digest}.tar`));
    writeFileSync(join(a, `archives/${image.digest}.tar`), other);
    await look();
    expect(outcomes.slice(4)).toEqual(['ARCHIVE_LAYER_MISMATCH']);
  });

  test('whose config is for another machine is not asked for again soon, and costs its peer nothing', async () => {
    const image = imageOf([layerOf('a')], { architecture: 'arm64' });
    const [name, a] = volumeWith(image, await tar(image.items));
    const b = volume('b');
    const { look, outcomes } = courier(b, [await relay(a)], { apps: async () => twoApps(name) });
    await look();
    await look();
    expect(outcomes.sort()).toEqual(['ARCHIVE_MALFORMED', 'taken', 'taken', 'taken']);
    expect(namesIn(b)).toEqual([`${digest}.tar`]);
  });
});

test('nothing is written where there is no room', async () => {
  const b = volume('b');
  const { look, outcomes } = courier(b, [await relay(volume('a', whole))], {
    bounds: { spare: Number.MAX_SAFE_INTEGER },
  });
  await look();
  expect(outcomes).toEqual(['APP_FILE_NO_SPACE']);
  expect(readdirSync(join(b, 'manifests'))).toEqual([]);
});

test('what nobody has is asked for with pauses; a contract that cannot be read is no end', async () => {
  let asked = 0;
  const { look } = courier(volume('b'), [
    await peer((_, res) => {
      asked += 1;
      res.writeHead(404).end();
    }),
  ]);
  await look();
  await look();
  expect(asked).toBe(1);
  const apps = () => Promise.reject(new DstackError('CONTRACT_DATA_INVALID', 'nothing'));
  const broken = courier(volume('c'), ['http://127.0.0.1:1'], { apps });
  await broken.look();
  expect(broken.said).toHaveLength(1);
});

test('the routes give regular files by their hash, from a byte on, and nothing else', async () => {
  const a = volume('a', { ...whole, 'host.json': Buffer.from('{}') });
  const url = await relay(a);
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}${path}`, { headers });
    return {
      status: response.status,
      headers: response.headers,
      bytes: Buffer.from(await response.arrayBuffer()),
    };
  };
  const all = await get(`/v1/archives/${digest}`);
  expect(all.status).toBe(200);
  expect(all.bytes.equals(archive)).toBe(true);
  const etag = all.headers.get('etag')!;
  const rest = await get(`/v1/archives/${digest}`, { range: 'bytes=1000000-', 'if-range': etag });
  expect(rest.status).toBe(206);
  expect(rest.bytes.equals(archive.subarray(1_000_000))).toBe(true);
  expect(rest.headers.get('content-range')).toBe(`bytes 1000000-${archive.length - 1}/${archive.length}`);
  expect(await get(`/v1/archives/${digest}`, { range: 'bytes=1000000-', 'if-range': '"x"' })).toMatchObject({
    status: 200,
  });
  expect(await get(`/v1/archives/${digest}`, { range: `bytes=${archive.length}-` })).toMatchObject({
    status: 416,
  });
  for (const range of ['bytes=5-7', 'bytes=-5', 'bytes=0-1,3-4', 'lines=1-'])
    expect(await get(`/v1/archives/${digest}`, { range })).toMatchObject({ status: 200 });
  for (const path of [
    'host.json',
    `${digest}.tar`,
    '..%2Fhost.json',
    'ab'.repeat(32),
    `${digest.toUpperCase()}`,
  ])
    expect((await get(`/v1/archives/${path}`)).status, path).toBe(404);
  mkdirSync(join(a, `archives/${'cd'.repeat(32)}.tar`));
  expect((await get(`/v1/archives/${'cd'.repeat(32)}`)).status).toBe(404);
});

test('HEAD says how long a file is, and reads none of it', async () => {
  const a = volume('a', whole);
  const opened: OpenAppFile['file'][] = [];
  class Unread extends AppFiles {
    override async open(...which: Parameters<AppFiles['open']>) {
      const found = await super.open(...which);
      if (found === undefined) return undefined;
      opened.push(found.file);
      found.file.createReadStream = () => {
        throw new Error('read');
      };
      return found;
    }
  }
  const url = await relay(a, undefined, new Unread(a));
  // More than one source may have under way.
  for (const headers of [{}, { range: 'bytes=5-' }, { range: `bytes=${archive.length}-` }]) {
    const { status, headers: said } = await fetch(`${url}/v1/archives/${digest}`, {
      method: 'HEAD',
      headers,
    });
    expect(status).toBe(200);
    expect(said.get('content-length')).toBe(`${archive.length}`);
    expect(said.get('etag')).toMatch(/^"[\d-]+"$/);
    expect(said.get('content-range')).toBeNull();
  }
  expect(opened.map(({ fd }) => fd)).toEqual([-1, -1, -1]);
  expect((await fetch(`${url}/v1/manifests/${digest}`, { method: 'HEAD' })).status).toBe(404);
});

test('one source gets so many files at once, and no longer than a while', async () => {
  const big = { [`archives/${'cd'.repeat(32)}.tar`]: Buffer.alloc(50_000_000) };
  const url = await relay(volume('a', big), { sending: 3, perSource: 2, within: 5_000 });
  const ask = () => fetch(`${url}/v1/archives/${'cd'.repeat(32)}`);
  const held = [await ask(), await ask()];
  expect((await ask()).status).toBe(429);
  // Nobody takes them: they end.
  await expect.poll(async () => (await ask()).status).toBe(200);
  await expect(held[0]!.arrayBuffer()).rejects.toThrow();
});
