/** Reads little-endian fields off a byte string without ever reading past its end. */
import { type AttestationCode, AttestationError } from '../errors.ts';

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  readonly #code: AttestationCode | undefined;
  #offset = 0;

  /** `what` names the structure in messages; `code` stands in place of the QUOTE_ codes. */
  constructor(bytes: Uint8Array, what: string, code?: AttestationCode) {
    this.#bytes = bytes;
    this.#what = what;
    this.#code = code;
  }

  get offset(): number {
    return this.#offset;
  }

  /** The next `length` bytes, as a view. @throws AttestationError QUOTE_TRUNCATED */
  take(length: number, field: string): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) {
      throw new AttestationError(
        this.#code ?? 'QUOTE_TRUNCATED',
        `${this.#what} ends at byte ${this.#bytes.length}, inside ${field} (bytes ${this.#offset} to ${end})`,
      );
    }
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }

  uint16(field: string): number {
    const [low = 0, high = 0] = this.take(2, field);
    return low + high * 0x100;
  }

  uint32(field: string): number {
    return this.uint16(field) + this.uint16(field) * 0x10000;
  }

  /** What has not been read yet. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#offset);
  }

  /** @throws AttestationError QUOTE_LENGTHS unless every byte was read. */
  end(): void {
    if (this.#offset !== this.#bytes.length) {
      throw new AttestationError(
        this.#code ?? 'QUOTE_LENGTHS',
        `${this.#what} says ${this.#bytes.length} bytes, but its fields end at ${this.#offset}`,
      );
    }
  }
}
