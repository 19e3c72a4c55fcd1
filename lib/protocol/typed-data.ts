/**
 * EIP-712 typed data of the network: one type for each purpose, all under one domain that names chain and contract.
 *
 * The struct hashes are spelled out rather than generated: an auditor can hold each line against contracts/Network.sol.
 */
import { fromHex, toHex, utf8 } from './encoding.ts';
import type { Address } from './hex.ts';
import { keccak256 } from './secp256k1.ts';

/** Which network a signature is for: the EIP-712 domain. */
export interface Domain {
  chainId: number;
  /** The network's contract. */
  contract: Address;
}

/** What a new node asks for; its struct hash is the `requestHash` on chain. All hashes are 32 bytes. */
export interface Request {
  node: string;
  kemKeyHash: Uint8Array;
  quoteHash: Uint8Array;
  blockNumber: number;
  blockHash: Uint8Array;
  config: Uint8Array;
  epoch: number;
}

/** What an onboarder signs with the network key. */
export interface Onboard {
  node: string;
  requestHash: Uint8Array;
  measurement: Uint8Array;
  config: Uint8Array;
  platform: Uint8Array;
  answerHash: Uint8Array;
}

/** What a first node signs with the network key that it just made. */
export interface Bootstrap {
  networkKey: string;
  measurement: Uint8Array;
  config: Uint8Array;
  platform: Uint8Array;
  quoteHash: Uint8Array;
  blockNumber: number;
  blockHash: Uint8Array;
  epoch: number;
}

/** What an app has signed for itself; `app` is its 32-byte id. */
export interface Attestation {
  app: Uint8Array;
  tag: string;
  data: Uint8Array;
}

/**
 * What a node signs with the network key for whoever visits the website: this is the TLS key, of this epoch, shown by this
 * quote, for this nonce. It is the network's word that the quote is of one of its nodes: a quote alone could come from an app.
 */
export interface Site {
  /** SHA-256 of the TLS key's SubjectPublicKeyInfo. */
  publicKeyHash: Uint8Array;
  /** The asker's; zero where nobody asked. */
  nonce: Uint8Array;
  quoteHash: Uint8Array;
  measurement: Uint8Array;
  config: Uint8Array;
  platform: Uint8Array;
  blockNumber: number;
  blockHash: Uint8Array;
  epoch: number;
  /** Whether the node's host could have a certificate for one of the website's names (site-evidence.ts). */
  hostImpersonable: boolean;
}

/** What the network key signs for whoever seals secrets to an app (app-secrets.ts). */
export interface SealingKey {
  /** The app's 32-byte id. */
  app: Uint8Array;
  /** SHA-256 of the X-Wing public key. */
  publicKeyHash: Uint8Array;
}

/** What a node signs with the network key for whoever reads the store's ledger: its heads are signed by this key. */
export interface Ledger {
  /** The id of the log, 16 bytes. */
  log: Uint8Array;
  /** Ed25519, 32 bytes. */
  publicKey: Uint8Array;
  /** Of the quote that shows the key too; zero without one. */
  quoteHash: Uint8Array;
  epoch: number;
}

const typeHash = (type: string): Uint8Array => keccak256(utf8(type));

const DOMAIN_TYPE = typeHash(
  'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)',
);
const REQUEST_TYPE = typeHash(
  'Request(address node,bytes32 kemKeyHash,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,bytes32 config,uint64 epoch)',
);
const ONBOARD_TYPE = typeHash(
  'Onboard(address node,bytes32 requestHash,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 answerHash)',
);
const BOOTSTRAP_TYPE = typeHash(
  'Bootstrap(address networkKey,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,uint64 epoch)',
);
const ATTESTATION_TYPE = typeHash('Attestation(bytes32 app,string tag,bytes data)');
const SITE_TYPE = typeHash(
  'Site(bytes32 publicKeyHash,bytes32 nonce,bytes32 quoteHash,bytes32 measurement,bytes32 config,bytes32 platform,uint64 blockNumber,bytes32 blockHash,uint64 epoch,bool hostImpersonable)',
);

