/** Bundles of the archive: everything once, in parts of a bounded size, from wherever a reader was cut off. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify from 'fastify';
import { extract } from 'tar-stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Archive } from './archive.ts';
import { archiveRoutes } from './archive-routes.ts';

let folder: string;
let archive: Archive;
const nameOf = (n: number) => `answer-${String(n).padStart(64, '0')}-${'0'.repeat(16)}.json`;
const names = Array.from({ length: 30 }, (_, n) => nameOf(n));
const textOf = (n: number) => JSON.stringify({ n, text: 'é'.repeat(n === 20 ? 600_000 : 60_000) });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-archive-'));
  for (const [n, name] of names.entries()) writeFileSync(join(folder, name), textOf(n));
  writeFileSync(join(folder, 'relay.sqlite'), 'not a record');
  archive = new Archive(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function relay(limits?: Parameters<typeof archiveRoutes>[2]) {
  const app = fastify();
  archiveRoutes(app, archive, limits);
  return app;
}

async function bundle(app: ReturnType<typeof relay>, after: string) {
  const { rawPayload, headers } = await app.inject({ url: '/v1/records', query: { bundle: after } });
  expect(headers['content-type']).toBe('application/x-tar');
  const reader = extract();
  reader.end(rawPayload);
  const files: { name: string; text: string }[] = [];
  for await (const entry of reader) {
    let text = '';
    entry.setEncoding('utf8');
    for await (const chunk of entry) text += chunk;
    files.push({ name: entry.header.name, text });
  }
  return { files, bytes: rawPayload.length };
}

test('all records come once and byte for byte, a megabyte at a time, and then an empty bundle', async () => {
  const app = relay();
  const all: { name: string; text: string }[] = [];
  let bundles = 0;
  for (let after = ''; ; bundles += 1) {
    const { files, bytes } = await bundle(app, after);
    // One record that is larger than a bundle comes by itself.
    expect(bytes).toBeLessThan(files.length === 1 ? 1_300_000 : 1_100_000);
    if (files.length === 0) break;
    all.push(...files);
    after = files.at(-1)!.name;
  }
  expect(all).toEqual(names.map((name, n) => ({ name, text: textOf(n) })));
  expect(bundles).toBe(6);
  await app.close();
});

test('a reader goes on from any name, and a name that is no record is no way out of the folder', async () => {
  const app = relay();
  expect((await bundle(app, nameOf(27))).files.map(({ name }) => name)).toEqual([nameOf(28), nameOf(29)]);
  for (const after of ['zzz', '\u{10ffff}']) expect((await bundle(app, after)).files).toEqual([]);
  expect((await bundle(app, '../../etc/passwd')).files[0]?.name).toBe(nameOf(0));
  const twice = await app.inject({ url: '/v1/records?bundle=a&bundle=b' });
  expect(twice.json().records).toEqual(names);
  await app.close();
});

test('two are on their way to one source, and the next when they are over', async () => {
  const hold = Promise.withResolvers<void>();
  const app = relay({ sending: 8, perSource: 2, within: 60_000 });
  let begun = 0;
  app.addHook('onSend', async () => {
    begun += 1;
    if (begun <= 2) await hold.promise;
  });
  app.setErrorHandler((error, _, reply) =>
    reply.status(429).send({ code: (error as { code?: string }).code }),
  );
  const ask = () => app.inject({ url: '/v1/records', query: { bundle: '' } });
  const held = [ask(), ask()];
  await expect.poll(() => begun).toBe(2);
  expect((await ask()).json()).toEqual({ code: 'GOSSIP_RATE' });
  hold.resolve();
  for (const one of held) expect((await one).statusCode).toBe(200);
  await expect.poll(async () => (await ask()).statusCode).toBe(200);
  await app.close();
});
