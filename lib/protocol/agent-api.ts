/**
 * The agent API: what an app asks of its node, by `http://dstack-guest` or its socket. Each operation with the schemas of what is asked
 * and answered, from which the agent checks requests and the OpenAPI document is made. docs/agent.md is the manual.
 */
import { type Static, type TSchema, Type } from 'typebox';
import { SIGNING_ALGORITHMS } from './app-keys.ts';
import type { AgentApi } from './manifest.ts';
import { FlavourSchema } from './network-config.ts';
import { Address0x, AppName, Count, HexOf, HexUpTo, OneOf, Strict } from './schema.ts';
import {
  ATTEST_MAX_BYTES,
  ChainCallReply,
  ChainCallRequest,
  ChainHeadReply,
  KeyTag,
  SIGN_MAX_BYTES,
  Tag,
} from './sockets.ts';

/** The largest body that the agent reads: what is signed, in hex, with a public key and some words beside it. */
export const BODY_MAX_BYTES = 2 * SIGN_MAX_BYTES + 4096;

/** The types of keys that an app asks for by name. */
export const KEY_TYPES = ['secp256k1', 'ed25519', 'raw'] as const;

const Chain = Type.Array(HexOf(65), {
  minItems: 2,
  maxItems: 2,
  description: "who vouches for the key: the app's identity key, then the network key",
});
const Purpose = Type.Optional(KeyTag);

const KeyAsked = Strict({ tag: KeyTag, type: OneOf(KEY_TYPES), purpose: Purpose });
const KeyGiven = Strict({
  key: HexOf(32),
  /** Of secp256k1 compressed. With `chain`, for what is no `raw` key. */
  publicKey: Type.Optional(HexUpTo(33)),
  chain: Type.Optional(Chain),
  /** Of a secp256k1 key. */
  address: Type.Optional(Address0x),
});
const SignAsked = Strict({
  tag: KeyTag,
  algorithm: OneOf(SIGNING_ALGORITHMS),
  data: HexUpTo(SIGN_MAX_BYTES),
  purpose: Purpose,
});
const Signed = Strict({ signature: HexOf(64), publicKey: HexUpTo(33), chain: Chain });
const VerifyAsked = Strict({
  algorithm: OneOf(SIGNING_ALGORITHMS),
  data: HexUpTo(SIGN_MAX_BYTES),
  signature: HexUpTo(65),
  publicKey: HexUpTo(65),
});
const Verified = Strict({ valid: Type.Boolean() });

/** As the ecosystem's replay takes it: `digest` extends register `imr`. */
export const EventLogEntry = Strict({
  imr: Type.Integer({ minimum: 0, maximum: 3 }),
  event_type: Count,
  digest: HexOf(48),
  event: Type.String({ maxLength: 32 }),
  event_payload: HexUpTo(64),
});
const QuoteAsked = Strict({ data: HexUpTo(ATTEST_MAX_BYTES) });
const Quoted = Strict({
  quote: HexUpTo(16 * 1024),
  reportData: HexOf(64),
  /** What the report data is the hash of. */
  statement: Strict({ app: AppName, manifestHash: HexOf(32), data: HexUpTo(ATTEST_MAX_BYTES) }),
  eventLog: Type.Array(EventLogEntry, { maxItems: 4096 }),
});
const AttestAsked = Strict({ tag: Tag, data: HexUpTo(ATTEST_MAX_BYTES) });
const Attested = Strict({
  /** v, r and s. */
  signature: HexOf(65),
  digest: HexOf(32),
  /** The call of the contract that says whether it is so: eth_call's data. */
  call: Type.String({ pattern: '^0x[0-9a-f]*$', maxLength: 16 * 1024 }),
});
const Info = Strict({
  app: AppName,
  appId: HexOf(20),
  container: AppName,
  manifestHash: HexOf(32),
  api: Type.Array(Type.String({ maxLength: 32 }), { maxItems: 8 }),
  node: Strict({
    flavour: FlavourSchema,
    measurement: HexOf(32),
    platform: HexOf(32),
    disk: Strict({ state: Type.String({ maxLength: 16 }), diskId: Type.Optional(HexOf(16)) }),
  }),
  network: Strict({
    chainId: Count,
    contract: Address0x,
    networkKey: Address0x,
    epoch: Count,
    config: HexOf(32),
    rawQuotes: Type.Optional(AppName),
  }),
});
const Status = Strict({
  epoch: Count,
  /** The newest block that the node has accepted, its timestamp, and the node's clock. */
  block: Count,
  blockTime: Count,
  now: Count,
});

/** What every refusal is, besides its HTTP status. */
export const RefusalSchema = Strict({ code: Type.String(), message: Type.String() });

export interface Operation<Q extends TSchema = TSchema, R extends TSchema = TSchema> {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** The word of the manifest's `api` that grants it; `any` for a container that may ask anything at all. */
  readonly word: AgentApi | 'any';
  readonly summary: string;
  readonly request: Q;
  readonly reply: R;
}

const Nothing = Type.Undefined();

/** One operation; the types of its schemas stay known. */
const operation = <Q extends TSchema, R extends TSchema>(
  [method, path]: readonly ['GET' | 'POST', string],
  word: Operation['word'],
  summary: string,
  request: Q,
  reply: R,
): Operation<Q, R> => ({ method, path, word, summary, request, reply });

/** By name. */
export const operations = {
  key: operation(['POST', '/v1/key'], 'key', 'A key that only this app can reach', KeyAsked, KeyGiven),
  sign: operation(['POST', '/v1/sign'], 'sign', "A signature by a tag's key", SignAsked, Signed),
  verify: operation(['POST', '/v1/verify'], 'any', 'Whether a signature is one', VerifyAsked, Verified),
  quote: operation(['POST', '/v1/quote'], 'quote', "A quote over the app's statement", QuoteAsked, Quoted),
  attest: operation(
    ['POST', '/v1/attest'],
    'attest',
    "The network's word, for contracts: EIP-712 Attestation",
    AttestAsked,
    Attested,
  ),
  chainHead: operation(
    ['GET', '/v1/chain/head'],
    'chain',
    "The newest block that a quorum of the network's endpoints shows",
    Nothing,
    ChainHeadReply,
  ),
  chainCall: operation(
    ['POST', '/v1/chain/call'],
    'chain',
    'eth_call at such a block, as a quorum answers it',
    ChainCallRequest,
    ChainCallReply,
  ),
  info: operation(['GET', '/v1/info'], 'info', 'The app, its node and its network', Nothing, Info),
  status: operation(['GET', '/v1/status'], 'info', 'How far the node has read the chain', Nothing, Status),
} as const;

export type OperationName = keyof typeof operations;
export type Asked<N extends OperationName> = Static<(typeof operations)[N]['request']>;
export type Given<N extends OperationName> = Static<(typeof operations)[N]['reply']>;
