/** Which manifest each app should run now, according to the contract at the newest block that the chain reader accepts. */
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { bareHex, type Hex } from '../../lib/protocol/hex.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import type { AppView } from '../../lib/protocol/network-contract.ts';

/** App name to manifest hash (64 hex digits), in the contract's order; apps without a manifest in force are left out. */
export type Desired = ReadonlyMap<string, Hex>;

/** What the contract says about apps, all at one block. */
export interface NetworkState {
  readonly apps: Desired;
  /** Whether a second node was ever given the secret. Once true it stays true. */
  readonly onboarded: boolean;
}

/** @throws what the chain reader throws, CONTRACT_DATA_INVALID */
export async function readState(reader: NetworkReader): Promise<NetworkState> {
  const head = await reader.chain.head();
  const [apps, { onboarded }] = await Promise.all([reader.apps(head), reader.network(head)]);
  return { apps: desiredOf(apps), onboarded };
}

/** @param minimumNodes of network.json @throws NETWORK_TOO_SMALL until the network has them */
export function wanted({ apps, onboarded }: NetworkState, minimumNodes = 2): Desired {
  if (minimumNodes > 1 && !onboarded) {
    throw new DstackError(
      'NETWORK_TOO_SMALL',
      'no second node has joined, and network.json asks for two: apps wait, because the data of a single node is lost with it',
    );
  }
  return apps;
}

/** Leaves out withdrawn apps, and any app with a malformed name: it must not stop the others. */
export function desiredOf(apps: readonly AppView[]): Desired {
  const desired = new Map<string, Hex>();
  for (const { app, manifestHash } of apps) {
    const hash = bareHex(manifestHash);
    const name = nameOf(fromHex(app, 32));
    if (name !== undefined && hash !== '0'.repeat(64)) desired.set(name, hash);
  }
  return desired;
}

function nameOf(id: Uint8Array): string | undefined {
  try {
    return appName(id);
  } catch {
    return undefined;
  }
}
