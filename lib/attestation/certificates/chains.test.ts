import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, sha256, utf8 } from '../../protocol/encoding.ts';
import { readChildren, readDer, readOid, readSmallInteger, readTime, TAG } from '../bytes/der.ts';
import { der, derInteger, derOid, derSequence, derText } from '../bytes/der-writer.ts';
import { decodePem, encodePem, splitPemChain } from '../bytes/pem.ts';
import { AttestationError } from '../errors.ts';
import {
  authorityExtensions,
  extension,
  type Issue,
  issue,
  pckExtensions,
  signerExtensions,
  simulatedAuthorities,
  simulatedKey,
} from '../simulated/certificates.ts';
import { sgxExtensionOf } from '../simulated/platform.ts';
import { SIMULATED_ROLES } from '../simulated/roles.ts';
import { TEST_NOW, TEST_PPID } from '../testing.ts';
import { isSignedBy, parseCertificate } from './certificate.ts';
import { readPckChain, requireValidAt } from './chains.ts';
import { parseSgxExtension, platformId } from './sgx-extension.ts';
import { INTEL_ROOT, SIMULATED_ROOT } from './trust-roots.ts';

const NOW = TEST_NOW;
const rootKey = simulatedKey(utf8('root'));
const { root, intermediate, intermediateKey } = simulatedAuthorities();
const pckKey = simulatedKey(utf8('pck'), TEST_PPID);
const strangerKey = simulatedKey(utf8('stranger'));
const sgx = sgxExtensionOf(TEST_PPID);
const [INTERMEDIATE] = SIMULATED_ROLES.intermediates;

const LEAF: Issue = {
  subject: SIMULATED_ROLES.leaf,
  issuer: INTERMEDIATE,
  publicKey: pckKey.publicKey,
  issuerKey: intermediateKey,
  extensions: pckExtensions(sgx),
};
const AUTHORITY: Issue = {
  subject: INTERMEDIATE,
  issuer: SIMULATED_ROLES.root,
  publicKey: intermediateKey.publicKey,
  issuerKey: rootKey,
  extensions: authorityExtensions(0),
};

const pem = (...ders: Uint8Array[]) => ders.map(encodePem).join('');
const code = (expected: string) => expect.objectContaining({ name: 'AttestationError', code: expected });
function verify(...ders: Uint8Array[]) {
  const chain = readPckChain(pem(...ders), SIMULATED_ROOT, new Map());
  for (const certificate of [chain.intermediate, chain.leaf]) {
    requireValidAt(certificate, NOW.getTime(), 20 * 60_000, 'PCK_CHAIN');
  }
  return chain.leaf;
}

test('the constants in trust-roots.ts are the certificates they claim to be', () => {
  expect(SIMULATED_ROOT.certificate).toEqual(root);
  const intel = parseCertificate(INTEL_ROOT.certificate);
  expect(intel.commonName).toBe('Intel SGX Root CA');
  expect(intel.serial).toEqual(fromHex('22650cd65a9d3489f383b49552bf501b392706ac'));
  // SHA-256 fingerprint of the certificate that Intel publishes
  expect(sha256(INTEL_ROOT.certificate)).toEqual(
    fromHex('44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3'),
  );
});

test("the certificates that come with Intel's root are signed by it", () => {
  const intel = parseCertificate(INTEL_ROOT.certificate);
  expect(isSignedBy(intel, intel)).toBe(true);
  expect([...INTEL_ROOT.issued.values()].map((one) => [one.commonName, isSignedBy(one, intel)])).toEqual([
    ['Intel SGX PCK Platform CA', true],
    ['Intel SGX PCK Processor CA', true],
    ['Intel SGX TCB Signing', true],
    ['Intel SGX TCB Signing', true],
  ]);
  for (const [text, { raw, issuer }] of INTEL_ROOT.issued) {
    expect(text).toBe(encodePem(raw));
    expect(issuer).toEqual(intel.subject);
  }
});

test('a proper chain gives the PCK certificate and what it says', () => {
  const leaf = verify(issue(LEAF), intermediate, root);
  expect(parseSgxExtension(leaf)).toEqual({ ...sgx, fmspc: new Uint8Array(sgx.fmspc) });
  expect(platformId(parseSgxExtension(leaf).ppid)).toEqual(sha256(TEST_PPID));
});

