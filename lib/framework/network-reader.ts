/** The network's contract, read through the one chain reader: typed state at a block that a quorum agreed on. */

import { to0x } from '../protocol/encoding.ts';
import {
  type AppView,
  decodeApps,
  decodeIsAllowed,
  decodeNetwork,
  decodeRequest,
  encodeApps,
  encodeIsAllowed,
  encodeNetwork,
  encodeRequest,
  type IsAllowedResult,
  type NetworkView,
  type RequestView,
} from '../protocol/network-contract.ts';
import type { ChainClient, Head } from './chain-client.ts';

export interface NetworkReader {
  readonly chain: ChainClient;
  network(at?: Head): Promise<NetworkView>;
  request(requestHash: Uint8Array, at?: Head): Promise<RequestView>;
  isAllowed(
    of: { measurement: Uint8Array; config: Uint8Array; platform: Uint8Array },
    at?: Head,
  ): Promise<IsAllowedResult>;
  apps(at?: Head): Promise<readonly AppView[]>;
}

/** Reads without `at` are made at the newest confirmed block. All refuse as the chain client does. */
export function networkReader(chain: ChainClient, contract: string): NetworkReader {
  const call = async (data: string, at: Head | undefined) =>
    chain.call(contract, data, at ?? (await chain.head()));
  return {
    chain,
    network: async (at) => decodeNetwork(await call(encodeNetwork(), at)),
    request: async (hash, at) => decodeRequest(await call(encodeRequest({ requestHash: to0x(hash) }), at)),
    isAllowed: async ({ measurement, config, platform }, at) =>
      decodeIsAllowed(
        await call(
          encodeIsAllowed({ measurement: to0x(measurement), config: to0x(config), platform: to0x(platform) }),
          at,
        ),
      ),
    apps: async (at) => decodeApps(await call(encodeApps(), at)),
  };
}
