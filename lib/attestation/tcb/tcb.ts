/**
 * The TCB verdict: platform level, TDX module, TD relaunch, quoting enclave; converged.
 * Source: Intel SGX DCAP Quote Verification Library, sections 4.1.2.4.9 to 4.1.2.4.11 and 4.1.2.4.17. Levels are tried in
 * the order in which Intel lists them, highest first.
 */
import { bytesEqual, toHex } from '../../protocol/encoding.ts';
import type { SgxExtension } from '../certificates/sgx-extension.ts';
import { equalUnderMask } from '../collateral/qe-identity.ts';
import type { ComponentLevel, ModuleIdentity, TcbInfo, TcbLevel } from '../collateral/tcb-info.ts';
import { AttestationError } from '../errors.ts';
import type { Quote, TdReportBody } from '../quote/quote.ts';
import { converge, needsConfiguration, type TcbStatus } from './tcb-status.ts';

/** Requires TCB info of the quote's own kind of platform. @throws AttestationError TCB_INFO_ID, _FMSPC, _PCEID */
export function requireTcbInfoOf(quote: Quote, sgx: SgxExtension, info: TcbInfo): void {
  const tee = quote.body.kind === 'sgx' ? 'SGX' : 'TDX';
  if (info.id !== tee)
    throw new AttestationError('TCB_INFO_ID', `TCB info is of ${info.id}, the quote of ${tee}`);
  if (!bytesEqual(info.fmspc, sgx.fmspc)) {
    throw new AttestationError(
      'TCB_INFO_FMSPC',
      `TCB info is of FMSPC ${toHex(info.fmspc)}, the platform of ${toHex(sgx.fmspc)}`,
    );
  }
  if (!bytesEqual(info.pceId, sgx.pceId)) {
    throw new AttestationError(
      'TCB_INFO_PCEID',
      `TCB info is of PCEID ${toHex(info.pceId)}, the platform of ${toHex(sgx.pceId)}`,
    );
  }
}

export interface PlatformLevels {
  /** The first level whose SGX components and PCESVN the certificate reaches. */
  readonly sgx: TcbLevel;
  /** The first level whose TDX components the TD reaches too; for SGX the same as `sgx`. */
  readonly platform: TcbLevel;
}

/**
 * The platform's levels: SGX components and PCESVN are the PCK certificate's (the CPUSVN in a quote is an opaque value),
 * TDX components are the TD's TEE_TCB_SVN.
 * @throws AttestationError TCB_NOT_SUPPORTED when no level is reached
 */
export function matchPlatformLevel(quote: Quote, sgx: SgxExtension, info: TcbInfo): PlatformLevels {
  const { body } = quote;
  let first: TcbLevel | undefined;
  for (const level of info.levels) {
    if (!reaches(sgx.components, level.sgxComponents, 0) || sgx.pceSvn < level.pceSvn) continue;
    first ??= level;
    if (body.kind === 'sgx') return { sgx: first, platform: level };
    // A module of version 1 or more has its SVN judged by its own identity: the first two bytes are those.
    const from = (body.teeTcbSvn[1] ?? 0) > 0 ? 2 : 0;
    if (level.tdxComponents !== undefined && reaches(body.teeTcbSvn, level.tdxComponents, from)) {
      return { sgx: first, platform: level };
    }
  }
  throw new AttestationError(
    'TCB_NOT_SUPPORTED',
    `the platform reaches no TCB level of its FMSPC: ${first === undefined ? 'no SGX level' : 'no TDX level'}`,
  );
}

/** True when every component from index `from` has at least the SVN of the level. */
function reaches(svns: ArrayLike<number>, level: Uint8Array, from: number): boolean {
  for (let index = from; index < 16; index++) {
    const svn = svns[index];
    const least = level[index];
    if (svn === undefined || least === undefined || !(svn >= least)) return false;
  }
  return true;
}

/**
 * The TDX module of the TD: by the identity of its version when that is above 0, else by `tdxModule`, which has no levels.
 * @throws AttestationError TDX_MODULE_UNKNOWN, TDX_MODULE_MRSIGNER, TDX_MODULE_ATTRIBUTES, TDX_MODULE_NOT_SUPPORTED
 */
