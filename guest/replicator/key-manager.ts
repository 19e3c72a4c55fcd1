/** The holder of the network secret, as the rest of a node sees it: it gives out derived keys, never the secret. */
import type { Address } from '../../lib/protocol/hex.ts';
import type { CompactSignature } from '../../lib/protocol/secp256k1.ts';
import type { Onboard } from '../../lib/protocol/typed-data.ts';

export interface KeyManager {
  readonly epoch: number;
  /** The address of the network key; must be the contract's before anything else is used. */
  readonly networkKey: Address;
  tlsKey(): Uint8Array;
  diskKey(diskId: Uint8Array, epoch?: number): Uint8Array;
  appKey(app: string, tag: string): Uint8Array;
  /** r, s, v over an app's attestation, by the network key. */
  signAttestation(app: string, tag: string, data: Uint8Array): Uint8Array;
  /** Seals the secret for one request: the same bytes each time, and on each node of the network. */
  sealFor(kemPublicKey: Uint8Array, requestHash: Uint8Array): Promise<Uint8Array>;
  signOnboard(onboard: Onboard): CompactSignature;
}
