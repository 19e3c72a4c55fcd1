/**
 * What evidence of a website is held against, in the order in which it is refused: the connection that it came by and the
 * nonce that it was asked with; the contract, read at one block; Intel's rules and the contract's policy for the quote; and
 * the quote's own words.
 */
import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { type Collateral, collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import type { TcbStatus } from '../../lib/attestation/tcb/tcb-status.ts';
import type { Step } from '../../lib/attestation/trace.ts';
import { type Evidence, verifyAsking } from '../../lib/attestation/verify.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { contractAsRelyingParty } from '../../lib/chain/network-policy.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { bytesEqual, fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError, hasCode } from '../../lib/protocol/errors.ts';
import { type Address, sameAddress, sameHex } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import { reportDataOfSite, type SiteEvidence, siteOf } from '../../lib/protocol/site-evidence.ts';
import { type Domain, siteDigest } from '../../lib/protocol/typed-data.ts';
import { ownClock } from '../own-clock.ts';

export interface SiteQuestion {
  readonly evidence: SiteEvidence;
  readonly network: Domain;
  readonly reader: NetworkReader;
  /** Whose trust root to judge by; the asker says it, the evidence does not. */
  readonly flavour: Flavour;
  /** Of the connection; SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  readonly nonce: Uint8Array;
  /** Goes before what the evidence brings. */
  readonly collateral: Collateral | undefined;
}

/** The node may have looked at its chain so long ago (chain-clock.ts), and the clocks differ. Seconds. */
const OLDEST_BLOCK = 3_600 + 1_200;
/** Endpoints of ours that have not got the node's newest block yet are asked again for so long. Milliseconds. */
const BLOCK_WAIT_MS = 20_000;

/**
 * Returns only when every check passed, with the status of the platform's TCB.
 * @param onStep told of each step that passed
 * @throws DstackError SITE_OTHER_NETWORK, SITE_REPLAYED, SITE_TLS_ENDED, SITE_EPOCH, SITE_NETWORK_KEY, SITE_SIGNATURE,
 *   SITE_CLAIM, SITE_BLOCK, QUOTE_HASH_MISMATCH, MEASUREMENT_NOT_ALLOWED, CONFIG_NOT_ALLOWED, PLATFORM_NOT_ALLOWED,
 *   CLOCK_DISAGREES, CHAIN_*, or the quote verifier's codes
 */
export async function judgeSite(
  question: SiteQuestion,
  onStep: (step: Step) => void = () => {},
): Promise<TcbStatus | null> {
  const passed = (name: string, detail: string) => onStep({ name, outcome: 'passed', detail });
  const { evidence, network, reader } = question;
  requireNetwork(evidence, network);
  requireNonce(evidence, question.nonce);
  requireConnection(evidence, question.publicKey);
  passed('connection', `made with key SHA-256 ${toHex(sha256(question.publicKey))}, for this nonce`);

  const head = await reader.chain.head();
  await requireCurrentKey(evidence, reader, head);
  requireSignature(evidence, network, evidence.networkKey);
  passed('signature', `by network key ${evidence.networkKey}, the contract's in epoch ${evidence.epoch}`);

  const now = new Date(ownClock(head.timestamp) * 1000);
  const expected = {
    ...expectedOf(evidence, network, question.flavour),
    now,
    collateral: collateralFor(question),
  };
  const relyingParty = contractAsRelyingParty(reader, fromHex(evidence.config, 32), head);
  const { evidence: found, tcb } = await verifyAsking(
    fromHex(evidence.quote),
    expected,
    relyingParty,
    onStep,
  );
  requireClaims(evidence, found);
  await requireRecentBlock(evidence, reader, now);
  passed('block', `${evidence.blockNumber}: the evidence is no older`);
  return tcb?.status ?? null;
}

/** @throws SITE_OTHER_NETWORK */
export function requireNetwork(evidence: SiteEvidence, network: Domain): void {
  const same = evidence.chainId === network.chainId && sameAddress(evidence.contract, network.contract);
  if (same) return;
  throw new DstackError(
    'SITE_OTHER_NETWORK',
    `the evidence is of ${evidence.contract} on chain ${evidence.chainId}, not of ${network.contract} on ${network.chainId}`,
  );
}

function requireNonce(evidence: SiteEvidence, nonce: Uint8Array): void {
  if (bytesEqual(fromHex(evidence.nonce, 32), nonce)) return;
  throw new DstackError(
    'SITE_REPLAYED',
    `the evidence is for nonce ${evidence.nonce}, not for this visit's: it was made before`,
  );
}

function requireConnection(evidence: SiteEvidence, publicKey: Uint8Array): void {
  if (bytesEqual(fromHex(evidence.publicKey), publicKey)) return;
  throw new DstackError(
    'SITE_TLS_ENDED',
    `the connection was made with key ${toHex(sha256(publicKey))}, the evidence is of key ${toHex(sha256(fromHex(evidence.publicKey)))}: somebody between you and the node ends your TLS, and can read it`,
  );
}

async function requireCurrentKey(evidence: SiteEvidence, reader: NetworkReader, head: Head): Promise<void> {
  const shown = await reader.network(head);
  if (evidence.epoch !== shown.epoch) {
    throw new DstackError(
      'SITE_EPOCH',
      `the evidence is of epoch ${evidence.epoch}, the contract is in epoch ${shown.epoch}`,
    );
  }
  if (sameAddress(evidence.networkKey, shown.networkKey)) return;
  throw new DstackError(
    'SITE_NETWORK_KEY',
    `the evidence names network key ${evidence.networkKey}, the contract has ${shown.networkKey}`,
  );
}

/** @param networkKey by the contract's word @throws SITE_SIGNATURE */
export function requireSignature(evidence: SiteEvidence, network: Domain, networkKey: Address): void {
  const { r, vs } = evidence.signature;
  const signer = signerOf(siteDigest(network, siteOf(evidence)), fromHex(r, 32), fromHex(vs, 32));
  if (signer !== undefined && sameAddress(signer, networkKey)) return;
  throw new DstackError(
    'SITE_SIGNATURE',
    `the network key ${networkKey} did not sign this evidence: it is forged, by an app of the network perhaps`,
  );
}

function signerOf(digest: Uint8Array, r: Uint8Array, vs: Uint8Array): Address | undefined {
  try {
    return recover(digest, r, vs);
  } catch (error) {
    if (hasCode(error, 'SIGNATURE_INVALID')) return undefined;
    throw error;
  }
}

function collateralFor({ collateral, evidence }: SiteQuestion): Collateral | undefined {
  if (collateral !== undefined) return collateral;
  return evidence.collateral === undefined ? undefined : collateralOf(evidence.collateral);
}

/**
 * What the quote must be: the very one that was signed, under the flavour's root, of a node that has joined (apps run there, and
 * can't get these words), and made for these words.
 */
export function expectedOf(evidence: SiteEvidence, network: Domain, flavour: Flavour) {
  return {
    trustRoot: trustRootOf(flavour),
    quoteHash: fromHex(evidence.quoteHash, 32),
    rtmr3: replay(expectedJoinedLog(flavour, fromHex(evidence.config, 32))),
    reportData: reportDataOfSite(network, evidence),
  };
}

/** What was signed, of what the quote shows. @throws SITE_CLAIM */
export function requireClaims(evidence: SiteEvidence, found: Evidence): void {
  for (const name of ['measurement', 'platform'] as const) {
    const shown = toHex(found[name]);
    if (sameHex(shown, evidence[name])) continue;
    throw new DstackError(
      'SITE_CLAIM',
      `the network key signed ${name} ${evidence[name]}, the quote has ${shown}`,
    );
  }
}

async function requireRecentBlock(evidence: SiteEvidence, reader: NetworkReader, now: Date): Promise<void> {
  const block = await blockOf(evidence.blockNumber, reader);
  if (!sameHex(block.hash, evidence.blockHash)) {
    throw new DstackError(
      'SITE_BLOCK',
      `block ${evidence.blockNumber} is ${block.hash}, the evidence names ${evidence.blockHash}`,
    );
  }
  const age = Math.floor(now.getTime() / 1000) - block.timestamp;
  if (age <= OLDEST_BLOCK) return;
  throw new DstackError(
    'SITE_BLOCK',
    `the newest block that the node knows is ${age} s old: it can't know what was revoked since`,
  );
}

/** The node's newest block may be new to our endpoints. */
async function blockOf(number: number, reader: NetworkReader): Promise<Head> {
  const deadline = performance.now() + BLOCK_WAIT_MS;
  for (;;) {
    const head = await reader.chain.head();
    if (head.number >= number || performance.now() >= deadline) return reader.chain.block(number);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}
