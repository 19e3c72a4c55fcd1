/** The network's contract, read through the one chain reader: typed state at a block that a quorum agreed on. */

import type { Policy } from '../attestation/policy.ts';
import { appList } from '../protocol/app-list.ts';
import { to0x } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import {
  type AppView,
  decodeFmspcDenied,
  decodeIsAllowed,
  decodeNetwork,
  decodeRequest,
  decodeRequestsByHash,
  decodeTcbPolicy,
  encodeFmspcDenied,
  encodeIsAllowed,
  encodeNetwork,
  encodeRequest,
  encodeRequestsByHash,
  encodeTcbPolicy,
  type IsAllowedResult,
  type NetworkView,
  type RequestView,
  type TcbPolicyResult,
} from '../protocol/network-contract.ts';
import { LONGEST_GRACE_SECONDS, statusesOf } from '../protocol/tcb-policy.ts';
import type { ChainClient, Head } from './chain-client.ts';

export interface NetworkReader {
  readonly chain: ChainClient;
  network(at?: Head): Promise<NetworkView>;
  request(requestHash: Uint8Array, at?: Head): Promise<RequestView>;
  /** Of many requests, in their order, in as few calls as it takes. */
  requests(requestHashes: readonly Uint8Array[], at?: Head): Promise<readonly RequestView[]>;
  isAllowed(
    of: { measurement: Uint8Array; config: Uint8Array; platform: Uint8Array },
    at?: Head,
  ): Promise<IsAllowedResult>;
  /** Those that have a manifest, in force or pending, in the order of their first rollouts. */
  apps(at?: Head): Promise<readonly AppView[]>;
  /**
   * The TCB policy in force at that block, as fields to spread into a verifier's policy. Denied FMSPCs are not among them:
   * `fmspcDenied` answers for the FMSPC of one quote. Ask both at the same block.
   *
   * @throws DstackError `TCB_POLICY_INVALID` for values that no contract of ours can hold
   */
  tcbPolicy(at?: Head): Promise<NetworkTcbPolicy>;
  /** @param fmspc the 6 bytes of a PCK certificate */
  fmspcDenied(fmspc: Uint8Array, at?: Head): Promise<boolean>;
}

/** Requests in one call: their views are half of what a reader takes of one answer. */
const MOST_REQUESTS = 1000;

/** What the contract says about a platform's TCB, in the verifier's own terms. */
export type NetworkTcbPolicy = Pick<
  Policy,
  'statuses' | 'gracePeriodDays' | 'minimumTcbEvaluationDataNumber'
>;

/** Reads without `at` are made at the newest confirmed block. All throw what the chain client throws. */
export function networkReader(chain: ChainClient, contract: string): NetworkReader {
  const call = async (data: string, at: Head | undefined) =>
    chain.call(contract, data, at ?? (await chain.head()));
  return {
    chain,
    network: async (at) => decodeNetwork(await call(encodeNetwork(), at)),
    request: async (hash, at) => decodeRequest(await call(encodeRequest({ requestHash: to0x(hash) }), at)),
    async requests(hashes, at) {
      const head = at ?? (await chain.head());
      const views: RequestView[] = [];
      for (let from = 0; from < hashes.length; from += MOST_REQUESTS) {
        const requestHashes = hashes.slice(from, from + MOST_REQUESTS).map(to0x);
        const found = decodeRequestsByHash(
          await chain.call(contract, encodeRequestsByHash({ requestHashes }), head),
        );
        if (found.length !== requestHashes.length)
          throw new DstackError(
            'CONTRACT_DATA_INVALID',
            'the contract shows another number of requests than was asked for',
          );
        views.push(...found);
      }
      return views;
    },
    isAllowed: async ({ measurement, config, platform }, at) =>
      decodeIsAllowed(
        await call(
          encodeIsAllowed({ measurement: to0x(measurement), config: to0x(config), platform: to0x(platform) }),
          at,
        ),
      ),
    apps: async (at) => {
      const head = at ?? (await chain.head());
      return appList((data) => chain.call(contract, data, head));
    },
    tcbPolicy: async (at) => networkTcbPolicy(decodeTcbPolicy(await call(encodeTcbPolicy(), at))),
    fmspcDenied: async (fmspc, at) =>
      decodeFmspcDenied(await call(encodeFmspcDenied({ fmspc: to0x(fmspc) }), at)),
  };
}

function networkTcbPolicy(shown: TcbPolicyResult): NetworkTcbPolicy {
  const { statuses, gracePeriod, minimumTcbEvaluationDataNumber } = shown;
  if (gracePeriod > LONGEST_GRACE_SECONDS) {
    throw new DstackError(
      'TCB_POLICY_INVALID',
      `the contract shows a grace period of ${gracePeriod} s, more than a network's contract accepts (${LONGEST_GRACE_SECONDS} s): is this the address of a network?`,
    );
  }
  return {
    statuses: [...statusesOf(statuses)],
    minimumTcbEvaluationDataNumber,
    // Left out when there is none: a grace period of zero days would still accept a level dated today or later.
    ...(gracePeriod === 0 ? {} : { gracePeriodDays: gracePeriod / 86_400 }),
  };
}
