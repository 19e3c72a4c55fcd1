import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parsePackages, readPackages, readRelease } from './archive-index.ts';

const data = join(import.meta.dirname, '../../testdata/archive');
const release = join(data, 'InRelease');
const keyring = join(data, 'trixie.gpg');
const folder = mkdtempSync(join(tmpdir(), 'dstack-index-'));
afterAll(() => rmSync(folder, { recursive: true }));

const codeOfRelease = (file: string, suite = 'trixie-updates', ring = keyring) =>
  readRelease(file, suite, ring).then(() => 'accepted', codeOf);

/** A copy of the signed file with a change. */
function changed(change: (text: string) => string): string {
  const file = join(folder, 'InRelease');
  writeFileSync(file, change(readFileSync(release, 'utf8')));
  return file;
}

describe('a signed release', () => {
  it('says who signed it, when, and what it names', async () => {
    const read = await readRelease(release, 'trixie-updates', keyring);
    expect(read.signers.map(({ fingerprint, name }) => [fingerprint, name])).toEqual([
      [
        '04B54C3CDCA79751B16BC6B5225629DF75B188BD',
        'Debian Archive Automatic Signing Key (13/trixie) <ftpmaster@debian.org>',
      ],
    ]);
    expect(read.date.toISOString()).toBe('2026-11-20T02:11:10.000Z');
    expect(read.validUntil!.getTime()).toBeGreaterThan(read.date.getTime());
    const packages = await readPackages(join(data, 'Packages.xz'), read);
    expect(packages).toHaveLength(3);
    expect(packages[0]).toMatchObject({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });

  it.each<[string, () => string]>([
    [
      'a letter of it changed',
      () => changed((text) => text.replace('Suite: stable-updates', 'Suite: stable-updatex')),
    ],
    [
      'a hash of it changed',
      () =>
        changed((text) =>
          text.replace(/^ [0-9a-f]{64}/m, (line) =>
            line.replace(/[0-9a-f]$/, (c) => (c === '0' ? '1' : '0')),
          ),
        ),
    ],
    ['no signature', () => changed((text) => text.split('-----BEGIN PGP SIGNATURE')[0]!)],
    ['nothing in it', () => changed(() => '')],
  ])('is refused with %s', async (_, file) => {
    expect(await codeOfRelease(file())).toBe('INDEX_SIGNATURE');
  });

  it('is refused when no key of the keyring signed it, or there is no keyring', async () => {
    expect(await codeOfRelease(release, 'trixie-updates', join(data, 'other.gpg'))).toBe('INDEX_SIGNATURE');
    expect(await codeOfRelease(release, 'trixie-updates', join(data, 'none.gpg'))).toBe('KEYRING_MISSING');
  });

  it("of one suite is not taken for another's", async () => {
    expect(await codeOfRelease(release, 'trixie')).toBe('INDEX_INVALID');
  });

  it('is read only where it is signed', async () => {
    const before = changed((text) => `Codename: forky\nDate: now\n\n${text}`);
    expect(await codeOfRelease(before, 'forky')).toMatch(/^INDEX_(INVALID|SIGNATURE)$/);
    const after = changed((text) => `${text}\nCodename: forky\n`);
    expect(await codeOfRelease(after, 'forky')).toMatch(/^INDEX_(INVALID|SIGNATURE)$/);
  });
});

describe('an index', () => {
  it('that is not the one that the release names is refused', async () => {
    const read = await readRelease(release, 'trixie-updates', keyring);
    const file = join(folder, 'Packages.xz');
    const bytes = readFileSync(join(data, 'Packages.xz'));
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    expect(await readPackages(file, read).then(() => 'accepted', codeOf)).toBe('INDEX_HASH');
  });

  it('whose package has no hash is refused', () => {
    const stanza = 'Package: a\nVersion: 1\nFilename: pool/a.deb\n';
    expect(() => parsePackages(stanza, 'Packages')).toThrow(/no SHA256/);
  });
});
