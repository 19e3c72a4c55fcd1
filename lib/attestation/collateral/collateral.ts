/**
 * Collateral: what Intel publishes about a platform, as the relying party was handed it. Nothing in it is trusted until
 * intel-rules.ts has checked it. All of it is text, so that one object can not change between its check and its use.
 */

import { MAX_CHAIN_CHARACTERS } from '../bytes/pem.ts';
import { MAX_CRL_BYTES } from '../certificates/crl.ts';
import { AttestationError } from '../errors.ts';
import { MAX_DOCUMENT_CHARACTERS } from './signed-json.ts';

/** The fields of a collateral file, in the form in which other verifiers (dcap-qvl) exchange it. */
export interface Collateral {
  /** PEM: the authority that issued the PCK certificate, root. */
  readonly pck_crl_issuer_chain: string;
  /** CRLs: hex of DER, lower case. */
  readonly root_ca_crl: string;
  readonly pck_crl: string;
  /** PEM: TCB signer, root. */
  readonly tcb_info_issuer_chain: string;
  /** The exact text that is signed. */
  readonly tcb_info: string;
  /** r ‖ s: 64 bytes of hex, lower case. */
  readonly tcb_info_signature: string;
  readonly qe_identity_issuer_chain: string;
  readonly qe_identity: string;
  readonly qe_identity_signature: string;
}

const LIMITS: Readonly<Record<keyof Collateral, number>> = {
  pck_crl_issuer_chain: MAX_CHAIN_CHARACTERS,
  root_ca_crl: 2 * MAX_CRL_BYTES,
  pck_crl: 2 * MAX_CRL_BYTES,
  tcb_info_issuer_chain: MAX_CHAIN_CHARACTERS,
  tcb_info: MAX_DOCUMENT_CHARACTERS,
  tcb_info_signature: 128,
  qe_identity_issuer_chain: MAX_CHAIN_CHARACTERS,
  qe_identity: MAX_DOCUMENT_CHARACTERS,
  qe_identity_signature: 128,
};
const FIELDS = Object.keys(LIMITS) as (keyof Collateral)[];
const HEX_FIELDS = ['root_ca_crl', 'pck_crl', 'tcb_info_signature', 'qe_identity_signature'] as const;
/** A copy of the chain that is in the quote, which some tools add. It is not used: the quote's own is. */
const IGNORED_FIELD = 'pck_certificate_chain';

/** The largest collateral file that is read. */
export const MAX_COLLATERAL_CHARACTERS = 6_000_000;

/** Reads a collateral file. @throws AttestationError COLLATERAL_FORMAT */
export function parseCollateral(json: string): Collateral {
  if (json.length > MAX_COLLATERAL_CHARACTERS) throw malformed('it is too large');
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new AttestationError('COLLATERAL_FORMAT', 'collateral refused: it is not JSON', { cause });
  }
  const collateral = collateralOf(value);
  // Every value is a text, so whatever is followed by a colon outside of one is a key: a repeated key is one too many.
  const keys = [...json.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/gs)].filter(([, colon]) => colon !== undefined);
  if (keys.length !== Object.keys(value as object).length) throw malformed('a key appears twice');
  return collateral;
}

/** Collateral from a parsed value: every field there, text, bounded; nothing else. @throws AttestationError COLLATERAL_FORMAT */
export function collateralOf(value: unknown): Collateral {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw malformed('it is not an object');
  for (const name of Object.keys(value)) {
    if (name !== IGNORED_FIELD && !Object.hasOwn(LIMITS, name)) {
      throw malformed(`it has an unknown field ${JSON.stringify(name.slice(0, 40))}`);
    }
  }
  const fields = value as Partial<Record<string, unknown>>;
  for (const name of FIELDS) {
    const text = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (typeof text !== 'string' || text.length === 0 || text.length > LIMITS[name]) {
      throw malformed(`${name} must be a text of at most ${LIMITS[name]} characters`);
    }
  }
  const collateral = Object.fromEntries(FIELDS.map((name) => [name, fields[name]])) as unknown as Collateral;
  for (const name of HEX_FIELDS) {
    const hex = collateral[name];
    // Decoding stops at the first digit that is none.
    if (2 * Buffer.from(hex, 'hex').length !== hex.length || hex !== hex.toLowerCase()) {
      throw malformed(`${name} must be lower-case hex`);
    }
  }
  return Object.freeze(collateral);
}

function malformed(message: string): AttestationError {
  return new AttestationError('COLLATERAL_FORMAT', `collateral refused: ${message}`);
}
