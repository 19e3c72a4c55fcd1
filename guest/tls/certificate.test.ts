import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { selfSigned } from './certificate.ts';

const contract = parseAddress(`0x${'Ab'.repeat(20)}`);
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

test('keeps its bytes over releases of the library that writes them', () => {
  // Of an independent DER writer; a client that pinned a certificate must not see it change.
  expect(selfSigned(options).fingerprint).toBe(
    '1a16986f632df147f2ed71108322298d4fecb690b4be9dca52a708d01ce9f136',
  );
});

test('validity changes its form in 2050', () => {
  // RFC 5280 section 4.1.2.5; ten years are 3,650 days here.
  const end = (notAfter: number) => {
    const builtAt = notAfter - 3650 * 24 * 3600;
    return new X509Certificate(selfSigned({ ...options, builtAt }).certificate);
  };
  expect(end(2_524_607_999).raw.includes('\x17\x0d491231235959Z')).toBe(true);
  expect(end(2_524_608_000).raw.includes('\x18\x0f20500101000000Z')).toBe(true);
  expect(new Date(end(2_524_608_000).validTo).getTime() / 1000).toBe(2_524_608_000);
});
