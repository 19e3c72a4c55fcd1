import { expect, test } from 'vitest';
import { fromHex, sha256, toHex } from '../protocol/encoding.ts';
import { INTEL_ROOT, SIMULATED_ROOT } from './certificates/trust-roots.ts';
import type { AttestationCode } from './errors.ts';
import { createMemory } from './memory.ts';
import { parseQuote, quoteHash } from './quote/quote.ts';
import { expectedJoinedLog, expectedRequestLog, replay } from './registers/event-log.ts';
import { measurementOf } from './registers/measurement.ts';
import { createSimulatedPlatform } from './simulated/platform.ts';
import {
  codeOfRefusal,
  flipped,
  otherS,
  PUBLISHED_QUOTES,
  publishedQuote,
  readPublishedCollateral,
  readPublishedQuote,
  simulatedCase,
  TEST_CONFIG,
  TEST_PPID,
} from './testing.ts';
import { type Expectations, verify } from './verify.ts';

const refusal = (quote: Uint8Array, expected: Expectations) => codeOfRefusal(() => verify(quote, expected));

/** A published quote with collateral, and what it itself says as expectations. */
function publishedCase(name: string, index = 0) {
  const published = publishedQuote(name);
  const collateral = published.collateral[index]!;
  const bytes = readPublishedQuote(published);
  const { body } = parseQuote(bytes);
  if (body.kind === 'sgx') throw new Error('not a TD');
  const expected: Expectations = {
    trustRoot: INTEL_ROOT,
    collateral: readPublishedCollateral(collateral),
    now: new Date(collateral.verify_at_unix * 1000),
    reportData: body.reportData,
    rtmr3: body.rtmr3,
    measurement: measurementOf(body),
  };
  return { published, bytes, expected };
}

test('a hardware quote with collateral is accepted by the same steps, and refused without', () => {
  const { bytes, expected, published } = publishedCase('tdx-v4-b0c06f000000-0c699dd4-dstack');
  const { evidence, steps, tcb } = verify(bytes, expected);
  expect(toHex(evidence.sgx.fmspc)).toBe(published.fmspc);
  expect(toHex(evidence.sgx.cpuSvn)).toBe(published.cpusvn);
  expect(tcb?.status).toBe('UpToDate');
  expect(evidence.quoteHash).toEqual(sha256(bytes.subarray(0, 632)));
  const simulated = simulatedCase();
  expect(steps.map(({ name }) => name)).toEqual(
    verify(simulated.quote, simulated.expected).steps.map(({ name }) => name),
  );
  const { collateral: _, ...without } = expected;
  expect(refusal(bytes, without)).toBe('COLLATERAL_MISSING');
  expect(refusal(bytes, { ...without, trustRoot: SIMULATED_ROOT })).toBe('PCK_CHAIN_ROOT');
});

test('the strictest policy is the usual one: out of date, debug and lax TDs need a policy that says so', () => {
  const outOfDate = publishedCase('tdx-v4-00806f050000-3c51eae6-teekit');
  expect(refusal(outOfDate.bytes, outOfDate.expected)).toBe('TCB_STATUS_NOT_ACCEPTED');
  const policy = { statuses: ['OutOfDate' as const] };
  expect(refusal(outOfDate.bytes, { ...outOfDate.expected, policy })).toBe('ACCEPTED');
  const debug = publishedCase('tdx-v4-50806f000000-12b401a8-teekit');
  expect(refusal(debug.bytes, debug.expected)).toBe('TD_DEBUG');
  const lax = publishedCase('tdx-v4-00806f050000-7462cb52-teekit');
  expect(refusal(lax.bytes, lax.expected)).toBe('TD_SEPT_VE');
});

test('an SGX quote is no evidence of a node', () => {
  const published = PUBLISHED_QUOTES.find(({ tee, collateral }) => tee === 'SGX' && collateral.length > 0)!;
  const collateral = published.collateral[0]!;
  const expected = {
    ...simulatedCase().expected,
    trustRoot: INTEL_ROOT,
    collateral: readPublishedCollateral(collateral),
    now: new Date(collateral.verify_at_unix * 1000),
  };
  expect(refusal(readPublishedQuote(published), expected)).toBe('QUOTE_TEE_TYPE');
});

test.each(['4', '5/1.0', '5/1.5'] as const)(
  'a simulated quote of layout %s is accepted, with what it says',
  (layout) => {
    const { platform, expected, registers, reportData } = simulatedCase();
    const quote = platform.signQuote({ registers, reportData, layout });
    const { evidence, tcb } = verify(quote, expected);
    expect(evidence).toMatchObject({
      registers,
      reportData,
      platform: platform.platformId,
      measurement: measurementOf(registers),
    });
    expect(tcb?.status).toBe('UpToDate');
  },
);

test('with a memory the verdict is the same, and it serves one root', () => {
  const { quote, expected } = simulatedCase();
  const memory = createMemory(SIMULATED_ROOT);
  const verdicts = [verify(quote, expected), ...[1, 2].map(() => verify(quote, { ...expected, memory }))];
  expect(verdicts[1]).toEqual(verdicts[0]);
  expect(verdicts[2]).toEqual(verdicts[0]);
  expect(refusal(quote, { ...expected, memory, now: new Date('2051-01-01T00:00:00Z') })).toBe(
    'PCK_CHAIN_VALIDITY',
  );
  expect(refusal(flipped(quote, 700, 1), { ...expected, memory })).not.toBe('ACCEPTED');
  expect(() => verify(quote, { ...expected, memory, trustRoot: INTEL_ROOT })).toThrow(TypeError);
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
])('%s: what the quote says must be what is expected', (code, change) => {
  const { quote, expected } = simulatedCase();
  expect(refusal(quote, { ...expected, ...change(expected) })).toBe(code);
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
  twin.set(otherS(quote.subarray(636, 636 + 64)), 636);
  expect(twin).not.toEqual(quote);
  expect(verify(twin, expected).evidence.quoteHash).toEqual(verify(quote, expected).evidence.quoteHash);
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
  const { evidence } = verify(copy, expected);
  const before = structuredClone(evidence);
  copy.fill(0);
  expect(evidence.registers).toEqual(before.registers);
  expect(evidence.reportData).toEqual(before.reportData);
});
