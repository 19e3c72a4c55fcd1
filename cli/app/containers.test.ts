import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { AppStatus, AppsStatus } from '../../lib/protocol/app-status.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import { formatManifest, type Manifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { containersOf, containerTable, manifestsIn } from './containers.ts';

const hash = (letter: string): Hex => parseHex(letter.repeat(64));
const said = (...apps: AppStatus[]): AppsStatus => ({ apps, more: 0, rollouts: [] });
const manifest = (app: string, ...names: string[]): Manifest => ({
  version: 2,
  app,
  containers: names.map((name, at) => ({
    name,
    image: `sha256:${'ab'.repeat(32)}`,
    memoryMiB: 64,
    ...(at === 0 ? { http: [{ port: 8080, domain: 'shop.example', protocol: 'http1' }] } : {}),
  })),
});
const states = (status: AppStatus) => containersOf(said(status), () => undefined).map(({ state }) => state);

test('the containers of what serves and of what is to, as the manifests name them', () => {
  const status: AppStatus = {
    ...{ app: 'web', state: 'behind', inForce: hash('b'), serving: hash('a'), pending: hash('c') },
  };
  const known = new Map([[hash('a'), manifest('web', 'front', 'back')]]);
  const rows = containersOf(said(status), (one) => known.get(one));
  expect(rows.map(({ container, state, manifest }) => [container, state, manifest.slice(0, 3)])).toEqual([
    ['front', 'running', '0xa'],
    ['back', 'running', '0xa'],
    [null, 'starting', '0xb'],
    [null, 'waiting', '0xc'],
  ]);
  const image = 'ab'.repeat(6);
  expect(containerTable(rows)).toEqual([
    'APP   CONTAINER                      IMAGE          STATE      PORTS               MANIFEST',
    `web   front                          ${image}   running    shop.example:8080   0xaaaaaaaaaaaa`,
    `web   back                           ${image}   running                        0xaaaaaaaaaaaa`,
    'web   (manifest not in the volume)                  starting                       0xbbbbbbbbbbbb',
    'web   (manifest not in the volume)                  waiting                        0xcccccccccccc',
  ]);
});

test('the word for each state of an app', () => {
  const a = { app: 'web', inForce: hash('a') };
  expect(states({ ...a, state: 'serving', serving: hash('a') })).toEqual(['running']);
  expect(states({ ...a, state: 'starting' })).toEqual(['starting']);
  expect(states({ ...a, state: 'replacing' })).toEqual(['starting']);
  expect(states({ ...a, state: 'down' })).toEqual(['down']);
  expect(states({ ...a, state: 'ended', serving: hash('b') })).toEqual(['ending', 'down']);
  expect(states({ app: 'web', state: 'waiting', pending: hash('a') })).toEqual(['waiting']);
});

test('a manifest of the volume counts by its hash, and for its own app: what a host puts there instead is not known', () => {
  const volume = mkdtempSync(join(tmpdir(), 'dstack-ps-'));
  mkdirSync(join(volume, 'manifests'));
  const put = (name: Hex, bytes: Uint8Array) =>
    writeFileSync(join(volume, 'manifests', `${name}.json`), bytes);
  try {
    const bytes = formatManifest(manifest('web', 'front'));
    const own = toHex(manifestHash(bytes));
    put(own, bytes);
    put(hash('b'), bytes);
    put(hash('c'), new Uint8Array(100_000));
    const find = manifestsIn(volume);
    expect(find(own)?.app).toBe('web');
    for (const one of [hash('b'), hash('c'), hash('d')]) expect(find(one)).toBeUndefined();
    expect(manifestsIn(undefined)(own)).toBeUndefined();
    const other: AppStatus = { app: 'shop', state: 'serving', inForce: own, serving: own };
    expect(containersOf(said(other), find)[0]!.container).toBeNull();
  } finally {
    rmSync(volume, { recursive: true, force: true });
  }
});
