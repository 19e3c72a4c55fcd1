/**
 * Which manifest each app should run now, by the contract: `apps()` at the newest block that the chain reader accepts.
 *
 * The reply is decoded here, by hand: it is an array of four words each, and a general ABI decoder takes longer to load
 * than everything else of this daemon.
 */
import type { ChainClient } from '../../lib/framework/chain-client.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { appName } from '../../lib/protocol/manifest.ts';
import { keccak256 } from '../../lib/protocol/secp256k1.ts';

/** App name to manifest hash (64 hex digits), in the contract's order; apps without a manifest in force are left out. */
export type Desired = ReadonlyMap<string, string>;

const CALL = `0x${toHex(keccak256(utf8('apps()')).subarray(0, 4))}`;
const WORD = 32;
const MAX_APPS = 250;

/** @throws what the chain reader throws, CONTRACT_REPLY */
export async function readApps(chain: ChainClient, contract: string): Promise<Desired> {
  return decodeApps(await chain.call(contract, CALL, await chain.head()));
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

function number(word: Uint8Array | undefined): number {
  const value = BigInt(`0x${toHex(word ?? Uint8Array.of(0xff, 0xff, 0xff, 0xff))}`);
  return value > 0xffffffffn ? 0xffffffff : Number(value);
}
