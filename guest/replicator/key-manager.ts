/** The holder of the network's secret, as the rest of a node sees it: it hands out derived keys, never the secret. */
import type { Address } from '../../lib/protocol/hex.ts';
import type { CompactSignature } from '../../lib/protocol/secp256k1.ts';
import type { Onboard, Site } from '../../lib/protocol/typed-data.ts';

export interface KeyManager {
  /** The newest epoch whose secret is held. */
  readonly epoch: number;
  /** The address of the network key; it must match the contract's before anything else is used. */
  readonly networkKey: Address;
  tlsKey(): Uint8Array;
  /** @param born the epoch in the disk's superblock; absent for a disk that is being created. @throws EPOCH_UNKNOWN */
  diskKey(diskId: Uint8Array, born?: number): Uint8Array;
  /**
   * @param born the epoch in which the app was first rolled out; the contract can't tell it yet
   * @throws BIRTH_EPOCH_UNKNOWN without it, when more than one epoch's secret is held; EPOCH_UNKNOWN
   */
  appKey(app: string, tag: string, born?: number): Uint8Array;
  /** The network key's signature over an app's attestation: v, r, s. */
  signAttestation(app: string, tag: string, data: Uint8Array): Uint8Array;
  /** Seals the secret for one request: the same bytes every time, on every node of the network. */
  sealFor(kemPublicKey: Uint8Array, requestHash: Uint8Array): Promise<Uint8Array>;
  signOnboard(onboard: Onboard): CompactSignature;
  /** The network key's word for a website's TLS key. */
  signSite(site: Site): CompactSignature;
}
