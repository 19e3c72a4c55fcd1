import { expect, test } from 'vitest';
import { bytesEqual, fromHex, sha256, toHex } from '../protocol/encoding.ts';
import { MISSING_CHECKS } from './completeness.ts';
import type { AttestationCode } from './errors.ts';
import { expectedJoinedLog, expectedRequestLog, replay } from './event-log.ts';
import { parseQuote, quoteHash } from './quote.ts';
import { measurementOf } from './simulated-measurement.ts';
import { createSimulatedPlatform } from './simulated-platform.ts';
import {
  flipped,
  PUBLISHED_QUOTES,
  readPublishedQuote,
  simulatedCase,
  TEST_CONFIG,
  TEST_PPID,
} from './testing.ts';
import { INTEL_ROOT, SIMULATED_ROOT } from './trust-roots.ts';
import { type Expectations, STEP_NAMES, verifyQuote } from './verify.ts';

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** The code with which the quote is refused; fails when it is accepted or breaks in another way. */
function refusal(quote: Uint8Array, expected: Expectations): string {
  try {
    verifyQuote(quote, expected);
  } catch (error) {
    if (error instanceof Error && error.name === 'AttestationError' && 'code' in error)
      return String(error.code);
    throw error;
  }
  return 'ACCEPTED';
}

/** What the published quote itself says, as expectations: only the signatures and certificates are left to judge. */
function expectationsOf(bytes: Uint8Array, at: number): Expectations {
  const { body } = parseQuote(bytes);
  return {
    trustRoot: INTEL_ROOT,
    now: new Date(at * 1000),
    reportData: body.reportData,
    rtmr3: body.rtmr3,
    measurement: measurementOf(body),
  };
}

const version4 = PUBLISHED_QUOTES.filter(({ version }) => version === 4);

test.each(version4)('$name: verifies to Intel root, or is refused for its debug bit', (published) => {
  const bytes = readPublishedQuote(published);
  const at = published.verify_at_unix ?? Number.NaN;
  const expected = expectationsOf(bytes, at);
  if (published.debug) {
    expect(refusal(bytes, expected)).toBe('TD_DEBUG');
    return;
  }
  const verdict = verifyQuote(bytes, expected);
  expect(verdict.steps.map(({ name }) => name)).toEqual(STEP_NAMES);
  expect(verdict.unchecked).toEqual(MISSING_CHECKS.map(({ name }) => name));
  expect(toHex(verdict.evidence.sgx.fmspc)).toBe(published.fmspc);
  expect(toHex(verdict.evidence.sgx.cpuSvn)).toBe(published.cpusvn);
  expect(verdict.evidence.sgx.pceSvn).toBe(published.pcesvn);
  expect(toHex(verdict.evidence.reportData)).toBe(published.report_data);
  expect(verdict.evidence.quoteHash).toEqual(sha256(bytes.subarray(0, 632)));
});

test.each(version4)('$name: refused under the simulated root and outside its validity', (published) => {
  const bytes = readPublishedQuote(published);
  const expected = expectationsOf(bytes, published.verify_at_unix ?? Number.NaN);
  expect(refusal(bytes, { ...expected, trustRoot: SIMULATED_ROOT })).toBe('PCK_CHAIN_ROOT');
  const dayAfter = new Date(Date.parse(published.pck_not_after) + 2 * 86_400_000);
  const dayBefore = new Date(Date.parse(published.pck_not_before) - 86_400_000);
  expect(refusal(bytes, { ...expected, now: dayAfter })).toBe('PCK_CHAIN_VALIDITY');
  expect(refusal(bytes, { ...expected, now: dayBefore })).toBe('PCK_CHAIN_VALIDITY');
});

test('a simulated quote that says what is expected is accepted, with all steps and no gaps', () => {
  const { quote, expected, registers, reportData, platform } = simulatedCase();
  const seen: string[] = [];
  const verdict = verifyQuote(quote, expected, ({ name }) => seen.push(name));
  expect(seen).toEqual(STEP_NAMES);
  expect(verdict.unchecked).toEqual([]);
  expect(verdict.evidence).toMatchObject({
    registers,
    reportData,
    platform: platform.platformId,
    measurement: measurementOf(registers),
  });
});

test('every single changed byte of a simulated quote is refused; none is free', () => {
  const { quote, expected } = simulatedCase();
  const accepted: number[] = [];
  for (let offset = 0; offset < quote.length; offset++) {
    for (const mask of [0x01, 0x80, 0xff]) {
      if (refusal(flipped(quote, offset, mask), expected) === 'ACCEPTED') accepted.push(offset);
    }
  }
  expect(accepted).toEqual([]);
});

test('every single changed byte of a real quote is refused; none is free', () => {
  const [published] = version4;
  const bytes = readPublishedQuote(published!);
  const expected = expectationsOf(bytes, published!.verify_at_unix ?? Number.NaN);
  const accepted: number[] = [];
  for (let offset = 0; offset < bytes.length; offset++) {
    if (refusal(flipped(bytes, offset, 0x20), expected) === 'ACCEPTED') accepted.push(offset);
  }
  expect(accepted).toEqual([]);
});

test('the same machine under another root is refused, in both directions', () => {
  const { quote, expected } = simulatedCase();
  expect(refusal(quote, { ...expected, trustRoot: INTEL_ROOT })).toBe('PCK_CHAIN_ROOT');
});

