/**
 * What the guest's daemons ask each other over their unix sockets.
 *
 * One socket per asker and purpose: who may connect is a matter of file permissions, and a socket offers nothing that
 * its asker has no use for. A request to the replicator is held open until the node has joined.
 */
import { type Static, Type } from 'typebox';
import { SIGNING_ALGORITHMS } from './app-keys.ts';
import { APP_KEY_TYPES } from './keys.ts';
import { AGENT_API } from './manifest.ts';
import { DomainName, FlavourSchema } from './network-config.ts';
import { Address0x, AppName, Count, HexOf, HexUpTo, IPv4, OneOf, SecretName, Strict } from './schema.ts';
import { ChainId, SignerSchema } from './signer-part.ts';

/** Paths below /run/dstack. */
export const sockets = {
  attestor: 'attestor/attestor.sock',
  replicatorForTls: 'replicator/tls.sock',
  replicatorForAcme: 'replicator/acme.sock',
  replicatorForDisk: 'replicator/disk.sock',
  replicatorForAgent: 'replicator/agent.sock',
  replicatorForKubernethes: 'replicator/kubernethes.sock',
  replicatorForKv: 'replicator/kv.sock',
  replicatorForSigner: 'replicator/signer.sock',
  kubernethesForAgent: 'kubernethes/agent.sock',
  agentForKubernethes: 'agent/kubernethes.sock',
  kubernethesForTls: 'kubernethes/tls.sock',
  kubernethesForKv: 'kubernethes/kv.sock',
  kubernethesForSigner: 'kubernethes/signer.sock',
  kubernethesForReplicator: 'kubernethes/replicator.sock',
  diskStatus: 'disk/status.sock',
  diskFolders: 'disk/folders.sock',
  tlsForFront: 'tls/front.sock',
  acmeForTls: 'acme/tls.sock',
  /** The store as the signer sees it, a namespace of its own; gRPC. */
  kvForSigner: 'kv/signer.sock',
  /** The store for clients outside, as the front passes them on: their TLS, byte by byte. */
  kvForFront: 'kv/clients.sock',
  signerForReplicator: 'signer/replicator.sock',
  /** etcd's own API, gRPC. */
  etcd: 'etcd/etcd.sock',
  /** HAProxy's runtime API: text by its rules, not JSON. */
  front: 'front/control.sock',
} as const;

/** An app's own name for an attestation, or for a key that `/getkey` gives. */
export const Tag = Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', maxLength: 64 });
/** The longest value of a secret, in bytes. In its envelope, as hex, it has twice as many. */
export const SECRET_MAX_BYTES = 30 * 1024;
/** The most bytes of a secret's envelope (app-secrets.ts). */
export const ENVELOPE_MAX_BYTES = 64 * 1024;
/** Where an app answers hosts: plain segments, none of which is a dot or two. */
export const APP_CALL_PATH = '^(/(?!\\.{1,2}(/|$))[A-Za-z0-9._~-]+)+$';
/** Of the body of such a request, and of its answer. */
export const APP_CALL_MAX_BYTES = 512 * 1024;
/** Of what an app asks a contract, and of the answer. */
export const CHAIN_CALL_MAX_BYTES = 16 * 1024;
export const CHAIN_REPLY_MAX_BYTES = 64 * 1024;
/** An app's own name for a key, and what it says a key is for: printable ASCII. */
export const KeyTag = Type.String({
  pattern: '^[ -~]*$',
  maxLength: 256,
  description: 'up to 256 printable ASCII characters',
});
/** The most bytes that an app may have attested or quoted at once. */
export const ATTEST_MAX_BYTES = 4096;
/** The most bytes that an app may have signed at once. */
export const SIGN_MAX_BYTES = 16 * 1024;

/** replicator/tls.sock: GET /v1/tls-key */
export const TlsKeyReply = Strict({ epoch: Count, privateKey: HexOf(32) });
export type TlsKeyReply = Static<typeof TlsKeyReply>;

/**
 * replicator/tls.sock: POST /v1/site-evidence -> SiteEvidence (site-evidence.ts). The nonce is all that is taken of the asker:
 * without one, the evidence is over zeros.
 */
export const SiteEvidenceRequest = Strict({ nonce: Type.Optional(HexOf(32)) });

/**
 * replicator/kv.sock: POST /v1/ledger-keys: the keys of the log on one disk. `epoch` is the one in which the log was begun; without it
 * the newest counts.
 */
