/**
 * The wire format of 9P2000.L: frames, and the fields in them.
 *
 * Sources: Plan 9 manual, section 5 (9P2000); the Linux variant as diod's protocol.md and Linux's include/net/9p/9p.h
 * number it. Integers are little-endian; a string is a 16-bit length and UTF-8.
 */
import { DstackError } from '../../../lib/protocol/errors.ts';

/** Request types; the reply's is one more. */
export const T = {
  statfs: 8,
  lopen: 12,
  getattr: 24,
  setattr: 26,
  readdir: 40,
  fsync: 50,
  mkdir: 72,
  unlinkat: 76,
  version: 100,
  attach: 104,
  flush: 108,
  walk: 110,
  read: 116,
  write: 118,
  clunk: 120,
} as const;
/** The reply that carries an errno, to whatever request. */
export const R_ERROR = 7;

export const PROTOCOL = '9P2000.L';
/** The largest frame, in bytes; a peer may ask for less. */
export const MAX_FRAME = 65_536;
/** size[4] type[1] tag[2] */
export const HEADER_BYTES = 7;
export const QID_FOLDER = 0x80;
export const QID_FILE = 0;
/** The most names in one Twalk. */
export const MAX_WALK = 16;
/** Flag of Tunlinkat: the name is a folder's. */
export const AT_REMOVEDIR = 0x200;
/** An absent fid. */
export const NO_FID = 0xffff_ffff;

export interface Qid {
  readonly type: number;
  readonly path: number;
}

export interface Frame {
  readonly type: number;
  readonly tag: number;
  readonly body: Uint8Array;
}

/** Builds one frame, field by field. */
export class FrameWriter {
  readonly #parts: Buffer[] = [];

  uint8(value: number): this {
    return this.#push(Buffer.from([value]));
  }
  uint16(value: number): this {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value);
    return this.#push(bytes);
  }
  uint32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.#push(bytes);
  }
  uint64(value: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.#push(bytes);
  }
  string(value: string): this {
    const bytes = Buffer.from(value);
    return this.uint16(bytes.length).#push(bytes);
  }
  /** Its version is always 0, which tells Linux not to cache the file. */
  qid({ type, path }: Qid): this {
    return this.uint8(type).uint32(0).uint64(path);
  }
  /** Without a length before it. */
  bytes(value: Uint8Array): this {
    return this.#push(Buffer.from(value));
  }

  body(): Buffer {
    return Buffer.concat(this.#parts);
  }
  frame(type: number, tag: number): Buffer {
    const body = this.body();
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(HEADER_BYTES + body.length);
    header.writeUInt8(type, 4);
    header.writeUInt16LE(tag, 5);
    return Buffer.concat([header, body]);
  }

  #push(bytes: Buffer): this {
    this.#parts.push(bytes);
    return this;
  }
}

/** Reads a frame's fields. Every method @throws DstackError NINEP_FORMAT past the end. */
export class FrameReader {
  readonly #body: Buffer;
  #offset = 0;

  constructor(body: Uint8Array) {
    this.#body = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  }

  uint8(): number {
    return this.bytes(1).readUInt8();
  }
  uint16(): number {
    return this.bytes(2).readUInt16LE();
  }
  uint32(): number {
    return this.bytes(4).readUInt32LE();
  }
  uint64(): number {
    const value = this.bytes(8).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw formatError('a number is out of range');
    return Number(value);
  }
  string(): string {
    return this.bytes(this.uint16()).toString('utf8');
  }
  qid(): Qid {
    const type = this.uint8();
    this.uint32();
    return { type, path: this.uint64() };
  }
  /** A copy of the next `length` bytes. */
  bytes(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#body.length) throw formatError('a field goes past the end of its frame');
    const taken = Buffer.from(this.#body.subarray(this.#offset, end));
    this.#offset = end;
    return taken;
  }
  skip(length: number): this {
    this.bytes(length);
    return this;
  }
  get left(): number {
    return this.#body.length - this.#offset;
  }
}

/** Cuts a byte stream into frames. */
export class FrameSplitter {
  #pending: Buffer = Buffer.alloc(0);

  /** The frames that `chunk` completes. @throws DstackError NINEP_FORMAT for a size that no frame has: the stream is lost. */
  push(chunk: Uint8Array): Frame[] {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    const frames: Frame[] = [];
    while (this.#pending.length >= HEADER_BYTES) {
      const size = this.#pending.readUInt32LE(0);
      if (size < HEADER_BYTES || size > MAX_FRAME) throw formatError(`a frame cannot have ${size} bytes`);
      if (this.#pending.length < size) break;
      frames.push({
        type: this.#pending.readUInt8(4),
        tag: this.#pending.readUInt16LE(5),
        body: Buffer.from(this.#pending.subarray(HEADER_BYTES, size)),
      });
      this.#pending = this.#pending.subarray(size);
    }
    return frames;
  }
}

function formatError(what: string): DstackError {
  return new DstackError('NINEP_FORMAT', `not ${PROTOCOL}: ${what}`);
}
