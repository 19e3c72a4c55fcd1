/**
 * Evidence of a website: what a stranger gets at `/.well-known/dstack/evidence.json` and holds against the key of the TLS
 * connection that it came by. docs/site.md says what it proves.
 *
 * Two statements over the same words, each useless alone. The quote says that a machine of this measurement said them; an app
 * of any machine could get a quote, if not over this report data. The network key's signature says that a node that has the
 * secret said them; it could have been taken by a machine that leaks it, of which the quote tells the measurement.
 */
import { createECDH } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { CollateralSchema } from './collateral.ts';
import { fromHex, sha256 } from './encoding.ts';
import { siteReportData } from './report-data.ts';
import { Address0x, AppName, Compact, Count, HexOf, HexUpTo, Strict } from './schema.ts';
import type { Domain, Site } from './typed-data.ts';

/** Where a node serves it; `?nonce=` and 64 hex digits for fresh evidence. Nothing under the folder is ever an app's. */
export const NODE_FOLDER = '/.well-known/dstack/';
export const EVIDENCE_PATH = `${NODE_FOLDER}evidence.json`;
/** What else a node answers there: docs/site-certificates.md. */
export const sitePaths = {
  /** GET -> the request that an authority signs (PKCS #10), PEM */
  request: `${NODE_FOLDER}csr`,
  /** GET -> the chain in force, PEM. POST a chain, PEM -> `{taken: true}`, or why not */
  certificate: `${NODE_FOLDER}certificate`,
  /** GET -> AcmeStatus: how the certificate stands */
  status: `${NODE_FOLDER}site.json`,
} as const;

/** The nonce of evidence that nobody's nonce was given for. */
export const NO_NONCE = new Uint8Array(32);

const QUOTE_MAX_BYTES = 16 * 1024;
/** DER of SubjectPublicKeyInfo with id-ecPublicKey, prime256v1 and an uncompressed point (RFC 5480, section 2). */
const P256_SPKI_PREFIX = fromHex('3059301306072a8648ce3d020106082a8648ce3d030107034200');
const P256_SPKI_BYTES = 91;

/** Binary fields are lower-case hex without 0x. */
export const SiteEvidenceSchema = Strict({
  type: Type.Literal('site'),
  version: Type.Literal(1),
  chainId: Count,
  contract: Address0x,
  networkKey: Address0x,
  epoch: Count,
  /** SubjectPublicKeyInfo of the TLS key, DER. */
  publicKey: HexOf(P256_SPKI_BYTES),
  nonce: HexOf(32),
  measurement: HexOf(32),
  config: HexOf(32),
  platform: HexOf(32),
  /** The newest block that the node had accepted: the evidence is no older. */
  blockNumber: Count,
  blockHash: HexOf(32),
  /**
   * Whether who is on the way to the website, its node's host first of all, could have a certificate for one of the names in
   * network.json: true unless the node has seen the DNS forbid it (docs/site-certificates.md).
   */
  hostImpersonable: Type.Boolean(),
  /** The app that network.json gives quotes over any report data, if it does: what a quote alone shows may be that app's word. */
  rawQuotes: Type.Optional(AppName),
  quote: HexUpTo(QUOTE_MAX_BYTES),
  quoteHash: HexOf(32),
  /** By the network key, over the EIP-712 digest of `Site`. */
  signature: Compact,
  /** What the node's host has brought to judge the quote by. Nothing covers it, and nothing has to: Intel signed it. */
  collateral: Type.Optional(CollateralSchema),
});
export type SiteEvidence = Static<typeof SiteEvidenceSchema>;

/** What is said, before it is quoted and signed. */
export type SiteStatement = Pick<
  SiteEvidence,
  'networkKey' | 'epoch' | 'publicKey' | 'nonce' | 'config' | 'blockHash' | 'hostImpersonable' | 'rawQuotes'
>;

/** SubjectPublicKeyInfo, DER, of a P-256 private scalar of 32 bytes. */
export function p256PublicKey(privateKey: Uint8Array): Uint8Array {
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(privateKey);
  return Uint8Array.from([...P256_SPKI_PREFIX, ...ecdh.getPublicKey()]);
}

/** The 64 bytes that the quote of such evidence must carry. */
export function reportDataOfSite(domain: Domain, said: SiteStatement): Uint8Array {
  return siteReportData({
    ...domain,
    networkKey: said.networkKey,
    publicKey: fromHex(said.publicKey),
    nonce: fromHex(said.nonce, 32),
    config: fromHex(said.config, 32),
    epoch: said.epoch,
    blockHash: fromHex(said.blockHash, 32),
    hostImpersonable: said.hostImpersonable,
    rawQuotes: said.rawQuotes,
  });
}

/** The typed data behind it. */
export function siteOf(said: Omit<SiteEvidence, 'signature' | 'collateral' | 'quote'>): Site {
  return {
    publicKeyHash: sha256(fromHex(said.publicKey)),
    nonce: fromHex(said.nonce, 32),
    quoteHash: fromHex(said.quoteHash, 32),
    measurement: fromHex(said.measurement, 32),
    config: fromHex(said.config, 32),
    platform: fromHex(said.platform, 32),
    blockNumber: said.blockNumber,
    blockHash: fromHex(said.blockHash, 32),
    epoch: said.epoch,
    hostImpersonable: said.hostImpersonable,
  };
}
