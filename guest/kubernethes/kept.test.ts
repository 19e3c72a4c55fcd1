import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { toHex } from '../../lib/protocol/encoding.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { formatManifest, type Manifest, manifestHash } from '../../lib/protocol/manifest.ts';
import { keptIn } from './kept.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-kept-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const manifest: Manifest = {
  version: 1,
  app: 'greeting',
  containers: [{ name: 'web', image: `sha256:${'ab'.repeat(32)}` }],
};
const bytes = formatManifest(manifest);
const hash = toHex(manifestHash(bytes));
const other = parseHex('cd'.repeat(32));

test('a manifest is there for the next daemon, if it still has its hash', () => {
  keptIn(folder).save(hash, bytes);
  expect(keptIn(folder).manifest(hash)).toEqual(manifest);
  expect(keptIn(folder).manifest(other)).toBeUndefined();
  writeFileSync(join(folder, `manifests/${other}.json`), bytes);
  expect(keptIn(folder).manifest(other)).toBeUndefined();
});

test('only manifests of which something is needed stay', () => {
  const kept = keptIn(folder);
  kept.save(hash, bytes);
  kept.prune(new Set([hash]));
  expect(kept.manifest(hash)).toEqual(manifest);
  kept.prune(new Set());
  expect(readdirSync(join(folder, 'manifests'))).toEqual([]);
});

test('which manifest serves is kept for each app, until it is withdrawn', () => {
  keptIn(folder).remember('greeting', { serving: hash });
  keptIn(folder).remember('greeting', { serving: other, previous: hash });
  expect(keptIn(folder).record('greeting')).toEqual({ serving: other, previous: hash });
  expect(keptIn(folder).record('parting')).toBeUndefined();
  const more = { superseded: 1_800_000_000, finished: ['job'], interrupted: ['web'] };
  keptIn(folder).remember('greeting', { serving: other, ...more });
  expect(keptIn(folder).record('greeting')).toEqual({ serving: other, ...more });
  expect(keptIn(folder).readAt()).toBeUndefined();
  keptIn(folder).rememberReadAt(1_800_000_000);
  expect(keptIn(folder).readAt()).toBe(1_800_000_000);
  keptIn(folder).forget('greeting');
  expect(keptIn(folder).record('greeting')).toBeUndefined();
});
