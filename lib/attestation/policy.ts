/**
 * Policy: what a relying party accepts of what Intel's rules found. It comes after them and adds no trust: it only refuses.
 *
 * `{}` is the strictest policy that names nothing of the reader's own: UpToDate only, no debug, no attribute that gives
 * the host power, no service TD. A network's own policy (minimum evaluation number, statuses, denied FMSPCs of the
 * contract) is a value of the same type, so that an onboarder and the command line enforce the same thing.
 */
import { type Static, Type } from 'typebox';
import { bytesEqual, fromHex, toHex } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { HexOf, parseJson, Strict } from '../protocol/schema.ts';
import { platformId } from './certificates/sgx-extension.ts';
import { AttestationError } from './errors.ts';
import type { Appraisal } from './intel-rules.ts';
import type { EnclaveBody, QuoteBody, TdReportBody } from './quote/quote.ts';
import {
  isDebug,
  requireNoReserved,
  requireTdAttributes,
  STRICT_TD_ATTRIBUTES,
  tdAttributeNames,
} from './quote/td-attributes.ts';
import { measurementOf } from './registers/measurement.ts';
import { TCB_STATUSES, type TcbStatus } from './tcb/tcb-status.ts';
import type { Trace } from './trace.ts';

const Days = Type.Number({ minimum: 0, maximum: 36_500 });
const Register = Type.Optional(HexOf(48));
const Svn = Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffff }));
const ListOf = (bytes: number) => Type.Optional(Type.Array(HexOf(bytes), { maxItems: 1024 }));
/** Revoked is never accepted, whatever a policy says: Intel's rules refuse it first. */
const Status = Type.Unsafe<Exclude<TcbStatus, 'Revoked'>>({
  type: 'string',
  enum: TCB_STATUSES.filter((status) => status !== 'Revoked'),
});

/** One named set: every register that it names must be exactly that. */
const MeasurementSet = Strict({
  name: Type.String({ minLength: 1, maxLength: 128 }),
  /** SHA-256(MRTD ‖ RTMR0 ‖ RTMR1 ‖ RTMR2), as the contract has it. */
  measurement: Type.Optional(HexOf(32)),
  mrtd: Register,
  rtmr0: Register,
  rtmr1: Register,
  rtmr2: Register,
  rtmr3: Register,
  mrConfigId: Register,
  mrOwner: Register,
  mrOwnerConfig: Register,
  /** SGX. */
  mrEnclave: Type.Optional(HexOf(32)),
  mrSigner: Type.Optional(HexOf(32)),
  isvProdId: Svn,
  minimumIsvSvn: Svn,
});

export const PolicySchema = Strict({
  /** Accepted statuses; ["UpToDate"] when left out. */
  statuses: Type.Optional(Type.Array(Status, { maxItems: TCB_STATUSES.length })),
  /**
   * OutOfDate and OutOfDateConfigurationNeeded are accepted too while the oldest TCB date under the quote (level, module
   * and QE) is at most this many days old.
   */
  gracePeriodDays: Type.Optional(Days),
  /** When there: every advisory that still applies must be one of these. */
  advisories: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { maxItems: 1024 })),
  /** Of TCB info and QE identity both. */
  minimumTcbEvaluationDataNumber: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffffffff })),
  /** Freshness: TCB info and QE identity were issued at most this many days ago. */
  maximumCollateralAgeDays: Type.Optional(Days),
  allowDebug: Type.Optional(Type.Boolean()),
  allowSeptVeEnabled: Type.Optional(Type.Boolean()),
  allowMigratable: Type.Optional(Type.Boolean()),
  allowPks: Type.Optional(Type.Boolean()),
  allowKeyLocker: Type.Optional(Type.Boolean()),
  allowPerfmon: Type.Optional(Type.Boolean()),
  /** A mask over TDATTRIBUTES, its bytes in the quote's order: bits without a name that may be set. None when left out. */
  reservedTdAttributes: Type.Optional(HexOf(8)),
  /** Values of MRSERVICETD that are accepted besides zero. */
  mrServiceTds: ListOf(48),
  /** When there: one of these sets must match. */
  measurements: Type.Optional(Type.Array(MeasurementSet, { maxItems: 1024 })),
  /** The only acceptable report data. */
  reportData: Type.Optional(HexOf(64)),
  /** SHA-256 of the PPID. When there: the only acceptable platforms. */
  platforms: ListOf(32),
  deniedPlatforms: ListOf(32),
  fmspcs: ListOf(6),
  deniedFmspcs: ListOf(6),
});

export type Policy = Static<typeof PolicySchema>;

/** Reads a policy file. @throws AttestationError POLICY_FORMAT */
export function parsePolicy(json: string): Policy {
  try {
    return parseJson(PolicySchema, json, 'POLICY_FORMAT', 'the policy', 1_048_576);
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw new AttestationError('POLICY_FORMAT', cause.message, { cause });
  }
}

