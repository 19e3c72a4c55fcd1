/** The one error type of this folder. Each refusal has its own code, so that a test, a log or an audit can name it. */
import { DstackError } from '../protocol/errors.ts';

/** Which of the four certificate chains a CHAIN code speaks of. */
export type ChainName = 'PCK_CHAIN' | 'CRL_CHAIN' | 'TCB_CHAIN' | 'QE_CHAIN';
/** What may be wrong with a chain: docs/attestation.md says each. */
export type ChainFault = 'FORMAT' | 'ROOT' | 'ROLE' | 'ISSUER' | 'SIGNATURE' | 'VALIDITY' | 'REVOKED';
/** Which of the two revocation lists a CRL code speaks of. */
export type CrlName = 'ROOT_CRL' | 'PCK_CRL';
export type CrlFault = 'FORMAT' | 'ISSUER' | 'SIGNATURE' | 'NOT_YET' | 'EXPIRED';
/** Which of the two signed JSON documents a code speaks of. */
export type DocumentName = 'TCB_INFO' | 'QE_IDENTITY';
export type DocumentFault = 'SIGNATURE' | 'JSON' | 'VERSION' | 'ID' | 'NOT_YET' | 'EXPIRED';

/** Why evidence was refused. Stable: programs match on these. */
export type AttestationCode =
  // structure
  | 'QUOTE_TOO_LARGE'
  | 'QUOTE_TRUNCATED'
  | 'QUOTE_VERSION'
  | 'QUOTE_KEY_TYPE'
  | 'QUOTE_TEE_TYPE'
  | 'QUOTE_VENDOR'
  | 'QUOTE_BODY_TYPE'
  | 'QUOTE_CERTIFICATION_TYPE'
  | 'QUOTE_LENGTHS'
  | 'QUOTE_TRAILING'
  | 'QUOTE_HASH_MISMATCH'
  // certificates and revocation
  | 'DER_ENCODING'
  | 'CERTIFICATE_FORMAT'
  | `${ChainName}_${ChainFault}`
  | `${CrlName}_${CrlFault}`
  | 'PCK_REVOKED'
  | 'SGX_EXTENSION'
  | 'TIME_INVALID'
  // the quoting enclave
  | 'QE_REPORT_SIGNATURE'
  | 'QE_REPORT_BINDING'
  | 'QE_MRSIGNER'
  | 'QE_ISVPRODID'
  | 'QE_MISCSELECT'
  | 'QE_ATTRIBUTES'
  | 'QE_TCB_NOT_SUPPORTED'
  | 'QE_TCB_REVOKED'
  | 'QUOTE_SIGNATURE'
  // collateral and TCB
  | 'COLLATERAL_MISSING'
  | 'COLLATERAL_FORMAT'
  | `${DocumentName}_${DocumentFault}`
  | 'TCB_INFO_TYPE'
  | 'TCB_INFO_FMSPC'
  | 'TCB_INFO_PCEID'
  | 'TCB_NOT_SUPPORTED'
  | 'TCB_REVOKED'
  | 'TDX_MODULE_UNKNOWN'
  | 'TDX_MODULE_MRSIGNER'
  | 'TDX_MODULE_ATTRIBUTES'
  | 'TDX_MODULE_NOT_SUPPORTED'
  | 'TDX_MODULE_REVOKED'
  // policy
  | 'POLICY_FORMAT'
  | 'TCB_STATUS_NOT_ACCEPTED'
  | 'TCB_ADVISORY_NOT_ACCEPTED'
  | 'TCB_EVALUATION_NUMBER'
  | 'COLLATERAL_STALE'
  | 'FMSPC_NOT_ALLOWED'
  | 'PLATFORM_NOT_ALLOWED'
  | 'ENCLAVE_DEBUG'
  | 'TD_DEBUG'
  | 'TD_SEPT_VE'
  | 'TD_MIGRATABLE'
  | 'TD_PKS'
  | 'TD_KEY_LOCKER'
  | 'TD_PERFMON'
  | 'TD_RESERVED'
  | 'TD_SERVICE_TD'
  | 'MEASUREMENT_NOT_ALLOWED'
  | 'RTMR3_MISMATCH'
  | 'REPORT_DATA_MISMATCH'
  // the firmware's event log
  | 'FIRMWARE_LOG_FORMAT'
  | 'CCEL_FORMAT';

/** Evidence refused, or a verifier that may not be used as asked. */
export class AttestationError extends DstackError {
  declare readonly code: AttestationCode;

  constructor(code: AttestationCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
    this.name = 'AttestationError';
  }
}
