/** JSON as the gateway takes it: one object after the other, and integers of 64 bits that stay what they are. */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { requireUniqueKeys } from '../../../lib/protocol/json.ts';

const OPEN = 0x7b;
const CLOSE = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Space, tab, line feed, carriage return. */
const BLANK: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);

/** Cuts a stream of bytes into its objects. */
export class JsonObjects {
  readonly #most: number;
  #parts: Buffer[] = [];
  #length = 0;
  #depth = 0;
  #since: number | undefined;
  #quoted = false;
  #escaped = false;

  constructor(most: number) {
    this.#most = most;
  }

  /** Of an object that is not complete. */
  get length(): number {
    return this.#length;
  }

  /** Since when an object has been coming that is not complete. */
  get since(): number | undefined {
    return this.#since;
  }

  /** The texts of the objects that this chunk completes. @throws RpcError for what is between objects and for one that is too large */
  *push(chunk: Buffer): Generator<string> {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (this.#depth === 0) {
        if (byte === OPEN) {
          start = at;
          this.#depth = 1;
          this.#since = performance.now();
        } else if (!BLANK.has(byte)) throw new RpcError(status.invalidArgument, 'a request is a JSON object');
        continue;
      }
      if (!this.#within(byte)) continue;
      this.#keep(chunk.subarray(start, at + 1));
      const text = Buffer.concat(this.#parts).toString('utf8');
      this.#parts = [];
      this.#length = 0;
      this.#since = undefined;
      start = at + 1;
      yield text;
    }
    if (this.#depth > 0) this.#keep(chunk.subarray(start));
  }

  /** Follows one byte within an object; whether it ends the object. */
  #within(byte: number): boolean {
    if (this.#quoted) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#quoted = false;
    } else if (byte === QUOTE) this.#quoted = true;
    else if (byte === OPEN) this.#depth++;
    else if (byte === CLOSE) this.#depth--;
    return this.#depth === 0;
  }

  #keep(part: Buffer): void {
    this.#length += part.length;
    if (this.#length > this.#most) throw new RpcError(status.resourceExhausted, 'the JSON is too large');
    this.#parts.push(part);
  }
}

/**
 * JSON.parse, but an integer that a double would round is a string, which is how proto3 writes it anyway, and a field that is there twice is refused,
 * as etcd does.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text, (_key, value: unknown, context?: { source: string }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '')
      ? context!.source
      : value,
  );
  requireUniqueKeys(text);
  return value;
}
