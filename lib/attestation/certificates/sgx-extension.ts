/**
 * Intel's SGX extension of a PCK certificate: which platform this is and at which TCB level it was certified.
 * Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, section 1.3.5.
 */
import { sha256, toHex } from '../../protocol/encoding.ts';
import { type DerValue, expectTag, readChildren, readDer, readSmallInteger, TAG } from '../bytes/der.ts';
import { AttestationError } from '../errors.ts';
import type { Certificate } from './certificate.ts';

export const SGX_EXTENSION_OID = '1.2.840.113741.1.13.1';
/** The same, encoded; the fields' OIDs are this with one or two more arcs, all of them below 128. */
const ENCODED_OID = '2a864886f84d010d01';

export interface SgxExtension {
  /** 16 bytes: names one physical platform (platform provisioning id). */
  readonly ppid: Uint8Array;
  /** 2 bytes. */
  readonly pceId: Uint8Array;
  /** 6 bytes: family, model, stepping, platform type, custom SKU. */
  readonly fmspc: Uint8Array;
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  /** The 16 SGX TCB component SVNs. */
  readonly components: readonly number[];
  /** 0 standard, 1 scalable, 2 scalable with integrity. */
  readonly sgxType: number;
}

/** The encoded OID of a field, hex. */
const field = (...arcs: number[]) => ENCODED_OID + toHex(Uint8Array.from(arcs));

const FIELD = {
  ppid: field(1),
  tcb: field(2),
  pceId: field(3),
  fmspc: field(4),
  sgxType: field(5),
  components: Array.from({ length: 16 }, (_, index) => field(2, index + 1)),
  pceSvn: field(2, 17),
  cpuSvn: field(2, 18),
};

/** @throws AttestationError SGX_EXTENSION when it is missing or incomplete, DER_ENCODING when it is not DER. */
export function parseSgxExtension(certificate: Certificate): SgxExtension {
  const content = certificate.extensions.get(SGX_EXTENSION_OID);
  if (content === undefined) throw refused('the PCK certificate does not have it');
  const fields = fieldsByOid(readDer(content, TAG.sequence));
  const tcb = fieldsByOid(expectTag(required(fields, FIELD.tcb), TAG.sequence));
  return {
    ppid: octets(fields, FIELD.ppid, 16),
    pceId: octets(fields, FIELD.pceId, 2),
    fmspc: octets(fields, FIELD.fmspc, 6),
    sgxType: readSmallInteger(required(fields, FIELD.sgxType), TAG.enumerated),
    components: FIELD.components.map((oid) => svn(tcb, oid, 0xff)),
    pceSvn: svn(tcb, FIELD.pceSvn, 0xffff),
    cpuSvn: octets(tcb, FIELD.cpuSvn, 16),
  };
}

/** The platform: SHA-256 of the PCK's PPID, 32 bytes. */
export function platformId(ppid: Uint8Array): Uint8Array {
  return sha256(ppid);
}

/** By the OID's encoding, hex: an OID in another encoding is another one, and not known. */
function fieldsByOid(list: DerValue): Map<string, DerValue> {
  const fields = new Map<string, DerValue>();
  for (const pair of readChildren(list)) {
    const [name, value, ...more] = readChildren(expectTag(pair, TAG.sequence));
    const oid = toHex(expectTag(name, TAG.oid).content);
    if (value === undefined || more.length > 0) throw refused(`${oid} is not a pair`);
    if (fields.has(oid)) throw refused(`${oid} appears twice`);
    fields.set(oid, value);
  }
  return fields;
}

function required(fields: Map<string, DerValue>, oid: string): DerValue {
  const value = fields.get(oid);
  if (value === undefined) throw refused(`${oid} is missing`);
  return value;
}

function octets(fields: Map<string, DerValue>, oid: string, length: number): Uint8Array {
  const { content } = expectTag(required(fields, oid), TAG.octetString);
  if (content.length !== length) throw refused(`${oid} has ${content.length} bytes, not ${length}`);
  return content;
}

function svn(fields: Map<string, DerValue>, oid: string, max: number): number {
  const value = readSmallInteger(required(fields, oid));
  if (value > max) throw refused(`${oid} is ${value}, above ${max}`);
  return value;
}

function refused(message: string): AttestationError {
  return new AttestationError('SGX_EXTENSION', `SGX extension refused: ${message}`);
}
