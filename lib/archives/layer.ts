/**
 * What a layer will take once it is unpacked, read from its headers as it goes by. Its bytes are the image's own, but unpacked it
 * may be many times as large: small files, of which each takes a page of memory, and sparse ones, which take as much as they say.
 */
import { alignUp } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import {
  assertChecksum,
  BLOCK,
  cString,
  type Extended,
  isZero,
  malformed,
  number,
  parsePax,
  shortName,
  typeOf,
} from './tar.ts';

/** A file's content is kept in pages; and each entry is known to the kernel by something of about this size. Bytes. */
const PAGE = 4096;
const ENTRY = 1024;
/** Extended headers hold extended attributes too. Bytes. */
const MAX_EXTENDED = 1024 * 1024;
/** Types without content, whatever size they claim: links, devices, folders, FIFOs. */
const HEADER_ONLY = '123456';
const FIFO = '6';

/** What the layers of one image may take together. */
export class Room {
  readonly #bytes: number;
  /** By the layer's digest: one that is read again takes no more. */
  readonly #taken = new Map<string, number>();

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** @throws ARCHIVE_TOO_LARGE */
  take(layer: string, bytes: number): void {
    this.#taken.set(layer, bytes);
    const all = this.#taken.values().reduce((sum, one) => sum + one, 0);
    if (all <= this.#bytes) return;
    throw new DstackError(
      'ARCHIVE_TOO_LARGE',
      `unpacked, the image is larger than the ${this.#bytes} bytes for which there is room`,
    );
  }
}

/** An extended header on its way. */
interface Collected {
  type: string;
  body: Buffer;
  has: number;
  /** Bytes up to the next block. */
  padding: number;
}

/** Follows one layer, whose bytes come in pieces of any size. */
export class LayerTally {
  readonly #layer: string;
  readonly #room: Room;
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  /** Bytes of content still to come. */
  #skip = 0;
  #extended: Extended = {};
  #collected: Collected | undefined;
  #isOver = false;
  #unpacked = 0;

  constructor(layer: string, room: Room) {
    this.#layer = layer;
    this.#room = room;
  }

  /** @throws ARCHIVE_SPARSE, ARCHIVE_FIFO, ARCHIVE_TOO_LARGE, ARCHIVE_MALFORMED */
  add(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && !this.#isOver; ) at += this.#some(chunk.subarray(at));
  }

  /** To be called after the last piece. @throws ARCHIVE_MALFORMED when it ends within an entry */
  end(): void {
    if (this.#filled > 0 || this.#skip > 0 || this.#collected !== undefined)
      throw malformed('a layer ends within an entry');
  }

  /** Takes what belongs to one part of the archive; returns how much that was. */
  #some(bytes: Buffer): number {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, bytes.length);
      this.#skip -= skipped;
      return skipped;
    }
    if (this.#collected !== undefined) return this.#collect(this.#collected, bytes);
    const copied = bytes.copy(this.#block, this.#filled);
    this.#filled += copied;
    if (this.#filled === BLOCK) {
      this.#filled = 0;
      this.#header(this.#block);
    }
    return copied;
  }

  #header(header: Buffer): void {
    if (isZero(header)) {
      this.#isOver = true;
      return;
    }
    assertChecksum(header, 0);
    const type = typeOf(header);
    const claimed = number(header, 124, 12);
    if ('xgLK'.includes(type)) {
      if (claimed > MAX_EXTENDED) throw malformed(`an extended header of a layer has ${claimed} bytes`);
      this.#take(claimed);
      const padding = alignUp(claimed, BLOCK) - claimed;
      this.#collected = { type, body: Buffer.alloc(claimed), has: 0, padding };
      if (claimed === 0) this.#extend(this.#collected);
      return;
    }
    // Whoever opens one waits for ever: also the engine, for what it reads of an image by itself, and its runtime for the time's zone.
    if (type === FIFO)
      throw new DstackError(
        'ARCHIVE_FIFO',
        'a layer has a FIFO: let the container make it in a folder that it writes to',
      );
    const size = HEADER_ONLY.includes(type) ? 0 : (this.#extended.size ?? claimed);
    // Each that is given, and not the one that counts: readers disagree which of several does, and what an empty one means.
    assertInside(shortName(header));
    assertInside(this.#extended.name ?? '');
    if (type === '1') {
      assertInside(cString(header.subarray(157, 257)));
      assertInside(this.#extended.target ?? '');
    }
    this.#extended = {};
    this.#take(ENTRY + alignUp(size, PAGE));
    this.#skip = alignUp(size, BLOCK);
  }

  /** Extended attributes too are in memory, and the file system counts them as nothing. */
  #take(bytes: number): void {
    this.#unpacked += bytes;
    this.#room.take(this.#layer, this.#unpacked);
  }

  #collect(into: Collected, bytes: Buffer): number {
    const copied = bytes.copy(into.body, into.has);
    into.has += copied;
    if (into.has === into.body.length) this.#extend(into);
    return copied;
  }

  #extend({ type, body, padding }: Collected): void {
    this.#collected = undefined;
    this.#skip = padding;
    assertInside(this.#extended.name ?? '');
    if (type === 'x') this.#extended = { ...this.#extended, ...parsePax(body) };
    if (type === 'L') this.#extended = { ...this.#extended, name: cString(body) };
    if (type === 'K') this.#extended = { ...this.#extended, target: cString(body) };
  }
}

/** Of an entry's name, or a hard link's. Symbolic links may say anything: they are followed within the container. */
function assertInside(name: string): void {
  if (!name.split('/').includes('..')) return;
  throw malformed(`a layer has a name that leads elsewhere: ${JSON.stringify(name.slice(0, 120))}`);
}
