/**
 * Which TLS keys are, or were, the network's. The chain has the network key of each epoch, and no TLS key: those are known from
 * evidence alone, which whoever wants to look back has to have kept. Of an epoch without any, nothing can be known.
 */
import { verify } from '../../lib/attestation/verify.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { SiteEvidence } from '../../lib/protocol/site-evidence.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { expectedOf, requireClaims, requireNetwork, requireSignature } from './judge.ts';

/** A TLS key of the network. */
export interface SiteKey {
  readonly epoch: number;
  /** SHA-256 of its SubjectPublicKeyInfo, hex. */
  readonly sha256: string;
  /** For people. */
  readonly from: string;
}

export const keyOf = (evidence: SiteEvidence, from: string): SiteKey => ({
  epoch: evidence.epoch,
  sha256: toHex(sha256(fromHex(evidence.publicKey))),
  from,
});

/**
 * The key in evidence that somebody kept: true for its time if the network key that the contract had in its epoch signed it,
 * over a quote with the same words. It needs no nonce, since it is asked for no connection. Whether its platform and measurement
 * were still allowed then is not asked: with or without that, a node that has the secret has this key.
 * @param networkKeys of each epoch, by the contract's word
 * @throws SITE_OTHER_NETWORK, SITE_EPOCH, SITE_SIGNATURE, SITE_CLAIM, QUOTE_HASH_MISMATCH, or the quote verifier's codes
 */
export async function keptKey(
  evidence: SiteEvidence,
  from: string,
  of: {
    network: Domain;
    flavour: Flavour;
    networkKeys: ReadonlyMap<number, Address>;
    reader: Pick<NetworkReader, 'chain'>;
  },
): Promise<SiteKey> {
  requireNetwork(evidence, of.network);
  const networkKey = of.networkKeys.get(evidence.epoch);
  if (networkKey === undefined) {
    throw new DstackError(
      'SITE_EPOCH',
      `${from} is of epoch ${evidence.epoch}, which the contract never had`,
    );
  }
  requireSignature(evidence, of.network, networkKey);
  const block = await of.reader.chain.block(evidence.blockNumber);
  const { evidence: found } = verify(fromHex(evidence.quote), {
    ...expectedOf(evidence, of.network, of.flavour),
    now: new Date(block.timestamp * 1000),
    depth: 'signatures',
    measurement: 'any',
  });
  requireClaims(evidence, found);
  return keyOf(evidence, from);
}
