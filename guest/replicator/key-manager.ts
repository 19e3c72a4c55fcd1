/** The holder of the network's secret, as the rest of a node sees it: it hands out derived keys, never the secret. */
import type { SigningAlgorithm } from '../../lib/protocol/app-keys.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import type { AppKeyType } from '../../lib/protocol/keys.ts';
import type { LedgerEvidence, LedgerStatement } from '../../lib/protocol/ledger-evidence.ts';
import type { CompactSignature } from '../../lib/protocol/secp256k1.ts';
import type { Onboard, Site } from '../../lib/protocol/typed-data.ts';

export interface KeyManager {
  /** The newest epoch whose secret is held. */
  readonly epoch: number;
  /** The address of the network key; it must match the contract's before anything else is used. */
  readonly networkKey: Address;
  tlsKey(): Uint8Array;
  /** Of the network's account with the authority that certifies the website. */
  acmeAccountKey(): Uint8Array;
  /** @param born the epoch in the disk's superblock; absent for a disk that is being created. @throws EPOCH_UNKNOWN */
  diskKey(diskId: Uint8Array, born?: number): Uint8Array;
  /** The keys of the store's log on one disk. @param born the epoch in which it was begun; absent for a new one. @throws EPOCH_UNKNOWN */
  ledgerKeys(log: Uint8Array, born?: number): { seed: Uint8Array; saltKey: Uint8Array };
  /** The keys of a validator's signer for one chain. @param born the epoch in which they were first used; absent for new ones. @throws EPOCH_UNKNOWN */
  signerKeys(chain: string, born?: number): { seed: Uint8Array; identity: Uint8Array };
  /** The network key's word for the key of such a log. */
  signLedger(said: LedgerStatement): LedgerEvidence;
  /**
   * @param born the epoch in which the app was first rolled out; the contract can't tell it yet
   * @throws BIRTH_EPOCH_UNKNOWN without it, when more than one epoch's secret is held; EPOCH_UNKNOWN
   */
  appKey(app: string, tag: string, type?: AppKeyType, born?: number): Uint8Array;
  /** A signature by the key of an app's tag. @throws SIGN_DIGEST, and as `appKey` */
  signAs(
    app: string,
    tag: string,
    algorithm: SigningAlgorithm,
    data: Uint8Array,
    born?: number,
  ): { signature: Uint8Array; publicKey: Uint8Array };
  /**
   * The links from a key of the app's to the network key. The caller has made sure that the key is the app's.
   * @throws as `appKey`
   */
  keyChain(app: string, purpose: string, publicKey: Uint8Array, born?: number): readonly Uint8Array[];
  /** A P-256 signature, DER, by the app's authority, over a certificate. The caller has made sure of what it says. @throws as `appKey` */
  signCertificate(app: string, body: Uint8Array, born?: number): Uint8Array;
  /** SubjectPublicKeyInfo of the app's authority. @throws as `appKey` */
  authorityOf(app: string, born?: number): Uint8Array;
  /** The network key's signature over an app's attestation: v, r, s. */
  signAttestation(app: string, tag: string, data: Uint8Array): Uint8Array;
  /**
   * The key that an app's secrets are sealed to, and the network key's word for it.
   * @param born as for `appKey`
   */
  sealingKey(app: string, born?: number): Promise<{ publicKey: Uint8Array; signature: CompactSignature }>;
  /**
   * What an owner sealed to an app under this name.
   * @param born as for `appKey`
   * @throws SECRET_MALFORMED, SECRET_WRONG_…, SECRET_UNOPENABLE
   */
  openSecret(app: string, name: string, envelope: Uint8Array, born?: number): Promise<Uint8Array>;
  /** Seals the secret for one request: the same bytes every time, on every node of the network. */
  sealFor(kemPublicKey: Uint8Array, requestHash: Uint8Array): Promise<Uint8Array>;
  signOnboard(onboard: Onboard): CompactSignature;
  /** The network key's word for a website's TLS key. */
  signSite(site: Site): CompactSignature;
}
