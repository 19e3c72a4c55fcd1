/**
 * A namespace in etcd's key space: every key `P` + what the client calls it. The client's order of keys is etcd's, and what has no end
 * ends where the namespace does.
 */
import { bytesEqual } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { APP_NAME } from '../../../lib/protocol/schema.ts';

/** `[key, rangeEnd)`; an empty end means `key` alone, an end of one zero byte all keys from `key` on. */
export interface KeyRange {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
}

/** The smallest key, and as the end of a range the sign for none. */
export const ZERO = Uint8Array.of(0);

export function isOpenEnded(rangeEnd: Uint8Array): boolean {
  return rangeEnd.length === 1 && rangeEnd[0] === 0;
}

/** No prefix is the beginning of another: each has the form of its kind, whose names have no slash. `k/`, the store's own, is none. */
const name = APP_NAME.slice(1, -1);
const PREFIX = new RegExp(`^(?:o|[ad]/${name})/$`);

export class Keyspace {
  readonly prefix: Uint8Array;
  /** The prefix as text, for maps. */
  readonly id: string;
  /** The first key after the namespace. */
  readonly end: Uint8Array;

  /** @throws KV_PREFIX for what is not `a/<name>/`, `d/<name>/` or `o/` */
  constructor(prefix: Uint8Array) {
    this.id = Buffer.from(prefix).toString('latin1');
    if (!PREFIX.test(this.id))
      throw new DstackError(
        'KV_PREFIX',
        `a namespace is a/<name>/, d/<name>/ or o/, not ${JSON.stringify(this.id)}`,
      );
    this.prefix = Uint8Array.from(prefix);
    this.end = prefixEnd(prefix);
  }

  /** Etcd's name of a client's key. */
  key(key: Uint8Array): Uint8Array {
    return joined(this.prefix, key);
  }

  /** A client's range, clipped to the namespace. */
  range({ key, rangeEnd }: KeyRange): KeyRange {
    return { key: this.key(key), rangeEnd: this.#end(rangeEnd) };
  }

  #end(rangeEnd: Uint8Array): Uint8Array {
    if (rangeEnd.length === 0) return rangeEnd;
    return isOpenEnded(rangeEnd) ? this.end : this.key(rangeEnd);
  }

  has(upstreamKey: Uint8Array): boolean {
    return (
      upstreamKey.length > this.prefix.length &&
      bytesEqual(upstreamKey.subarray(0, this.prefix.length), this.prefix)
    );
  }

  /**
   * The client's name of a key that etcd answered with.
   *
   * @throws KV_FOREIGN_KEY for one of elsewhere, which no request of this namespace may lead to
   */
  strip(upstreamKey: Uint8Array): Uint8Array {
    if (!this.has(upstreamKey))
      throw new DstackError(
        'KV_FOREIGN_KEY',
        `etcd answered ${this.id} with a key of elsewhere; nothing of it was passed on`,
      );
    return upstreamKey.subarray(this.prefix.length);
  }
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The first key after all that begin with this prefix, whose last byte is below 255. */
export function prefixEnd(prefix: Uint8Array): Uint8Array {
  // Not `slice`, which for a Buffer would be the same bytes.
  const end = Uint8Array.from(prefix);
  end[end.length - 1]! += 1;
  return end;
}
