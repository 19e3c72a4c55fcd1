/**
 * What travels between a node and its relay, and between relays by gossip, while a node joins.
 *
 * Every one of these is public and unauthenticated until its receiver has checked it: the host may change any byte.
 * Binary fields are lower-case hex without 0x; chain values keep their 0x.
 */
import { type Static, Type } from 'typebox';
import { CollateralSchema } from './collateral.ts';
import { fromHex, sha256 } from './encoding.ts';
import { FlavourSchema } from './network-config.ts';
import { Address0x, Compact, Count, HexOf, HexUpTo, Strict } from './schema.ts';
import { KEM_PUBLIC_KEY_BYTES, SEALED_BYTES } from './sealing.ts';
import { type Request, requestHash } from './typed-data.ts';

/** A quote with its padding never comes near this. */
const QUOTE_MAX_BYTES = 16 * 1024;

/** "Give me the secret": what `register` put on chain a hash of. */
export const RequestMessageSchema = Strict({
  type: Type.Literal('request'),
  chainId: Count,
  contract: Address0x,
  node: Address0x,
  kemPublicKey: HexOf(KEM_PUBLIC_KEY_BYTES),
  config: HexOf(32),
  epoch: Count,
  blockNumber: Count,
  blockHash: HexOf(32),
  quote: HexUpTo(QUOTE_MAX_BYTES),
  quoteHash: HexOf(32),
  /** By the node's one-time key, over the EIP-712 digest of the request. */
  signature: Compact,
  /**
   * What relays add to judge the quote by: the requester's may, the onboarder's must have it there. No signature covers
   * it, and none has to: the onboarder trusts what Intel signed in it.
   */
  collateral: Type.Optional(CollateralSchema),
});
export type RequestMessage = Static<typeof RequestMessageSchema>;

/**
 * The first of two steps: what the requester's relay needs to post `onboard`. It holds the hash of the sealed secret and
 * not the bytes: those are given out only when the contract shows the hash, so that nobody gets them without a trace.
 */
export const AnswerMessageSchema = Strict({
  type: Type.Literal('answer'),
  chainId: Count,
  contract: Address0x,
  node: Address0x,
  requestHash: HexOf(32),
  /** Of the sealed bytes that any node of the network makes for this request. */
  answerHash: HexOf(32),
  measurement: HexOf(32),
  config: HexOf(32),
  platform: HexOf(32),
  /** By the network key, over the EIP-712 digest of the onboarding. */
  signature: Compact,
});
export type AnswerMessage = Static<typeof AnswerMessageSchema>;

/**
 * The second step: the secret, sealed to the request's KEM key. Nobody signs it, and nobody has to: its hash is the one
 * that the network's key signed in the answer and that the contract has.
 */
export const SealedMessageSchema = Strict({
  type: Type.Literal('sealed'),
  chainId: Count,
  contract: Address0x,
  requestHash: HexOf(32),
  sealed: HexOf(SEALED_BYTES),
});
export type SealedMessage = Static<typeof SealedMessageSchema>;

/** What the first node exports and the owner checks and posts. */
export const BootstrapPackageSchema = Strict({
  type: Type.Literal('bootstrap'),
  chainId: Count,
  contract: Address0x,
  networkKey: Address0x,
  measurement: HexOf(32),
  config: HexOf(32),
  platform: HexOf(32),
  epoch: Count,
  blockNumber: Count,
  blockHash: HexOf(32),
  quote: HexUpTo(QUOTE_MAX_BYTES),
  quoteHash: HexOf(32),
  /** By the network key itself. */
  signature: Compact,
  /** Added by the relay, for the owner and for whoever audits the bootstrap. */
  collateral: Type.Optional(CollateralSchema),
});
export type BootstrapPackage = Static<typeof BootstrapPackageSchema>;

/**
 * The website's certificate, for nodes that have not heard of it. Nobody signs the message, and nobody has to: a public authority
 * signed what is in it, for the network's key.
 */
export const CertificateMessageSchema = Strict({
  type: Type.Literal('certificate'),
  chainId: Count,
  contract: Address0x,
  /** PEM, the site's own first. */
  chain: Type.String({ maxLength: 16 * 1024, pattern: '^[ -~\\n\\r]*$' }),
});
export type CertificateMessage = Static<typeof CertificateMessageSchema>;

/** The largest message of any kind, in bytes of JSON: a request with collateral, which has 15 to 25 thousand now. */
export const MESSAGE_MAX_BYTES = 128 * 1024;

/** How a node stands, as its relay sees it. `code` and `message` say why it waits or failed. */
export const NodeStatusSchema = Strict({
  state: Type.Union([
    Type.Literal('starting'),
    /** A bootstrap package is ready for the owner. */
    Type.Literal('bootstrapping'),
    /** It wants `POST /v1/request`, then `register` and gossip. */
    Type.Literal('requesting'),
    Type.Literal('joined'),
    Type.Literal('failed'),
  ]),
  flavour: FlavourSchema,
  chainId: Count,
  contract: Address0x,
  config: HexOf(32),
  epoch: Count,
  /** The open request, if one was made. */
  requestHash: Type.Optional(HexOf(32)),
  networkKey: Type.Optional(Address0x),
  code: Type.Optional(Type.String({ maxLength: 64 })),
  message: Type.Optional(Type.String({ maxLength: 1000 })),
});
export type NodeStatus = Static<typeof NodeStatusSchema>;

/** Any refusal over HTTP. */
export const ErrorReplySchema = Type.Object({
  code: Type.String({ maxLength: 64 }),
  message: Type.String({ maxLength: 2000 }),
});

/** The relay's view of a node: the port the guest offers to the host, and nothing else is on it. */
export const nodePaths = {
  /** GET -> NodeStatus */
  status: '/v1/status',
  /** POST {} -> RequestMessage: the open request, or a new one when that expired */
  request: '/v1/request',
  /** POST SealedMessage -> NodeStatus: the secret, sealed to this node's own request */
  answer: '/v1/answer',
  /** POST RequestMessage -> AnswerMessage: another node's request, with collateral */
  onboard: '/v1/onboard',
  /** POST RequestMessage -> SealedMessage: another node's request, once the contract shows its answer */
  sealed: '/v1/sealed',
  /** POST to `/v1/app/APP/request/PATH`: the container of that app that answers hosts, at that path. JSON both ways. */
  appRequest: '/v1/app/',
  /** GET -> AppsStatus (app-status.ts) */
  apps: '/v1/apps',
  /** GET -> SignerStatus (signer-status.ts); SIGNER_AWAY where there is none */
  signer: '/v1/signer',
  /** GET -> BootstrapPackage */
  bootstrap: '/v1/bootstrap',
  /** POST SealingKeyRequest -> SealingKeyMessage (app-secrets.ts); relays pass it on */
  sealingKey: '/v1/sealing-key',
  /** GET -> PlatformKind: what this node's platform is. POST Collateral -> {}: what its website's evidence is judged by */
  collateral: '/v1/collateral',
} as const;

/** The typed data behind a request message, and its hash. */
export function requestOf(message: RequestMessage): { request: Request; hash: Uint8Array } {
  const request: Request = {
    node: message.node,
    kemKeyHash: sha256(fromHex(message.kemPublicKey)),
    quoteHash: fromHex(message.quoteHash, 32),
    blockNumber: message.blockNumber,
    blockHash: fromHex(message.blockHash, 32),
    config: fromHex(message.config, 32),
    epoch: message.epoch,
  };
  return { request, hash: requestHash(request) };
}
