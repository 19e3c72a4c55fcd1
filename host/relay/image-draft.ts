/**
 * An image's archive while it comes in by records, piece by piece and each from its end: where in the file each piece is, and what of it is there. The
 * archive is the plainest that a guest reads: the config, the layers, each once, and manifest.json. What is known is written beside the draft
 * after the bytes that it is about are on the disk, so that a relay that is started again goes on there. Should a disk have lost some all the
 * same, the check of the whole finds it.
 */
import { writeFileSync } from 'node:fs';
import { type FileHandle, open, readFile, rename } from 'node:fs/promises';
import { type Static, Type } from 'typebox';
import { readExactly } from '../../lib/archives/tar.ts';
import { alignUp, fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { Count, HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';
import { PART_BYTES, partsOf, STATE_BYTES } from '../../lib/protocol/sha256-parts.ts';
import { tagFile } from './app-files.ts';

const BLOCK = 512;
/** An archive ends with two blocks of zeros. */
const END = 2 * BLOCK;
/** Parts that come in before what is known is written down. */
const PARTS_NOTED = 64;
const MAX_NOTES_BYTES = 64 * 1024;

const NotesSchema = Strict({
  version: Type.Literal(1),
  /** In the order of the file. */
  pieces: Type.Array(Strict({ digest: HexOf(32), length: Count, offset: Count }), { maxItems: 200 }),
  /** Of the last of these: how many parts are to come, from its beginning. */
  left: Count,
  /** SHA-256's state behind those. */
  state: HexOf(STATE_BYTES),
});
type Notes = Static<typeof NotesSchema>;

/** A piece of which parts are to come. */
export interface Unfinished {
  readonly digest: string;
  readonly length: number;
  readonly left: number;
  /** What the last of those has to end in. */
  readonly state: Uint8Array;
}

export class ImageDraft {
  readonly #path: string;
  readonly #file: FileHandle;
  #notes: Notes;
  #sinceNoted = 0;

  private constructor(path: string, file: FileHandle, notes: Notes) {
    this.#path = path;
    this.#file = file;
    this.#notes = notes;
  }

  /** The one at this path, or a new one. The caller closes it. */
  static async open(path: string): Promise<ImageDraft> {
    const notes = await notesOf(path);
    const file = await open(path, notes === undefined ? 'w+' : 'r+', 0o644).catch(() => undefined);
    if (file !== undefined) return new ImageDraft(path, file, notes ?? NONE);
    return new ImageDraft(path, await open(path, 'w+', 0o644), NONE);
  }

  /** Bytes of the archive, if nothing were to come but what has begun. */
  get size(): number {
    return this.#end + END;
  }

  has(digest: string): boolean {
    const known = this.#notes.pieces.findIndex((piece) => piece.digest === digest);
    return known !== -1 && (known < this.#notes.pieces.length - 1 || this.#notes.left === 0);
  }

  get unfinished(): Unfinished | undefined {
    const { pieces, left, state } = this.#notes;
    const last = pieces.at(-1);
    if (last === undefined || left === 0) return undefined;
    return { digest: last.digest, length: last.length, left, state: fromHex(state, STATE_BYTES) };
  }

  /** A piece follows, of which no part is there yet. */
  begin(digest: string, length: number, state: Uint8Array): void {
    const offset = this.#end + BLOCK;
    const pieces = [...this.#notes.pieces, { digest: parseHex(digest), length, offset }];
    this.#notes = { version: 1, pieces, left: partsOf(length), state: toHex(state) };
  }

  /** The next part, from the end: it was found to be the one. @param state before it */
  async put(bytes: Uint8Array, state: Uint8Array): Promise<void> {
    const { offset } = this.#notes.pieces.at(-1)!;
    const left = this.#notes.left - 1;
    await this.#write(bytes, offset + left * PART_BYTES);
    this.#notes = { ...this.#notes, left, state: toHex(state) };
    this.#sinceNoted += 1;
    if (this.#sinceNoted >= PARTS_NOTED || left === 0) await this.note();
  }

  /** Makes durable what is there. */
  async note(): Promise<void> {
    if (this.#sinceNoted === 0) return;
    await this.#file.datasync();
    const tag = tagFile(this.#path);
    // Whole or not at all: half a note would be none, and all would come again.
    writeFileSync(`${tag}.tag`, JSON.stringify(this.#notes));
    await rename(`${tag}.tag`, tag);
    this.#sinceNoted = 0;
  }

  /** All of a piece that is there. */
  async read(digest: string): Promise<Uint8Array> {
    const { offset, length } = this.#notes.pieces.find((piece) => piece.digest === digest)!;
    return await readExactly(this.#file, offset, length, offset + length);
  }

  /** Writes what is around the pieces: an archive of an image with these layers, in their order. */
  async finish(digest: string, layers: readonly string[]): Promise<void> {
    for (const { digest: piece, length, offset } of this.#notes.pieces)
      await this.#write(headerOf(nameOf(piece, digest), length), offset - BLOCK);
    const index = utf8(
      JSON.stringify([{ Config: nameOf(digest, digest), Layers: layers.map((one) => nameOf(one, digest)) }]),
    );
    const at = this.#end;
    await this.#write(headerOf('manifest.json', index.length), at);
    await this.#write(index, at + BLOCK);
    // What is not written there reads as zeros.
    await this.#file.truncate(at + BLOCK + alignUp(index.length, BLOCK) + END);
    await this.#file.chmod(0o644);
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Behind the last piece. */
  get #end(): number {
    const last = this.#notes.pieces.at(-1);
    return last === undefined ? 0 : last.offset + alignUp(last.length, BLOCK);
  }

  async #write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }
}

const NONE: Notes = { version: 1, pieces: [], left: 0, state: toHex(new Uint8Array(STATE_BYTES)) };

const nameOf = (piece: string, image: string): string => (piece === image ? `${piece}.json` : `${piece}.tar`);

/** Of a regular file, in the ustar format (POSIX.1-1988): one block. @param name up to 100 bytes of ASCII */
function headerOf(name: string, size: number): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;
  header.write(name, 0, 100, 'latin1');
  header.write(octal(0o644, 8) + octal(0, 8) + octal(0, 8) + octal(size, 12) + octal(0, 12), 100, 'latin1');
  header.write(`${' '.repeat(8)}0`, 148, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 7)} `, 148, 'latin1');
  return header;
}

async function notesOf(path: string): Promise<Notes | undefined> {
  try {
    const text = await readFile(tagFile(path), 'utf8');
    return parseJson(NotesSchema, text, 'APP_FILE_DRAFT', 'the notes of a draft', MAX_NOTES_BYTES);
  } catch {
    return undefined;
  }
}
