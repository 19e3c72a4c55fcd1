import { DstackError } from '../errors.ts';

/** Reads fields from bytes of a stranger, one after the other, and says which one is missing. */
export class ByteReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** A copy. @throws RECORD_TRUNCATED */
  take(length: number, what: string): Uint8Array {
    return new Uint8Array(this.#next(length, what));
  }

  byte(what: string): number {
    return this.#next(1, what)[0]!;
  }

  uint32(what: string): number {
    return this.#next(4, what).readUInt32BE();
  }

  uint48(what: string): number {
    return this.#next(6, what).readUIntBE(0, 6);
  }

  uint64(what: string): bigint {
    return this.#next(8, what).readBigUInt64BE();
  }

  /** @throws RECORD_TRAILING unless all was read */
  end(): void {
    const rest = this.#bytes.length - this.#offset;
    if (rest > 0)
      throw new DstackError('RECORD_TRAILING', `${rest} bytes after the end; send one record alone`);
  }

  #next(length: number, what: string): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.length) {
      throw new DstackError('RECORD_TRUNCATED', `the bytes end before ${what} does; fetch the whole again`);
    }
    const part = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }
}
