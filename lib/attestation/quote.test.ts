import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex } from '../protocol/encoding.ts';
import { AttestationError } from './errors.ts';
import { parseQuote, quoteHash } from './quote.ts';
import { PUBLISHED_QUOTES, readPublishedQuote, simulatedCase } from './testing.ts';

const code = (expected: string) => expect.objectContaining({ name: 'AttestationError', code: expected });

test.each(PUBLISHED_QUOTES.filter(({ version }) => version === 4))(
  '$name reads as others read it',
  (published) => {
    const bytes = readPublishedQuote(published);
    const quote = parseQuote(bytes);
    expect(quote.length).toBe(published.signed_end);
    expect(toHex(quote.body.reportData)).toBe(published.report_data);
    expect(toHex(quote.body.teeTcbSvn)).toBe(published.tee_tcb_svn);
    expect(toHex(quote.body.tdAttributes)).toBe(published.td_attributes);
    expect(quote.qeReport.isvSvn).toBe(published.qe_isvsvn);
    expect(quoteHash(parseQuote(bytes.subarray(0, quote.length)))).toEqual(quoteHash(quote));
  },
);

test.each(PUBLISHED_QUOTES.filter(({ version }) => version !== 4))(
  '$name is of a version that is refused',
  (published) => {
    expect(() => parseQuote(readPublishedQuote(published))).toThrow(code('QUOTE_VERSION'));
  },
);

const SIGNATURE_DATA = 48 + 584;
const CERTIFICATION = SIGNATURE_DATA + 4 + 128;
const QE_AUTH = CERTIFICATION + 6 + 384 + 64;

/** A simulated quote with a little-endian number of `size` bytes changed by `delta` at `offset`. */
function altered(offset: number, size: 2 | 4, delta: number): Uint8Array {
  const quote = simulatedCase().quote;
  const view = new DataView(quote.buffer, quote.byteOffset);
  if (size === 2) view.setUint16(offset, view.getUint16(offset, true) + delta, true);
  else view.setUint32(offset, view.getUint32(offset, true) + delta, true);
  return quote;
}

test.each([
  ['QUOTE_VERSION', 'version', 0, 2, 1],
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
