/**
 * Which manifest each app should run now, by the contract: `apps()` at the newest block that the chain reader accepts.
 *
 * Replies are decoded here, by hand: they are plain words, and a general ABI decoder takes longer to load than everything
 * else of this daemon.
 */
import type { ChainClient } from '../../lib/framework/chain-client.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import { keccak256 } from '../../lib/protocol/secp256k1.ts';

/** App name to manifest hash (64 hex digits), in the contract's order; apps without a manifest in force are left out. */
export type Desired = ReadonlyMap<string, string>;

/** What the contract says of apps, all of one block. */
export interface NetworkState {
  readonly apps: Desired;
  /** Whether a second node was ever given the secret. Never false again once it is true. */
  readonly onboarded: boolean;
}

const APPS = selector('apps()');
const NETWORK = selector('network()');
const WORD = 32;
const MAX_APPS = 250;

/** @throws what the chain reader throws, CONTRACT_REPLY */
export async function readState(chain: ChainClient, contract: string): Promise<NetworkState> {
  const head = await chain.head();
  const [apps, network] = await Promise.all([
    chain.call(contract, APPS, head),
    chain.call(contract, NETWORK, head),
  ]);
  return { apps: decodeApps(apps), onboarded: decodeOnboarded(network) };
}

/** @param minimumNodes of network.json @throws NETWORK_TOO_SMALL until the network has them */
export function wanted({ apps, onboarded }: NetworkState, minimumNodes = 2): Desired {
  if (minimumNodes > 1 && !onboarded) {
    throw new DstackError(
      'NETWORK_TOO_SMALL',
      'no second node has joined, and network.json asks for two: apps wait, since what a single node has is lost with it',
    );
  }
  return apps;
}

/** The third word of NetworkView, a static struct. @throws CONTRACT_REPLY */
export function decodeOnboarded(reply: string): boolean {
  const bytes = fromHex(reply);
  const isStruct = bytes.length % WORD === 0 && bytes.length >= 6 * WORD;
  const value = isStruct ? number(bytes.subarray(2 * WORD, 3 * WORD)) : undefined;
  if (value !== 0 && value !== 1) {
    throw new DstackError(
      'CONTRACT_REPLY',
      'network() of the contract returned something else than a network',
    );
  }
  return value === 1;
}

/** Decodes `(bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[]`. @throws CONTRACT_REPLY */
export function decodeApps(reply: string): Desired {
  const bytes = fromHex(reply);
  const words = Array.from({ length: bytes.length / WORD }, (_, i) =>
    bytes.subarray(i * WORD, (i + 1) * WORD),
  );
  const count = number(words[1]);
  if (
    bytes.length % WORD !== 0 ||
    number(words[0]) !== WORD ||
    count > MAX_APPS ||
    words.length !== 2 + 4 * count
  ) {
    throw new DstackError(
      'CONTRACT_REPLY',
      'apps() of the contract returned something else than a list of apps',
    );
  }
  const desired = new Map<string, string>();
  for (let i = 2; i < words.length; i += 4) {
    const hash = toHex(words[i + 1]!);
    const name = nameOf(words[i]!);
    if (name !== undefined && hash !== '0'.repeat(64)) desired.set(name, hash);
  }
  return desired;
}

/** An app whose name is not one of ours must not stop the others. */
function nameOf(id: Uint8Array): string | undefined {
  try {
    return appName(id);
  } catch {
    return undefined;
  }
}

function selector(signature: string): string {
  return `0x${toHex(keccak256(utf8(signature)).subarray(0, 4))}`;
}

function number(word: Uint8Array | undefined): number {
  const value = BigInt(`0x${toHex(word ?? Uint8Array.of(0xff, 0xff, 0xff, 0xff))}`);
  return value > 0xffffffffn ? 0xffffffff : Number(value);
}
