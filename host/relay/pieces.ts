/**
 * The files of apps as relays give them by records: each is one piece or, of an archive, an image's config and its layers, by their own SHA-256. So what
 * somebody else's tool wrote around them does not matter. A piece is read part by part from where it lies; what is in memory is SHA-256's state before
 * each part, 32 bytes for 65,536. To have these, a piece is read once by this process, whoever asks for it and however many at once, and one piece at a
 * time.
 */
import type { FileHandle } from 'node:fs/promises';
import { piecesOfImage } from '../../lib/archives/archive.ts';
import { readExactly } from '../../lib/archives/tar.ts';
import type { PartAnswer, PieceKind } from '../../lib/protocol/relay-questions.ts';
import {
  FIRST_STATE,
  PART_BYTES,
  partsOf,
  STATE_BYTES,
  sizeOfPart,
  stateAfter,
} from '../../lib/protocol/sha256-parts.ts';
import type { AppFiles, OpenAppFile } from './app-files.ts';

/** Archives whose pieces are known, and bytes of states: those of 16 GiB. What was asked for longest ago goes first. */
const MOST_FILES = 256;
const MOST_STATE_BYTES = 8 * 1024 * 1024;

interface Piece {
  readonly offset: number;
  readonly length: number;
  states?: Promise<Uint8Array>;
}

interface KnownFile {
  readonly tag: string;
  /** By the SHA-256 of their bytes, in hex. */
  readonly pieces: ReadonlyMap<string, Piece>;
}

export interface WhichPart {
  readonly of: PieceKind;
  /** The file's and the piece's, 64 hex digits. */
  readonly name: string;
  readonly piece: string;
  /** From 0; the last one for any that there is not. */
  readonly part: number;
}

export class Pieces {
  readonly #files: AppFiles;
  readonly #known = new Map<string, KnownFile>();
  /** What is read to the end now; the next piece waits for it. */
  #reading: Promise<unknown> = Promise.resolve();

  constructor(files: AppFiles) {
    this.#files = files;
  }

  /** Undefined for what is not here, or not what its name says. @throws ARCHIVE_* for an archive that is none */
  async part({ of, name, piece, part }: WhichPart): Promise<PartAnswer | undefined> {
    const opened = await this.#files.open(of, name);
    if (opened === undefined) return undefined;
    const { file } = opened;
    try {
      const found = (await this.#knownFile(of, name, opened)).pieces.get(piece);
      if (found === undefined) return undefined;
      const { offset, length } = found;
      const index = Math.min(part, partsOf(length) - 1);
      const states = await this.#statesOf(found, file);
      const bytes = await readExactly(
        file,
        offset + index * PART_BYTES,
        sizeOfPart(length, index),
        opened.size,
      );
      return { length, bytes, state: states.subarray(index * STATE_BYTES, (index + 1) * STATE_BYTES) };
    } finally {
      await file.close();
    }
  }

  async #knownFile(of: PieceKind, name: string, { file, size, tag }: OpenAppFile): Promise<KnownFile> {
    // Of one part: there is nothing to remember, and it takes no archive's place.
    if (of !== 'archives') return { tag, pieces: wholePiece(name, size) };
    let known = this.#known.get(name);
    if (known?.tag !== tag) {
      const pieces = await imagePieces(file, size, name);
      // By now another may have asked for it, and have its pieces read.
      known = this.#known.get(name);
      if (known?.tag !== tag) known = { tag, pieces };
    }
    this.#known.delete(name);
    this.#known.set(name, known);
    while (this.#known.size > MOST_FILES || (this.#stateBytes > MOST_STATE_BYTES && this.#known.size > 1))
      this.#known.delete(this.#known.keys().next().value!);
    return known;
  }

  get #stateBytes(): number {
    let bytes = 0;
    for (const { pieces } of this.#known.values())
      for (const { states, length } of pieces.values())
        if (states !== undefined) bytes += partsOf(length) * STATE_BYTES;
    return bytes;
  }

  async #statesOf(piece: Piece, file: FileHandle): Promise<Uint8Array> {
    // What is small does not wait for what is large.
    if (piece.length <= PART_BYTES) return FIRST_STATE;
    // Of what could not be read, nothing is remembered.
    piece.states ??= this.#inTurn(() => readStates(file, piece)).catch((error) => {
      delete piece.states;
      throw error;
    });
    return piece.states;
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#reading.then(work, work);
    this.#reading = turn.catch(() => {});
    return turn;
  }
}

const wholePiece = (name: string, length: number): Map<string, Piece> =>
  new Map([[name, { offset: 0, length }]]);

async function imagePieces(file: FileHandle, size: number, digest: string): Promise<Map<string, Piece>> {
  const entries = await piecesOfImage(file, size, digest);
  return new Map([...entries].map(([piece, { offset, size: length }]) => [piece, { offset, length }]));
}

/** SHA-256's state before each part. What else happens in this process goes on in between. */
async function readStates(file: FileHandle, { offset, length }: Piece): Promise<Uint8Array> {
  const count = partsOf(length);
  const states = new Uint8Array(count * STATE_BYTES);
  let state: Uint8Array = FIRST_STATE;
  for (let part = 0; part < count; part += 1) {
    states.set(state, part * STATE_BYTES);
    if (part === count - 1) break;
    const bytes = await readExactly(file, offset + part * PART_BYTES, PART_BYTES, offset + length);
    state = stateAfter(state, bytes);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return states;
}