export const LedgerKeysRequest = Strict({ log: HexOf(16), epoch: Type.Optional(Count) });
export const LedgerKeysReply = Strict({ epoch: Count, seed: HexOf(32), saltKey: HexOf(32) });
export type LedgerKeysReply = Static<typeof LedgerKeysReply>;

/** replicator/kv.sock: POST /v1/ledger-evidence -> LedgerEvidence (ledger-evidence.ts), which says whose key signs the heads of that log. */
export const LedgerEvidenceRequest = LedgerKeysRequest;

/**
 * replicator/signer.sock: POST /v1/signer-keys: Ed25519 seeds, of the validator's key for one chain and of the one that the signer shows to
 * nodes. `epoch` is the one in which the chain's key was first used; without it the newest counts.
 */
export const SignerKeysRequest = Strict({ chain: ChainId, epoch: Type.Optional(Count) });
export const SignerKeysReply = Strict({ epoch: Count, seed: HexOf(32), identity: HexOf(32) });
export type SignerKeysReply = Static<typeof SignerKeysReply>;

/**
 * kubernethes/replicator.sock: POST /v1/app-request: what a host asks an app, and what the app answered: its status, and its JSON. Whether that is of
 * any form is for whoever asked.
 */
export const AppCallRequest = Strict({
  app: AppName,
  path: Type.String({ pattern: APP_CALL_PATH, maxLength: 128 }),
  body: Type.Unknown(),
});
export const AppCallReply = Strict({
  status: Type.Integer({ minimum: 200, maximum: 599 }),
  value: Type.Unknown(),
});
export type AppCallReply = Static<typeof AppCallReply>;

/** replicator/agent.sock: GET /v1/chain-head: the newest block that the node accepts, for which a quorum of its endpoints stands. */
export const ChainHeadReply = Strict({
  number: Count,
  hash: HexOf(32),
  /** Unix seconds. */
  timestamp: Count,
  agreeing: Count,
  of: Count,
});
export type ChainHeadReply = Static<typeof ChainHeadReply>;
/** replicator/agent.sock: POST /v1/chain-call: eth_call at that block. Hex without 0x. */
export const ChainCallRequest = Strict({
  to: Address0x,
  data: HexUpTo(CHAIN_CALL_MAX_BYTES),
  block: Strict({ number: Count, hash: HexOf(32) }),
});
export type ChainCallRequest = Static<typeof ChainCallRequest>;
export const ChainCallReply = Strict({ data: HexUpTo(CHAIN_REPLY_MAX_BYTES) });
export type ChainCallReply = Static<typeof ChainCallReply>;

/**
 * kubernethes/signer.sock: GET /v1/signer: what the contract wants signed. `order` is there while a manifest in force has a signer;
 * `stopped` says why nothing may be signed now.
 */
export const SignerOrderReply = Strict({
  order: Type.Optional(Strict({ app: AppName, manifest: HexOf(32), signer: SignerSchema })),
  stopped: Type.Optional(
    Strict({
      code: Type.String({ pattern: '^[A-Z][A-Z0-9_]{0,63}$', maxLength: 64 }),
      message: Type.String({ maxLength: 500 }),
    }),
  ),
});
export type SignerOrderReply = Static<typeof SignerOrderReply>;
export type SignerOrder = NonNullable<SignerOrderReply['order']>;

/** kubernethes/signer.sock: POST /v1/signer-secret: one that a chain of the signer has as its key, in the manifest in force. */
export const SignerSecretRequest = Strict({ manifest: HexOf(32), name: SecretName });
export const SignerSecretReply = Strict({ value: HexUpTo(SECRET_MAX_BYTES) });

/** replicator/acme.sock: POST /v1/site-caa: what the website's evidence says of the DNS; it is forgotten after five minutes. */
export const SiteCaaRequest = Strict({ hostImpersonable: Type.Boolean() });

/** replicator/acme.sock: GET /v1/acme-account-key. A P-256 scalar, as of the TLS key. */
export const AcmeAccountKeyReply = Strict({ epoch: Count, privateKey: HexOf(32) });

/** replicator/acme.sock: GET /v1/site-request: PKCS #10 over the names of network.json, and the SubjectPublicKeyInfo in it; DER. */
export const SiteRequestReply = Strict({ request: HexUpTo(8192), publicKey: HexUpTo(256) });
export type SiteRequestReply = Static<typeof SiteRequestReply>;