/**
 * @throws AttestationError with the code of the first rule that the appraisal breaks
 */
export function applyPolicy(appraisal: Appraisal, policy: Policy, now: Date, trace: Trace): void {
  requireStatus(appraisal, policy, now);
  trace.passed('policy-status', appraisal.tcb.status);
  requireAdvisories(appraisal, policy);
  trace.passed('policy-advisories', appraisal.tcb.advisories.join(', ') || 'none');
  requireEvaluationNumber(appraisal, policy);
  requireFreshCollateral(appraisal, policy, now);
  const { tcbInfo, qeIdentity } = appraisal;
  trace.passed(
    'policy-collateral',
    `evaluations ${tcbInfo.tcbEvaluationDataNumber} and ${qeIdentity.tcbEvaluationDataNumber}`,
  );
  requirePlatform(appraisal, policy);
  trace.passed('policy-platform', toHex(platformId(appraisal.sgx.ppid)));
  requireAttributes(appraisal.quote.body, policy);
  trace.passed('policy-attributes', describeAttributes(appraisal.quote.body));
  trace.passed('policy-measurements', requireMeasurements(appraisal.quote.body, policy));
  requireReportData(appraisal.quote.body, policy);
  trace.passed('policy-report-data', toHex(appraisal.quote.body.reportData));
}

/** @throws AttestationError TD_RESERVED for a TD with an attribute that has no name */
export function requireKnownAttributes(body: QuoteBody): void {
  if (body.kind !== 'sgx') requireNoReserved(body.tdAttributes);
}

/** Without a policy: what a person should look at. */
export function warn({ quote: { body }, tcb }: Appraisal, trace: Trace): void {
  if (tcb.status !== 'UpToDate') trace.warning('tcb-status', `the platform is ${tcb.status}`);
  if (body.kind === 'sgx') {
    if (isDebugEnclave(body)) trace.warning('debug', 'a debug enclave: its host reads and writes its memory');
    return;
  }
  if (isDebug(body.tdAttributes)) {
    trace.warning('debug', `a debug TD: its host reads and writes its memory (${toHex(body.tdAttributes)})`);
  }
  const names = tdAttributeNames(body.tdAttributes);
  if (!names.includes('septVeDisable')) trace.warning('sept-ve', 'SEPT_VE_DISABLE is not set');
  for (const name of ['migratable', 'pks', 'keyLocker', 'perfmon']) {
    if (names.includes(name)) trace.warning('attribute', `${name} is set`);
  }
  if (hasServiceTd(body)) trace.warning('service-td', `MRSERVICETD is ${toHex(body.mrServiceTd)}`);
}

function requireStatus(
  { tcb }: Appraisal,
  { statuses = ['UpToDate'], gracePeriodDays }: Policy,
  now: Date,
): void {
  const accepted: readonly string[] = statuses;
  if (accepted.includes(tcb.status)) return;
  const outOfDate = tcb.status === 'OutOfDate' || tcb.status === 'OutOfDateConfigurationNeeded';
  const date = Math.min(tcb.platform.date, tcb.module?.date ?? Number.POSITIVE_INFINITY, tcb.qe.date);
  const age = (now.getTime() - date) / 86_400_000;
  if (outOfDate && gracePeriodDays !== undefined && age <= gracePeriodDays) return;
  throw new AttestationError(
    'TCB_STATUS_NOT_ACCEPTED',
    `the platform is ${tcb.status} at a TCB of ${new Date(date).toISOString().slice(0, 10)}; accepted: ${accepted.join(', ') || 'none'}${gracePeriodDays === undefined ? '' : `, out of date for up to ${gracePeriodDays} days`}`,
  );
}

function requireAdvisories({ tcb }: Appraisal, { advisories }: Policy): void {
  if (advisories === undefined) return;
  const open = tcb.advisories.filter((advisory) => !advisories.includes(advisory));
  if (open.length > 0) {
    throw new AttestationError('TCB_ADVISORY_NOT_ACCEPTED', `these advisories apply: ${open.join(', ')}`);
  }
}

function requireEvaluationNumber({ tcbInfo, qeIdentity }: Appraisal, policy: Policy): void {
  const { minimumTcbEvaluationDataNumber: minimum } = policy;
  const lowest = Math.min(tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber);
  if (minimum !== undefined && lowest < minimum) {
    throw new AttestationError(
      'TCB_EVALUATION_NUMBER',
      `the collateral is of TCB evaluation ${lowest}, at least ${minimum} is required`,
    );
  }
}

function requireFreshCollateral({ tcbInfo, qeIdentity }: Appraisal, policy: Policy, now: Date): void {
  const { maximumCollateralAgeDays: maximum } = policy;
  const issued = Math.min(tcbInfo.issueDate, qeIdentity.issueDate);
  if (maximum !== undefined && (now.getTime() - issued) / 86_400_000 > maximum) {
    throw new AttestationError(
      'COLLATERAL_STALE',
      `the collateral is of ${new Date(issued).toISOString()}, more than ${maximum} days old`,
    );
  }
}

