import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, expect, test } from 'vitest';
import type { FoundImage } from '../../lib/archives/archive.ts';
import { hash, layerOf, pull } from '../../lib/archives/images.fixture.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Handover, handover } from './handover.ts';

let offering: Handover;
afterEach(() => offering.close());

const layers = [layerOf('one'), layerOf('two')];
const config = Buffer.from('{"the":"config"}');
const image: FoundImage = {
  digest: hash(config),
  config,
  layers: layers.map((layer, position) => ({
    digest: hash(layer),
    entry: { name: '', kind: 'file', offset: 0, size: layer.length },
    position,
  })),
};
const found = async function* ({ position }: { position: number }) {
  yield layers[position]!.subarray(0, 100);
  yield layers[position]!.subarray(100);
};

const urlOf = (reference: string, kind: string, digest: string): string =>
  `http://${reference.replace(/\/([0-9a-f]+)@.*$/, '/v2/$1')}/${kind}/sha256:${digest}`;

test('what is offered can be pulled, more than once, and is gone once it is taken back', async () => {
  offering = handover(0);
  const [one, two] = [await offering.offer(image, found), await offering.offer(image, found)];
  for (const { reference } of [one, one, two]) {
    expect(await pull(reference)).toEqual({ digest: image.digest, config: String(config), layers });
  }
  expect(one.reference).not.toBe(two.reference);
  one.end();
  await expect(pull(one.reference)).rejects.toThrow('404');
  expect((await pull(two.reference)).layers).toEqual(layers);
});

test('nothing else is served, to nobody who does not know the token, and on the loopback alone', async () => {
  offering = handover(0);
  const { reference } = await offering.offer(image, found);
  const status = async (url: string, method = 'GET') => (await fetch(url, { method })).status;
  const base = `http://${reference.split('/')[0]}`;
  expect(await status(`${base}/v2/`)).toBe(200);
  const layer = hash(layers[0]!);
  expect(await status(urlOf(reference, 'blobs', layer))).toBe(200);
  expect(await status(urlOf(reference, 'blobs', layer), 'HEAD')).toBe(200);
  for (const url of [
    base,
    `${base}/v2/_catalog`,
    urlOf(reference, 'manifests', layer),
    urlOf(reference, 'blobs', 'ab'.repeat(32)),
    urlOf(reference.replace(/\/[0-9a-f]{4}/, '/abcd'), 'blobs', layer),
    `${urlOf(reference, 'blobs', layer)}/..`,
  ])
    expect(await status(url), url).toBe(404);
  expect(await status(urlOf(reference, 'blobs', layer), 'POST')).toBe(404);
  expect(await status(urlOf(reference, 'blobs', layer), 'DELETE')).toBe(404);
  const raw = connect(Number(base.split(':')[2]), '127.0.0.1');
  raw.end('nonsense\r\n\r\n');
  expect(await text(raw)).toContain('400');
});

test('a layer that is not right breaks off, and nothing of the offer is given out any more', async () => {
  offering = handover(0);
  const offer = await offering.offer(image, async function* ({ position }) {
    yield layers[position]!.subarray(0, 100);
    if (position === 1) throw new DstackError('ARCHIVE_LAYER_MISMATCH', 'wrong');
    yield layers[position]!.subarray(100);
  });
  await expect(pull(offer.reference)).rejects.toThrow();
  expect(offer.problem()).toMatchObject({ code: 'ARCHIVE_LAYER_MISMATCH' });
  expect((await fetch(urlOf(offer.reference, 'blobs', hash(layers[0]!)))).status).toBe(404);
});

test('a puller that hangs up is no fault of the archive', async () => {
  offering = handover(0);
  const endless = async function* () {
    for (;;) yield Buffer.alloc(100_000);
  };
  const offer = await offering.offer(
    { ...image, layers: [{ ...image.layers[0]!, entry: { ...image.layers[0]!.entry, size: 2 ** 40 } }] },
    endless,
  );
  const response = await fetch(urlOf(offer.reference, 'blobs', image.layers[0]!.digest));
  await response.body!.cancel();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(offer.problem()).toBeUndefined();
});

test('taking it back ends what is under way', async () => {
  offering = handover(0);
  const begun = Promise.withResolvers<void>();
  const offer = await offering.offer(image, async function* () {
    begun.resolve();
    await new Promise(() => {});
    yield Buffer.alloc(1);
  });
  const pulling = pull(offer.reference);
  await begun.promise;
  offer.end();
  await expect(pulling).rejects.toThrow();
});

test('a port that is taken is an error with a code, and the next offer tries again', async () => {
  const other = handover(0);
  const port = Number(/:(\d+)\//.exec((await other.offer(image, found)).reference)![1]);
  offering = handover(port);
  await expect(offering.offer(image, found)).rejects.toMatchObject({ code: 'HANDOVER_PORT' });
  other.close();
  expect((await pull((await offering.offer(image, found)).reference)).layers).toEqual(layers);
});
