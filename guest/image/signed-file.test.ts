import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { keysMissing, TestKeys } from '../../test/support/test-keys.ts';
import { parseSigners, readSigned } from './signed-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'dstack-signed-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe.skipIf(keysMissing !== undefined)('a signed file', () => {
  let keys: TestKeys;
  let keyring: string;
  beforeAll(() => {
    keys = new TestKeys();
    keys.make('good');
    keys.make('other');
    keys.make('stranger');
    keys.make('old', { longAgo: true });
    keys.make('expired', { longAgo: true, valid: '1y' });
    keys.make('revoked');
  });
  afterAll(() => keys.remove());

  const read = async (signed: string) => {
    keyring = keys.keyring(join(folder, 'keyring.gpg'), 'good', 'other', 'old', 'expired', 'revoked');
    const file = join(folder, 'signed');
    writeFileSync(file, signed);
    return readSigned(file, keyring);
  };
  const verdict = (signed: string) =>
    read(signed).then(({ signers }) => signers.map(({ name }) => name.split(' ')[0]).join(' '), codeOf);

  it('counts by each key that signed it and is good', async () => {
    expect((await read(keys.sign('text\n', ['good', 'other']))).text.toString()).toBe('text\n');
    expect(await verdict(keys.sign('text', ['good', 'other']))).toBe('good other');
    expect(await verdict(keys.sign('text', ['stranger', 'good']))).toBe('good');
  });

  it.each<[string, () => string]>([
    ['a key that has expired', () => keys.sign('text', ['expired'], { longAgo: true })],
    ['a stranger', () => keys.sign('text', ['stranger'])],
    [
      'a key whose signature has expired',
      () => keys.sign('text', ['good'], { options: ['--default-sig-expire', 'seconds=1'] }),
    ],
    [
      'a hash that can be forged',
      () => keys.sign('text', ['good'], { options: ['--digest-algo', 'SHA1', '--allow-weak-digest-algos'] }),
    ],
  ])('does not count by %s', async (_, sign) => {
    const signed = sign();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(await verdict(signed)).toBe('SIGNATURE_INVALID');
  });

  it('does not count by a key that was revoked, whenever it signed', async () => {
    const signed = keys.sign('text', ['revoked']);
    expect(await verdict(signed)).toBe('revoked');
    keys.revoke('revoked');
    expect(await verdict(signed)).toBe('SIGNATURE_INVALID');
  });

  it('counts by a good key beside an expired one', async () => {
    expect(await verdict(keys.sign('text', ['old', 'expired'], { longAgo: true }))).toBe('old');
  });
});

describe('what gpgv says', () => {
  const valid = (key: string, hash = 8) =>
    `[GNUPG:] VALIDSIG ${key.repeat(40)} 2026-11-20 1795140725 0 4 0 1 ${hash} 01 ${key.repeat(40)}\n`;
  const good = (key: string) => `[GNUPG:] GOODSIG ${key.repeat(16)} Somebody <a@b.test>\n`;
  const fingerprints = (said: string) => parseSigners(said).map(({ fingerprint }) => fingerprint[0]);

  it('names a signer for a GOODSIG with the VALIDSIG of the same key', () => {
    expect(fingerprints(`[GNUPG:] NEWSIG\n${good('A')}${valid('A')}`)).toEqual(['A']);
    expect(
      fingerprints(`[GNUPG:] NEWSIG\n${good('A')}${valid('A')}[GNUPG:] NEWSIG x\n${good('B')}${valid('B')}`),
    ).toEqual(['A', 'B']);
  });

  it.each([
    ['VALIDSIG alone', valid('A')],
    ['GOODSIG alone', good('A')],
    ['VALIDSIG of another key', good('A') + valid('B')],
    ['VALIDSIG of another signature', `${good('A')}[GNUPG:] NEWSIG\n${valid('A')}`],
    ['an expired key', `[GNUPG:] EXPKEYSIG ${'A'.repeat(16)} x\n${valid('A')}`],
    ['a revoked key', `[GNUPG:] REVKEYSIG ${'A'.repeat(16)} x\n${valid('A')}`],
    ['an expired signature', `[GNUPG:] EXPSIG ${'A'.repeat(16)} x\n${valid('A')}`],
    ['SHA-1', good('A') + valid('A', 2)],
    [
      'a bad signature, or one of an unknown key',
      `[GNUPG:] BADSIG 78DBA3BC47EF2265 Debian Archive Automatic Signing Key
[GNUPG:] ERRSIG 6ED0E7B82643E131 1 8 01 1795140707 9 4CB50190207B4758A3F73A796ED0E7B82643E131
[GNUPG:] NO_PUBKEY 6ED0E7B82643E131
`,
    ],
  ])('names none for %s', (_, said) => {
    expect(parseSigners(`[GNUPG:] NEWSIG\n${said}`)).toEqual([]);
  });
});
