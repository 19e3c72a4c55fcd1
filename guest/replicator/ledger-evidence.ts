/**
 * What a node that has joined says of the key that signs its store's ledger: the network key's signature, and a quote over the same
 * (lib/protocol/ledger-evidence.ts). Which key that is follows from the disk; whoever asks has no say in it.
 */
import { ed25519 } from '@noble/curves/ed25519.js';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { type LedgerEvidence, reportDataOfLedger } from '../../lib/protocol/ledger-evidence.ts';
import type { Attestor } from './attestor.ts';
import type { Identity } from './identity.ts';
import type { KeyManager } from './key-manager.ts';

/** For the log on one disk. @param born the epoch in which it was begun. @throws EPOCH_UNKNOWN, CHAIN_*, or the attestor's codes */
export type LedgerWitness = (log: Uint8Array, born?: number) => Promise<LedgerEvidence>;

export function ledgerWitness(
  identity: Identity,
  reader: NetworkReader,
  attestor: Attestor,
  keys: KeyManager,
): LedgerWitness {
  return async (log, born) => {
    const { seed } = keys.ledgerKeys(log, born);
    const head = await reader.chain.head();
    const blockHash = fromHex(head.hash, 32);
    const said = {
      ...identity.domain,
      networkKey: keys.networkKey,
      epoch: keys.epoch,
      log: toHex(log),
      publicKey: toHex(ed25519.getPublicKey(seed)),
    };
    const quote = await attestor.quote(reportDataOfLedger(said, identity.config, blockHash));
    const quoted = { config: toHex(identity.config), blockHash: toHex(blockHash), quote: toHex(quote) };
    return keys.signLedger({ ...said, quoted });
  };
}
