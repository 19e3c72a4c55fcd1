/**
 * The verifier of a node (RFC 9334): evidence in, verdict out. Start reading at `verifyQuote`; it is the table of
 * contents. Intel's rules come first (intel-rules.ts), then policy (policy.ts), then what this protocol expects of a TD:
 * its measurement, its RTMR3, its report data. The halves are there by themselves too, for the onboarder, which reads the
 * contract in between. Pure: the time, the trust root, the collateral and what is expected are
 * all arguments.
 */
import { bytesEqual, toHex } from '../protocol/encoding.ts';
import { CLOCK_SKEW_MS } from './certificates/chains.ts';
import { platformId, type SgxExtension } from './certificates/sgx-extension.ts';
import type { TrustRoot } from './certificates/trust-roots.ts';
import type { Collateral } from './collateral/collateral.ts';
import { AttestationError } from './errors.ts';
import { applyIntelRules, type Finding, verifySignatures } from './intel-rules.ts';
import type { VerifierMemory } from './memory.ts';
import { applyPolicy, type Policy } from './policy.ts';
import { parseQuote, type Quote, quoteHash, type TdReportBody } from './quote/quote.ts';
import { describeMismatch } from './registers/event-log.ts';
import { type ImageRegisters, measurementOf } from './registers/measurement.ts';
import type { TcbVerdict } from './tcb/tcb.ts';
import { type Step, Trace } from './trace.ts';

/** What a quote is judged by. Nothing here but the collateral may come from the party that sent the quote. */
export interface Inputs {
  /** From the verifier's own image, by `trustRootOf`. */
  readonly trustRoot: TrustRoot;
  /** The time to judge certificates and collateral at, within 20 minutes: the quorum's, not the host's. */
  readonly now: Date;
  /** It may come from anyone. */
  readonly collateral?: Collateral | undefined;
  /** What this verifier checked before. */
  readonly memory?: VerifierMemory;
}

/** What this protocol has a TD say: 64 bytes of report data, and the 48 bytes of RTMR3, a `replay`. */
export interface Statement {
  readonly reportData: Uint8Array;
  readonly rtmr3: Uint8Array;
}

/** What the relying party demands of the evidence. */
export interface Expectations extends Inputs, Statement {
  /** The network's policy; the strictest one (`{}`) when left out. */
  readonly policy?: Policy;
  /** The one acceptable measurement (32 bytes), or whether one is acceptable. */
  readonly measurement: Uint8Array | ((measurement: Uint8Array) => boolean);
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

export interface Verdict {
  readonly steps: readonly Step[];
  readonly evidence: Evidence;
  readonly tcb: TcbVerdict;
}

/**
 * Verifies one quote of a TD. Returns only when every check passed.
 *
 * @param onStep called with each passed check, so that a refusal can be shown together with what held before it.
 * @throws AttestationError whose code names the first check that failed.
 */
export function verifyQuote(
  bytes: Uint8Array,
  expected: Expectations,
  onStep: (step: Step) => void = () => {},
): Verdict {
  const trace = new Trace(onStep);
  const { finding, evidence } = judgeTd(bytes, expected, trace);
  applyPolicy(finding, expected.policy ?? {}, expected.now, trace);

  requireMeasurement(evidence.measurement, expected.measurement);
  trace.passed('measurement', toHex(evidence.measurement));
  requireStatement(evidence, expected, trace);
  return { steps: trace.steps, evidence, tcb: finding.tcb };
}

/**
 * Intel's rules alone, over the quote of a TD: the first half of `verifyQuote`, for a relying party that has to ask
 * somebody between the steps. What it returns is true, and nothing yet says that it is wanted.
 * @throws AttestationError
 */
export function judgeTd(
  bytes: Uint8Array,
  inputs: Inputs,
  trace: Trace = new Trace(),
): { finding: Finding; evidence: Evidence } {
  requireTd(parseQuote(bytes));
  trace.passed('tee', 'a TD');
  const finding = applyIntelRules(bytes, { ...inputs, skewMs: CLOCK_SKEW_MS }, trace);
  return { finding, evidence: evidenceOf(finding) };
}

/**
 * What a node reads in a quote that it just took of itself. There is nobody to be fooled, so what only others care for
 * (collateral, status, attributes) is left to them: signatures, RTMR3 and report data tell whether the quote is one.
 * @throws AttestationError
 */
export function readOwnQuote(
  bytes: Uint8Array,
  { trustRoot, now, ...statement }: Pick<Inputs, 'trustRoot' | 'now'> & Statement,
): Evidence {
  const trace = new Trace();
  requireTd(parseQuote(bytes));
  const evidence = evidenceOf(verifySignatures(bytes, { trustRoot, now, skewMs: CLOCK_SKEW_MS }, trace));
  requireStatement(evidence, statement, trace);
  return evidence;
}

/** @throws AttestationError RTMR3_MISMATCH, REPORT_DATA_MISMATCH */
export function requireStatement(evidence: Evidence, expected: Statement, trace: Trace = new Trace()): void {
  requireRtmr3(evidence.registers.rtmr3, expected.rtmr3);
  trace.passed('rtmr3', 'exactly the expected replay');
  requireReportData(evidence.reportData, expected.reportData);
  trace.passed('report-data', 'exactly the expected statement');
}

/** An enclave is no node: it has no registers of a boot. @throws AttestationError QUOTE_TEE_TYPE */
export function requireTd({ body }: Quote): TdReportBody {
  if (body.kind === 'sgx') {
    throw new AttestationError('QUOTE_TEE_TYPE', 'the quote is of an SGX enclave; a node is a TD');
  }
  return body;
}

/** Copies, so that evidence does not change when the caller reuses the buffer of the quote; slice() of a Buffer is none. */
function evidenceOf({ quote, sgx }: Pick<Finding, 'quote' | 'sgx'>): Evidence {
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

function requireMeasurement(measurement: Uint8Array, expected: Expectations['measurement']): void {
  const allowed =
    typeof expected === 'function' ? expected(measurement) === true : bytesEqual(measurement, expected);
  if (!allowed) {
    throw new AttestationError('MEASUREMENT_NOT_ALLOWED', `measurement ${toHex(measurement)} is not allowed`);
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
