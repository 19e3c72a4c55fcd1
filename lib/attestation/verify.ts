/**
 * The verifier (RFC 9334): evidence in, attestation result out. `checks` is the list of everything that is checked of a
 * quote, in order, and the only one: `verify` runs it for callers that know beforehand what they expect, `verifyAsking` for those
 * that ask a contract in between, and judge.ts for people. Pure: the time, the trust root, the collateral and what is
 * expected are all arguments.
 */
import { bytesEqual, toHex } from '../protocol/encoding.ts';
import { CLOCK_SKEW_MS } from './certificates/chains.ts';
import { platformId, type SgxExtension } from './certificates/sgx-extension.ts';
import { AttestationError } from './errors.ts';
import { type Appraisal, applyIntelRules, type IntelInputs, verifySignatures } from './intel-rules.ts';
import { applyPolicy, type Policy, requireKnownAttributes, warn } from './policy.ts';
import { parseQuote, type Quote, quoteHash, type TdReportBody } from './quote/quote.ts';
import { describeMismatch } from './registers/event-log.ts';
import { type ImageRegisters, measurementOf } from './registers/measurement.ts';
import type { TcbResult } from './tcb/tcb.ts';
import { type Step, Trace } from './trace.ts';

/** What a quote is appraised by. Nothing here but the collateral may come from the party that sent the quote. */
export interface Expectations extends IntelInputs {
  /** The hash by which the quote was named elsewhere (32 bytes), if it was. */
  readonly quoteHash?: Uint8Array;
  /**
   * `full`: Intel's rules and a policy. `signatures`: only every signature between the quote and the root, without
   * collateral; it says nothing of revocation or the TCB, so it is enough only for a node's own quote, or for passing
   * evidence on to somebody who appraises it.
   */
  readonly depth?: 'full' | 'signatures';
  /** The strictest one (`{}`) when left out. */
  readonly policy?: Policy;
  /** Reference value: 32 bytes, `measurementOf` the registers. */
  readonly measurement: Uint8Array | 'any';
  /** Reference value: 48 bytes, a `replay`. */
  readonly rtmr3: Uint8Array | 'any';
  /** What the quote has to be made for: 64 bytes. */
  readonly reportData: Uint8Array;
}

/** Decides by what was found in the quote: the contract, through its reader. */
export interface RelyingParty {
  /** @param fmspc the 6 bytes of the platform's PCK certificate */
  policy(fmspc: Uint8Array): Promise<Policy>;
  /** @throws for evidence that it does not allow */
  requireAllowed(evidence: Evidence): Promise<void>;
}

/** What a quote says of a TD. */
export interface Evidence {
  /** 32 bytes. */
  readonly measurement: Uint8Array;
  /** SHA-256 of the PPID, 32 bytes. */
  readonly platform: Uint8Array;
  /** 32 bytes. */
  readonly quoteHash: Uint8Array;
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  readonly registers: ImageRegisters & { readonly rtmr3: Uint8Array };
  readonly sgx: SgxExtension;
}

/** What is known of evidence once every check has passed. */
export interface AttestationResult {
  readonly steps: readonly Step[];
  readonly evidence: Evidence;
  readonly quote: Quote;
  /** Undefined where only signatures were checked. */
  readonly tcb: TcbResult | undefined;
}

/**
 * Verifies one quote of a TD. Returns only when every check passed.
 * @throws AttestationError whose code names the first check that failed
 */
export function verify(bytes: Uint8Array, expected: Expectations): AttestationResult {
  const trace = new Trace();
  const { tcb, quote, sgx } = withoutAsking(checks(bytes, { ...expected, tee: 'td' }, trace));
  return { steps: trace.steps, evidence: evidenceOf(quote, sgx), quote, tcb };
}

/**
 * The same checks in the same order, where the policy and the reference values are somebody else's to say: what they allow
 * is asked once everything before it has passed.
 * @param onStep told of each step that passed, so that a refusal can be shown together with what held before it
 * @throws AttestationError; and what the relying party throws
 */
export async function verifyAsking(
  bytes: Uint8Array,
  expected: Omit<Expectations, 'depth' | 'policy' | 'measurement'>,
  relyingParty: RelyingParty,
  onStep: (step: Step) => void = () => {},
): Promise<AttestationResult> {
  const trace = new Trace(onStep);
  const running = checks(bytes, { ...expected, tee: 'td', policy: relyingParty, measurement: 'any' }, trace);
  let state = running.next();
  // Sequential: each answer decides whether there is a next question.
  while (!state.done) state = running.next(await state.value);
  const { tcb, quote, sgx } = state.value;
  return { steps: trace.steps, evidence: evidenceOf(quote, sgx), quote, tcb };
}

/** The input of `checks`: what a relying party expects, or `any` where a person expects nothing. */
export interface Asked extends IntelInputs {
  readonly tee: 'td' | 'any';
  readonly quoteHash?: Uint8Array;
  readonly depth?: 'full' | 'signatures';
  /** `warn`: what a policy would look at is a warning. */
  readonly policy?: Policy | RelyingParty | 'warn';
  readonly measurement: Uint8Array | 'any';
  readonly rtmr3: Uint8Array | 'any';
  readonly reportData: Uint8Array | 'any';
}

