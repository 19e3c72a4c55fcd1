/**
 * The keys of a signer in a VM, which has no secret of its own: those that are derived come from the replicator, of the epoch in which a
 * chain's key was first used; imported ones are secrets of the app, which kubernethes has opened. And the record that each begins with.
 */
import { Type } from 'typebox';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { seedOf } from '../../lib/cometbft/key-files.ts';
import {
  compare,
  decodeState,
  encodeState,
  NOTHING_SIGNED,
  type SignState,
  STEP,
} from '../../lib/cometbft/sign-state.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { Count, parseJson, Strict } from '../../lib/protocol/schema.ts';
import type { SignerKeysReply, SignerOrder } from '../../lib/protocol/sockets.ts';
import { recordKey } from './chain-signer.ts';
import type { KeySource } from './keys.ts';
import type { Records } from './records.ts';
import type { Siblings } from './siblings.ts';

/** The epoch in which the use of a chain's keys was born. */
const BornSchema = Strict({ version: Type.Literal(1), epoch: Count });
/** The last round that there is. */
const LAST_ROUND = 2 ** 31 - 1;

const bornKey = (chain: string): string => `born/${chain}`;

/** The sources throw SIGNER_SECRET, SECRET_…, KEY_FILE, KEY_TYPE, SIGNER_BORN, EPOCH_UNKNOWN, and the store's errors. */
export function keysInVm(
  { manifest, signer }: SignerOrder,
  siblings: Pick<Siblings, 'keys' | 'secret'>,
  records: Records,
): KeySource {
  return async ({ id }) => {
    const { key } = signer.chains.find((chain) => chain.id === id)!;
    const derived = await keysSinceBirth(id, siblings, records);
    const seed =
      key === 'derived'
        ? fromHex(derived.seed, 32)
        : importedSeed(await siblings.secret(manifest, key.secret), key.secret);
    return { key: ed25519Key(seed), identity: ed25519Key(fromHex(derived.identity, 32)) };
  };
}

function importedSeed(value: Uint8Array, name: string): Uint8Array {
  try {
    return seedOf(Buffer.from(value).toString('utf8'));
  } catch (error) {
    // Without the cause, which may quote the key: the host reads the console.
    throw new DstackError(
      codeOf(error),
      `the secret ${name} is no priv_validator_key.json with an Ed25519 key, and no key of tmkms' softsign`,
    );
  }
}

/** The first to ask writes down the epoch, before anything is signed; a rotation changes no validator. */
async function keysSinceBirth(
  chain: string,
  siblings: Pick<Siblings, 'keys'>,
  records: Records,
): Promise<SignerKeysReply> {
  const stored = await records.read(bornKey(chain));
  if (stored !== undefined) return siblings.keys(chain, epochIn(stored.value));
  const newest = await siblings.keys(chain);
  const value = JSON.stringify({ version: 1, epoch: newest.epoch });
  const swapped = await records.swap(bornKey(chain), undefined, value);
  if (swapped.written) return newest;
  // Somebody else was first.
  return siblings.keys(chain, epochIn(swapped.current?.value ?? ''));
}

const epochIn = (text: string): number =>
  parseJson(BornSchema, text, 'SIGNER_BORN', "the record of when a chain's key was first used", 1024).epoch;

/**
 * Makes the record of a key say that nothing at the manifest's height, or before it, is to be signed; one that is further stays. So the
 * record of a key that was never used begins here: a new disk has another id, and the manifest that names it another height.
 * @throws SIGN_STATE, STATE_CHANGED, and the store's errors
 */
export async function raiseRecord(
  records: Records,
  chain: SignerOrder['signer']['chains'][number],
  publicKey: Uint8Array,
): Promise<void> {
  const key = recordKey(chain.id, publicKey);
  const floor = floorOf(chain.afterHeight);
  const stored = await records.read(key);
  if (stored !== undefined && compare(floor, decodeState(stored.value)) <= 0) return;
  const { written } = await records.swap(key, stored, encodeState(floor));
  if (written) return;
  throw new DstackError('STATE_CHANGED', `the record of chain ${chain.id} was changed just now`);
}

function floorOf(afterHeight: number): SignState {
  if (afterHeight === 0) return NOTHING_SIGNED;
  return { ...NOTHING_SIGNED, height: BigInt(afterHeight), round: LAST_ROUND, step: STEP.precommit };
}
