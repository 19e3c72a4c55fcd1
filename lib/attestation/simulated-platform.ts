/**
 * A platform without TDX that makes real version 4 quotes: same bytes, same signatures, another root. It stands where a
 * CPU and its quoting enclave stand, and is trusted by sim and dev images only.
 *
 * Host and tests only (see simulated-certificates.ts).
 */

import { sha256, utf8 } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { encodePem } from './pem.ts';
import { REGISTER_BYTES } from './rtmr.ts';
import { platformId, type SgxExtension } from './sgx-extension.ts';
import { simulatedAuthorities, simulatedKey, simulatedPckCertificate } from './simulated-certificates.ts';
import type { ImageRegisters } from './simulated-measurement.ts';

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
}

export interface SimulatedPlatform {
  readonly ppid: Uint8Array;
  /** SHA-256 of the PPID, 32 bytes. */
  readonly platformId: Uint8Array;
  /** A quote of one TD of this platform. Deterministic. @throws DstackError QUOTE_REQUEST for a field of wrong length. */
  signQuote(request: SimulatedQuoteRequest): Uint8Array;
}

/**
 * The simulated platform with this PPID (16 bytes). Its keys and its PCK certificate follow from it.
 * @throws DstackError QUOTE_REQUEST when the PPID has another length.
 */
export function createSimulatedPlatform({ ppid }: { ppid: Uint8Array }): SimulatedPlatform {
  requireLength('PPID', ppid, PPID_BYTES);
  const pckKey = simulatedKey(utf8('pck'), ppid);
  const attestationKey = simulatedKey(utf8('attestation'), ppid);
  const { root, intermediate, intermediateKey } = simulatedAuthorities();
  const leaf = simulatedPckCertificate(pckKey.publicKey, sgxExtensionOf(ppid), intermediateKey);
  const qeReport = buildQeReport(attestationKey.publicKey);
  const certification = Buffer.concat([
    qeReport,
    pckKey.sign(qeReport, 'r-s'),
    uint16(QE_AUTHENTICATION_DATA.length),
    QE_AUTHENTICATION_DATA,
    certificationData(5, Buffer.from([leaf, intermediate, root].map(encodePem).join(''))),
  ]);

  return {
    ppid,
    platformId: platformId(ppid),
    signQuote: (request) => {
      const signed = Buffer.concat([header(), tdReportBody(request)]);
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
const SIMULATED_FMSPC = Buffer.from('53494d000000', 'hex');
const QE_AUTHENTICATION_DATA = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const INTEL_QE_VENDOR = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex');
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
function buildQeReport(attestationKey: Uint8Array): Uint8Array {
  const report = new Uint8Array(384);
  report.set(
    Uint8Array.from({ length: 16 }, () => 1),
    0,
  ); // CPUSVN
  report.set(Buffer.from('0500000000000000', 'hex'), 48); // ATTRIBUTES: INIT, MODE64BIT
  report.set(sha256(utf8('dstack/v1/simulated-qe')), 64); // MRENCLAVE
  report.set(sha256(utf8('dstack/v1/simulated-qe-signer')), 128); // MRSIGNER
  report.set(uint16(2), 256); // ISVPRODID of Intel's TD quoting enclave
  report.set(uint16(1), 258); // ISVSVN
  report.set(sha256(attestationKey, QE_AUTHENTICATION_DATA), 320); // REPORTDATA
  return report;
}

function header(): Uint8Array {
  return Buffer.concat([uint16(4), uint16(2), uint32(0x81), uint32(0), INTEL_QE_VENDOR, new Uint8Array(20)]);
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
  return Buffer.concat([
    Uint8Array.from({ length: 16 }, (_, index) => (index < 3 ? 1 : 0)), // TEE_TCB_SVN
    new Uint8Array(48 + 48 + 8), // MRSEAM, MRSIGNERSEAM, SEAMATTRIBUTES: no module
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

function certificationData(type: number, data: Uint8Array): Uint8Array {
  return Buffer.concat([uint16(type), uint32(data.length), data]);
}

function uint16(value: number): Uint8Array {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function requireLength(name: string, value: Uint8Array, length: number): void {
  if (value.length !== length) {
    throw new DstackError('QUOTE_REQUEST', `${name} must be ${length} bytes, not ${value.length}`);
  }
}