function requirePlatform({ sgx }: Appraisal, policy: Policy): void {
  const fmspc = toHex(sgx.fmspc);
  if (policy.fmspcs?.includes(fmspc) === false || policy.deniedFmspcs?.includes(fmspc) === true) {
    throw new AttestationError('FMSPC_NOT_ALLOWED', `platforms of FMSPC ${fmspc} are not allowed`);
  }
  const platform = toHex(platformId(sgx.ppid));
  if (policy.platforms?.includes(platform) === false || policy.deniedPlatforms?.includes(platform) === true) {
    throw new AttestationError('PLATFORM_NOT_ALLOWED', `platform ${platform} is not allowed`);
  }
}

function requireAttributes(body: QuoteBody, policy: Policy): void {
  if (body.kind === 'sgx') {
    if (isDebugEnclave(body) && policy.allowDebug !== true) {
      throw new AttestationError('ENCLAVE_DEBUG', `a debug enclave (ATTRIBUTES ${toHex(body.attributes)})`);
    }
    return;
  }
  requireTdAttributes(body.tdAttributes, {
    debug: policy.allowDebug ?? STRICT_TD_ATTRIBUTES.debug,
    septVeEnabled: policy.allowSeptVeEnabled ?? STRICT_TD_ATTRIBUTES.septVeEnabled,
    migratable: policy.allowMigratable ?? STRICT_TD_ATTRIBUTES.migratable,
    pks: policy.allowPks ?? STRICT_TD_ATTRIBUTES.pks,
    keyLocker: policy.allowKeyLocker ?? STRICT_TD_ATTRIBUTES.keyLocker,
    perfmon: policy.allowPerfmon ?? STRICT_TD_ATTRIBUTES.perfmon,
    reserved:
      policy.reservedTdAttributes === undefined
        ? STRICT_TD_ATTRIBUTES.reserved
        : fromHex(policy.reservedTdAttributes, 8),
  });
  if (hasServiceTd(body) && policy.mrServiceTds?.includes(toHex(body.mrServiceTd)) !== true) {
    throw new AttestationError('TD_SERVICE_TD', `a service TD is bound: ${toHex(body.mrServiceTd)}`);
  }
}

/** @returns which set matched, for the trace */
function requireMeasurements(body: QuoteBody, { measurements }: Policy): string {
  if (measurements === undefined) return 'not required by the policy: any would do';
  const actual = namedMeasurements(body);
  const match = measurements.find((set) => {
    const { name: _, minimumIsvSvn, ...exact } = set;
    const enough = minimumIsvSvn === undefined || (body.kind === 'sgx' && body.isvSvn >= minimumIsvSvn);
    const named = Object.entries(exact);
    // A set that names nothing would match everything: it matches nothing.
    return named.length > 0 && enough && named.every(([field, value]) => actual[field] === value);
  });
  if (match === undefined) {
    const shown = actual.measurement ?? actual.mrEnclave;
    throw new AttestationError('MEASUREMENT_NOT_ALLOWED', `measurement ${shown} is in no accepted set`);
  }
  return match.name;
}

function namedMeasurements(body: QuoteBody): Readonly<Record<string, string | number | undefined>> {
  if (body.kind === 'sgx') {
    return {
      mrEnclave: toHex(body.mrEnclave),
      mrSigner: toHex(body.mrSigner),
      isvProdId: body.isvProdId,
    };
  }
  return {
    measurement: toHex(measurementOf(body)),
    mrtd: toHex(body.mrtd),
    rtmr0: toHex(body.rtmr0),
    rtmr1: toHex(body.rtmr1),
    rtmr2: toHex(body.rtmr2),
    rtmr3: toHex(body.rtmr3),
    mrConfigId: toHex(body.mrConfigId),
    mrOwner: toHex(body.mrOwner),
    mrOwnerConfig: toHex(body.mrOwnerConfig),
  };
}

function requireReportData(body: QuoteBody, { reportData }: Policy): void {
  if (reportData !== undefined && !bytesEqual(body.reportData, fromHex(reportData, 64))) {
    throw new AttestationError('REPORT_DATA_MISMATCH', `report data is ${toHex(body.reportData)}`);
  }
}

function describeAttributes(body: QuoteBody): string {
  if (body.kind === 'sgx') return toHex(body.attributes);
  return `${toHex(body.tdAttributes)}: ${tdAttributeNames(body.tdAttributes).join(', ') || 'none'}`;
}

/** Bit 1 of ATTRIBUTES. Source: Intel SDM, volume 3D, "ATTRIBUTES". */
export function isDebugEnclave(body: EnclaveBody): boolean {
  return ((body.attributes[0] ?? 0xff) & 0x02) !== 0;
}

function hasServiceTd(body: TdReportBody): body is TdReportBody & { mrServiceTd: Uint8Array } {
  return body.mrServiceTd?.some((byte) => byte !== 0) === true;
}
