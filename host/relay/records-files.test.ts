/**
 * Relays, processes of their own, whose only carrier is records: the second gets from the first what its node runs, and makes its archive again.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { findImage } from '../../lib/archives/archive.ts';
import { imageOf, layerOf, tar } from '../../lib/archives/images.fixture.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { appId, formatManifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { encodeRollout } from '../../lib/protocol/network-contract.ts';
import { freePort } from '../../test/support/free-port.ts';
import { bootstrappedNetwork, type Chain, SECRET, type TestNetwork } from '../../test/support/guest.ts';
import { RelayTests } from './relays.fixture.ts';

const relays = new RelayTests('relay-records-files-');
const { guestOf, scratch } = relays;
let chain: Chain;
beforeAll(() => {
  chain = relays.chain;
});

async function hostOf(network: TestNetwork, name: string, nodeUrl: string, settings: Record<string, string>) {
  const volume = join(scratch, name, 'volume');
  for (const kind of ['manifests', 'archives']) mkdirSync(join(volume, kind), { recursive: true });
  const host = await relays.processOf(network, name, nodeUrl, { DSTACK_VM_VOLUME_DIR: volume, ...settings });
  host.start();
  await host.serves();
  return host;
}

const archived = (name: string): Record<string, unknown> => {
  const folder = join(scratch, name, 'archive');
  return Object.fromEntries(
    readdirSync(folder).map((file) => [file, JSON.parse(readFileSync(join(folder, file), 'utf8'))]),
  );
};

test('an app’s files and the archive’s, from one relay by another, to a third that comes later', async () => {
  const network = await bootstrappedNetwork(chain, 50);
  const layers = [layerOf('a'.repeat(700_000)), layerOf('b')];
  const { digest, items } = imageOf(layers);
  const manifest = formatManifest({
    version: 1,
    app: 'greeting',
    containers: [{ name: 'web', image: `sha256:${digest}` }],
  });
  const hash = toHex(manifestHash(manifest));
  const port = await freePort();
  const old = await guestOf(network, 'joined');
  const first = await hostOf(network, 'first', old.url, { DSTACK_RECORDS_LISTEN: `127.0.0.1:${port}` });
  writeFileSync(join(scratch, `first/volume/manifests/${hash}.json`), manifest);
  writeFileSync(join(scratch, `first/volume/archives/${digest}.tar`), await tar(items));
  await network.asOwner(encodeRollout({ app: to0x(appId('greeting')), manifestHash: `0x${hash}` }));

  // A node joins by records, and finds what it is to run beside it.
  const fresh = await guestOf(network, 'requesting');
  const ofSecond = { DSTACK_RECORDS_PEERS: (await first.status()).recordsAddress! };
  await hostOf(network, 'second', fresh.url, ofSecond);
  await expect.poll(() => fresh.state, { timeout: 120_000 }).toBe('joined');
  expect(fresh.secret).toEqual(SECRET);
  const place = join(scratch, `second/volume/archives/${digest}.tar`);
  await expect
    .poll(() => readdirSync(join(scratch, 'second/volume/archives')), { timeout: 120_000 })
    .toEqual([`${digest}.tar`]);
  expect(readFileSync(join(scratch, `second/volume/manifests/${hash}.json`)).equals(manifest)).toBe(true);
  const file = await open(place);
  const { size } = await file.stat();
  const image = await findImage(file, size, digest);
  for (const [i, { entry }] of image.layers.entries()) {
    const bytes = Buffer.alloc(entry.size);
    await file.read(bytes, 0, entry.size, entry.offset);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(
      createHash('sha256').update(layers[i]!).digest('hex'),
    );
  }
  await file.close();

  // One that comes when all is over, and gossip passes none of it on any more, has what the first kept.
  await expect.poll(() => Object.keys(archived('first')).length, { timeout: 60_000 }).toBe(2);
  await chain.rpc('anvil_mine', '0x190');
  await hostOf(network, 'third', 'http://127.0.0.1:1', ofSecond);
  await expect.poll(() => archived('third'), { timeout: 60_000 }).toEqual(archived('first'));
}, 300_000);
