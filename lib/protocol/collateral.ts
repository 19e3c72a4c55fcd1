/**
 * Collateral as messages carry it: what Intel publishes about one kind of platform, in the form in which verifiers
 * exchange it (collateral.json). Here is only its shape and its size; whether any of it is true is for lib/attestation.
 */
import { type Static, Type } from 'typebox';
import { HexOf, Strict } from './schema.ts';

/** PEM of two certificates: Intel's chains have 1,900 characters. */
const Chain = Type.String({ minLength: 1, maxLength: 6_144 });
const Hex = (characters: number) =>
  Type.String({ pattern: '^([0-9a-f]{2})+$', minLength: 2, maxLength: characters });
/** r ‖ s. */
const Signature = Type.String({ pattern: '^[0-9a-f]{128}$', maxLength: 128 });

/** Chains are PEM, CRLs and signatures lower-case hex, documents the exact text that is signed. */
export const CollateralSchema = Strict({
  /** The authority that issued the PCK certificate, root. */
  pck_crl_issuer_chain: Chain,
  root_ca_crl: Hex(8_192),
  /** Room for 500 revoked platforms; Intel's list has 66. */
  pck_crl: Hex(40_960),
  /** TCB signer, root. */
  tcb_info_issuer_chain: Chain,
  tcb_info: Type.String({ minLength: 2, maxLength: 24_576 }),
  tcb_info_signature: Signature,
  qe_identity_issuer_chain: Chain,
  qe_identity: Type.String({ minLength: 2, maxLength: 4_096 }),
  qe_identity_signature: Signature,
});
export type CollateralMessage = Static<typeof CollateralSchema>;

/** Which platform collateral is of: Intel publishes by TEE, FMSPC and the authority that certified the platform. */
export const PlatformKindSchema = Strict({
  tee: Type.Union([Type.Literal('sgx'), Type.Literal('tdx')]),
  fmspc: HexOf(6),
  ca: Type.Union([Type.Literal('platform'), Type.Literal('processor')]),
});