test.each<[string, string, Partial<Issue>, Partial<Issue>]>([
  ['a leaf that is an authority', 'PCK_CHAIN_ROLE', { extensions: authorityExtensions(0) }, {}],
  ['an intermediate that is none', 'PCK_CHAIN_ROLE', {}, { extensions: pckExtensions(sgx) }],
  ['an intermediate without extensions that say so', 'PCK_CHAIN_ROLE', {}, { extensions: [] }],
  ['a leaf of another name', 'PCK_CHAIN_ROLE', { subject: 'Dstack Simulated TCB Signing' }, {}],
  [
    'an intermediate that may have authorities below it',
    'PCK_CHAIN_ROLE',
    {},
    { extensions: authorityExtensions(1) },
  ],
  [
    'an intermediate with an SGX extension',
    'PCK_CHAIN_ROLE',
    {},
    { extensions: [...authorityExtensions(0), ...pckExtensions(sgx).slice(2)] },
  ],
  [
    'a TCB signer as a leaf',
    'PCK_CHAIN_ROLE',
    { subject: SIMULATED_ROLES.tcbSigner, extensions: signerExtensions() },
    {},
  ],
  ['a leaf without the SGX extension', 'SGX_EXTENSION', { extensions: signerExtensions() }, {}],
  ['an intermediate of another name', 'PCK_CHAIN_ROLE', { issuer: 'X' }, { subject: 'X' }],
  ['a leaf of another issuer', 'PCK_CHAIN_ISSUER', { issuer: SIMULATED_ROLES.root }, {}],
  ['a leaf signed by a stranger', 'PCK_CHAIN_SIGNATURE', { issuerKey: strangerKey }, {}],
  ['a leaf signed by the root', 'PCK_CHAIN_SIGNATURE', { issuerKey: rootKey }, {}],
  ['an intermediate signed by itself', 'PCK_CHAIN_SIGNATURE', {}, { issuerKey: intermediateKey }],
  ['an expired leaf', 'PCK_CHAIN_VALIDITY', { validity: ['200101000000Z', '251231233959Z'] }, {}],
  ['a leaf of the future', 'PCK_CHAIN_VALIDITY', { validity: ['260101002001Z', '300101000000Z'] }, {}],
  ['an expired intermediate', 'PCK_CHAIN_VALIDITY', {}, { validity: ['200101000000Z', '251231233959Z'] }],
  [
    'an unknown critical extension',
    'CERTIFICATE_FORMAT',
    { extensions: [...LEAF.extensions, extension('1.2.3', true, derSequence())] },
    {},
  ],
  ['an extension twice', 'CERTIFICATE_FORMAT', { extensions: [...LEAF.extensions, ...LEAF.extensions] }, {}],
])('%s is refused: %s', (_, expected, leaf, authority) => {
  expect(() => verify(issue({ ...LEAF, ...leaf }), issue({ ...AUTHORITY, ...authority }), root)).toThrow(
    code(expected),
  );
});

test('a chain has three certificates and ends at the trusted one', () => {
  const leaf = issue(LEAF);
  const impostor = issue({
    ...AUTHORITY,
    subject: SIMULATED_ROLES.root,
    publicKey: strangerKey.publicKey,
    issuerKey: strangerKey,
  });
  expect(() => verify()).toThrow(code('PCK_CHAIN_FORMAT'));
  expect(() => verify(leaf, intermediate)).toThrow(code('PCK_CHAIN_FORMAT'));
  expect(() => verify(leaf, intermediate, root, root)).toThrow(code('PCK_CHAIN_FORMAT'));
  expect(() => verify(root, intermediate, leaf)).toThrow(code('PCK_CHAIN_ROOT'));
  expect(() => verify(leaf, intermediate, impostor)).toThrow(code('PCK_CHAIN_ROOT'));
  expect(() => verify(leaf, root, root)).toThrow(code('PCK_CHAIN_ROLE'));
});

test('PEM has one form', () => {
  const decode = (chain: string) =>
    splitPemChain(chain, 'PCK_CHAIN').map((block) => decodePem(block, 'PCK_CHAIN'));
  const text = encodePem(root);
  expect(decode(text)).toEqual([root]);
  expect(decode(`${text}\0`)).toEqual([root]);
  const loose = [
    `${text}\0\0`,
    ` ${text}`,
    `${text}\n`,
    text.replaceAll('\n', '\r\n'),
    `note\n${text}`,
    text.trimEnd(),
  ];
  const lastLine = text.replace(/(.)\n-----END/, '\n$1\n-----END');
  for (const wrong of [...loose, lastLine]) {
    expect(() => decode(wrong)).toThrow(code('PCK_CHAIN_FORMAT'));
  }
});

