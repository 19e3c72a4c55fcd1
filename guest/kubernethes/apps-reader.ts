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
  /** Manifests that were rolled out and are not in force yet. */
  readonly pending: Desired;
  /** Since when the manifest in force is, Unix seconds; of an app with a pending one the contract no longer says it. */
  readonly since: ReadonlyMap<string, number>;
  /** The time of the block at which all this was read, Unix seconds. */
  readonly at: number;
  /** Whether a second node was ever given the secret. Once true it stays true. */
  readonly onboarded: boolean;
}

/** @throws what the chain reader throws, CONTRACT_DATA_INVALID */
export async function readState(reader: NetworkReader): Promise<NetworkState> {
  const head = await reader.chain.head();
  const [apps, { onboarded }] = await Promise.all([reader.apps(head), reader.network(head)]);
  return {
    apps: desiredOf(apps),
    pending: pendingOf(apps),
    since: sinceOf(apps, head.timestamp),
    at: head.timestamp,
    onboarded,
  };
}

/** @param minimumNodes of network.json @throws NETWORK_TOO_SMALL until the network has them */
export function wanted(
  { apps, onboarded }: Pick<NetworkState, 'apps' | 'onboarded'>,
  minimumNodes = 2,
): Desired {
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

/** As above, of the manifests that come next. */
function pendingOf(apps: readonly AppView[]): Desired {
  return desiredOf(
    apps
      .filter(({ latest, manifestHash }) => latest !== manifestHash)
      .map((view) => ({ ...view, manifestHash: view.latest })),
  );
}

function sinceOf(apps: readonly AppView[], at: number): Map<string, number> {
  return new Map(
    apps
      .filter(({ latest, manifestHash }) => latest === manifestHash)
      .flatMap(({ app, from }) => {
        const name = nameOf(fromHex(app, 32));
        return name === undefined ? [] : [[name, Math.min(Number(from), at)] as const];
      }),
  );
}

function nameOf(id: Uint8Array): string | undefined {
  try {
    return appName(id);
  } catch {
    return undefined;
  }
}
