import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { selfSigned } from './certificate.ts';
import { integer, oid, time } from './der.ts';

const contract = `0x${'Ab'.repeat(20)}`;
const options = { privateKey: fromHex('11'.repeat(32)), chainId: 31337, contract, builtAt: 1_700_000_000 };

test('is a certificate that others read as meant', () => {
  const { certificate, key, fingerprint } = selfSigned(options);
  const parsed = new X509Certificate(certificate);
  expect(parsed.subject).toBe(`O=Dstack network on chain 31337\nCN=0x${'ab'.repeat(20)}`);
  expect(parsed.issuer).toBe(parsed.subject);
  expect(parsed.subjectAltName).toBe(
    `DNS:0x${'ab'.repeat(20)}.dstack.invalid, DNS:localhost, IP Address:127.0.0.1`,
  );
  expect(parsed.ca).toBe(false);
  expect(parsed.checkPrivateKey(key)).toBe(true);
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(new Date(parsed.validFrom).getTime() / 1000).toBe(options.builtAt - 24 * 3600);
  expect(fingerprint).toBe(createHash('sha256').update(parsed.raw).digest('hex'));
  const shown = execFileSync('openssl', ['x509', '-noout', '-text'], { input: certificate }).toString();
  expect(shown).toContain('TLS Web Server Authentication');
  expect(shown).toContain('Digital Signature');
});

test('is the same on every node, and another one for another key, network or image', () => {
  const fingerprints = [
    options,
    options,
    { ...options, privateKey: fromHex('12'.repeat(32)) },
    { ...options, chainId: 1 },
    { ...options, builtAt: options.builtAt + 1 },
  ].map((each) => selfSigned(each).fingerprint);
  expect(new Set(fingerprints).size).toBe(4);
  expect(fingerprints[0]).toBe(fingerprints[1]);
});

test('any scalar gives a certificate that verifies', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 31, maxLength: 31 }),
      fc.integer({ min: 1, max: 5e9 }),
      (low, builtAt) => {
        const privateKey = Uint8Array.from([1, ...low]);
        const parsed = new X509Certificate(selfSigned({ ...options, privateKey, builtAt }).certificate);
        expect(parsed.verify(parsed.publicKey)).toBe(true);
      },
    ),
    { numRuns: 30 },
  );
});

test('DER of numbers, identifiers and times', () => {
  // X.690 8.3 (shortest form, sign), RFC 5280 4.1.2.5 (which form of time).
  expect(toHex(integer(fromHex('0000')))).toBe('020100');
  expect(toHex(integer(fromHex('007f')))).toBe('02017f');
  expect(toHex(integer(fromHex('80')))).toBe('02020080');
  expect(toHex(oid('1.2.840.10045.4.3.2'))).toBe('06082a8648ce3d040302');
  expect(Buffer.from(time(2_524_607_999).subarray(2)).toString()).toBe('491231235959Z');
  expect(Buffer.from(time(2_524_608_000).subarray(2)).toString()).toBe('20500101000000Z');
});
