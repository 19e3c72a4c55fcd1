/**
 * The verifier (RFC 9334): evidence in, verdict out. Start reading at `verifyQuote`; it is the table of contents, in the
 * order in which the checks are made. Pure: the time, the trust root and what is expected are all arguments.
 *
 * What it does not check yet is listed in completeness.ts, and every verdict names it.
 */
import { bytesEqual, toHex } from '../protocol/encoding.ts';
import { MISSING_CHECKS } from './completeness.ts';
import { AttestationError } from './errors.ts';
import { verifyPckChain } from './pck-chain.ts';
import { parseQuote, type Quote, quoteHash } from './quote.ts';
import {
  requireQeReportBinding,
  requireQeReportSignature,
  requireQuoteSignature,
} from './quote-signatures.ts';
import { parseSgxExtension, platformId, type SgxExtension } from './sgx-extension.ts';
import { type ImageRegisters, measurementOf } from './simulated-measurement.ts';
import { requireProtectedTd } from './td-attributes.ts';
import type { TrustRoot } from './trust-roots.ts';

/** What the relying party demands of the evidence. Nothing here may come from the party that sent the quote. */
export interface Expectations {
  /** From the verifier's own image, by `trustRootOf`. */
  readonly trustRoot: TrustRoot;
  /** The time to judge certificates at: the quorum's, not the host's. */
  readonly now: Date;
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
}

/** One check that passed. */
export interface Step {
  readonly name: StepName;
  readonly detail: string;
}

export const STEP_NAMES = [
  'structure',
  'pck-chain',
  'sgx-extension',
  'qe-report-signature',
  'attestation-key',
  'quote-signature',
  'td-attributes',
  'measurement',
  'rtmr3',
  'report-data',
] as const;

export type StepName = (typeof STEP_NAMES)[number];

export interface Verdict {
  readonly steps: readonly Step[];
  readonly evidence: Evidence;
  /** Checks that do not exist yet and that a hardware quote would need. Empty under the simulated root. */
  readonly unchecked: readonly string[];
}

/**
 * Verifies one quote. Returns only when every check passed.
 *
 * @param onStep called with each passed check, so that a refusal can be shown together with what held before it.
 * @throws AttestationError whose code names the first check that failed.
 */
export function verifyQuote(
  bytes: Uint8Array,
  expected: Expectations,
  onStep: (step: Step) => void = () => {},
): Verdict {
  const steps: Step[] = [];
  const passed = (name: StepName, detail: string) => {
    steps.push({ name, detail });
    onStep({ name, detail });
  };
  requireFiniteTime(expected.now);

  const quote = parseQuote(bytes);
  passed('structure', `TDX version ${quote.header.version}, ${quote.length} bytes`);

  const pck = verifyPckChain(quote.pckChain, expected.trustRoot, expected.now);
  passed('pck-chain', `to the ${expected.trustRoot.name} root, valid at ${expected.now.toISOString()}`);

  const sgx = parseSgxExtension(pck);
  passed('sgx-extension', `FMSPC ${toHex(sgx.fmspc)}, PCE SVN ${sgx.pceSvn}`);

  requireQeReportSignature(quote, pck);
  passed('qe-report-signature', 'the QE report is signed by the PCK');

  requireQeReportBinding(quote);
  passed('attestation-key', 'the QE report binds the attestation key');

  requireQuoteSignature(quote);
  passed('quote-signature', 'header and body are signed by the attestation key');

  requireProtectedTd(quote.body.tdAttributes);
  passed('td-attributes', `${toHex(quote.body.tdAttributes)}: not debug, not migratable`);

  const evidence = evidenceOf(quote, sgx);
  requireMeasurement(evidence.measurement, expected.measurement);
  passed('measurement', toHex(evidence.measurement));

  requireRtmr3(quote.body.rtmr3, expected.rtmr3);
  passed('rtmr3', 'exactly the expected replay');

  requireReportData(quote.body.reportData, expected.reportData);
  passed('report-data', 'exactly the expected statement');

  const unchecked = expected.trustRoot.name === 'intel' ? MISSING_CHECKS.map(({ name }) => name) : [];
  return { steps, evidence, unchecked };
}

/** Date comparisons with an invalid date are all false, which would accept anything. */
function requireFiniteTime(now: Date): void {
  if (!Number.isFinite(now.getTime())) {
    throw new AttestationError('TIME_INVALID', 'the time to judge certificates at is not a date');
  }
}

/** Copies, so that evidence does not change when the caller reuses the buffer of the quote; slice() of a Buffer is none. */
function evidenceOf(quote: Quote, sgx: SgxExtension): Evidence {
  const { mrtd, rtmr0, rtmr1, rtmr2, rtmr3, reportData } = quote.body;
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
