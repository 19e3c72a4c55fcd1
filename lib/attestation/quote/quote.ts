/**
 * The structure of a quote, and nothing else: no signature is checked here.
 *
 * Sources: Intel SGX ECDSA Quote Library API, appendix A.4 (version 3, SGX); Intel TDX DCAP Quote Generation Library and
 * Quote Verification Library, appendix A.3 (version 4, TD report 1.0; version 5, a typed body: TD report 1.0 or 1.5).
 * Integers are little-endian. The layouts accepted are what platforms produce: ECDSA P-256 attestation key, a QE report,
 * and how the PCK is named (certification data): for a verdict a PCK certificate chain in PEM. Every inner length is
 * exact. Platforms hand out quotes in fixed buffers, so zero bytes may follow; anything else may not.
 */
import { bytesEqual, sha256, toHex } from '../../protocol/encoding.ts';
import { ByteReader } from '../bytes/byte-reader.ts';
import { AttestationError } from '../errors.ts';

/** Larger than any buffer that platforms use for quotes (8,000 bytes), small enough to parse without thought. */
export const MAX_QUOTE_BYTES = 16_384;

const TEE_TYPE_SGX = 0;
const TEE_TYPE_TDX = 0x81;
const KEY_TYPE_ECDSA_P256 = 2;
const CERTIFICATION_QE_REPORT = 6;
export const CERTIFICATION_PCK_CHAIN = 5;
/** Certification data that names a PCK without its certificate, and its exact length: PPID, CPUSVN, PCESVN, PCEID. */
const CERTIFICATION_LENGTHS: Readonly<Record<number, number>> = { 1: 16 + 20, 2: 256 + 20, 3: 384 + 20 };
/** The vendor id of Intel's quoting enclaves. */
const INTEL_QE_VENDOR = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex');

export interface QuoteHeader {
  readonly version: number;
  readonly attestationKeyType: number;
  readonly teeType: number;
  /** 16 bytes. */
  readonly qeVendorId: Uint8Array;
  /** 20 bytes that the quoting enclave chose. */
  readonly userData: Uint8Array;
}

/** A TD report body 1.0 or 1.5. Measurements are 48 bytes, SVNs 16, attributes 8. */
export interface TdReportBody {
  readonly kind: 'td10' | 'td15';
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrtd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmr0: Uint8Array;
  readonly rtmr1: Uint8Array;
  readonly rtmr2: Uint8Array;
  readonly rtmr3: Uint8Array;
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  /** 1.5 only: the SVNs of the TDX module that runs now. */
  readonly teeTcbSvn2: Uint8Array | undefined;
  /** 1.5 only: the service TDs bound to this one; zero when there are none. */
  readonly mrServiceTd: Uint8Array | undefined;
}

/** The body of an SGX quote. */
export interface EnclaveBody extends EnclaveReport {
  readonly kind: 'sgx';
}

export type QuoteBody = TdReportBody | EnclaveBody;

/** An SGX report: of the quoting enclave, or of the enclave that an SGX quote is about. */
export interface EnclaveReport {
  /** All 384 bytes. */
  readonly raw: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly miscSelect: Uint8Array;
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  /** 64 bytes. */
  readonly reportData: Uint8Array;
}

export interface Quote {
  readonly header: QuoteHeader;
  readonly body: QuoteBody;
  /** Header and body: what the attestation key signs. */
  readonly signedBytes: Uint8Array;
  /** r ‖ s, 64 bytes, by the attestation key. */
  readonly signature: Uint8Array;
  /** x ‖ y, 64 bytes, P-256. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: EnclaveReport;
  /** r ‖ s, 64 bytes, by the PCK. */
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthenticationData: Uint8Array;
  /** How the PCK is named; type 5 is a PEM chain of leaf, intermediate, root. */
  readonly certification: { readonly type: number; readonly data: Uint8Array };
  /** Length of the quote proper, without padding. */
  readonly length: number;
}

