/** What an operator does with a chain's key and record, beside the daemon: every change goes forward, and is in the store when it returns. */
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import {
  at,
  compare,
  decodeState,
  encodeState,
  NOTHING_SIGNED,
  readRecord,
  type SignState,
} from '../../lib/cometbft/sign-state.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Backup } from './backup.ts';
import { recordKey } from './chain-signer.ts';
import type { ChainConfig } from './config.ts';
import { type SignerSecret, seal, sealedKey, seedFor, unseal } from './keys.ts';
import type { Records, Stored } from './records.ts';

export interface Desk {
  readonly records: Records;
  readonly secret: SignerSecret;
}

type Chain = Pick<ChainConfig, 'id' | 'key'>;

export async function publicKeyOf({ records, secret }: Desk, chain: Chain): Promise<Uint8Array> {
  return ed25519Key(await seedFor(secret, chain, records)).publicKey;
}

/** @throws SIGN_STATE_MISSING, SIGN_STATE, STORE_RESTORED */
export async function showState(desk: Desk, chain: Chain): Promise<SignState> {
  const stored = await desk.records.read(recordKey(chain.id, await publicKeyOf(desk, chain)));
  if (stored === undefined) {
    throw new DstackError(
      'SIGN_STATE_MISSING',
      `the store has no record of what the key of ${chain.id} signed`,
    );
  }
  return decodeState(stored.value);
}

/**
 * Makes the record say that this was signed last; `fresh`: that nothing was, where there is no record yet.
 * @throws STATE_NEWER when the record is further
 */
export async function importState(desk: Desk, chain: Chain, state: SignState | 'fresh'): Promise<void> {
  await advance(desk.records, recordKey(chain.id, await publicKeyOf(desk, chain)), state);
}

/** Seals a key to the network. @throws KEY_OTHER when the chain has another one, STATE_NEWER */
export async function importKey(
  { records, secret }: Desk,
  chain: Chain,
  seed: Uint8Array,
  state: SignState | 'fresh',
): Promise<void> {
  requireImported(chain);
  const { publicKey } = ed25519Key(seed);
  const stored = await records.read(sealedKey(chain.id));
  if (stored !== undefined && !bytesEqual(unseal(secret, chain.id, stored.value), seed)) {
    throw new DstackError('KEY_OTHER', `chain ${chain.id} has another imported key already, which is kept`);
  }
  // The record first: a key without one signs nothing.
  await advance(records, recordKey(chain.id, publicKey), state);
  if (stored !== undefined) return;
  const { written } = await records.swap(sealedKey(chain.id), undefined, seal(secret, chain.id, seed));
  if (!written)
    throw new DstackError('KEY_OTHER', `somebody else imported a key of chain ${chain.id} just now`);
}

/** The key and what it signed last. */
export async function makeBackup(desk: Desk, chain: Chain): Promise<Backup> {
  const seed = await seedFor(desk.secret, chain, desk.records);
  return { chainId: chain.id, seed, state: await showState(desk, chain) };
}

/** @throws BACKUP_CHAIN, KEY_OTHER, STATE_NEWER when the store knows of later signatures than the backup, STORE_RESTORED when it can't know */
export async function recover(desk: Desk, chain: Chain, backup: Backup): Promise<void> {
  if (backup.chainId !== chain.id) {
    throw new DstackError('BACKUP_CHAIN', `the backup is of chain ${backup.chainId}, not of ${chain.id}`);
  }
  // What was signed after this backup is not in it either: a record that is locked is the node's own state to unlock.
  const stored = await desk.records.read(recordKey(chain.id, ed25519Key(backup.seed).publicKey));
  if (stored !== undefined) decodeState(stored.value);
  await importKey(desk, chain, backup.seed, backup.state);
}

function requireImported(chain: Chain): void {
  if (chain.key === 'imported') return;
  throw new DstackError(
    'KEY_NETWORK',
    `chain ${chain.id} uses the network's own key: set key = "imported" for it`,
  );
}

async function advance(records: Records, key: string, to: SignState | 'fresh'): Promise<void> {
  const stored = await records.read(key);
  const next = to === 'fresh' ? NOTHING_SIGNED : to;
  if (stored !== undefined && isThere(stored, to)) return;
  const swapped = await records.swap(key, stored, encodeState(next));
  if (!swapped.written)
    throw new DstackError('STATE_CHANGED', 'the record was changed just now: the key is in use');
}

/** Whether nothing is to be written. @throws STATE_NEWER, STORE_RESTORED */
function isThere(stored: Stored, to: SignState | 'fresh'): boolean {
  // Who says that nothing was ever signed does not know of the record.
  const { state: there, isRestored } = to === 'fresh' ? cleanRecord(stored) : readRecord(stored.value);
  const next = to === 'fresh' ? NOTHING_SIGNED : to;
  const order = compare(next, there);
  if (order > 0) return false;
  // The same once more: an import that was cut short is made good by another one.
  if (order === 0 && bytesEqual(next.signBytes, there.signBytes)) return !isRestored;
  throw new DstackError(
    'STATE_NEWER',
    `the store says that ${at(there)} was signed: it only goes forward, and nothing was changed`,
  );
}

const cleanRecord = ({ value }: Stored) => ({ state: decodeState(value), isRestored: false });
