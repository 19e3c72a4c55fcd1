/**
 * The three links from the PCK to what the quote says.
 * Source: Intel TDX DCAP Quoting Library API, "Quote signature data structure" and its verification rules.
 */
import { bytesEqual, sha256 } from '../protocol/encoding.ts';
import type { Certificate } from './certificate.ts';
import { AttestationError } from './errors.ts';
import { verifyP256 } from './p256.ts';
import type { Quote } from './quote.ts';

/** PCK → QE report. @throws AttestationError QE_REPORT_SIGNATURE */
export function requireQeReportSignature(quote: Quote, pck: Certificate): void {
  if (!verifyP256(pck.publicKey, quote.qeReport.raw, quote.qeReportSignature, 'r-s')) {
    throw new AttestationError(
      'QE_REPORT_SIGNATURE',
      'the QE report is not signed by the PCK certificate of the quote',
    );
  }
}

/**
 * QE report → attestation key: its report data is SHA-256(attestation key ‖ authentication data), then 32 zero bytes.
 * @throws AttestationError QE_REPORT_BINDING
 */
export function requireQeReportBinding(quote: Quote): void {
  const expected = new Uint8Array(64);
  expected.set(sha256(quote.attestationKey, quote.qeAuthenticationData));
  if (!bytesEqual(quote.qeReport.reportData, expected)) {
    throw new AttestationError(
      'QE_REPORT_BINDING',
      'the QE report does not vouch for the attestation key of the quote',
    );
  }
}

/** Attestation key → header and body. @throws AttestationError QUOTE_SIGNATURE */
export function requireQuoteSignature(quote: Quote): void {
  if (!verifyP256(quote.attestationKey, quote.signedBytes, quote.signature, 'r-s')) {
    throw new AttestationError(
      'QUOTE_SIGNATURE',
      'header and body are not signed by the attestation key of the quote',
    );
  }
}
