/**
 * The wire form of protobuf (protobuf.dev/programming-guides/encoding), written and read field by field.
 *
 * Not by generated code: what is signed has to be the same bytes for ever, with the fields that CometBFT's own generator always writes
 * (an empty block id, a timestamp) and without those that it never writes, and what is read has to be refused wherever two readers
 * could see different values. So each field may come once, and one that a message does not have is an error, not ignored.
 */
import { DstackError } from '../protocol/errors.ts';

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

/** Ten are the most that a message of the protocol has; to read a mebibyte of tiny ones would hold up every other chain. */
const MAX_FIELDS = 16;
/** Of a varint of 64 bits. */
const MAX_VARINT_BYTES = 10;

/** Fields in the order of the calls; numbers are omitted when zero and bytes when empty, as proto3 has it. */
export class Writer {
  readonly #parts: Uint8Array[] = [];

  /** int32, int64, uint32 or an enum; negative ones take ten bytes. */
  integer(field: number, value: bigint | number): this {
    const wide = BigInt(value);
    if (wide === 0n) return this;
    return this.#push(tag(field, VARINT), varint(BigInt.asUintN(64, wide)));
  }

  sfixed64(field: number, value: bigint | number): this {
    const wide = BigInt(value);
    if (wide === 0n) return this;
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, wide, true);
    return this.#push(tag(field, FIXED64), bytes);
  }

  bytes(field: number, value: Uint8Array): this {
    return value.length === 0 ? this : this.message(field, value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  /** Written when empty too: that a message is there says something. */
  message(field: number, value: Uint8Array): this {
    return this.#push(tag(field, BYTES), varint(BigInt(value.length)), value);
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }

  #push(...parts: Uint8Array[]): this {
    this.#parts.push(...parts);
    return this;
  }
}

const tag = (field: number, type: number): Uint8Array => varint(BigInt(field * 8 + type));

export function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** With its length before it, as everything goes over a connection and as everything is signed. */
export function delimited(message: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([varint(BigInt(message.length)), message]));
}

/** The message behind its length. @throws COMETBFT_MALFORMED unless that is all there is */
export function undelimited(bytes: Uint8Array): Uint8Array {
  const length = readVarint(bytes, 0);
  if (length === undefined || length.value !== BigInt(bytes.length - length.next)) {
    throw malformed('the length before the message is not its length');
  }
  return bytes.subarray(length.next);
}

/** `undefined` when the bytes end within it. @throws COMETBFT_MALFORMED for one that is longer than it can be */
export function readVarint(bytes: Uint8Array, at: number): { value: bigint; next: number } | undefined {
  let value = 0n;
  for (let n = 0; n < MAX_VARINT_BYTES; n += 1) {
    const byte = bytes[at + n];
    if (byte === undefined) return undefined;
    value |= BigInt(byte & 0x7f) << BigInt(7 * n);
    if (byte < 0x80) {
      if (value >= 1n << 64n) break;
      return { value, next: at + n + 1 };
    }
  }
  throw malformed('a varint has more than 64 bits');
}

interface Field {
  readonly type: number;
  readonly value: bigint | Uint8Array;
}

/** The fields of one message. Each is taken once by its reader, and `end` refuses what was not taken. */
export class Reader {
  readonly #what: string;
  readonly #fields = new Map<number, Field>();

  /** @param what for errors. @throws COMETBFT_MALFORMED */
  constructor(bytes: Uint8Array, what: string) {
    this.#what = what;
    for (let at = 0; at < bytes.length; ) {
      const key = this.#varint(bytes, at);
      const field = Number(key.value >> 3n);
      if (field < 1 || field > 536_870_911) throw malformed(`${what} has a field ${field}`);
      if (this.#fields.has(field)) throw malformed(`${what} has field ${field} twice`);
      if (this.#fields.size === MAX_FIELDS) throw malformed(`${what} has more than ${MAX_FIELDS} fields`);
      const type = Number(key.value & 7n);
      const { value, next } = this.#value(bytes, key.next, type);
      this.#fields.set(field, { type, value });
      at = next;
    }
  }

  #value(bytes: Uint8Array, at: number, type: number): { value: bigint | Uint8Array; next: number } {
    if (type === VARINT) return this.#varint(bytes, at);
    const length = type === BYTES ? this.#varint(bytes, at) : { value: 8n, next: at };
    if (type !== BYTES && type !== FIXED64) throw malformed(`${this.#what} has a field of wire type ${type}`);
    if (length.value > BigInt(bytes.length - length.next)) throw malformed(`${this.#what} is cut short`);
    const next = length.next + Number(length.value);
    const value = bytes.subarray(length.next, next);
    if (type === BYTES) return { value, next };
    return { value: new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true), next };
  }

  #varint(bytes: Uint8Array, at: number): { value: bigint; next: number } {
    const read = readVarint(bytes, at);
    if (read === undefined) throw malformed(`${this.#what} is cut short`);
    return read;
  }

  /** Numbers of the fields that were not taken yet. */
  get left(): readonly number[] {
    return [...this.#fields.keys()];
  }

  /** As int64. */
  int64(field: number): bigint {
    return BigInt.asIntN(64, (this.#take(field, VARINT) as bigint | undefined) ?? 0n);
  }

  int32(field: number): number {
    return this.#within(field, -(2n ** 31n), 2n ** 31n - 1n);
  }

  uint32(field: number): number {
    return this.#within(field, 0n, 2n ** 32n - 1n);
  }

  boolean(field: number): boolean {
    return this.#within(field, 0n, 1n) === 1;
  }

  #within(field: number, least: bigint, most: bigint): number {
    const value = this.int64(field);
    if (value < least || value > most) throw malformed(`${this.#what}: field ${field} is out of range`);
    return Number(value);
  }

  bytes(field: number): Uint8Array {
    return this.message(field) ?? new Uint8Array();
  }

  text(field: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytes(field));
    } catch (cause) {
      if (cause instanceof DstackError) throw cause;
      throw malformed(`${this.#what}: field ${field} is not UTF-8`);
    }
  }

  /** Undefined when it is not there. */
  message(field: number): Uint8Array | undefined {
    return this.#take(field, BYTES) as Uint8Array | undefined;
  }

  #take(field: number, type: number): bigint | Uint8Array | undefined {
    const found = this.#fields.get(field);
    this.#fields.delete(field);
    if (found !== undefined && found.type !== type) {
      throw malformed(`${this.#what}: field ${field} has another type`);
    }
    return found?.value;
  }

  /** @throws COMETBFT_FIELD_UNKNOWN when a field is there that nobody took */
  end(): void {
    const [field] = this.#fields.keys();
    if (field === undefined) return;
    throw new DstackError(
      'COMETBFT_FIELD_UNKNOWN',
      `${this.#what} has field ${field}, which it has not in this protocol version: is protocol_version the node's?`,
    );
  }
}

export function malformed(why: string): DstackError {
  return new DstackError('COMETBFT_MALFORMED', why);
}
