import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { cachedPath, downloadPackages } from './download.ts';
import { checkPackages, explainReplacements, replacedPackages, type SuiteIndex } from './local-mirror.ts';
import { mirrorsAt } from './mirrors.ts';
import type { LockedPackage } from './packages.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-mirror-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A package of these bytes, put into the mirror in `folder` unless `put` is false. */
function locked(name: string, version: string, bytes: string, put = true): LockedPackage {
  const path = `pool/main/${name}_${encodeURIComponent(version)}_all.deb`;
  const file = join(folder, 'debian', decodeURIComponent(path));
  mkdirSync(dirname(file), { recursive: true });
  if (put) writeFileSync(file, bytes);
  return {
    root: 'guest',
    name,
    version,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    size: bytes.length,
    archive: 'debian',
    path,
  };
}

function index(suite: string, packages: SuiteIndex['packages']): SuiteIndex {
  return {
    archive: 'debian',
    release: { suite, date: new Date(0), signers: [], files: new Map() },
    packages,
  };
}

describe('a local mirror', () => {
  it('is what a build downloads from', async () => {
    const both = [locked('one', '1:1.0+b1', 'first'), locked('two', '2', 'second')];
    const mirrors = mirrorsAt(pathToFileURL(join(folder, 'debian')).href, {});
    const cache = join(folder, 'cache');
    expect(
      await downloadPackages(
        both,
        cache,
        () => mirrors,
        () => {},
      ),
    ).toBe(11);
    expect(readFileSync(cachedPath(cache, both[0]!), 'utf8')).toBe('first');
  });

  it.each([
    ['lacks', false],
    ['has other bytes of', true],
  ])('that %s a package is named by version and package, and nothing is kept', async (_, put) => {
    const wanted = { ...locked('curl', '8.1-2', 'right', false) };
    if (put) locked('curl', '8.1-2', 'wrong');
    const mirrors = mirrorsAt(pathToFileURL(join(folder, 'debian')).href, {});
    const cache = join(folder, 'cache');
    const failure = await downloadPackages(
      [wanted],
      cache,
      () => mirrors,
      () => {},
    ).catch((error: unknown) => error);
    expect(codeOf(failure)).toBe('PACKAGE_UNAVAILABLE');
    expect((failure as Error).message).toMatch(/curl 8\.1-2.*--snapshot URL.*image lock --update/s);
    expect(existsSync(cachedPath(cache, wanted))).toBe(false);
  });

  it('is checked package by package', async () => {
    const good = locked('good', '1', 'bytes');
    await checkPackages([good], folder);
    const missing = locked('missing', '1', 'x', false);
    expect(await checkPackages([good, missing], folder).then(() => 'whole', codeOf)).toBe(
      'MIRROR_INCOMPLETE',
    );
    writeFileSync(join(folder, 'debian', good.path), 'other');
    expect(await checkPackages([good], folder).then(() => 'whole', codeOf)).toBe('PACKAGE_HASH');
  });
});

describe('a locked package that Debian has replaced', () => {
  const old = () => locked('openssl', '3.5.7-1~deb13u2', 'old');
  const entry = (p: LockedPackage, version = p.version, sha256 = p.sha256) => ({
    name: p.name,
    version,
    sha256,
    path: p.path,
  });

  it('is found by its hash, and said with what is there now', () => {
    const [package_, other] = [old(), locked('zlib1g', '1', 'z')];
    const indices = [
      index('trixie', [entry(other)]),
      index('trixie-security', [entry(package_, '3.5.7-1~deb13u3', 'f'.repeat(64))]),
    ];
    const replaced = replacedPackages([package_, other], indices);
    expect(replaced.map(({ locked }) => locked.name)).toEqual(['openssl']);
    const text = explainReplacements(replaced);
    expect(text).toContain('openssl 3.5.7-1~deb13u2: now 3.5.7-1~deb13u3 in trixie-security');
    expect(text).toMatch(/--snapshot URL/);
    expect(text).toMatch(/image lock --update/);
  });

  it('is none of those whose version is the same but whose bytes are not', () => {
    const package_ = old();
    const rebuilt = [index('trixie', [entry(package_, package_.version, '0'.repeat(64))])];
    expect(replacedPackages([package_], rebuilt)).toHaveLength(1);
    expect(replacedPackages([package_], [index('trixie', [entry(package_)])])).toEqual([]);
    expect(explainReplacements(replacedPackages([package_], []))).toContain('openssl 3.5.7-1~deb13u2: gone');
  });
});

describe('a dated copy of the archive', () => {
  it("has security's beside it, of the same date", () => {
    expect(mirrorsAt('http://dated.test/archive/debian/20260131T000000Z/', {})).toEqual({
      debian: 'http://dated.test/archive/debian/20260131T000000Z',
      'debian-security': 'http://dated.test/archive/debian-security/20260131T000000Z',
    });
  });
});
