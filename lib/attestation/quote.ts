/**
 * The structure of a TDX quote, and nothing else: no signature is checked here.
 *
 * Source: Intel TDX DCAP Quote Generation Library and Quote Verification Library, appendix A.3 (version 4 format): header
 * (48 bytes), TD report body 1.0 (584), length of the signature data, signature data. Integers are little-endian. The one
 * layout accepted is what TDX hosts produce: ECDSA P-256 attestation key, QE report certification data (type 6) that
 * wraps a PCK certificate chain in PEM (type 5), every inner length exact. Platforms hand out quotes in fixed buffers,
 * so zero bytes may follow; anything else may not.
 */
import { bytesEqual, sha256, toHex } from '../protocol/encoding.ts';
import { ByteReader } from './byte-reader.ts';
import { AttestationError } from './errors.ts';

/** Larger than any buffer that platforms use for quotes (8,000 bytes), small enough to parse without thought. */
export const MAX_QUOTE_BYTES = 16_384;

const TEE_TYPE_TDX = 0x81;
const KEY_TYPE_ECDSA_P256 = 2;
const CERTIFICATION_QE_REPORT = 6;
const CERTIFICATION_PCK_CHAIN = 5;
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

/** The TD report body 1.0. Measurements are 48 bytes, SVNs 16, attributes 8. */
export interface TdReportBody {
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
}

/** The quoting enclave's own SGX report. */
export interface QeReport {
  /** All 384 bytes: what the PCK signs. */
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
  readonly body: TdReportBody;
  /** Header and body: what the attestation key signs. */
  readonly signedBytes: Uint8Array;
  /** r ‖ s, 64 bytes, by the attestation key. */
  readonly signature: Uint8Array;
  /** x ‖ y, 64 bytes, P-256. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: QeReport;
  /** r ‖ s, 64 bytes, by the PCK. */
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthenticationData: Uint8Array;
  /** PEM: leaf, intermediate, root. */
  readonly pckChain: Uint8Array;
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
  return { header, body, signedBytes, ...parseSignatureData(signatureData), length };
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
  if (!(version in BODY_PARSERS)) {
    throw new AttestationError('QUOTE_VERSION', `quote version ${version} is not supported; version 4 is`);
  }
  const attestationKeyType = reader.uint16('attestation key type');
  if (attestationKeyType !== KEY_TYPE_ECDSA_P256) {
    throw new AttestationError(
      'QUOTE_KEY_TYPE',
      `attestation key type must be 2 (ECDSA P-256), not ${attestationKeyType}`,
    );
  }
  const teeType = reader.uint32('TEE type');
  if (teeType !== TEE_TYPE_TDX) {
    throw new AttestationError(
      'QUOTE_TEE_TYPE',
      `TEE type must be 0x81 (TDX), not 0x${teeType.toString(16)}`,
    );
  }
  reader.take(4, 'reserved'); // SVNs of QE and PCE in older formats; signed, and not used by any rule
  const qeVendorId = reader.take(16, 'QE vendor id');
  if (!bytesEqual(qeVendorId, INTEL_QE_VENDOR)) {
    throw new AttestationError('QUOTE_VENDOR', `QE vendor id ${toHex(qeVendorId)} is not Intel's`);
  }
  const userData = reader.take(20, 'user data');
  return { version, attestationKeyType, teeType, qeVendorId, userData };
}

/** How the body is laid out, by quote version. */
const BODY_PARSERS: Readonly<Record<number, (reader: ByteReader) => TdReportBody>> = {
  4: parseTdReportBody10,
};

function parseBody(version: number, reader: ByteReader): TdReportBody {
  const parser = BODY_PARSERS[version];
  if (parser === undefined)
    throw new AttestationError('QUOTE_VERSION', `no body layout for version ${version}`);
  return parser(reader);
}

function parseTdReportBody10(reader: ByteReader): TdReportBody {
  return {
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
  };
}

function parseSignatureData(data: Uint8Array) {
  const reader = new ByteReader(data, 'the signature data');
  const signature = reader.take(64, 'quote signature');
  const attestationKey = reader.take(64, 'attestation key');
  const certification = takeCertification(reader, CERTIFICATION_QE_REPORT);
  reader.end();
  return { signature, attestationKey, ...parseQeCertification(certification) };
}

function parseQeCertification(data: Uint8Array) {
  const reader = new ByteReader(data, 'the QE report certification data');
  const qeReport = parseQeReport(reader.take(384, 'QE report'));
  const qeReportSignature = reader.take(64, 'QE report signature');
  const qeAuthenticationData = reader.take(
    reader.uint16('QE authentication data length'),
    'QE authentication data',
  );
  const pckChain = takeCertification(reader, CERTIFICATION_PCK_CHAIN);
  reader.end();
  return { qeReport, qeReportSignature, qeAuthenticationData, pckChain };
}

function takeCertification(reader: ByteReader, expectedType: number): Uint8Array {
  const type = reader.uint16('certification data type');
  if (type !== expectedType) {
    throw new AttestationError(
      'QUOTE_CERTIFICATION_TYPE',
      `certification data type must be ${expectedType}, not ${type}`,
    );
  }
  return reader.take(reader.uint32('certification data length'), 'certification data');
}

function parseQeReport(raw: Uint8Array): QeReport {
  const reader = new ByteReader(raw, 'the QE report');
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
