/**
 * Which collateral a platform needs. Read from evidence before anything in it was checked: it only names what to ask for,
 * and the wrong collateral is refused by whoever judges with it.
 */
import { toHex } from '../../protocol/encoding.ts';
import { decodePem, splitPemChain } from '../bytes/pem.ts';
import { type Certificate, parseCertificate } from '../certificates/certificate.ts';
import { parseSgxExtension } from '../certificates/sgx-extension.ts';
import { AttestationError } from '../errors.ts';
import { CERTIFICATION_PCK_CHAIN, type Quote } from './quote.ts';

/** Intel publishes TCB info by TEE and FMSPC, QE identity by TEE, PCK CRLs by authority. */
export interface PlatformKind {
  readonly tee: 'sgx' | 'tdx';
  /** 12 hex digits. */
  readonly fmspc: string;
  /** Multi-package servers have the platform authority's certificates, others the processor's. */
  readonly ca: PckAuthority;
}

export type PckAuthority = 'platform' | 'processor';

/** @throws AttestationError when the quote has no PCK chain */
export function platformKindOf(quote: Quote): PlatformKind {
  const { type, data } = quote.certification;
  if (type !== CERTIFICATION_PCK_CHAIN) {
    throw new AttestationError('QUOTE_CERTIFICATION_TYPE', `certification data of type ${type} has no chain`);
  }
  const pem = Buffer.from(data.buffer, data.byteOffset, data.length).toString('latin1');
  const [leaf = '', authority = ''] = splitPemChain(pem, 'PCK_CHAIN');
  const read = (block: string) => parseCertificate(decodePem(block, 'PCK_CHAIN'));
  return {
    tee: quote.body.kind === 'sgx' ? 'sgx' : 'tdx',
    fmspc: toHex(parseSgxExtension(read(leaf)).fmspc),
    ca: authorityOf(read(authority)),
  };
}

/** By its name, as Intel's two are told apart: "… PCK Platform CA" and "… PCK Processor CA". */
export function authorityOf(certificate: Certificate): PckAuthority {
  return certificate.commonName.includes('Processor') ? 'processor' : 'platform';
}