/** replicator/disk.sock: POST /v1/disk-key. `epoch` is the one the disk was born in; absent for a new disk: the current one. */
export const DiskKeyRequest = Strict({ diskId: HexOf(16), epoch: Type.Optional(Count) });
export const DiskKeyReply = Strict({ epoch: Count, key: HexOf(32) });
export type DiskKeyReply = Static<typeof DiskKeyReply>;

/** The two links from an app's key to the network key (app-keys.ts). */
const Chain = Type.Array(HexOf(65), { minItems: 2, maxItems: 2 });

/** replicator/agent.sock: POST /v1/app-key. Without a type, 32 bytes for anything. `purpose` is what the first link says; empty when left out. */
export const AppKeyRequest = Strict({
  app: AppName,
  tag: KeyTag,
  type: Type.Optional(OneOf(APP_KEY_TYPES)),
  purpose: Type.Optional(KeyTag),
});
/** The rest is there for secp256k1 and ed25519. */
export const AppKeyReply = Strict({
  key: HexOf(32),
  publicKey: Type.Optional(HexUpTo(33)),
  chain: Type.Optional(Chain),
});
export type AppKeyReply = Static<typeof AppKeyReply>;

/** replicator/agent.sock: POST /v1/app-signature, by the key of a tag */
export const AppSignatureRequest = Strict({
  app: AppName,
  tag: KeyTag,
  purpose: KeyTag,
  algorithm: OneOf(SIGNING_ALGORITHMS),
  data: HexUpTo(SIGN_MAX_BYTES),
});
export const AppSignatureReply = Strict({ signature: HexOf(64), publicKey: HexUpTo(33), chain: Chain });
export type AppSignatureReply = Static<typeof AppSignatureReply>;

/** replicator/agent.sock: POST /v1/app-quote: over the statement of an app (report-data.ts), which this process makes from its parts. */
export const AppQuoteRequest = Strict({
  app: AppName,
  manifestHash: HexOf(32),
  data: HexUpTo(ATTEST_MAX_BYTES),
});
/** replicator/agent.sock: POST /v1/raw-quote, for the one app that network.json gives them to. */
export const RawQuoteRequest = Strict({ app: AppName, reportData: HexOf(64) });
export const AppQuoteReply = Strict({ quote: HexUpTo(16 * 1024), reportData: HexOf(64) });
export type AppQuoteReply = Static<typeof AppQuoteReply>;

/** replicator/agent.sock: POST /v1/app-certificate: for a P-256 key of an app's, by the app's authority. DER. */
export const AppCertificateRequest = Strict({
  app: AppName,
  manifestHash: HexOf(32),
  /** SubjectPublicKeyInfo. */
  publicKey: HexOf(91),
  /** The common name; none when empty. */
  subject: Type.String({ pattern: '^[ -~]*$', maxLength: 64 }),
  /** Names of the DNS, and addresses. */
  altNames: Type.Array(Type.String({ pattern: '^[A-Za-z0-9.:*_-]+$', maxLength: 253 }), { maxItems: 16 }),
  serverAuth: Type.Boolean(),
  clientAuth: Type.Boolean(),
  /** Unix seconds; an hour ago and a year from now when left out. */
  notBefore: Type.Optional(Count),
  notAfter: Type.Optional(Count),
  /** Whether it carries a quote over the key. */
  quoted: Type.Boolean(),
  /** Whether it says which app and manifest it is of. */
  named: Type.Boolean(),
});
export type AppCertificateRequest = Static<typeof AppCertificateRequest>;
export const AppCertificateReply = Strict({
  chain: Type.Array(HexUpTo(24 * 1024), { minItems: 2, maxItems: 2 }),
});
export type AppCertificateReply = Static<typeof AppCertificateReply>;

/** replicator/agent.sock: GET /v1/machine: what the node's quotes show, and the events that lead there. */
export const MachineReply = Strict({
  mrtd: HexOf(48),
  rtmr0: HexOf(48),
  rtmr1: HexOf(48),
  rtmr2: HexOf(48),
  rtmr3: HexOf(48),
  /** Of each register of which all are known: nothing is there of one that they do not lead to. */
  events: Type.Array(
    Strict({
      register: Type.Integer({ minimum: 0, maximum: 3 }),
      type: Count,
      digest: HexOf(48),
      name: Type.String({ maxLength: 32 }),
      payload: HexUpTo(64),
    }),
    { maxItems: 4096 },
  ),
  /** The app that gets quotes over any report data. */
  rawQuotes: Type.Optional(AppName),
});
export type MachineReply = Static<typeof MachineReply>;

