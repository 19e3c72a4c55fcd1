/**
 * QE identity: which quoting enclaves Intel vouches for.
 * Source: Intel PCS API, version 4, "Get Quoting Enclave Identity"; version 2 of the document. The comparison is section
 * 4.1.2.9 of Intel's Quote Verification Library.
 */
import { bytesEqual, toHex } from '../../protocol/encoding.ts';
import { AttestationError } from '../errors.ts';
import type { EnclaveReport } from '../quote/quote.ts';
import { parseSignedJson } from './signed-json.ts';
import { type ComponentLevel, parseComponentLevel } from './tcb-info.ts';

export interface QeIdentity {
  readonly id: 'QE' | 'TD_QE';
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly tcbEvaluationDataNumber: number;
  /** 4 bytes each, in the order of the report's own bytes. */
  readonly miscSelect: Uint8Array;
  readonly miscSelectMask: Uint8Array;
  /** 16 bytes each. */
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
  /** 32 bytes. */
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  /** Highest first. */
  readonly levels: readonly ComponentLevel[];
}

/** @throws AttestationError QE_IDENTITY_JSON, QE_IDENTITY_VERSION, QE_IDENTITY_ID */
export function parseQeIdentity(text: string): QeIdentity {
  const root = parseSignedJson(text, 'QE_IDENTITY');
  const version = root.integer('version', 0xffff);
  if (version !== 2) {
    throw new AttestationError('QE_IDENTITY_VERSION', `a QE identity must be of version 2, not ${version}`);
  }
  const id = root.text('id');
  if (id !== 'QE' && id !== 'TD_QE') {
    throw new AttestationError('QE_IDENTITY_ID', `the identity is of ${id}, not QE or TD_QE`);
  }
  return {
    id,
    issueDate: root.date('issueDate'),
    nextUpdate: root.date('nextUpdate'),
    tcbEvaluationDataNumber: root.integer('tcbEvaluationDataNumber', 0xffffffff),
    // The document writes MISCSELECT as a number, most significant byte first; the report holds it little-endian.
    miscSelect: root.hex('miscselect', 4).reverse(),
    miscSelectMask: root.hex('miscselectMask', 4).reverse(),
    attributes: root.hex('attributes', 16),
    attributesMask: root.hex('attributesMask', 16),
    mrSigner: root.hex('mrsigner', 32),
    isvProdId: root.integer('isvprodid', 0xffff),
    levels: root.objects('tcbLevels', 1, 256).map(parseComponentLevel),
  };
}

/**
 * Requires that `report` is of an enclave that `identity` describes, and returns the level that it reaches.
 * @throws AttestationError QE_MISCSELECT, QE_ATTRIBUTES, QE_MRSIGNER, QE_ISVPRODID, QE_TCB_NOT_SUPPORTED, QE_TCB_REVOKED
 */
export function matchQeIdentity(report: EnclaveReport, identity: QeIdentity): ComponentLevel {
  if (!equalUnderMask(report.miscSelect, identity.miscSelectMask, identity.miscSelect)) {
    throw new AttestationError('QE_MISCSELECT', `the QE's MISCSELECT is ${toHex(report.miscSelect)}`);
  }
  if (!equalUnderMask(report.attributes, identity.attributesMask, identity.attributes)) {
    throw new AttestationError('QE_ATTRIBUTES', `the QE's ATTRIBUTES are ${toHex(report.attributes)}`);
  }
  if (!bytesEqual(report.mrSigner, identity.mrSigner)) {
    throw new AttestationError('QE_MRSIGNER', `the QE is signed by ${toHex(report.mrSigner)}`);
  }
  if (report.isvProdId !== identity.isvProdId) {
    throw new AttestationError('QE_ISVPRODID', `the QE's ISVPRODID is ${report.isvProdId}`);
  }
  const level = identity.levels.find(({ isvSvn }) => isvSvn <= report.isvSvn);
  if (level === undefined) {
    throw new AttestationError('QE_TCB_NOT_SUPPORTED', `no level has the QE's ISVSVN ${report.isvSvn}`);
  }
  if (level.status === 'Revoked') {
    throw new AttestationError('QE_TCB_REVOKED', `Intel revoked the QE's ISVSVN ${report.isvSvn}`);
  }
  return level;
}

/** `value & mask === expected`; all of the same length. */
export function equalUnderMask(value: Uint8Array, mask: Uint8Array, expected: Uint8Array): boolean {
  return (
    value.length === expected.length &&
    value.every((byte, index) => (byte & (mask[index] ?? 0xff)) === expected[index])
  );
}
