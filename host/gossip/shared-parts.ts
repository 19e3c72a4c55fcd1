/**
 * Parts that many messages have in common, by their hash: the collateral of one kind of platform is the same in all its requests.
 * A reader says which it has, and they are left out of what it is sent; it puts them back before it looks at the message. The
 * message's id is that of the whole, so what is left out or put back wrongly is only a body that is not the one asked for.
 *
 * Only parts of messages that were admitted are remembered, the ones used last.
 */
import canonicalize from 'canonicalize';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import type { Message, MessageKinds } from './message-kind.ts';
import { PARTS } from './protocol.ts';

/** A message as it is sent: without some parts, which are named instead. */
export interface Sent {
  message: unknown;
  without?: Record<string, string>;
}

/** Smaller parts are not worth a name. Characters of JSON. */
const MIN_PART = 256;

export class SharedParts {
  readonly #kinds: Pick<MessageKinds, 'of'>;
  readonly #parts = new Map<string, unknown>();
  /** Names of values that were hashed, while they are in memory. */
  readonly #names = new WeakMap<object, string>();

  constructor(kinds: Pick<MessageKinds, 'of'>) {
    this.#kinds = kinds;
  }

  /** A message was admitted: its parts may be left out of others. */
  note(message: Message): void {
    for (const { name, value } of this.#partsOf(message)) {
      const known = this.#parts.get(name) ?? value;
      this.#parts.delete(name);
      this.#parts.set(name, known);
      if (this.#parts.size > PARTS) this.#parts.delete(this.#parts.keys().next().value!);
    }
  }

  /** Those at hand, to be put back into what is sent without them: also if they make room meanwhile. */
  atHand(): PartsAtHand {
    return new PartsAtHand(new Map(this.#parts));
  }

  /** The message for a reader who has the parts of these names. */
  without(message: Message, names: ReadonlySet<string>): Sent {
    if (names.size === 0) return { message };
    const left = this.#partsOf(message).filter(({ name }) => names.has(name));
    if (left.length === 0) return { message };
    const rest: Record<string, unknown> = { ...message };
    for (const { field } of left) delete rest[field];
    return { message: rest, without: Object.fromEntries(left.map(({ field, name }) => [field, name])) };
  }

  #partsOf(message: Message): { field: string; name: string; value: unknown }[] {
    return (this.#kinds.of(message).sharedFields ?? []).flatMap((field) => {
      const value = message[field];
      if (typeof value !== 'object' || value === null) return [];
      const name = this.#names.get(value) ?? nameOf(value);
      if (name === '') return [];
      this.#names.set(value, name);
      return [{ field, name, value }];
    });
  }
}

/** What a reader said that it has. */
export class PartsAtHand {
  readonly #parts: ReadonlyMap<string, unknown>;

  constructor(parts: ReadonlyMap<string, unknown>) {
    this.#parts = parts;
  }

  names(): string[] {
    return [...this.#parts.keys()];
  }

  /** The message with its parts again; undefined when one is left out that was not said to be here. */
  whole({ message, without = {} }: Sent): unknown {
    const fields = Object.entries(without);
    if (fields.length === 0 || typeof message !== 'object' || message === null) return message;
    if (fields.some(([, name]) => !this.#parts.has(name))) return undefined;
    return {
      ...message,
      ...Object.fromEntries(fields.map(([field, name]) => [field, this.#parts.get(name)])),
    };
  }
}

function nameOf(value: object): string {
  const text = canonicalize(value) ?? '';
  return text.length < MIN_PART ? '' : toHex(sha256(utf8(text))).slice(0, 16);
}
