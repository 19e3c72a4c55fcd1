import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex } from '../../protocol/encoding.ts';
import { AttestationError } from '../errors.ts';
import { PUBLISHED_QUOTES, publishedQuote, readPublishedQuote, simulatedCase } from '../testing.ts';
import { parseQuote, quoteHash } from './quote.ts';

const code = (expected: string) => expect.objectContaining({ name: 'AttestationError', code: expected });

test.each(PUBLISHED_QUOTES)('$name reads as others read it', (published) => {
  const bytes = readPublishedQuote(published);
  const quote = parseQuote(bytes);
  expect(quote.length).toBe(published.signed_end);
  expect(quote.header.version).toBe(published.version);
  expect(toHex(quote.body.reportData)).toBe(published.report_data);
  expect(quote.qeReport.isvSvn).toBe(published.qe_isvsvn);
  expect(quote.certification.type).toBe(published.cert_data_type);
  expect(quoteHash(parseQuote(bytes.subarray(0, quote.length)))).toEqual(quoteHash(quote));
  const { body } = quote;
  const td = body.kind === 'sgx' ? undefined : body;
  const hexOrNull = (field: Uint8Array | undefined) => (field === undefined ? null : toHex(field));
  expect(hexOrNull(td?.teeTcbSvn)).toBe(published.tee_tcb_svn);
  expect(hexOrNull(td?.teeTcbSvn2)).toBe(published.tee_tcb_svn2);
  expect(hexOrNull(td?.tdAttributes)).toBe(published.td_attributes);
});

test('all fifty are there, of each version', () => {
  const versions = PUBLISHED_QUOTES.map(({ version }) => version);
  expect([3, 4, 5].map((version) => versions.filter((other) => other === version).length)).toEqual([
    14, 33, 3,
  ]);
});

const SIGNATURE_DATA = 48 + 584;
const CERTIFICATION = SIGNATURE_DATA + 4 + 128;
const QE_AUTH = CERTIFICATION + 6 + 384 + 64;

/** A simulated quote with a little-endian number of `size` bytes changed by `delta` at `offset`. */
function altered(offset: number, size: 2 | 4, delta: number, quote = simulatedCase().quote): Uint8Array {
  const view = new DataView(quote.buffer, quote.byteOffset);
  if (size === 2) view.setUint16(offset, view.getUint16(offset, true) + delta, true);
  else view.setUint32(offset, view.getUint32(offset, true) + delta, true);
  return quote;
}

test.each([
  ['QUOTE_VERSION', 'version 2', 0, 2, -2],
  ['QUOTE_VERSION', 'version 6', 0, 2, 2],
  ['QUOTE_TEE_TYPE', 'version 3 with a TD', 0, 2, -1],
  ['QUOTE_BODY_TYPE', 'version 5 without a body type', 0, 2, 1],
  ['QUOTE_KEY_TYPE', 'attestation key type', 2, 2, 1],
  ['QUOTE_TEE_TYPE', 'TEE type: SGX', 4, 4, -0x81],
  ['QUOTE_VENDOR', 'QE vendor', 12, 2, 1],
  ['QUOTE_TRUNCATED', 'signature data too long', SIGNATURE_DATA, 4, 1],
  ['QUOTE_TRUNCATED', 'signature data enormous', SIGNATURE_DATA, 4, -10_000],
  ['QUOTE_TRAILING', 'signature data too short', SIGNATURE_DATA, 4, -1],
  ['QUOTE_CERTIFICATION_TYPE', 'outer certification data: a PCK chain', CERTIFICATION, 2, -1],
  ['QUOTE_TRUNCATED', 'outer certification data too long', CERTIFICATION + 2, 4, 1],
  ['QUOTE_LENGTHS', 'outer certification data too short', CERTIFICATION + 2, 4, -1],
  ['QUOTE_CERTIFICATION_TYPE', 'authentication data too short', QE_AUTH, 2, -1],
  ['QUOTE_TRUNCATED', 'authentication data past the end', QE_AUTH, 2, 0xf000],
  ['QUOTE_CERTIFICATION_TYPE', 'inner certification data: a QE report', QE_AUTH + 34, 2, 1],
  ['QUOTE_TRUNCATED', 'chain too long', QE_AUTH + 36, 4, 1],
  ['QUOTE_LENGTHS', 'chain too short', QE_AUTH + 36, 4, -1],
] as const)('%s: %s', (expected, _, offset, size, delta) => {
  const quote = altered(offset, size, delta);
  expect(() => parseQuote(quote)).toThrow(code(expected));
});

const BODY_TYPE = 48;

test.each([
  ['QUOTE_BODY_TYPE', 'an SGX body', '5/1.0', BODY_TYPE, 2, -1],
  ['QUOTE_BODY_TYPE', 'a TD report 1.0 called 1.5', '5/1.0', BODY_TYPE, 2, 1],
  ['QUOTE_BODY_TYPE', 'a TD report 1.5 called 1.0', '5/1.5', BODY_TYPE, 2, -1],
  ['QUOTE_BODY_TYPE', 'an unknown body', '5/1.5', BODY_TYPE, 2, 1],
  ['QUOTE_BODY_TYPE', 'a body too long', '5/1.5', BODY_TYPE + 2, 4, 1],
  ['QUOTE_BODY_TYPE', 'a body too short', '5/1.5', BODY_TYPE + 2, 4, -64],
  ['QUOTE_TEE_TYPE', 'TEE type: SGX', '5/1.5', 4, 4, -0x81],
] as const)('version 5, %s: %s', (expected, _, layout, offset, size, delta) => {
  const { platform, registers, reportData } = simulatedCase();
  const quote = altered(offset, size, delta, platform.signQuote({ registers, reportData, layout }));
  expect(() => parseQuote(quote)).toThrow(code(expected));
});

test('a PCK that is named but not shown parses, at its exact length only', () => {
  const bytes = readPublishedQuote(publishedQuote('sgx-v3-nopck-72a05bf6-oasis'));
  expect(parseQuote(bytes).certification).toMatchObject({ type: 3 });
  const type = bytes.length - 404 - 6;
  for (const [other, expected] of [
    [1, 'QUOTE_LENGTHS'],
    [2, 'QUOTE_LENGTHS'],
    [4, 'QUOTE_CERTIFICATION_TYPE'],
    [7, 'QUOTE_CERTIFICATION_TYPE'],
  ] as const) {
    const copy = bytes.slice();
    copy[type] = other;
    expect(() => parseQuote(copy)).toThrow(code(expected));
  }
});

test('whatever the bytes, parsing ends in a quote or in an AttestationError', () => {
  const seed = simulatedCase().quote;
  const mutation = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(mutation, fc.nat(seed.length + 64), (changes, length) => {
      const bytes = new Uint8Array(length);
      bytes.set(seed.subarray(0, length));
      for (const [offset, value] of changes) if (offset < length) bytes[offset] = value;
      try {
        const quote = parseQuote(bytes);
        expect(quote.length).toBeLessThanOrEqual(length);
        expect(quote.body.reportData).toHaveLength(64);
      } catch (error) {
        expect(error).toBeInstanceOf(AttestationError);
      }
    }),
    { numRuns: 2_000 },
  );
});
