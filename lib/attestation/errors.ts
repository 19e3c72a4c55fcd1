/** The one error type of this folder. Each refusal has its own code, so that a test, a log or an audit can name it. */
import { DstackError } from '../protocol/errors.ts';

/** Why evidence was refused. Stable: programs match on these. */
export type AttestationCode =
  // structure
  | 'QUOTE_TOO_LARGE'
  | 'QUOTE_TRUNCATED'
  | 'QUOTE_VERSION'
  | 'QUOTE_KEY_TYPE'
  | 'QUOTE_TEE_TYPE'
  | 'QUOTE_VENDOR'
  | 'QUOTE_CERTIFICATION_TYPE'
  | 'QUOTE_LENGTHS'
  | 'QUOTE_TRAILING'
  // certificates
  | 'DER_ENCODING'
  | 'CERTIFICATE_FORMAT'
  | 'PCK_CHAIN_FORMAT'
  | 'PCK_CHAIN_ROOT'
  | 'PCK_CHAIN_ROLE'
  | 'PCK_CHAIN_ISSUER'
  | 'PCK_CHAIN_SIGNATURE'
  | 'PCK_CHAIN_VALIDITY'
  | 'TIME_INVALID'
  | 'SGX_EXTENSION'
  // signatures
  | 'QE_REPORT_SIGNATURE'
  | 'QE_REPORT_BINDING'
  | 'QUOTE_SIGNATURE'
  // what the quote says
  | 'TD_DEBUG'
  | 'TD_MIGRATABLE'
  | 'MEASUREMENT_NOT_ALLOWED'
  | 'RTMR3_MISMATCH'
  | 'REPORT_DATA_MISMATCH'
  // this verifier
  | 'ATTESTATION_INCOMPLETE';

/** Evidence refused, or a verifier that may not be used as asked. */
export class AttestationError extends DstackError {
  declare readonly code: AttestationCode;

  constructor(code: AttestationCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.name = 'AttestationError';
  }
}
