import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { p256 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  authorityExtensions,
  basicConstraints,
  certificate,
  dnsNames,
  ecdsaWithSha1,
  extension,
  keyUsage,
  newKey,
  notAuthority,
  purposes,
  SERVER_AUTH,
  spkiOf,
  TestAuthority,
} from '../../test/support/authority.ts';
import { readChildren, readDer, TAG } from '../attestation/bytes/der.ts';
import { derBits, derInteger, derOid, derSequence } from '../attestation/bytes/der-writer.ts';
import { encodePem } from '../attestation/bytes/pem.ts';
import { codeOf } from '../protocol/errors.ts';
import { CERTIFICATE_MAX_BYTES, judgeCertificate, parseRoots, stillFits } from './certificate-rule.ts';
import { isSignedByKey } from './web-certificate.ts';

const NOW = 1_800_000_000;
const DAY = 24 * 3600;
const dates = { from: NOW - DAY, to: NOW + 89 * DAY };
const root = new TestAuthority('Root');
const stranger = new TestAuthority('Root of nobody');
const middleKey = newKey();
/** An intermediate of the root, for a path of one. */
const middle = root.issue({ subject: 'Middle', key: middleKey, extensions: authorityExtensions(0) });
const ours = newKey();
const rule = {
  publicKey: spkiOf(ours),
  names: ['site.example'],
  roots: parseRoots(root.pem),
  now: NOW,
};
const byMiddle = { issuer: 'Middle', issuerKey: middleKey, key: ours, ...dates };
const good = certificate(byMiddle) + middle;
const present = judgeCertificate(good, rule);
const codeFor = (chain: string, over: Partial<typeof rule> = {}) => {
  try {
    judgeCertificate(chain, { ...rule, ...over });
    return 'taken';
  } catch (error) {
    return codeOf(error);
  }
};

describe('a certificate of ours is taken', () => {
  test('through an intermediate, and served without the root', () => {
    const taken = judgeCertificate(good + root.pem, rule);
    expect(taken.chain).toBe(good);
    expect(taken.names).toEqual(['site.example']);
    expect([taken.notBefore, taken.notAfter]).toEqual([dates.from, dates.to]);
    expect(new X509Certificate(taken.chain).subjectAltName).toBe('DNS:site.example');
  });

  test('straight from the root, with CR LF and room between', () => {
    const chain = `\r\n${root.issue({ key: ours, ...dates }).replaceAll('\n', '\r\n')}\r\n`;
    expect(judgeCertificate(chain, rule).chain).not.toContain('\r');
  });

  test('and served without what stands above the certificate that a trusted root issued: anybody could have made that', () => {
    // With the root's name and key, signed by nobody; its end would be the end of the chain, its size that of each handshake.
    const forged = { subject: 'Root', key: root.key, from: NOW - DAY, to: NOW + 60 };
    const bulk = extension('1.3.6.1.4.1.99999.1', false, new Uint8Array(9_000));
    const cross = stranger.issue({ ...forged, extensions: [...authorityExtensions(), bulk] });
    const taken = judgeCertificate(good + cross, rule);
    expect(taken.chain).toBe(good);
    expect(stillFits(taken, { ...rule, now: NOW + 61 })).toBe(true);
    const ended = stranger.issue({ ...forged, to: NOW - 1, extensions: authorityExtensions() });
    expect(judgeCertificate(good + ended, rule).chain).toBe(good);
  });

  test('with a cross-signed certificate by which another trusted root issued it, too', () => {
    const cross = stranger.issue({ subject: 'Root', key: root.key, extensions: authorityExtensions() });
    const roots = parseRoots(root.pem + stranger.pem);
    expect(judgeCertificate(good + cross, { ...rule, roots }).chain).toBe(good + cross);
  });

  test('for a wildcard, which stands for one label', () => {
    const chain = certificate({ ...byMiddle, names: ['*.example', 'b.site.example'] }) + middle;
    expect(codeFor(chain)).toBe('taken');
    expect(codeFor(chain, { names: ['site.example', 'b.site.example'] })).toBe('taken');
    expect(codeFor(chain, { names: ['a.site.example'] })).toBe('CERT_NAME');
    expect(codeFor(chain, { names: ['example'] })).toBe('CERT_NAME');
  });

  test('that the authority dates an hour ahead of the chain’s clock', () => {
    expect(codeFor(good, { now: dates.from - 3600 })).toBe('taken');
  });

  test('by RSA keys of a decent size, and no shorter ones', () => {
    const selfSigned = (size: number) => {
      const extension = 'keyUsage=critical,keyCertSign';
      const key = ['-newkey', `rsa:${size}`, '-nodes', '-keyout', '/dev/null'];
      const rest = ['-subj', '/CN=RSA', '-days', '9999', '-addext', extension];
      const out = execFileSync('openssl', ['req', '-x509', ...key, ...rest], { stdio: 'pipe' });
      return parseRoots(out.toString())[0]!;
    };
    const [decent, short] = [selfSigned(2048), selfSigned(1024)];
    expect(isSignedByKey(decent, decent)).toBe(true);
    expect(isSignedByKey(decent, selfSigned(2048))).toBe(false);
    expect(isSignedByKey(short, short)).toBe(false);
  });
});

