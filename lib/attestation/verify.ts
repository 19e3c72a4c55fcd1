/**
 * The verifier of a node (RFC 9334): evidence in, verdict out. Start reading at `verifyQuote`; it is the table of
 * contents. Intel's rules come first (intel-rules.ts), then policy (policy.ts), then what this protocol expects of a TD:
 * its measurement, its RTMR3, its report data. Pure: the time, the trust root, the collateral and what is expected are
 * all arguments.
 */
import { bytesEqual, toHex } from '../protocol/encoding.ts';
import { CLOCK_SKEW_MS } from './chains.ts';
import type { Collateral } from './collateral.ts';
import { AttestationError } from './errors.ts';
import { applyIntelRules, type Finding } from './intel-rules.ts';
import type { VerifierMemory } from './memory.ts';
import { applyPolicy, type Policy } from './policy.ts';
import { type Quote, quoteHash, type TdReportBody } from './quote.ts';
import { platformId, type SgxExtension } from './sgx-extension.ts';
import { type ImageRegisters, measurementOf } from './simulated-measurement.ts';
import type { TcbVerdict } from './tcb.ts';
import { type Step, Trace } from './trace.ts';
import type { TrustRoot } from './trust-roots.ts';

/** What the relying party demands of the evidence. Nothing here may come from the party that sent the quote. */
export interface Expectations {
  /** From the verifier's own image, by `trustRootOf`. */
  readonly trustRoot: TrustRoot;
  /** The time to judge certificates and collateral at, within 20 minutes: the quorum's, not the host's. */
  readonly now: Date;
  /** Required under Intel's root; it may come from anyone. */
  readonly collateral?: Collateral;
  /** The network's policy; the strictest one (`{}`) when left out. */
  readonly policy?: Policy;
  /** What this verifier checked before. */
  readonly memory?: VerifierMemory;
  /** The only acceptable report data, 64 bytes. */
  readonly reportData: Uint8Array;
  /** The only acceptable RTMR3, 48 bytes: a `replay`. */
  readonly rtmr3: Uint8Array;
  /** The one acceptable measurement (32 bytes), or whether one is acceptable. */
  readonly measurement: Uint8Array | ((measurement: Uint8Array) => boolean);
}

/** What a quote proves once every check has passed. */
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
  readonly tcb: TcbVerdict;
}

export interface Verdict {
  readonly steps: readonly Step[];
  readonly evidence: Evidence;
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
  const { trustRoot, now, collateral, memory, policy = {} } = expected;

  const finding = applyIntelRules(
    bytes,
    { trustRoot, now, collateral, memory, skewMs: CLOCK_SKEW_MS },
    trace,
  );
  const body = requireTd(finding.quote);
  trace.passed('tee', 'a TD');
  applyPolicy(finding, policy, now, trace);

  const evidence = evidenceOf(finding, body);
  requireMeasurement(evidence.measurement, expected.measurement);
  trace.passed('measurement', toHex(evidence.measurement));

  requireRtmr3(body.rtmr3, expected.rtmr3);
  trace.passed('rtmr3', 'exactly the expected replay');

  requireReportData(body.reportData, expected.reportData);
  trace.passed('report-data', 'exactly the expected statement');
  return { steps: trace.steps, evidence };
}

/** An enclave is no node: it has no registers of a boot. */
function requireTd({ body }: Quote): TdReportBody {
  if (body.kind === 'sgx') {
    throw new AttestationError('QUOTE_TEE_TYPE', 'the quote is of an SGX enclave; a node is a TD');
  }
  return body;
}

/** Copies, so that evidence does not change when the caller reuses the buffer of the quote; slice() of a Buffer is none. */
function evidenceOf({ quote, sgx, tcb }: Finding, body: TdReportBody): Evidence {
  const { mrtd, rtmr0, rtmr1, rtmr2, rtmr3, reportData } = body;
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
    tcb,
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
    throw new AttestationError('RTMR3_MISMATCH', `RTMR3 is ${toHex(actual)}, expected ${toHex(expected)}`);
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