/** replicator/agent.sock: POST /v1/app-authority: the certificate that is the root of an app's, DER. */
export const AppAuthorityRequest = Strict({ app: AppName });
export const AppAuthorityReply = Strict({ certificate: HexUpTo(2048) });
export type AppAuthorityReply = Static<typeof AppAuthorityReply>;

/** replicator/agent.sock: POST /v1/attest. The signature is v ‖ r ‖ s, 65 bytes. */
export const AttestRequest = Strict({ app: AppName, tag: Tag, data: HexUpTo(ATTEST_MAX_BYTES) });
export const AttestReply = Strict({ signature: HexOf(65) });
export type AttestReply = Static<typeof AttestReply>;

/** replicator/agent.sock: GET /v1/info: what any app may know of its node and network. */
export const InfoReply = Strict({
  chainId: Count,
  contract: Address0x,
  networkKey: Type.String(),
  epoch: Count,
  config: HexOf(32),
  measurement: HexOf(32),
  platform: HexOf(32),
  flavour: Type.String(),
});
export type InfoReply = Static<typeof InfoReply>;

/** replicator/kubernethes.sock: GET /v1/status: answered once the node has joined. */
export const JoinedReply = Strict({
  joined: Type.Literal(true),
  epoch: Count,
  /** The newest block that the node has accepted, that header's timestamp, and the node's clock; Unix seconds. */
  reached: Strict({ block: Count, timestamp: Count, now: Count }),
});
export type JoinedReply = Static<typeof JoinedReply>;

/**
 * replicator/kv.sock: POST /v1/store-certificate: for a P-256 key of the store's, by an app's authority, with the names at which network.json
 * has the app's clients ask. DER: that certificate, and the authority's.
 */
export const StoreCertificateRequest = Strict({ app: AppName, publicKey: HexOf(91) });
export const StoreCertificateReply = Strict({
  chain: Type.Array(HexUpTo(8 * 1024), { minItems: 2, maxItems: 2 }),
});
export type StoreCertificateReply = Static<typeof StoreCertificateReply>;

/** replicator/kubernethes.sock: POST /v1/open-secret. `envelope`: its text, whose hash the manifest in force has. */
export const OpenSecretRequest = Strict({
  app: AppName,
  name: SecretName,
  envelope: Type.String({ maxLength: ENVELOPE_MAX_BYTES }),
});
export const OpenSecretReply = Strict({ value: HexUpTo(SECRET_MAX_BYTES) });

/** attestor/attestor.sock: POST /v1/quote. `reportData` says what the quote is for (report-data.ts). */
export const QuoteRequest = Strict({ reportData: HexOf(64) });
export const QuoteReply = Strict({ quote: HexUpTo(16 * 1024) });
export type QuoteReply = Static<typeof QuoteReply>;

/** attestor/attestor.sock: GET /v1/firmware-log: what the firmware measured, as its log says; empty where it keeps none. */
export const FirmwareLogReply = Strict({
  events: Type.Array(
    Strict({ register: OneOf(['rtmr0', 'rtmr1', 'rtmr2'] as const), type: Count, digest: HexOf(48) }),
    { maxItems: 4096 },
  ),
});
export type FirmwareLogReply = Static<typeof FirmwareLogReply>;

/** attestor/attestor.sock: GET /v1/status */
export const AttestorStatusReply = Strict({
  device: Type.Union([Type.Literal('tdx'), Type.Literal('simulated')]),
  flavour: FlavourSchema,
  config: HexOf(32),
  joined: Type.Boolean(),
});
export type AttestorStatusReply = Static<typeof AttestorStatusReply>;