test('time: certificates hold within their validity and 20 minutes of skew, and a time is required', () => {
  const { quote, expected } = simulatedCase();
  const at = (now: string) => refusal(quote, { ...expected, now: new Date(now) });
  expect(at('2019-12-31T23:40:00Z')).toBe('ACCEPTED');
  expect(at('2019-12-31T23:39:59Z')).toBe('PCK_CHAIN_VALIDITY');
  expect(at('2050-01-01T00:19:59Z')).toBe('ACCEPTED');
  expect(at('2050-01-01T00:20:00Z')).toBe('PCK_CHAIN_VALIDITY');
  expect(at('not a date')).toBe('TIME_INVALID');
});

test('a debug TD is refused, and so is one that may be migrated', () => {
  const { platform, registers, reportData, expected } = simulatedCase();
  expect(refusal(platform.signQuote({ registers, reportData, debug: true }), expected)).toBe('TD_DEBUG');
  const migratable = platform.signQuote({ registers, reportData, tdAttributes: fromHex('0000003000000000') });
  expect(refusal(migratable, expected)).toBe('TD_MIGRATABLE');
});

test('truncated anywhere, or followed by anything but zeros, is refused', () => {
  const { quote, expected } = simulatedCase();
  for (let length = 0; length < quote.length; length += 7) {
    expect(refusal(quote.subarray(0, length), expected)).toBe('QUOTE_TRUNCATED');
  }
  expect(refusal(quote.subarray(0, -1), expected)).toBe('QUOTE_TRUNCATED');
  const padded = new Uint8Array(8000);
  padded.set(quote);
  expect(refusal(padded, expected)).toBe('ACCEPTED');
  padded[7999] = 1;
  expect(refusal(padded, expected)).toBe('QUOTE_TRAILING');
  expect(refusal(new Uint8Array(16_385), expected)).toBe('QUOTE_TOO_LARGE');
});

test.each<[AttestationCode, (expected: Expectations) => Partial<Expectations>]>([
  ['REPORT_DATA_MISMATCH', (expected) => ({ reportData: flipped(expected.reportData, 63, 1) })],
  ['REPORT_DATA_MISMATCH', (expected) => ({ reportData: expected.reportData.subarray(0, 32) })],
  ['RTMR3_MISMATCH', () => ({ rtmr3: new Uint8Array(48) })],
  ['RTMR3_MISMATCH', () => ({ rtmr3: replay(expectedRequestLog('production', TEST_CONFIG)) })],
  ['RTMR3_MISMATCH', () => ({ rtmr3: replay(expectedRequestLog('dev', TEST_CONFIG)) })],
  ['RTMR3_MISMATCH', () => ({ rtmr3: replay(expectedJoinedLog('sim', TEST_CONFIG)) })],
  ['RTMR3_MISMATCH', () => ({ rtmr3: replay(expectedRequestLog('sim', sha256(TEST_CONFIG))) })],
  ['MEASUREMENT_NOT_ALLOWED', () => ({ measurement: new Uint8Array(32) })],
  ['MEASUREMENT_NOT_ALLOWED', () => ({ measurement: () => false })],
])('%s: what the quote says must be what is expected', (code, change) => {
  const { quote, expected } = simulatedCase();
  expect(refusal(quote, { ...expected, ...change(expected) })).toBe(code);
});

test('a predicate sees the measurement', () => {
  const { quote, expected, registers } = simulatedCase();
  const measurement = (seen: Uint8Array) => bytesEqual(seen, measurementOf(registers));
  expect(refusal(quote, { ...expected, measurement })).toBe('ACCEPTED');
});

test('parts of two platforms do not make one quote', () => {
  const { quote, expected, registers, reportData } = simulatedCase();
  const other = createSimulatedPlatform({ ppid: flipped(TEST_PPID, 0) }).signQuote({ registers, reportData });
  const spliced = (from: number, to: number) => {
    const copy = quote.slice();
    copy.set(other.subarray(from, to), from);
    return refusal(copy, expected);
  };
  expect(spliced(636, 636 + 128)).toBe('QE_REPORT_BINDING'); // signature and attestation key of the other
  expect(spliced(636 + 128 + 6, 636 + 128 + 6 + 384)).toBe('QE_REPORT_SIGNATURE'); // QE report of the other
});

test('a second valid ECDSA signature over the same statement is the same quote', () => {
  const { quote, expected } = simulatedCase();
  const twin = quote.slice();
  const s = BigInt(`0x${toHex(quote.subarray(636 + 32, 636 + 64))}`);
  twin.set(fromHex((P256_ORDER - s).toString(16).padStart(64, '0')), 636 + 32);
  expect(twin).not.toEqual(quote);
  expect(verifyQuote(twin, expected).evidence.quoteHash).toEqual(
    verifyQuote(quote, expected).evidence.quoteHash,
  );
  expect(quoteHash(parseQuote(twin))).toEqual(quoteHash(parseQuote(quote)));
});

test('signatures of zero verify nothing', () => {
  const { quote, expected } = simulatedCase();
  const zeroed = quote.slice();
  zeroed.fill(0, 636, 636 + 64);
  expect(refusal(zeroed, expected)).toBe('QUOTE_SIGNATURE');
});

test('evidence does not change with the buffer of the quote', () => {
  const { quote, expected } = simulatedCase();
  const copy = Buffer.from(quote);
  const { evidence } = verifyQuote(copy, expected);
  const before = structuredClone(evidence);
  copy.fill(0);
  expect(evidence.registers).toEqual(before.registers);
  expect(evidence.reportData).toEqual(before.reportData);
});