describe('a hostile certificate is refused', () => {
  const foreign = newKey();
  const leafWith = (...extensions: Uint8Array[]) => certificate({ ...byMiddle, extensions }) + middle;
  const under = (extensions: Uint8Array[], form = {}) => {
    const key = newKey();
    const issuer = root.issue({ subject: 'Odd', key, extensions, ...form });
    return certificate({ issuer: 'Odd', issuerKey: key, key: ours, ...dates }) + issuer;
  };
  const selfMade = newKey();
  const names = dnsNames('site.example');

  test.each<[what: string, code: string, chain: string, over?: Partial<typeof rule>]>([
    ['expired', 'CERT_EXPIRED', good, { now: dates.to + 1 }],
    ['of a day to come', 'CERT_EXPIRED', good, { now: dates.from - 3601 }],
    [
      'of an intermediate that has expired',
      'CERT_EXPIRED',
      certificate(byMiddle) +
        root.issue({ subject: 'Middle', key: middleKey, extensions: authorityExtensions(0), to: NOW - 1 }),
    ],
    [
      'of a root that has expired',
      'CERT_CHAIN',
      good,
      {
        roots: parseRoots(
          certificate({
            subject: 'Root',
            issuer: 'Root',
            key: root.key,
            extensions: authorityExtensions(),
            to: NOW - 1,
          }),
        ),
      },
    ],
    ['for a foreign key', 'CERT_KEY', certificate({ ...byMiddle, key: foreign }) + middle],
    ['for another name', 'CERT_NAME', certificate({ ...byMiddle, names: ['other.example'] }) + middle],
    ['for one of two names', 'CERT_NAME', good, { names: ['site.example', 'www.site.example'] }],
    ['for no name that is asked for', 'CERT_NAME', good, { names: [] }],
    [
      'with our name in its subject only',
      'CERT_NAME',
      certificate({ ...byMiddle, names: [], subject: 'site.example' }) + middle,
    ],
    ['of another root', 'CERT_CHAIN', stranger.issue({ key: ours, ...dates })],
    [
      'of another root with the name of ours',
      'CERT_CHAIN',
      new TestAuthority('Root').issue({ key: ours, ...dates }),
    ],
    ['with a forged root after it', 'CERT_CHAIN', stranger.issue({ key: ours, ...dates }) + stranger.pem],
    ['without its intermediate', 'CERT_CHAIN', certificate(byMiddle)],
    [
      'that names another issuer than the one whose key signed it',
      'CERT_CHAIN',
      certificate({ ...byMiddle, issuer: 'Somebody else' }) + middle,
    ],
    ['out of order', 'CERT_KEY', middle + certificate(byMiddle)],
    ['with a stray certificate after it', 'CERT_CHAIN', good + stranger.pem],
    ['self-signed', 'CERT_CHAIN', certificate({ key: ours, ...dates, issuer: 'A website' })],
    [
      'of an intermediate that issued itself',
      'CERT_CHAIN',
      certificate({ issuer: 'Root', issuerKey: selfMade, key: ours, ...dates }) +
        certificate({ subject: 'Root', issuer: 'Root', key: selfMade, extensions: authorityExtensions() }),
    ],
    [
      'of another website',
      'CERT_CHAIN',
      under([notAuthority(), keyUsage(0x86), purposes(SERVER_AUTH), names]),
    ],
    ['of an issuer without basic constraints', 'CERT_CHAIN', under([keyUsage(0x06)])],
    [
      'of an authority that may not sign certificates',
      'CERT_CHAIN',
      under([basicConstraints(), keyUsage(0x82)]),
    ],
    ['of an authority that does not say what it may', 'CERT_CHAIN', under([basicConstraints()])],
    [
      'of an authority for mail',
      'CERT_CHAIN',
      under([...authorityExtensions(), purposes('1.3.6.1.5.5.7.3.4')]),
    ],
    [
      'of an authority whose names are constrained',
      'CERT_CHAIN',
      under([...authorityExtensions(), extension('2.5.29.30', false, derSequence())]),
    ],
    [
      'of an authority whose names are constrained, critically',
      'CERT_MALFORMED',
      under([...authorityExtensions(), extension('2.5.29.30', true, derSequence())]),
    ],
    [
      'of an authority with a critical extension that nobody knows',
      'CERT_MALFORMED',
      under([...authorityExtensions(), extension('1.2.3.4', true, derSequence())]),
    ],
    [
      'by a path longer than its authority lets',
      'CERT_CHAIN',
      (() => {
        const low = newKey();
        const issuer = certificate({
          subject: 'Low',
          issuer: 'Middle',
          issuerKey: middleKey,
          key: low,
          extensions: authorityExtensions(),
        });
        return certificate({ issuer: 'Low', issuerKey: low, key: ours, ...dates }) + issuer + middle;
      })(),
    ],
    ['that is an authority', 'CERT_CHAIN', leafWith(...authorityExtensions(), purposes(SERVER_AUTH), names)],
    [
      'for clients',
      'CERT_CHAIN',
      leafWith(notAuthority(), keyUsage(0x80), purposes('1.3.6.1.5.5.7.3.2'), names),
    ],
    ['for no purpose that it says', 'CERT_CHAIN', leafWith(notAuthority(), keyUsage(0x80), names)],
    [
      'that may sign no data',
      'CERT_CHAIN',
      leafWith(notAuthority(), keyUsage(0x08), purposes(SERVER_AUTH), names),
    ],
    [
      'for a log only (RFC 6962, section 3.1)',
      'CERT_MALFORMED',
      certificate({
        ...byMiddle,
        more: [extension('1.3.6.1.4.1.11129.2.4.3', true, Uint8Array.of(5, 0))],
      }) + middle,
    ],
    ['with an extension twice', 'CERT_MALFORMED', certificate({ ...byMiddle, more: [names] }) + middle],
    [
      'with a serial number longer than any may be',
      'CERT_MALFORMED',
      certificate({ ...byMiddle, serial: 2n ** 200n }) + middle,
    ],
    ['from before there were times', 'CERT_MALFORMED', certificate({ ...byMiddle, from: -1 }) + middle],
    ['by SHA-1', 'CERT_CHAIN', certificate({ ...byMiddle, algorithm: ecdsaWithSha1 }) + middle],
    [
      'with another algorithm inside than outside',
      'CERT_MALFORMED',
      encodePem(twisted(certificate(byMiddle))) + middle,
    ],
    ['by no signature that fits', 'CERT_CHAIN', encodePem(flipped(certificate(byMiddle), -1)) + middle],
    ['empty', 'CERT_MALFORMED', ''],
    ['garbage', 'CERT_MALFORMED', 'garbage'],
    ['garbage in PEM', 'CERT_MALFORMED', encodePem(Buffer.from('garbage'))],
    ['with garbage around it', 'CERT_MALFORMED', `${good}set ssl cert\n`],
    [
      'with garbage after its DER',
      'CERT_MALFORMED',
      encodePem(Buffer.concat([bytesOf(good), Buffer.of(0)])) + middle,
    ],
    ['cut short', 'CERT_MALFORMED', encodePem(bytesOf(good).subarray(0, -1)) + middle],
    ['of six certificates', 'CERT_MALFORMED', certificate(byMiddle) + middle.repeat(5)],
    ['of 10 MB', 'CERT_MALFORMED', good + '\n'.repeat(10_000_000)],
    ['of a byte too many', 'CERT_MALFORMED', good.padEnd(CERTIFICATE_MAX_BYTES + 1, '\n')],
    [
      'with a private key in it',
      'CERT_MALFORMED',
      good + ours.privateKey.export({ format: 'pem', type: 'pkcs8' }),
    ],
  ])('%s: %s', (_, code, chain, over) => {
    expect(codeFor(chain, over)).toBe(code);
  });

  test('with any bit flipped', () => {
    const bytes = bytesOf(good);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length * 8 - 1 }), (bit) => {
        const changed = Buffer.from(bytes);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        expect(codeFor(encodePem(changed) + middle)).toMatch(/^CERT_/);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the one in use', () => {
  const later = (form: object) => certificate({ ...byMiddle, ...form }) + middle;
  const against = (chain: string, over: Partial<typeof rule> = {}) => {
    try {
      return judgeCertificate(chain, { ...rule, ...over }, present).fingerprint;
    } catch (error) {
      return codeOf(error);
    }
  };

  test('gives way to a newer one, and to no older one, nor to itself', () => {
    expect(against(later({ from: dates.from + 1 }))).toMatch(/^[0-9a-f]{64}$/);
    expect(against(later({ to: dates.to + 1 }))).toMatch(/^[0-9a-f]{64}$/);
    expect(against(later({ from: dates.from - 1, to: dates.to + 999 }))).toBe('CERT_OLDER');
    expect(against(later({ to: dates.to - 1 }))).toBe('CERT_OLDER');
    expect(against(good)).toBe('CERT_OLDER');
  });

  test('of two of one second, every node ends with the same', () => {
    const twin = judgeCertificate(later({ serial: 2 }), rule);
    const outcomes = [
      [present, twin],
      [twin, present],
    ].map(([first, second]) => {
      try {
        return judgeCertificate(second!.chain, rule, first).fingerprint;
      } catch {
        return first!.fingerprint;
      }
    });
    expect(outcomes[0]).toBe(outcomes[1]);
  });

  test('does not give way to itself with its signature written the other way, which anybody can do', () => {
    // s and n - s verify alike (SEC 1, section 4.1.4).
    const twin = encodePem(withOtherS(bytesOf(good))) + middle;
    expect(codeFor(twin)).toBe('taken');
    expect(against(twin)).toBe('CERT_OLDER');
    const other = judgeCertificate(twin, rule);
    expect(() => judgeCertificate(good, rule, other)).toThrowError(
      expect.objectContaining({ code: 'CERT_OLDER' }),
    );
  });

  test('gives way to any that fits once it does not: names were added, or its time is up', () => {
    const names = ['site.example', 'www.site.example'];
    const older = later({ from: dates.from - 1, names });
    expect(against(older)).toBe('CERT_OLDER');
    expect(against(older, { names })).toMatch(/^[0-9a-f]{64}$/);
    const longer = later({ from: dates.from - 1, to: dates.to + DAY });
    expect(against(longer, { now: dates.to + 1 })).toMatch(/^[0-9a-f]{64}$/);
    expect(stillFits(present, rule)).toBe(true);
    expect(stillFits(present, { ...rule, now: dates.to + 1 })).toBe(false);
  });
});

test('of Debian’s bundle hardly a root is left out', () => {
  const bundle = readFileSync('/etc/ssl/certs/ca-certificates.crt', 'utf8');
  const all = bundle.match(/BEGIN CERTIFICATE/g)!.length;
  const roots = parseRoots(bundle);
  expect(roots.length).toBeGreaterThan(all * 0.97);
  expect(() => parseRoots('')).toThrowError(expect.objectContaining({ code: 'CERT_ROOTS' }));
});

function bytesOf(chain: string): Buffer {
  return new X509Certificate(chain).raw;
}

/** The certificate with the other one of the two values that its ECDSA signature may have. */
function withOtherS(der: Buffer): Uint8Array {
  const [tbs, algorithm, bits] = readChildren(readDer(new Uint8Array(der), TAG.sequence));
  const [r, s] = readChildren(readDer(bits!.content.subarray(1), TAG.sequence));
  const value = BigInt(`0x${Buffer.from(s!.content).toString('hex')}`);
  const other = (p256.Point.Fn.ORDER - value).toString(16).padStart(64, '0');
  const signature = derSequence(r!.raw, derInteger(new Uint8Array(Buffer.from(other, 'hex'))));
  return derSequence(tbs!.raw, algorithm!.raw, derBits(signature));
}

function flipped(chain: string, at: number): Buffer {
  const bytes = Buffer.from(bytesOf(chain));
  bytes[at < 0 ? bytes.length + at : at]! ^= 1;
  return bytes;
}

/** The algorithm outside the signed part is another one. */
function twisted(chain: string): Buffer {
  const bytes = Buffer.from(bytesOf(chain));
  const oid = Buffer.from(derOid('1.2.840.10045.4.3.2'));
  bytes[bytes.lastIndexOf(oid) + oid.length - 1] = 3;
  return bytes;
}