const SEALING_KEY_TYPE = typeHash('SealingKey(bytes32 app,bytes32 publicKeyHash)');
const LEDGER_TYPE = typeHash('Ledger(bytes16 log,bytes32 publicKey,bytes32 quoteHash,uint64 epoch)');

/** The EIP-712 struct hash of a request: the contract's `requestHash`. */
export function requestHash(request: Request): Uint8Array {
  return keccak256(
    REQUEST_TYPE,
    address(request.node),
    word(request.kemKeyHash),
    word(request.quoteHash),
    uint(request.blockNumber),
    word(request.blockHash),
    word(request.config),
    uint(request.epoch),
  );
}

/** The digest that the node's one-time key signs. */
export function requestDigest(domain: Domain, hashOfRequest: Uint8Array): Uint8Array {
  return digest(domain, hashOfRequest);
}

export function onboardDigest(domain: Domain, onboard: Onboard): Uint8Array {
  return digest(
    domain,
    keccak256(
      ONBOARD_TYPE,
      address(onboard.node),
      word(onboard.requestHash),
      word(onboard.measurement),
      word(onboard.config),
      word(onboard.platform),
      word(onboard.answerHash),
    ),
  );
}

export function bootstrapDigest(domain: Domain, bootstrap: Bootstrap): Uint8Array {
  return digest(
    domain,
    keccak256(
      BOOTSTRAP_TYPE,
      address(bootstrap.networkKey),
      word(bootstrap.measurement),
      word(bootstrap.config),
      word(bootstrap.platform),
      word(bootstrap.quoteHash),
      uint(bootstrap.blockNumber),
      word(bootstrap.blockHash),
      uint(bootstrap.epoch),
    ),
  );
}

/** The digest behind `/attest/<tag>/<hex>`, checked on chain by `verifyAttestation`. */
export function attestationDigest(domain: Domain, attestation: Attestation): Uint8Array {
  return digest(
    domain,
    keccak256(
      ATTESTATION_TYPE,
      word(attestation.app),
      keccak256(utf8(attestation.tag)),
      keccak256(attestation.data),
    ),
  );
}

/** The digest behind a website's evidence. The contract has no function that takes it: it is for people, off chain. */
export function siteDigest(domain: Domain, site: Site): Uint8Array {
  return digest(
    domain,
    keccak256(
      SITE_TYPE,
      word(site.publicKeyHash),
      word(site.nonce),
      word(site.quoteHash),
      word(site.measurement),
      word(site.config),
      word(site.platform),
      uint(site.blockNumber),
      word(site.blockHash),
      uint(site.epoch),
      uint(site.hostImpersonable ? 1 : 0),
    ),
  );
}

/** The digest behind the key that an app's secrets are sealed to. The contract has no function that takes it. */
export function sealingKeyDigest(domain: Domain, { app, publicKeyHash }: SealingKey): Uint8Array {
  return digest(domain, keccak256(SEALING_KEY_TYPE, word(app), word(publicKeyHash)));
}

/** The digest behind the key of the store's ledger. The contract has no function that takes it. */
export function ledgerDigest(domain: Domain, { log, publicKey, quoteHash, epoch }: Ledger): Uint8Array {
  // EIP-712 pads a bytes16 at its end.
  const padded = Uint8Array.from([...log, ...new Uint8Array(16)]);
  return digest(domain, keccak256(LEDGER_TYPE, word(padded), word(publicKey), word(quoteHash), uint(epoch)));
}

function digest(domain: Domain, structHash: Uint8Array): Uint8Array {
  const separator = keccak256(
    DOMAIN_TYPE,
    keccak256(utf8('Dstack')),
    keccak256(utf8('1')),
    uint(domain.chainId),
    address(domain.contract),
  );
  return keccak256(Uint8Array.of(0x19, 0x01), separator, structHash);
}

const word = (bytes: Uint8Array): Uint8Array => fromHex(toHex(bytes), 32);
const address = (text: string): Uint8Array => Uint8Array.from([...new Uint8Array(12), ...fromHex(text, 20)]);
const uint = (value: number): Uint8Array => fromHex(BigInt(value).toString(16).padStart(64, '0'), 32);
