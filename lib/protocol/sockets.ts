/**
 * What the guest's daemons ask each other over their unix sockets.
 *
 * One socket per asker and purpose: who may connect is a matter of file permissions, and a socket offers nothing that
 * its asker has no use for. A request to the replicator is held open until the node has joined.
 */
import { type Static, Type } from 'typebox';
import { FlavourSchema } from './network-config.ts';
import { Address0x, Count, HexOf, HexUpTo, Strict } from './schema.ts';

/** Paths below /run/dstack. */
export const sockets = {
  attestor: 'attestor/attestor.sock',
  replicatorForTls: 'replicator/tls.sock',
  replicatorForDisk: 'replicator/disk.sock',
  replicatorForAgent: 'replicator/agent.sock',
  replicatorForKubernethes: 'replicator/kubernethes.sock',
  kubernethesForAgent: 'kubernethes/agent.sock',
  kubernethesForTls: 'kubernethes/tls.sock',
  diskStatus: 'disk/status.sock',
} as const;

/** An app's name as it stands in manifests, addresses and key paths. */
export const AppName = Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$', maxLength: 31 });
/** An app's own name for a key or an attestation. */
export const Tag = Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', maxLength: 64 });
/** The most bytes that an app may have attested at once. */
export const ATTEST_MAX_BYTES = 4096;

/** replicator/tls.sock: GET /v1/tls-key */
export const TlsKeyReply = Strict({ epoch: Count, privateKey: HexOf(32) });
export type TlsKeyReply = Static<typeof TlsKeyReply>;

/**
 * replicator/tls.sock: POST /v1/site-evidence -> SiteEvidence (site-evidence.ts). The nonce is all that is taken of the asker:
 * without one, the evidence is over zeros.
 */
export const SiteEvidenceRequest = Strict({ nonce: Type.Optional(HexOf(32)) });

/** replicator/disk.sock: POST /v1/disk-key. `epoch` is the one the disk was born in; absent for a new disk: the current one. */
export const DiskKeyRequest = Strict({ diskId: HexOf(16), epoch: Type.Optional(Count) });
export const DiskKeyReply = Strict({ epoch: Count, key: HexOf(32) });
export type DiskKeyReply = Static<typeof DiskKeyReply>;

/** replicator/agent.sock: POST /v1/app-key */
export const AppKeyRequest = Strict({ app: AppName, tag: Tag });
export const AppKeyReply = Strict({ key: HexOf(32) });
export type AppKeyReply = Static<typeof AppKeyReply>;

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

/** attestor/attestor.sock: POST /v1/quote. `reportData` says what the quote is for (report-data.ts). */
export const QuoteRequest = Strict({ reportData: HexOf(64) });
export const QuoteReply = Strict({ quote: HexUpTo(16 * 1024) });
export type QuoteReply = Static<typeof QuoteReply>;

/** attestor/attestor.sock: GET /v1/status */
export const AttestorStatusReply = Strict({
  device: Type.Union([Type.Literal('tdx'), Type.Literal('simulated')]),
  flavour: FlavourSchema,
  config: HexOf(32),
  joined: Type.Boolean(),
});
export type AttestorStatusReply = Static<typeof AttestorStatusReply>;

const IPv4 = Type.String({ pattern: '^(\\d{1,3}\\.){3}\\d{1,3}$', maxLength: 15 });

/** kubernethes/agent.sock: GET /v1/containers: who calls from which address, and on which address of ours it must arrive. */
export const ContainersReply = Strict({
  containers: Type.Array(Strict({ app: AppName, manifestHash: HexOf(32), address: IPv4, gateway: IPv4 }), {
    maxItems: 4096,
  }),
});
export type ContainersReply = Static<typeof ContainersReply>;

/** kubernethes/tls.sock: GET /v1/upstream: where requests from outside go. `NOT_READY` while there is none; the message says why. */
export const UpstreamReply = Strict({
  app: AppName,
  host: IPv4,
  port: Type.Integer({ minimum: 1, maximum: 65535 }),
});
export type UpstreamReply = Static<typeof UpstreamReply>;

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