/** What was found; of a look at signatures alone only quote and platform. */
export type Found = Pick<Appraisal, 'quote' | 'sgx'> & Partial<Appraisal>;

/** Yields what has to be asked of a relying party, and goes on with the answer. Of this folder only: callers have `verify`. */
export function* checks(
  bytes: Uint8Array,
  asked: Asked,
  trace: Trace,
): Generator<Promise<Policy | undefined>, Found, Policy | undefined> {
  const { policy = {}, skewMs = CLOCK_SKEW_MS } = asked;
  const inputs = { ...asked, skewMs };
  const quote = parseQuote(bytes);
  trace.passed('structure', `version ${quote.header.version}, ${quote.body.kind}, ${quote.length} bytes`);
  if (asked.tee === 'td') requireTd(quote);
  if (asked.quoteHash !== undefined) requireQuoteHash(quote, asked.quoteHash);
  if (asked.depth === 'signatures') {
    // What costs no curve arithmetic first: strangers send these.
    requireStatement(quote, asked, trace);
    return { quote, sgx: verifySignatures(quote, inputs, trace) };
  }

  const appraisal = applyIntelRules(quote, inputs, trace);
  if (policy === 'warn') {
    requireKnownAttributes(quote.body);
    warn(appraisal, trace);
  } else if ('requireAllowed' in policy) {
    const answer = yield policy.policy(appraisal.sgx.fmspc);
    applyPolicy(appraisal, answer!, asked.now, trace);
    yield policy.requireAllowed(evidenceOf(quote, appraisal.sgx)).then(() => undefined);
    trace.passed('allowed', 'measurement, config and platform, by the contract');
  } else applyPolicy(appraisal, policy, asked.now, trace);
  requireStatement(quote, asked, trace);
  return appraisal;
}

/** For callers that have every answer beforehand. */
export function withoutAsking(running: ReturnType<typeof checks>): Found {
  const state = running.next();
  if (!state.done) throw new TypeError('a relying party that has to be asked needs verifyAsking');
  return state.value;
}

/** What a TD has to say, as far as anything is expected. */
function requireStatement({ body }: Quote, { measurement, rtmr3, reportData }: Asked, trace: Trace): void {
  if (body.kind !== 'sgx' && measurement !== 'any') {
    requireMeasurement(measurementOf(body), measurement);
    trace.passed('measurement', toHex(measurement));
  }
  if (body.kind !== 'sgx' && rtmr3 !== 'any') {
    requireRtmr3(body.rtmr3, rtmr3);
    trace.passed('rtmr3', 'exactly the expected replay');
  }
  if (reportData !== 'any') {
    requireReportData(body.reportData, reportData);
    trace.passed('report-data', 'exactly the expected statement');
  }
}

/** An enclave cannot be a node: it has no registers of a boot. @throws AttestationError QUOTE_TEE_TYPE */
export function requireTd({ body }: Quote): TdReportBody {
  if (body.kind === 'sgx') {
    throw new AttestationError('QUOTE_TEE_TYPE', 'the quote is of an SGX enclave; a node is a TD');
  }
  return body;
}

function requireQuoteHash(quote: Quote, expected: Uint8Array): void {
  const actual = quoteHash(quote);
  if (!bytesEqual(actual, expected)) {
    throw new AttestationError(
      'QUOTE_HASH_MISMATCH',
      `the quote hashes to ${toHex(actual)}, expected ${toHex(expected)}`,
    );
  }
}

/** Copies, so that evidence does not change when the caller reuses the buffer of the quote; slice() of a Buffer does not copy. */
function evidenceOf(quote: Quote, sgx: SgxExtension): Evidence {
  const { mrtd, rtmr0, rtmr1, rtmr2, rtmr3, reportData } = requireTd(quote);
  const registers = {
    mrtd: Uint8Array.from(mrtd),
    rtmr0: Uint8Array.from(rtmr0),
    rtmr1: Uint8Array.from(rtmr1),
    rtmr2: Uint8Array.from(rtmr2),
    rtmr3: Uint8Array.from(rtmr3),
  };
  return {
    measurement: measurementOf(registers),
    platform: platformId(sgx.ppid),
    quoteHash: quoteHash(quote),
    reportData: Uint8Array.from(reportData),
    registers,
    sgx,
  };
}

function requireMeasurement(actual: Uint8Array, expected: Uint8Array): void {
  if (!bytesEqual(actual, expected)) {
    throw new AttestationError('MEASUREMENT_NOT_ALLOWED', `measurement ${toHex(actual)} is not allowed`);
  }
}

function requireRtmr3(actual: Uint8Array, expected: Uint8Array): void {
  if (!bytesEqual(actual, expected)) {
    const why = describeMismatch(actual, expected);
    throw new AttestationError(
      'RTMR3_MISMATCH',
      `RTMR3 is ${toHex(actual)}, expected ${toHex(expected)}: ${why}`,
    );
  }
}

function requireReportData(actual: Uint8Array, expected: Uint8Array): void {
  if (!bytesEqual(actual, expected)) {
    throw new AttestationError(
      'REPORT_DATA_MISMATCH',
      `report data is ${toHex(actual)}, expected ${toHex(expected)}`,
    );
  }
}
