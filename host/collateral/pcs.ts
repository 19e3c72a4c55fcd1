/**
 * Collateral from Intel's Provisioning Certification Service, or from a PCCS, the cache that data centres run in its
 * place. Source: Intel PCS API, version 4 ("Get TCB Info", "Get Quote Identity", "Get Revocation List"); PCCS adds
 * `rootcacrl`. Issuer chains come in response headers, as URL-encoded PEM.
 *
 * The service is not trusted, so plain http does no harm: its answers are bounded in size and time, no redirect is
 * followed, no address in an answer is ever dialled, and everything is signed.
 */

import { encodePem } from '../../lib/attestation/bytes/pem.ts';
import { type Collateral, collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { CollateralSchema } from '../../lib/protocol/collateral.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import { type HttpBytesReply, httpBytes } from '../http-json.ts';
import type { CollateralSource } from './source.ts';

export interface PcsOptions {
  /** Base URL: `https://api.trustedservices.intel.com`, or a PCCS (`https://pccs:8081`). */
  url: string;
  /** The root's CRL, when it is somewhere else than usual: Intel's own is not on the service, a PCCS has it. */
  rootCrlUrl?: string | undefined;
  /** `early` gets TCB info as soon as Intel publishes it, `standard` once platforms had time to update. */
  update?: 'standard' | 'early' | undefined;
  /** Milliseconds for each of the four requests. */
  timeout?: number;
}

/** Where Intel publishes the root's CRL: its distribution point, which is a constant here so that nobody can choose it. */
const INTEL_ROOT_CRL = 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der';
const MAX_ANSWER_BYTES = 131_072;
const TIMEOUT_MS = 15_000;

/** @throws PCS_UNREACHABLE, PCS_STATUS, PCS_ANSWER, PCS_HEADER */
export function pcsSource(options: PcsOptions): CollateralSource {
  const base = options.url.replace(/\/+$/, '');
  const rootCrlUrl = options.rootCrlUrl ?? usualRootCrl(base);
  const get = (url: string) => fetchPart(url, options.timeout ?? TIMEOUT_MS);
  return {
    name: `PCS ${base}`,
    async find({ tee, fmspc, ca }) {
      const update = options.update === 'early' ? '&update=early' : '';
      const [tcb, identity, pckCrl, rootCrl] = await Promise.all([
        get(`${base}/${tee}/certification/v4/tcb?fmspc=${fmspc}${update}`),
        get(`${base}/${tee}/certification/v4/qe/identity${update.replace('&', '?')}`),
        get(`${base}/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`),
        get(rootCrlUrl),
      ]);
      const tcbInfo = signedDocument(tcb, 'tcbInfo');
      const qeIdentity = signedDocument(identity, 'enclaveIdentity');
      return requireFit({
        pck_crl_issuer_chain: issuerChain(pckCrl, 'SGX-PCK-CRL-Issuer-Chain'),
        root_ca_crl: crl(rootCrl),
        pck_crl: crl(pckCrl),
        // Version 3 of the API used a name with SGX in it.
        tcb_info_issuer_chain: issuerChain(tcb, 'TCB-Info-Issuer-Chain', 'SGX-TCB-Info-Issuer-Chain'),
        tcb_info: tcbInfo.text,
        tcb_info_signature: tcbInfo.signature,
        qe_identity_issuer_chain: issuerChain(identity, 'SGX-Enclave-Identity-Issuer-Chain'),
        qe_identity: qeIdentity.text,
        qe_identity_signature: qeIdentity.signature,
      });
    },
  };
}

function usualRootCrl(base: string): string {
  const { hostname } = new URL(base);
  return hostname === 'intel.com' || hostname.endsWith('.intel.com')
    ? INTEL_ROOT_CRL
    : `${base}/sgx/certification/v4/rootcacrl`;
}

interface Part extends HttpBytesReply {
  url: string;
}

async function fetchPart(url: string, timeout: number): Promise<Part> {
  let reply: HttpBytesReply;
  try {
    reply = await httpBytes({ url, timeout, maxBytes: MAX_ANSWER_BYTES });
  } catch (cause) {
    const { message } = cause as Error;
    throw new DstackError('PCS_UNREACHABLE', message, { cause });
  }
  if (reply.status !== 200) {
    const hint = reply.status === 404 ? ': it does not know this platform' : '';
    throw new DstackError('PCS_STATUS', `${url} answered HTTP ${reply.status}${hint}`);
  }
  return { ...reply, url };
}

/**
 * `{"<name>": {…}, "signature": "…"}`. The text of the object is what is signed. Intel writes it exactly as JSON.stringify
 * does, and a verifier accepts no other form.
 */
function signedDocument({ url, bytes }: Part, name: string): { text: string; signature: string } {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw malformed(url, 'it is not JSON', cause);
  }
  const { [name]: document, signature } = (value ?? {}) as Record<string, unknown>;
  if (typeof document !== 'object' || document === null) throw malformed(url, `it has no ${name}`);
  if (typeof signature !== 'string') throw malformed(url, 'it has no signature');
  return { text: JSON.stringify(document), signature: signature.toLowerCase() };
}

/** The PEM chain in a header, in the only form that verifiers accept. */
function issuerChain({ url, headers }: Part, ...names: [string, ...string[]]): string {
  const header = names.map((name) => headers.get(name)).find((value) => value !== null);
  if (header === undefined || header === null) {
    throw new DstackError('PCS_HEADER', `the answer of ${url} has no header ${names[0]}`);
  }
  let pem = '';
  try {
    pem = decodeURIComponent(header);
  } catch {
    // Falls through: it holds no certificate then.
  }
  const blocks = [
    ...pem.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g),
  ];
  if (blocks.length === 0) {
    throw new DstackError('PCS_HEADER', `the header ${names[0]} of ${url} is not a URL-encoded PEM chain`);
  }
  return blocks.map(([, base64 = '']) => encodePem(new Uint8Array(Buffer.from(base64, 'base64')))).join('');
}

/** A CRL as hex of its DER, from DER (what is asked for), hex (what some PCCS answer) or PEM (the service's default). */
function crl({ url, bytes }: Part): string {
  const SEQUENCE = 0x30;
  const text = bytes.toString('latin1').trim();
  const pem = /^-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----$/.exec(text);
  if (pem !== null) return toHex(Buffer.from(pem[1] ?? '', 'base64'));
  if (/^(?:[0-9a-fA-F]{2})+$/.test(text)) return text.toLowerCase();
  if (bytes[0] !== SEQUENCE) throw malformed(url, 'it is not a CRL in DER, hex or PEM');
  return toHex(bytes);
}

/** What is larger than a message may be is of no use. */
function requireFit(collateral: Collateral): Collateral {
  return collateralOf(check(CollateralSchema, collateral, 'PCS_ANSWER', 'the collateral'));
}

function malformed(url: string, message: string, cause?: unknown): DstackError {
  return new DstackError('PCS_ANSWER', `the answer of ${url} is of no use: ${message}`, { cause });
}
