/**
 * What a node asks its signer and what it gets (cometbft `privval/types.proto`): one message a request, one an answer, each with its
 * length before it. Both sides of every version; 1.x differs in the public key and has the signing of plain bytes, Celestia that of raw
 * bytes under the same number.
 */
import {
  decodeProposal,
  decodeVote,
  encodeProposal,
  encodeVote,
  hasExtensions,
  NO_PROPOSAL,
  NO_VOTE,
  type Proposal,
  type ProtocolVersion,
  type Vote,
} from './consensus.ts';
import { delimited, malformed, Reader, readVarint, Writer } from './wire.ts';

/** What a node reads at most of an answer, with its length: 10 KiB (privval's maxRemoteSignerMsgSize). */
export const MAX_REPLY_BYTES = 10 * 1024;
/** An extension has up to a mebibyte. */
const MAX_REQUEST_BYTES = 1024 * 1024 + 16 * 1024;
const MAX_REQUEST_WITHOUT_EXTENSION = 16 * 1024;

export type Request =
  | { readonly kind: 'pubKey'; readonly chainId: string }
  | { readonly kind: 'vote'; readonly chainId: string; readonly vote: Vote; readonly skipExtension: boolean }
  | { readonly kind: 'proposal'; readonly chainId: string; readonly proposal: Proposal }
  | { readonly kind: 'ping' }
  /** 1.x. */
  | { readonly kind: 'bytes'; readonly value: Uint8Array }
  /** Celestia. */
  | {
      readonly kind: 'rawBytes';
      readonly chainId: string;
      readonly uniqueId: string;
      readonly raw: Uint8Array;
    };

/** Why a request got no signature. */
export interface RemoteSignerError {
  readonly code: number;
  readonly description: string;
}

export type Reply =
  | { readonly kind: 'pubKey'; readonly ed25519: Uint8Array }
  | { readonly kind: 'vote'; readonly vote: Vote }
  | { readonly kind: 'proposal'; readonly proposal: Proposal }
  | { readonly kind: 'ping' }
  | { readonly kind: 'bytes' | 'rawBytes'; readonly signature: Uint8Array }
  | { readonly kind: Exclude<Request['kind'], 'ping'>; readonly error: RemoteSignerError };

/** Of a request of that version, without its length. */
export function maxRequestBytes(version: ProtocolVersion): number {
  return hasExtensions(version) ? MAX_REQUEST_BYTES : MAX_REQUEST_WITHOUT_EXTENSION;
}

/**
 * A request that was understood so far that it can be answered: of which kind it is.
 * `problem` says what is wrong with it.
 */
export interface Misfit {
  readonly kind: Exclude<Request['kind'], 'ping'>;
  readonly problem: unknown;
}

/**
 * Reads a request, without its length. One of a known kind that is malformed within is given back as a `Misfit`, so that it gets an answer.
 * @throws COMETBFT_MALFORMED, COMETBFT_FIELD_UNKNOWN when there is nothing that could be answered
 */
export function decodeRequest(message: Uint8Array, version: ProtocolVersion): Request | Misfit {
  const reader = new Reader(message, 'the message');
  const [field, ...more] = reader.left;
  if (field === undefined || more.length > 0)
    throw malformed('the message does not hold exactly one request');
  const kind = requestKind(field, version);
  if (kind === undefined) reader.end();
  const body = reader.bytes(field);
  if (kind === 'ping') {
    new Reader(body, 'the ping').end();
    return { kind };
  }
  try {
    return decodeBody(kind!, body, version);
  } catch (problem) {
    return { kind: kind!, problem };
  }
}

function requestKind(field: number, version: ProtocolVersion): Request['kind'] | undefined {
  if (field === 9) return version === 'v1' ? 'bytes' : version === 'celestia' ? 'rawBytes' : undefined;
  return ({ 1: 'pubKey', 3: 'vote', 5: 'proposal', 7: 'ping' } as const)[field];
}

function decodeBody(kind: Misfit['kind'], body: Uint8Array, version: ProtocolVersion): Request {
  const reader = new Reader(body, 'the request');
  const request = ((): Request => {
    switch (kind) {
      case 'pubKey':
        return { kind, chainId: reader.text(1) };
      case 'vote':
        return {
          kind,
          vote: decodeVote(needed(reader, 1), version),
          chainId: reader.text(2),
          skipExtension: version === 'v1' && reader.boolean(3),
        };
      case 'proposal':
        return { kind, proposal: decodeProposal(needed(reader, 1)), chainId: reader.text(2) };
      case 'bytes':
        return { kind, value: reader.bytes(1) };
      case 'rawBytes':
        return { kind, chainId: reader.text(1), raw: reader.bytes(2), uniqueId: reader.text(3) };
    }
  })();
  reader.end();
  return request;
}

