/** What gossip has to know of a kind of message. README.md says how to add one. */

import canonicalize from 'canonicalize';
import { type TSchema, type TUnsafe, Type } from 'typebox';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { addressKey, type Hex, isAddress } from '../../lib/protocol/hex.ts';
import { check } from '../../lib/protocol/schema.ts';

/** What every message has: the name of its kind. The rest is the kind's to know. */
export interface Message {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** The part of a kind that the log goes by. */
export interface MessageForm<M extends Message = Message> {
  /** What `type` says. Stored and sent: it never changes. Lower case and dashes. */
  readonly type: M['type'];
  /** The exact form of a message, `type` included. */
  readonly schema: TSchema;
  /** What a message is about, 64 hex digits: messages are looked up by it, and are kept once it is on chain. */
  subjectOf(message: M): string;
  /** Whether a second copy about the same subject is rarely of use: where room runs out, such copies give way first. */
  readonly hasSpareCopies?: boolean;
  /** Fields that many messages have in common, objects: they travel once. */
  readonly sharedFields?: readonly string[];
  /** Codes of refusals that a message about the same subject, still on its way, may turn around: such a message is held for a moment. */
  readonly earlyCodes?: readonly string[];
  /** Codes of refusals that say something of whoever passed it on: no honest relay does, whatever it knows of the chain. */
  readonly faultCodes?: readonly string[];
}

/** @typeParam Context what its checks may ask: the chain, say, or what is held already */
export interface MessageKind<M extends Message = Message, Context = unknown> extends MessageForm<M> {
  /**
   * The message as it may be kept and passed on: without those parts that are of no use to anyone. It has the form of the
   * schema and at most MESSAGE_MAX_BYTES; everything else is checked here, the cheapest first.
   * @throws a DstackError when nothing of it may be kept; a Retryable one when that can't be told yet
   */
  admit(message: M, context: Context): Promise<M>;
}

/** The kinds that a host takes; every other message is refused. */
export class MessageKinds<Context = unknown> {
  /** The form of a message of any of these kinds. */
  readonly schema: TUnsafe<Message>;
  readonly #kinds: ReadonlyMap<string, MessageKind<Message, Context>>;

  constructor(kinds: readonly MessageKind<Message, Context>[]) {
    this.#kinds = new Map(kinds.map((kind) => [kind.type, kind]));
    // Types are parts of the log's keys.
    if (this.#kinds.size < kinds.length || !this.types.every((type) => /^[a-z][a-z-]{0,31}$/.test(type))) {
      throw new DstackError(
        'GOSSIP_KINDS',
        `each kind of message needs a type of its own, of lower-case letters and dashes: ${kinds.map(({ type }) => type).join(', ')}`,
      );
    }
    this.schema = Type.Unsafe<Message>(Type.Union(kinds.map(({ schema }) => schema)));
  }

  get types(): string[] {
    return [...this.#kinds.keys()];
  }

  /** Whether a second message of this type about a subject is rarely of use. */
  isSpare(type: string): boolean {
    return this.#kinds.get(type)?.hasSpareCopies === true;
  }

  /** @throws GOSSIP_MALFORMED for what is of none of these kinds */
  check(value: unknown): Message {
    return check(this.schema, value, 'GOSSIP_MALFORMED', 'a gossip message');
  }

  /** @throws GOSSIP_MALFORMED */
  of(message: Message): MessageKind<Message, Context> {
    const kind = this.#kinds.get(message.type);
    if (kind === undefined)
      throw new DstackError('GOSSIP_MALFORMED', 'a message of a kind that is not registered');
    return kind;
  }
}

/** The id of what may be a message, before it is looked at any further; undefined for what can't be one. */
export function idOf(value: unknown): Hex | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  try {
    return messageId(value as Message);
  } catch {
    // Nested so deeply that it can't be written again.
    return undefined;
  }
}

/** Whether a message is of this kind. */
export const isOfKind = <M extends Message>(kind: MessageForm<M>, message: Message): message is M =>
  message.type === kind.type;

/** SHA-256 of the message's canonical form, hex. */
export const messageId = (message: Message): Hex => toHex(sha256(canonicalMessage(message)));

/**
 * The message's canonical JSON (RFC 8785), UTF-8. Addresses count in lower case: they are all that may be written in
 * several ways, and whoever writes one in another way has not said anything new. They stand at the top of a message.
 */
export function canonicalMessage(message: Message): Uint8Array {
  const addresses = Object.entries(message).flatMap(([field, value]) =>
    typeof value === 'string' && isAddress(value) ? [[field, addressKey(value)]] : [],
  );
  return utf8(canonicalize({ ...message, ...Object.fromEntries(addresses) }) ?? '');
}
