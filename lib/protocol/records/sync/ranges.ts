/** Messages of negentropy v1 as bytes: https://github.com/hoytech/negentropy, docs/negentropy-protocol-v1.md. The words in quotes are its chapters'. */
import { DstackError } from '../../errors.ts';
import { ID_BYTES } from '../format.ts';
import { FINGERPRINT_BYTES } from './item-set.ts';
import { BEGINNING, END, placeOf, prefixAt, timestampAt } from './places.ts';
import { decodeVarint, encodeVarint } from './varint.ts';

export const NEGENTROPY_VERSION = 0x61;
const MODES = { skip: 0n, fingerprint: 1n, ids: 2n } as const;

export type Contents =
  | { readonly kind: 'skip' }
  | { readonly kind: 'fingerprint'; readonly fingerprint: Uint8Array }
  | { readonly kind: 'ids'; readonly ids: readonly Uint8Array[] };

/** @property upper the place behind its last; its first is the upper bound of the range before */
export type Range = Contents & { readonly upper: Uint8Array };

/** No range but one of identities takes more: a time, a whole identity, a mode, a fingerprint. */
export const MAX_RANGE_BYTES = 10 + 1 + ID_BYTES + 1 + FINGERPRINT_BYTES;

/** Writes one message, whose ranges are given in their order. */
export class RangeWriter {
  readonly #parts: Uint8Array[] = [Uint8Array.of(NEGENTROPY_VERSION)];
  #length = 1;
  #timestamp = 0n;

  get length(): number {
    return this.#length;
  }

  range(upper: Uint8Array, contents: Contents): void {
    this.#bound(upper);
    this.#push(encodeVarint(MODES[contents.kind]));
    if (contents.kind === 'fingerprint') this.#push(contents.fingerprint);
    if (contents.kind === 'ids') {
      this.#push(encodeVarint(contents.ids.length));
      for (const id of contents.ids) this.#push(id);
    }
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }

  #bound(upper: Uint8Array): void {
    if (Buffer.compare(upper, END) === 0) {
      this.#push(Uint8Array.of(0, 0));
      return;
    }
    const timestamp = timestampAt(upper);
    const prefix = prefixAt(upper);
    this.#push(encodeVarint(timestamp - this.#timestamp + 1n));
    this.#push(encodeVarint(prefix.length));
    this.#push(prefix);
    this.#timestamp = timestamp;
  }

  #push(part: Uint8Array): void {
    this.#parts.push(part);
    this.#length += part.length;
  }
}

/**
 * The ranges of a message, without the skip that its end implies. Each takes three bytes of it at least.
 * @throws SYNC_VERSION; SYNC_TRUNCATED; SYNC_VARINT; SYNC_MODE; SYNC_BOUND for bounds that do not ascend, or are none
 */
export function decodeRanges(message: Uint8Array): Range[] {
  if (message[0] !== NEGENTROPY_VERSION) {
    throw new DstackError(
      'SYNC_VERSION',
      `a reconciliation of version ${message[0] ?? 'none'}; ${NEGENTROPY_VERSION} is known here`,
    );
  }
  const reader = new RangeReader(message.subarray(1));
  const ranges: Range[] = [];
  while (!reader.isAtEnd) ranges.push(reader.range());
  return ranges;
}

class RangeReader {
  readonly #bytes: Uint8Array;
  #offset = 0;
  #timestamp = 0n;
  #lower = BEGINNING;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  range(): Range {
    const upper = this.#bound();
    if (Buffer.compare(upper, this.#lower) <= 0) {
      throw new DstackError(
        'SYNC_BOUND',
        'a range ends where it begins or before; send them in ascending order',
      );
    }
    this.#lower = upper;
    const mode = this.#varint();
    if (mode === MODES.skip) return { kind: 'skip', upper };
    if (mode === MODES.fingerprint)
      return { kind: 'fingerprint', upper, fingerprint: this.#take(FINGERPRINT_BYTES) };
    if (mode !== MODES.ids)
      throw new DstackError('SYNC_MODE', `a range of mode ${mode}; 0, 1 and 2 are known here`);
    const count = this.#varint();
    if (count * BigInt(ID_BYTES) > BigInt(this.#bytes.length - this.#offset)) throw truncated();
    return { kind: 'ids', upper, ids: Array.from({ length: Number(count) }, () => this.#take(ID_BYTES)) };
  }

  #bound(): Uint8Array {
    const encoded = this.#varint();
    const length = this.#varint();
    if (length > BigInt(ID_BYTES) || (encoded === 0n && length > 0n)) {
      throw new DstackError(
        'SYNC_BOUND',
        `a bound with ${length} bytes of an identity; it has up to ${ID_BYTES}, and infinity none`,
      );
    }
    const prefix = this.#take(Number(length));
    if (encoded === 0n) return END;
    this.#timestamp += encoded - 1n;
    // The last number is infinity's own.
    if (this.#timestamp >= timestampAt(END)) {
      throw new DstackError('SYNC_BOUND', 'a bound is behind infinity; its time has 64 bits');
    }
    return placeOf(this.#timestamp, prefix);
  }

  #varint(): bigint {
    const { value, end } = decodeVarint(this.#bytes, this.#offset);
    this.#offset = end;
    return value;
  }

  #take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw truncated();
    const part = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }
}

function truncated(): DstackError {
  return new DstackError('SYNC_TRUNCATED', 'the message ends within a range; send the whole');
}