/** kubernethes/agent.sock: GET /v1/containers: who calls from which address, and on which address of ours it must arrive. */
export const ContainersReply = Strict({
  containers: Type.Array(
    Strict({
      app: AppName,
      manifestHash: HexOf(32),
      address: IPv4,
      gateway: IPv4,
      /** Why it gets nothing any more. */
      ended: Type.Optional(
        Strict({
          code: Type.Union([Type.Literal('APP_SUPERSEDED'), Type.Literal('APP_CHAIN_STALE')]),
          message: Type.String({ maxLength: 300 }),
        }),
      ),
      /** What it may ask, by its manifest. */
      api: Type.Array(OneOf(AGENT_API), { maxItems: AGENT_API.length }),
      /** Its name in the manifest. */
      container: AppName,
    }),
    { maxItems: 4096 },
  ),
  /** Hashes of the manifests whose containers run, or may be started. */
  manifests: Type.Array(HexOf(32), { maxItems: 4096 }),
});
export type ContainersReply = Static<typeof ContainersReply>;

/** kubernethes/agent.sock: POST /v1/manifest: the text of a manifest whose containers run. */
export const ManifestRequest = Strict({ manifestHash: HexOf(32) });
export const ManifestReply = Strict({ text: Type.String({ maxLength: 64 * 1024 }) });
export type ManifestReply = Static<typeof ManifestReply>;

/**
 * agent/kubernethes.sock: POST /v1/app-folder: the folder with the socket by which one container of a manifest asks the agent, made if it
 * is not there. Who connects there is taken for that container.
 */
export const AppFolderRequest = Strict({
  app: AppName,
  manifestHash: HexOf(32),
  container: AppName,
  /** Of the app's bridge: what an app may have at once is counted by it, whichever way it comes. */
  gateway: IPv4,
});
export type AppFolderRequest = Static<typeof AppFolderRequest>;
export const AppFolderReply = Strict({
  folder: Type.String({ pattern: '^/[A-Za-z0-9._@/-]+$', maxLength: 200 }),
});

/**
 * Where requests go: `upstream` or `reason` is there, and `reason` says why there is no such place now. `waits`: there will be one in a
 * moment, and requests should wait for it.
 */
const Led = {
  upstream: Type.Optional(
    Strict({
      app: AppName,
      host: IPv4,
      port: Type.Integer({ minimum: 1, maximum: 65535 }),
      protocol: Type.Union([Type.Literal('http1'), Type.Literal('h2c')]),
    }),
  ),
  reason: Type.Optional(Type.String({ maxLength: 500 })),
  waits: Type.Optional(Type.Literal(true)),
};

/** Which answer of kubernethes' the front is like by now. */
const Turn = Type.String({ pattern: '^[0-9a-f]{16}-\\d{1,16}$', maxLength: 40 });

/** The most domains that the apps of a network can have: what the front has room for, besides the network's website. */
export const APP_DOMAINS = 31;

/** kubernethes/tls.sock: POST /v1/upstream. `done`: the `turn` of the last answer that the front was made like. */
export const UpstreamRequest = Strict({ done: Type.Optional(Turn) });

/** Where requests from outside go. */
const upstreams = {
  /** For every name that is no app's. */
  website: Strict(Led),
  /** One for each domain that an app has, whether it can be reached or not: no other app ever answers for it. */
  sites: Type.Array(Strict({ domain: DomainName, ...Led }), { maxItems: APP_DOMAINS }),
};
const Upstreams = Strict(upstreams);
export type Upstreams = Static<typeof Upstreams>;
/** Each answer has a turn of its own. */
export const UpstreamReply = Strict({ turn: Turn, ...upstreams });

/** disk/status.sock: GET /v1/status. `seconds` that opening or formatting took; `done` of the format, 0 to 1. */
export const DiskStatusReply = Strict({
  state: Type.Union([
    Type.Literal('absent'),
    Type.Literal('opening'),
    Type.Literal('formatting'),
    Type.Literal('ready'),
    Type.Literal('failed'),
  ]),
  diskId: Type.Optional(HexOf(16)),
  code: Type.Optional(Type.String({ maxLength: 64 })),
  message: Type.Optional(Type.String({ maxLength: 500 })),
  seconds: Type.Optional(Type.Number({ minimum: 0 })),
  done: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
});
export type DiskStatusReply = Static<typeof DiskStatusReply>;

/**
 * disk/folders.sock: POST /v1/folder: a folder of the data disk that an app's containers may write to, made if it is not there.
 * With `volume`, one container's own at that path, with the size that its manifest gives; without, the one of the whole app.
 */
