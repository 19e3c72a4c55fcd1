import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cachedPath } from './download.ts';
import type { LockedPackage } from './packages.ts';
import { isCurrent, unpackRoot } from './unpacked-root.ts';

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'dstack-unpack-'));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

/** A package with these programs, in the cache. */
function packaged(programs: Readonly<Record<string, number>>): LockedPackage {
  const tree = join(work, 'tree');
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  writeFileSync(
    join(tree, 'DEBIAN/control'),
    'Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: a tool\n',
  );
  for (const [path, mode] of Object.entries(programs)) {
    mkdirSync(join(tree, path, '..'), { recursive: true });
    writeFileSync(join(tree, path), '#!/bin/false\n');
    chmodSync(join(tree, path), mode);
  }
  const locked: LockedPackage = {
    root: 'tools',
    name: 'tool',
    version: '1',
    sha256: 'a'.repeat(64),
    size: 1,
    archive: 'debian',
    path: 'pool/tool.deb',
  };
  execFileSync('dpkg-deb', ['--build', '--root-owner-group', tree, cachedPath(work, locked)], {
    stdio: 'pipe',
  });
  return locked;
}

const modeOf = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

describe('an unpacked root', () => {
  it('gives nobody rights: no program runs as its owner or group, and no other user gets at any', async () => {
    const root = join(work, 'root');
    const programs = {
      'usr/bin/su': 0o4755,
      'usr/bin/wall': 0o2755,
      'usr/sbin/both': 0o6711,
      'usr/bin/ls': 0o755,
    };
    await unpackRoot([packaged(programs)], work, root, 'hash');
    expect(Object.keys(programs).map((path) => modeOf(join(root, path)))).toEqual([
      '755',
      '755',
      '711',
      '755',
    ]);
    expect(modeOf(root)).toBe('700');
    expect(await isCurrent(root, 'hash')).toBe(true);
  });

  it('that was left open, as they once were, is closed when it is used', async () => {
    const root = join(work, 'root');
    await unpackRoot([packaged({ 'usr/bin/su': 0o755 })], work, root, 'hash');
    chmodSync(root, 0o755);
    chmodSync(join(root, 'usr/bin/su'), 0o4755);
    expect(await isCurrent(root, 'other')).toBe(false);
    expect(await isCurrent(root, 'hash')).toBe(true);
    expect([modeOf(root), modeOf(join(root, 'usr/bin/su'))]).toEqual(['700', '755']);
  });
});
