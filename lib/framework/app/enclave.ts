/**
 * What an author's code has in an enclave, and how it answers. Keys, quotes and attestations are the agent's (docs/agent.md), through
 * its typed client, whose methods fit these interfaces as they are.
 */
import type { TSchema } from 'typebox';
import type { ChainClient, Head } from '../../chain/chain-client.ts';
import { DstackError } from '../../protocol/errors.ts';
import type { Address } from '../../protocol/hex.ts';
import type { Tables } from './typed-store.ts';

/** Says who the app is: to contracts, and by quotes. Bytes are hex without 0x. */
export interface Attestor {
  /** The network's word for contracts: `signature` is v ‖ r ‖ s. */
  attest(asked: { tag: string; data: string }): Promise<{ signature: string }>;
  quote(asked: { data: string }): Promise<{ quote: string }>;
}

/** The app's own keys: the same on every node, and after a restart. */
export interface Keys {
  key(asked: { tag: string; type: 'secp256k1' | 'ed25519' | 'raw' }): Promise<{ key: string }>;
}

/** The chain as a quorum of endpoints shows it: of the node's own (`nodeChain`), or of those that the app names (`chainReader`). */
export type Chain = Pick<ChainClient, 'head' | 'call'>;

/** What handlers are given. A host's author may add fields of its own. */
export interface Enclave {
  readonly attestor: Attestor;
  readonly keys: Keys;
  /** What it keeps for itself. The order of requests never rests on it. */
  readonly store: Tables;
  readonly chain: Chain;
}

/** Answers a request. What it throws is told to the caller by its code; see `Router`. */
export type RequestHandler<E extends Enclave, Request, Response, Context = undefined> = (
  enclave: E,
  request: Request,
  context: Context,
) => Promise<Response> | Response;

/** Of a request that comes from a contract: all of it was read from the chain's state. */
export interface RequestContext<Evidence = undefined> {
  readonly sequence: number;
  readonly sender: Address;
  /** The block at which it was read, and at which `call` reads. */
  readonly block: Head;
  /** `eth_call` at that block. */
  call(to: string, data: string): Promise<string>;
  /**
   * 32 bytes that nobody knows before, the same however often the request is asked again: the one source of chance, since a host could
   * ask until it likes the answer.
   */
  readonly seed: Uint8Array;
  /** Aborted once it has taken too long, and is given up: for `fetch` and the like. The host asks again. */
  readonly signal: AbortSignal;
  /** What the host put together for it, which it may have made up. */
  readonly evidence: Evidence;
}

/**
 * The request is refused for good, by this code, which the contract gets in place of a response. Whatever else a handler throws is
 * no answer: the host asks again. So nothing that a host withholds or breaks is ever a reason to refuse.
 */
export class Refusal extends DstackError {
  /** @param code up to 32 capital letters, digits and underscores. @throws REFUSAL_CODE */
  constructor(code: string, message: string) {
    if (!/^[A-Z][A-Z0-9_]{0,31}$/.test(code))
      throw new DstackError('REFUSAL_CODE', `${JSON.stringify(code.slice(0, 64))} is no code of a refusal`);
    super(code, message);
  }
}

/** How bytes of the contract are read and written: ABI codecs of `dstack/framework` fit. */
export interface BytesCodec<T> {
  /** Hex without 0x. */
  encode(value: T): string;
  /** @param data hex without 0x. Throws for what it is not */
  decode(data: string, at: number): T;
}

/** What an enclave does about requests of one kind. */
export interface Answering<E extends Enclave, Request, Response, Evidence extends TSchema = TSchema> {
  /** Of the request's data; what does not fit is refused for good, as DATA_INVALID. */
  readonly request: BytesCodec<Request>;
  readonly response: BytesCodec<Response>;
  /** Of what the host adds; without it, nothing. */
  readonly evidence?: Evidence;
  readonly handle: RequestHandler<E, Request, Response, RequestContext<unknown>>;
}