export const FolderRequest = Strict({
  app: AppName,
  volume: Type.Optional(
    Strict({
      container: AppName,
      path: Type.String({ pattern: '^/[A-Za-z0-9._/-]+$', maxLength: 520 }),
      mebibytes: Type.Integer({ minimum: 1, maximum: 1024 * 1024 * 1024 }),
    }),
  ),
});
export type FolderRequest = Static<typeof FolderRequest>;
export const FolderReply = Strict({
  folder: Type.String({ pattern: '^/[A-Za-z0-9._@/-]+$', maxLength: 520 }),
});
export type FolderReply = Static<typeof FolderReply>;

/** Base64 in its one alphabet, of at most `characters` characters. */
const Base64UpTo = (characters: number) =>
  Type.String({ pattern: '^[A-Za-z0-9+/]*={0,2}$', maxLength: characters });
/** PEM, of at most `characters` characters. */
const PemUpTo = (characters: number) =>
  Type.String({ pattern: '^-----BEGIN [A-Z ]+-----\\n', maxLength: characters });

/**
 * How far the website's certificate is: `current` when one of the authority's is in use and not due, `waiting` for the time of
 * an order, `ordering`, `failed` when the last order brought none, `held` when this week's orders are used up, `brought` when
 * the guest orders none. Times are Unix seconds by the chain's clock.
 */
export const AcmeStatus = Strict({
  state: Type.Union([
    Type.Literal('current'),
    Type.Literal('waiting'),
    Type.Literal('ordering'),
    Type.Literal('failed'),
    Type.Literal('held'),
    Type.Literal('brought'),
  ]),
  /** Of what went wrong last: a stable code, and words for people. */
  code: Type.Optional(Type.String({ maxLength: 64 })),
  reason: Type.Optional(Type.String({ maxLength: 500 })),
  /** Whether who is on the way to the website could get a certificate for its names: true until it is known that they can't. */
  hostImpersonable: Type.Boolean(),
  /** Why it is not known that they can't: a stable code, and words for people. */
  caa: Type.Optional(
    Strict({ code: Type.String({ maxLength: 64 }), reason: Type.String({ maxLength: 500 }) }),
  ),
  /** The network's account with the authority, for CAA (RFC 8657) and dns-persist-01. */
  account: Type.Optional(Type.String({ maxLength: 300 })),
  /** The names by which records of the DNS mean the authority (RFC 8555, section 9.7.6: caaIdentities). */
  issuers: Type.Optional(Type.Array(DomainName, { maxItems: 8 })),
  /** How the guest shows the authority that the names are its own: network.json's challenges. */
  methods: Type.Optional(Type.Array(Type.String({ maxLength: 40 }), { maxItems: 8 })),
  /** Hex; of the certificate in use. */
  serial: Type.Optional(Type.String({ pattern: '^[0-9a-f]+$', maxLength: 64 })),
  notAfter: Type.Optional(Count),
  /** When the next order may be made. */
  nextOrder: Type.Optional(Count),
});
export type AcmeStatus = Static<typeof AcmeStatus>;

/** acme/tls.sock: GET /v1/site: what the website is to show. */
export const AcmeSite = Strict({
  /** The chain in use, PEM: judged (lib/site/certificate-rule.ts). */
  chain: Type.Optional(PemUpTo(16 * 1024)),
  /** The signing request, DER. */
  csr: Type.Optional(Base64UpTo(16 * 1024)),
  /** Of the account's key (RFC 7638): with it, any node answers http-01. Absent where that challenge is not used. */
  thumbprint: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{43}$', maxLength: 43 })),
  /** To be shown for `acme-tls/1` and nothing else (RFC 8737), while an order waits for it. The keys are worth nothing. */
  alpn: Type.Array(Strict({ domain: DomainName, certificate: PemUpTo(4096), key: PemUpTo(2048) }), {
    maxItems: 20,
  }),
  status: AcmeStatus,
});
export type AcmeSite = Static<typeof AcmeSite>;

/** acme/tls.sock: POST /v1/shown: the front answers with these; by SHA-256 of each one's PEM. */
export const ShownChallenges = Strict({ certificates: Type.Array(HexOf(32), { maxItems: 20 }) });

/** acme/tls.sock: POST /v1/certificate: one that was brought. The judge says what is too long for it. */
export const BroughtCertificate = Strict({ chain: Type.String({ maxLength: 20 * 1024 }) });
export const TakenReply = Strict({ taken: Type.Literal(true) });