/**
 * Parses one quote. All byte fields are views of `bytes`.
 * @throws AttestationError with one of the QUOTE_ codes.
 */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.length > MAX_QUOTE_BYTES) {
    throw new AttestationError(
      'QUOTE_TOO_LARGE',
      `a quote may have ${MAX_QUOTE_BYTES} bytes, not ${bytes.length}`,
    );
  }
  const reader = new ByteReader(bytes, 'the quote');
  const header = parseHeader(reader);
  const body = parseBody(header.version, reader);
  const signedBytes = bytes.subarray(0, reader.offset);
  const signatureData = reader.take(reader.uint32('signature data length'), 'signature data');
  const length = reader.offset;
  requireZeroPadding(reader.rest(), length);
  return { header, body, signedBytes, ...parseSignatureData(header.version, signatureData), length };
}

/**
 * SHA-256 over header and body only: neither padding, nor another encoding of the certificates, nor a second valid ECDSA
 * signature over the same statement makes another quote of it.
 */
export function quoteHash(quote: Quote): Uint8Array {
  return sha256(quote.signedBytes);
}

function parseHeader(reader: ByteReader): QuoteHeader {
  const version = reader.uint16('version');
  if (version !== 3 && version !== 4 && version !== 5) {
    throw new AttestationError(
      'QUOTE_VERSION',
      `quote version ${version} is not supported; 3 (SGX), 4 and 5 (TDX) are`,
    );
  }
  const attestationKeyType = reader.uint16('attestation key type');
  if (attestationKeyType !== KEY_TYPE_ECDSA_P256) {
    throw new AttestationError(
      'QUOTE_KEY_TYPE',
      `attestation key type must be 2 (ECDSA P-256), not ${attestationKeyType}`,
    );
  }
  // Reserved and zero in version 3, which is SGX's only.
  const teeType = reader.uint32('TEE type');
  const expected = version === 3 ? TEE_TYPE_SGX : TEE_TYPE_TDX;
  if (teeType !== expected) {
    throw new AttestationError(
      'QUOTE_TEE_TYPE',
      `TEE type of a version ${version} quote must be 0x${expected.toString(16)}, not 0x${teeType.toString(16)}`,
    );
  }
  reader.take(4, 'SVNs of QE and PCE'); // signed; reserved since version 4, and no rule uses them
  const qeVendorId = reader.take(16, 'QE vendor id');
  if (!bytesEqual(qeVendorId, INTEL_QE_VENDOR)) {
    throw new AttestationError('QUOTE_VENDOR', `QE vendor id ${toHex(qeVendorId)} is not Intel's`);
  }
  const userData = reader.take(20, 'user data');
  return { version, attestationKeyType, teeType, qeVendorId, userData };
}

/** Versions 3 and 4 have one body each; version 5 says which one follows, and how long it is. */
function parseBody(version: number, reader: ByteReader): QuoteBody {
  if (version === 3) return { kind: 'sgx', ...parseEnclaveReport(reader.take(384, 'the report body')) };
  if (version === 4) return parseTdReport10(reader);
  const type = reader.uint16('body type');
  const size = reader.uint32('body size');
  if ((type !== 2 || size !== 584) && (type !== 3 || size !== 648)) {
    throw new AttestationError(
      'QUOTE_BODY_TYPE',
      `a TDX body is of type 2 and 584 bytes or of type 3 and 648, not of type ${type} and ${size}`,
    );
  }
  const body = parseTdReport10(reader);
  if (type === 2) return body;
  return {
    ...body,
    kind: 'td15',
    teeTcbSvn2: reader.take(16, 'TEE_TCB_SVN_2'),
    mrServiceTd: reader.take(48, 'MRSERVICETD'),
  };
}