const wrongSgx: Array<[string, Uint8Array]> = [
  ['nothing in it', derSequence()],
  [
    'a PPID of 15 bytes',
    derSequence(derSequence(derOid('1.2.840.113741.1.13.1.1'), der(TAG.octetString, new Uint8Array(15)))),
  ],
  ['a pair of three', derSequence(derSequence(derOid('1.2.3'), derSequence(), derSequence()))],
  ['a field twice', derSequence(...[1, 2].map(() => derSequence(derOid('1.2.3'), derSequence())))],
];

test.each(wrongSgx)('an SGX extension with %s is refused', (_, value) => {
  const leaf = issue({
    ...LEAF,
    extensions: [...LEAF.extensions.slice(0, 2), extension('1.2.840.113741.1.13.1', false, value)],
  });
  expect(() => parseSgxExtension(parseCertificate(leaf))).toThrow(code('SGX_EXTENSION'));
});

test('a PCK certificate without the SGX extension is refused', () => {
  const leaf = parseCertificate(issue({ ...LEAF, extensions: LEAF.extensions.slice(0, 2) }));
  expect(() => parseSgxExtension(leaf)).toThrow(code('SGX_EXTENSION'));
});

test.each([
  ['indefinite length', '3080020101' + '0000'],
  ['a long form where the short one does', '30810102'],
  ['a leading zero in the length', '308200033001ff'],
  ['a high tag number', '1f0100'],
  ['bytes behind the value', '300000'],
  ['a value cut short', '3005020101'],
  ['a length cut short', '3082'],
  ['nothing', ''],
])('DER with %s is refused', (_, hex) => {
  expect(() => readDer(fromHex(hex), TAG.sequence)).toThrow(code('DER_ENCODING'));
});

test.each(['0200', '02020001', '0201ff', '020701000000000000'])('%s is not a small integer', (hex) => {
  expect(() => readSmallInteger(readDer(fromHex(hex), TAG.integer))).toThrow(code('DER_ENCODING'));
});

test.each(['0600', '06028001', '060188', '0606aaffffffff7f'])('%s is not an OID', (hex) => {
  expect(() => readOid(readDer(fromHex(hex), TAG.oid))).toThrow(code('DER_ENCODING'));
});

test.each(['250230000000Z', '251301000000Z', '2501010000Z', '250101000000+0000', '250101246000Z'])(
  '%s is not a time',
  (text) => {
    expect(() => readTime(readDer(derText(TAG.utcTime, text), TAG.utcTime))).toThrow(code('DER_ENCODING'));
  },
);

test('times of both forms, on both sides of the century', () => {
  const utc = (text: string) =>
    new Date(readTime(readDer(derText(TAG.utcTime, text), TAG.utcTime))).toISOString();
  expect(utc('491231235959Z')).toBe('2049-12-31T23:59:59.000Z');
  expect(utc('500101000000Z')).toBe('1950-01-01T00:00:00.000Z');
  const general = derText(TAG.generalizedTime, '20510101000000Z');
  expect(readTime(readDer(general, TAG.generalizedTime))).toBe(Date.UTC(2051, 0, 1));
});

test('what the writer writes, the reader reads', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffffffff), { maxLength: 6 }), fc.nat(2 ** 31 - 1), (arcs, number) => {
      const oid = ['2.5', ...arcs].join('.');
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(number);
      const [first, second] = readChildren(
        readDer(derSequence(derOid(oid), derInteger(bytes)), TAG.sequence),
      );
      expect(readOid(first)).toBe(oid);
      expect(readSmallInteger(second)).toBe(number);
    }),
  );
});

test('whatever the bytes, reading a certificate ends in one or in an AttestationError', () => {
  const seed = issue(LEAF);
  const mutation = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(mutation, (changes) => {
      const bytes = seed.slice();
      for (const [offset, value] of changes) bytes[offset] = value;
      try {
        parseSgxExtension(parseCertificate(bytes));
      } catch (error) {
        expect(error).toBeInstanceOf(AttestationError);
      }
    }),
    { numRuns: 3_000 },
  );
});
