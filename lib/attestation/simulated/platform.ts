/**
 * A platform without TDX that makes real quotes, of version 4 and 5: same bytes, same signatures, another root. It stands where a
 * CPU and its quoting enclave stand, and is trusted by sim and dev images only.
 *
 * Host and tests only (see simulated-certificates.ts).
 */

import { sha256, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { uint16, uint32 } from '../bytes/little-endian.ts';
import { encodePem } from '../bytes/pem.ts';
import { platformId, type SgxExtension } from '../certificates/sgx-extension.ts';
import type { ImageRegisters } from '../registers/measurement.ts';
import { REGISTER_BYTES } from '../registers/rtmr.ts';
import {
  type SimulatedKey,
  simulatedAuthorities,
  simulatedKey,
  simulatedPckCertificate,
} from './certificates.ts';

/** Length of a PPID. */
export const PPID_BYTES = 16;

export interface SimulatedQuoteRequest {
  readonly registers: ImageRegisters & { readonly rtmr3: Uint8Array };
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  /** Sets the debug bit, which every verifier must refuse. */
  readonly debug?: boolean;
  /** TDATTRIBUTES, 8 bytes, in place of the usual ones: to test verifiers. */
  readonly tdAttributes?: Uint8Array;
  /** The layout: version 4, or version 5 with a TD report 1.0 or 1.5. Version 4 when left out. */
  readonly layout?: '4' | '5/1.0' | '5/1.5';
  /** 16, 16, 48, 48 and 8 bytes in place of the usual ones; the second and third exist in TD report 1.5 only. */
  readonly teeTcbSvn?: Uint8Array;
  readonly teeTcbSvn2?: Uint8Array;
  readonly mrServiceTd?: Uint8Array;
  readonly mrSignerSeam?: Uint8Array;
  readonly seamAttributes?: Uint8Array;
}

/** How a simulated platform differs from the usual one: to test verifiers. */
export interface SimulatedPlatformOptions {
  /** 16 bytes. */
  readonly ppid: Uint8Array;
  /** What the PCK certificate says instead. */
  readonly sgx?: Partial<SgxExtension>;
  /** Writes over the QE report before it is signed. */
  readonly alterQeReport?: (report: Uint8Array) => void;
  readonly qeAuthenticationData?: Uint8Array;
  /** The PCK chain, DER, in place of the usual one. */
  readonly chain?: readonly Uint8Array[];
}

export interface SimulatedPlatform {
  readonly ppid: Uint8Array;
  /** SHA-256 of the PPID, 32 bytes. */
  readonly platformId: Uint8Array;
  /** A quote of one TD of this platform. Deterministic. @throws DstackError QUOTE_REQUEST for a field of wrong length. */
  signQuote(request: SimulatedQuoteRequest): Uint8Array;
}

/** The PCK key of the simulated platform with this PPID. */
export function simulatedPckKey(ppid: Uint8Array): SimulatedKey {
  return simulatedKey(utf8('pck'), ppid);
}

/**
 * The simulated platform with this PPID (16 bytes). Its keys and its PCK certificate follow from it.
 * @throws DstackError QUOTE_REQUEST when the PPID has another length.
 */
export function createSimulatedPlatform(options: SimulatedPlatformOptions): SimulatedPlatform {
  const { ppid, qeAuthenticationData = QE_AUTHENTICATION_DATA } = options;
  requireLength('PPID', ppid, PPID_BYTES);
  const pckKey = simulatedPckKey(ppid);
  const attestationKey = simulatedKey(utf8('attestation'), ppid);
  const { root, intermediate, intermediateKey } = simulatedAuthorities();
  const sgx = { ...sgxExtensionOf(ppid), ...options.sgx };
  const leaf = simulatedPckCertificate(pckKey.publicKey, sgx, intermediateKey);
  const chain = options.chain ?? [leaf, intermediate, root];
  const qeReport = buildQeReport(attestationKey.publicKey, qeAuthenticationData);
  options.alterQeReport?.(qeReport);
  const certification = Buffer.concat([
    qeReport,
    pckKey.sign(qeReport, 'r-s'),
    uint16(qeAuthenticationData.length),
    qeAuthenticationData,
    certificationData(5, Buffer.from(chain.map(encodePem).join(''))),
  ]);

  return {
    ppid,
    platformId: platformId(ppid),
    signQuote: (request) => {
      const signed = Buffer.concat(headerAndBody(request));
      const signatureData = Buffer.concat([
        attestationKey.sign(signed, 'r-s'),
        attestationKey.publicKey,
        certificationData(6, certification),
      ]);
      return new Uint8Array(Buffer.concat([signed, uint32(signatureData.length), signatureData]));
    },
  };
}

/** "SIM": no CPU has this one. */
export const SIMULATED_FMSPC = Buffer.from('53494d000000', 'hex');
const QE_AUTHENTICATION_DATA = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const INTEL_QE_VENDOR = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex');
/** MRSIGNER of the simulated quoting enclave. */
export const SIMULATED_QE_SIGNER = sha256(utf8('dstack/v1/simulated-qe-signer'));
/** A module of version 1 with SVN 1. */
const TEE_TCB_SVN = Uint8Array.from({ length: 16 }, (_, index) => (index < 3 ? 1 : 0));
/** SEPT_VE_DISABLE, which a Linux guest wants; bit 0 of the first byte is DEBUG. */
const TD_ATTRIBUTES = '0000001000000000';
const TD_ATTRIBUTES_DEBUG = '0100001000000000';

/** What the PCK certificate of a simulated platform says: the lowest levels of everything. */
export function sgxExtensionOf(ppid: Uint8Array): SgxExtension {
  const components = Array.from({ length: 16 }, () => 1);
  return {
    ppid,
    pceId: new Uint8Array(2),
    fmspc: SIMULATED_FMSPC,
    cpuSvn: Uint8Array.from(components),
    pceSvn: 1,
    components,
    sgxType: 1,
  };
}

/** An SGX report body, 384 bytes, whose report data binds the attestation key. */
function buildQeReport(attestationKey: Uint8Array, authenticationData: Uint8Array): Uint8Array {
  const report = new Uint8Array(384);
  report.set(
    Uint8Array.from({ length: 16 }, () => 1),
    0,
  ); // CPUSVN
  report.set(Buffer.from('0500000000000000', 'hex'), 48); // ATTRIBUTES: INIT, MODE64BIT
  report.set(sha256(utf8('dstack/v1/simulated-qe')), 64); // MRENCLAVE
  report.set(SIMULATED_QE_SIGNER, 128); // MRSIGNER
  report.set(uint16(2), 256); // ISVPRODID of Intel's TD quoting enclave
  report.set(uint16(1), 258); // ISVSVN
  report.set(sha256(attestationKey, authenticationData), 320); // REPORTDATA
  return report;
}

function headerAndBody(request: SimulatedQuoteRequest): Uint8Array[] {
  const { layout = '4' } = request;
  const body = tdReportBody(request);
  if (layout === '4') return [header(4), body];
  const type = layout === '5/1.0' ? 2 : 3;
  const more = type === 2 ? [] : tdReportBody15(request);
  return [header(5), uint16(type), uint32(type === 2 ? 584 : 648), body, ...more];
}

function header(version: number): Uint8Array {
  return Buffer.concat([
    uint16(version),
    uint16(2),
    uint32(0x81),
    uint32(0),
    INTEL_QE_VENDOR,
    new Uint8Array(20),
  ]);
}

function tdReportBody(request: SimulatedQuoteRequest): Uint8Array {
  const { registers, reportData, debug = false } = request;
  const tdAttributes =
    request.tdAttributes ?? Buffer.from(debug ? TD_ATTRIBUTES_DEBUG : TD_ATTRIBUTES, 'hex');
  for (const name of ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'] as const) {
    requireLength(name, registers[name], REGISTER_BYTES);
  }
  requireLength('report data', reportData, 64);
  requireLength('TDATTRIBUTES', tdAttributes, 8);
  const {
    teeTcbSvn = TEE_TCB_SVN,
    mrSignerSeam = new Uint8Array(48),
    seamAttributes = new Uint8Array(8),
  } = request;
  requireLength('TEE_TCB_SVN', teeTcbSvn, 16);
  requireLength('MRSIGNERSEAM', mrSignerSeam, 48);
  requireLength('SEAMATTRIBUTES', seamAttributes, 8);
  return Buffer.concat([
    teeTcbSvn,
    new Uint8Array(48), // MRSEAM: no module
    mrSignerSeam,
    seamAttributes,
    tdAttributes,
    Buffer.from('e718060000000000', 'hex'), // XFAM
    registers.mrtd,
    new Uint8Array(3 * 48), // MRCONFIGID, MROWNER, MROWNERCONFIG
    registers.rtmr0,
    registers.rtmr1,
    registers.rtmr2,
    registers.rtmr3,
    reportData,
  ]);
}

/** What TD report 1.5 adds. */
function tdReportBody15(request: SimulatedQuoteRequest): Uint8Array[] {
  const { teeTcbSvn2 = request.teeTcbSvn ?? TEE_TCB_SVN, mrServiceTd = new Uint8Array(48) } = request;
  requireLength('TEE_TCB_SVN_2', teeTcbSvn2, 16);
  requireLength('MRSERVICETD', mrServiceTd, 48);
  return [teeTcbSvn2, mrServiceTd];
}

function certificationData(type: number, data: Uint8Array): Uint8Array {
  return Buffer.concat([uint16(type), uint32(data.length), data]);
}

function requireLength(name: string, value: Uint8Array, length: number): void {
  if (value.length !== length) {
    throw new DstackError('QUOTE_REQUEST', `${name} must be ${length} bytes, not ${value.length}`);
  }
}