function parseTdReport10(reader: ByteReader): TdReportBody {
  return {
    kind: 'td10',
    teeTcbSvn: reader.take(16, 'TEE_TCB_SVN'),
    mrSeam: reader.take(48, 'MRSEAM'),
    mrSignerSeam: reader.take(48, 'MRSIGNERSEAM'),
    seamAttributes: reader.take(8, 'SEAMATTRIBUTES'),
    tdAttributes: reader.take(8, 'TDATTRIBUTES'),
    xfam: reader.take(8, 'XFAM'),
    mrtd: reader.take(48, 'MRTD'),
    mrConfigId: reader.take(48, 'MRCONFIGID'),
    mrOwner: reader.take(48, 'MROWNER'),
    mrOwnerConfig: reader.take(48, 'MROWNERCONFIG'),
    rtmr0: reader.take(48, 'RTMR0'),
    rtmr1: reader.take(48, 'RTMR1'),
    rtmr2: reader.take(48, 'RTMR2'),
    rtmr3: reader.take(48, 'RTMR3'),
    reportData: reader.take(64, 'REPORTDATA'),
    teeTcbSvn2: undefined,
    mrServiceTd: undefined,
  };
}

function parseSignatureData(version: number, data: Uint8Array) {
  const reader = new ByteReader(data, 'the signature data');
  const signature = reader.take(64, 'quote signature');
  const attestationKey = reader.take(64, 'attestation key');
  // Version 3 has the QE report in place; later ones wrap it, as certification data of its own type.
  if (version === 3) return { signature, attestationKey, ...parseQe(reader) };
  const wrapped = takeCertification(reader, [CERTIFICATION_QE_REPORT], '6 (QE report)');
  reader.end();
  const inner = new ByteReader(wrapped.data, 'the QE report certification data');
  return { signature, attestationKey, ...parseQe(inner) };
}

function parseQe(reader: ByteReader) {
  const qeReport = parseEnclaveReport(reader.take(384, 'QE report'));
  const qeReportSignature = reader.take(64, 'QE report signature');
  const qeAuthenticationData = reader.take(
    reader.uint16('QE authentication data length'),
    'QE authentication data',
  );
  const certification = takeCertification(
    reader,
    [1, 2, 3, CERTIFICATION_PCK_CHAIN],
    '5 (PCK chain) or 1 to 3 (PPID)',
  );
  reader.end();
  const { type, data } = certification;
  const length = CERTIFICATION_LENGTHS[type] ?? data.length;
  if (data.length !== length) {
    throw new AttestationError(
      'QUOTE_LENGTHS',
      `certification data of type ${type} has ${length} bytes, not ${data.length}`,
    );
  }
  return { qeReport, qeReportSignature, qeAuthenticationData, certification };
}

function takeCertification(reader: ByteReader, types: readonly number[], expected: string) {
  const type = reader.uint16('certification data type');
  if (!types.includes(type)) {
    throw new AttestationError(
      'QUOTE_CERTIFICATION_TYPE',
      `certification data type must be ${expected}, not ${type}`,
    );
  }
  return { type, data: reader.take(reader.uint32('certification data length'), 'certification data') };
}

function parseEnclaveReport(raw: Uint8Array): EnclaveReport {
  const reader = new ByteReader(raw, 'the report');
  const cpuSvn = reader.take(16, 'CPUSVN');
  const miscSelect = reader.take(4, 'MISCSELECT');
  reader.take(28, 'reserved');
  const attributes = reader.take(16, 'ATTRIBUTES');
  const mrEnclave = reader.take(32, 'MRENCLAVE');
  reader.take(32, 'reserved');
  const mrSigner = reader.take(32, 'MRSIGNER');
  reader.take(96, 'reserved');
  const isvProdId = reader.uint16('ISVPRODID');
  const isvSvn = reader.uint16('ISVSVN');
  reader.take(60, 'reserved');
  const reportData = reader.take(64, 'REPORTDATA');
  reader.end();
  return { raw, cpuSvn, miscSelect, attributes, mrEnclave, mrSigner, isvProdId, isvSvn, reportData };
}

function requireZeroPadding(rest: Uint8Array, length: number): void {
  const at = rest.findIndex((byte) => byte !== 0);
  if (at !== -1) {
    throw new AttestationError(
      'QUOTE_TRAILING',
      `the quote ends at byte ${length}, but byte ${length + at} is not zero`,
    );
  }
}