function needed(reader: Reader, field: number): Uint8Array {
  const bytes = reader.message(field);
  if (bytes === undefined) throw malformed('there is nothing in the request to sign');
  return bytes;
}

/** A reply with its length. It is under 10 KiB: an extension that is in the way is left out, which no node reads. */
export function encodeReply(reply: Reply, version: ProtocolVersion): Uint8Array {
  const whole = delimited(replyMessage(reply, version));
  if (whole.length < MAX_REPLY_BYTES || !('vote' in reply)) return whole;
  return delimited(replyMessage({ ...reply, vote: { ...reply.vote, extension: new Uint8Array() } }, version));
}

function replyMessage(reply: Reply, version: ProtocolVersion): Uint8Array {
  const field = { pubKey: 2, vote: 4, proposal: 6, ping: 8, bytes: 10, rawBytes: 10 }[reply.kind];
  return new Writer().message(field, replyBody(reply, version).finish()).finish();
}

function replyBody(reply: Reply, version: ProtocolVersion): Writer {
  const body = new Writer();
  if (reply.kind === 'ping') return body;
  if ('error' in reply) return refusal(body, reply.kind, version).message(2, encodeError(reply.error));
  if ('vote' in reply) return body.message(1, encodeVote(reply.vote));
  if ('proposal' in reply) return body.message(1, encodeProposal(reply.proposal));
  if ('signature' in reply) return body.bytes(1, reply.signature);
  if (version === 'v1') return body.bytes(3, reply.ed25519).text(4, 'ed25519');
  return body.message(1, publicKey(reply.ed25519));
}

/** What nodes have to find beside an error: the zero value, where Go has no pointer. */
function refusal(body: Writer, kind: Misfit['kind'], version: ProtocolVersion): Writer {
  if (kind === 'vote') return body.message(1, encodeVote(NO_VOTE));
  if (kind === 'proposal') return body.message(1, encodeProposal(NO_PROPOSAL));
  return kind === 'pubKey' && version !== 'v1' ? body.message(1, new Uint8Array()) : body;
}

function encodeError({ code, description }: RemoteSignerError): Uint8Array {
  return new Writer().integer(1, code).text(2, description).finish();
}

/** tendermint.crypto.PublicKey of an Ed25519 key. */
export function publicKey(ed25519: Uint8Array): Uint8Array {
  return new Writer().bytes(1, ed25519).finish();
}

/** Messages out of a stream of bytes, as its chunks arrive. Never holds more than one message of `limit` bytes and its length. */
export class Deframer {
  readonly #limit: number;
  #kept: Uint8Array[] = [];
  #size = 0;
  /** Of the message under way with its length; undefined until that is known. */
  #wanted: number | undefined;

  /** @param limit of a message, in bytes */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether a message has begun and is not there yet. */
  get isWithin(): boolean {
    return this.#size > 0;
  }

  /** The messages that are complete with this chunk. @throws COMETBFT_MALFORMED */
  push(chunk: Uint8Array): readonly Uint8Array[] {
    this.#kept.push(chunk);
    this.#size += chunk.length;
    const messages: Uint8Array[] = [];
    for (let message = this.#next(); message !== undefined; message = this.#next()) messages.push(message);
    return messages;
  }

  #next(): Uint8Array | undefined {
    if (this.#wanted !== undefined && this.#size < this.#wanted) return undefined;
    // Joined when the length is to be read, and when all is there: each byte is copied twice at most.
    const bytes = this.#kept.length === 1 ? this.#kept[0]! : new Uint8Array(Buffer.concat(this.#kept));
    this.#kept = [bytes];
    const length = readVarint(bytes, 0);
    if (length === undefined) return undefined;
    if (length.value > BigInt(this.#limit)) throw tooLarge(length.value, this.#limit);
    const end = length.next + Number(length.value);
    this.#wanted = end;
    if (bytes.length < end) return undefined;
    this.#wanted = undefined;
    this.#size = bytes.length - end;
    this.#kept = this.#size === 0 ? [] : [bytes.slice(end)];
    return bytes.slice(length.next, end);
  }
}

function tooLarge(length: bigint, limit: number): Error {
  return malformed(`a message of ${length} bytes is announced, and ${limit} are the most`);
}
