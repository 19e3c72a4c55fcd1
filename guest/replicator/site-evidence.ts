/**
 * What a node that has joined says of the website that it serves: its TLS key, in a quote and under the network key's
 * signature (lib/protocol/site-evidence.ts). Everything in it but the nonce is this process's own knowledge, or acme's about
 * the DNS: whoever asks has no say in which key, network or block it names.
 */
import { type Collateral, collateralOf } from '../../lib/attestation/collateral/collateral.ts';
import { type PlatformKind, platformKindOf } from '../../lib/attestation/quote/platform-kind.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { verify } from '../../lib/attestation/verify.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import type { CollateralMessage } from '../../lib/protocol/collateral.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import {
  NO_NONCE,
  p256PublicKey,
  reportDataOfSite,
  type SiteEvidence,
  siteOf,
} from '../../lib/protocol/site-evidence.ts';
import type { Attestor } from './attestor.ts';
import type { Identity } from './identity.ts';
import type { KeyManager } from './key-manager.ts';
import { requireNetworkKey } from './onboard.ts';

export interface SiteWitness {
  /**
   * Fresh evidence: each call costs a quote. Who asks on behalf of strangers bounds how often (guest/tls/evidence.ts).
   * @param nonce 32 bytes; zeros when left out
   * @throws KEY_SUPERSEDED, CHAIN_*, or the attestor's codes
   */
  evidence(nonce?: Uint8Array): Promise<SiteEvidence>;
  /** Which collateral this node's quotes are judged by, for its relay to bring. */
  platformKind(): Promise<PlatformKind>;
  /** Takes the place of what was brought before. Its form was checked; whoever judges by it checks the rest. */
  takeCollateral(collateral: CollateralMessage): void;
  /** What the node's daemon found in the DNS: it counts for five minutes, and then evidence says again that it is not known. */
  takeCaa(hostImpersonable: boolean): void;
}

/** How long a look at the contract lasts: strangers must not decide how often this node's endpoints are asked. */
const LOOK_FOR_MS = 10_000;
/** How long it counts that no host could have a certificate, unless it is said again. Milliseconds. */
const CAA_FOR_MS = 300_000;

export function siteWitness(
  identity: Identity,
  reader: NetworkReader,
  attestor: Attestor,
  keys: KeyManager,
  monotonic: () => number = () => performance.now(),
): SiteWitness {
  const { rawQuotes } = identity.network;
  const rtmr3 = replay(expectedJoinedLog(identity.image.flavour, identity.config));
  let looked: { head: Head; at: number } | undefined;
  let collateral: Collateral | undefined;
  let kind: PlatformKind | undefined;
  let caaUntil = Number.NEGATIVE_INFINITY;

  /** A block at which the contract has this node's key. */
  async function look(): Promise<Head> {
    if (looked !== undefined && monotonic() - looked.at < LOOK_FOR_MS) return looked.head;
    const head = await reader.chain.head();
    const network = await reader.network(head);
    requireNetworkKey(network, keys);
    if (network.epoch !== keys.epoch) {
      throw new DstackError(
        'KEY_SUPERSEDED',
        `the contract is in epoch ${network.epoch}, this node in ${keys.epoch}`,
      );
    }
    looked = { head, at: monotonic() };
    return head;
  }

  return {
    async evidence(nonce = NO_NONCE) {
      const head = await look();
      const { domain } = identity;
      const said = {
        ...domain,
        networkKey: keys.networkKey,
        epoch: keys.epoch,
        publicKey: toHex(p256PublicKey(keys.tlsKey())),
        nonce: toHex(nonce),
        config: toHex(identity.config),
        blockNumber: head.number,
        blockHash: toHex(fromHex(head.hash, 32)),
        hostImpersonable: monotonic() >= caaUntil,
        ...(rawQuotes === undefined ? {} : { rawQuotes }),
      };
      const reportData = reportDataOfSite(domain, said);
      const quote = await attestor.quote(reportData);
      // The clock refuses while the chain stands still, as for every other attestation.
      const now = new Date(reader.chain.now() * 1000);
      const { evidence: own, quote: parsed } = verify(quote, {
        trustRoot: identity.trustRoot,
        now,
        depth: 'signatures',
        measurement: 'any',
        rtmr3,
        reportData,
      });
      kind ??= platformKindOf(parsed);
      const claims = {
        type: 'site' as const,
        version: 1 as const,
        ...said,
        measurement: toHex(own.measurement),
        platform: toHex(own.platform),
        quoteHash: toHex(own.quoteHash),
      };
      return {
        ...claims,
        quote: toHex(quote),
        signature: keys.signSite(siteOf(claims)),
        ...(collateral === undefined ? {} : { collateral }),
      };
    },
    async platformKind() {
      // Over no statement of ours: it is read here and goes nowhere.
      kind ??= platformKindOf(parseQuote(await attestor.quote(new Uint8Array(64))));
      return kind;
    },
    takeCollateral(brought) {
      collateral = collateralOf(brought);
    },
    takeCaa(hostImpersonable) {
      caaUntil = hostImpersonable ? Number.NEGATIVE_INFINITY : monotonic() + CAA_FOR_MS;
    },
  };
}