export function matchModule(body: TdReportBody, info: TcbInfo): ComponentLevel | undefined {
  const [isvSvn = 0, version = 0] = body.teeTcbSvn;
  const identity = version > 0 ? moduleIdentity(info, version) : undefined;
  const signer = identity ?? info.module;
  if (signer === undefined) throw new AttestationError('TDX_MODULE_UNKNOWN', 'TCB info names no TDX module');
  if (!bytesEqual(body.mrSignerSeam, signer.mrSigner)) {
    throw new AttestationError('TDX_MODULE_MRSIGNER', `the module is signed by ${toHex(body.mrSignerSeam)}`);
  }
  // Intel's rule: zero, whatever the mask, and equal to the identity's.
  const zero = body.seamAttributes.every((byte) => byte === 0);
  if (!zero || !equalUnderMask(body.seamAttributes, signer.attributesMask, signer.attributes)) {
    throw new AttestationError(
      'TDX_MODULE_ATTRIBUTES',
      `the module's attributes are ${toHex(body.seamAttributes)}, not zero as its identity's must be`,
    );
  }
  if (identity === undefined) return undefined;
  const level = identity.levels.find((candidate) => candidate.isvSvn <= isvSvn);
  if (level === undefined) {
    throw new AttestationError('TDX_MODULE_NOT_SUPPORTED', `no level of ${identity.id} has ISVSVN ${isvSvn}`);
  }
  if (level.status === 'Revoked') {
    throw new AttestationError('TDX_MODULE_REVOKED', `Intel revoked ISVSVN ${isvSvn} of ${identity.id}`);
  }
  return level;
}

function moduleIdentity(info: TcbInfo, version: number): ModuleIdentity {
  const id = `TDX_${version.toString(16).toUpperCase().padStart(2, '0')}`;
  const identity = info.moduleIdentities.find((candidate) => candidate.id === id);
  if (identity === undefined) {
    throw new AttestationError('TDX_MODULE_UNKNOWN', `TCB info has no identity of TDX module ${id}`);
  }
  return identity;
}

/**
 * Whether launching the TD again is all that it needs: its module was updated under it (TEE_TCB_SVN_2 is the module that
 * runs now), everything else is in order.
 * @returns the status in place of `status`
 * @throws AttestationError TDX_MODULE_UNKNOWN when TCB info does not know the module that runs now
 */
export function considerRelaunch(
  body: TdReportBody,
  info: TcbInfo,
  levels: PlatformLevels,
  module: ComponentLevel | undefined,
  qe: ComponentLevel,
  status: TcbStatus,
): TcbStatus {
  const now = body.teeTcbSvn2;
  const outOfDate = status === 'OutOfDate' || status === 'OutOfDateConfigurationNeeded';
  const elseCurrent =
    qe.status === 'UpToDate' &&
    module?.status === 'OutOfDate' &&
    !/^OutOfDate|^Revoked/.test(levels.sgx.status);
  const latest = info.levels[0]?.tdxComponents;
  if (now === undefined || !outOfDate || !elseCurrent || latest === undefined) return status;

  const [isvSvn = 0, version = 0, third = 0] = now;
  const least = version === 0 ? latest[0] : moduleIdentity(info, version).levels[0]?.isvSvn;
  const loaded = least !== undefined && isvSvn >= least && third >= (latest[2] ?? 0xff);
  if (!loaded) return status;
  return needsConfiguration(levels.sgx.status) || needsConfiguration(status)
    ? 'TDRelaunchAdvisedConfigurationNeeded'
    : 'TDRelaunchAdvised';
}

/** What Intel's rules say of the TCB as a whole. */
export interface TcbResult {
  readonly status: TcbStatus;
  readonly platform: TcbLevel;
  /** Undefined for SGX and for TDX modules of version 0. */
  readonly module: ComponentLevel | undefined;
  readonly qe: ComponentLevel;
  /** Of all three, sorted, each once. */
  readonly advisories: readonly string[];
}

/** @throws AttestationError of the functions above, or TCB_REVOKED */
export function judgeTcb(quote: Quote, sgx: SgxExtension, info: TcbInfo, qe: ComponentLevel): TcbResult {
  const levels = matchPlatformLevel(quote, sgx, info);
  const { body } = quote;
  const module = body.kind === 'sgx' ? undefined : matchModule(body, info);
  let status: TcbStatus = levels.platform.status;
  if (module !== undefined) status = converge(status, module.status);
  if (body.kind === 'td15') status = considerRelaunch(body, info, levels, module, qe, status);
  status = converge(status, qe.status);
  if (status === 'Revoked')
    throw new AttestationError('TCB_REVOKED', 'Intel revoked the TCB level of the platform');
  const advisories = new Set([
    ...levels.platform.advisories,
    ...(module?.advisories ?? []),
    ...qe.advisories,
  ]);
  return { status, platform: levels.platform, module, qe, advisories: [...advisories].sort() };
}
