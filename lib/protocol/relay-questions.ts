/**
 * What relays ask each other for beside messages, over the wire of records: parts of the files of apps, and the files of the audit's archive. Each
 * question and answer is a few bytes of one form; integers are big-endian. docs/records.md has the table.
 *
 * Nothing is believed of an answer: what a part is, its file's digest says (sha256-parts.ts), and what an archived file is, its own content does.
 */
import { DstackError } from './errors.ts';
import { PART_BYTES, STATE_BYTES } from './sha256-parts.ts';

const VERSION = 1;
const DIGEST_BYTES = 32;
/** Instead of a part's number: the last one, for who does not know how many there are. */
export const LAST_PART = 0xffff_ffff;
/** Of an archived file. */
export const MAX_NAME_BYTES = 200;
/** Names in one answer, and their bytes with the lengths. */
export const MAX_NAMES = 1000;
const MAX_NAMES_BYTES = 100_000;

/** The kinds of files of apps, by their number; 1 and 2 are one piece each, the pieces of an archive are its image's config and layers. */
export const PIECE_KINDS = { manifests: 1, secrets: 2, archives: 3 } as const;
export type PieceKind = keyof typeof PIECE_KINDS;

/** Hashes are 64 hex digits. */
export type RelayQuestion =
  /** @property of which file: its name @property piece the SHA-256 of the bytes that are asked for @property part from 0, or LAST_PART */
  | {
      readonly kind: 'part';
      readonly of: PieceKind;
      readonly name: string;
      readonly piece: string;
      readonly part: number;
    }
  /** The archive's names after this one, in their order. */
  | { readonly kind: 'names'; readonly after: string }
  /** A file of the archive, from this byte on. */
  | { readonly kind: 'archived'; readonly name: string; readonly at: number };

/** A part of a piece of this length, and SHA-256's state before it. */
export interface PartAnswer {
  readonly length: number;
  readonly state: Uint8Array;
  readonly bytes: Uint8Array;
}

/** As much of a file of this length as comes at once. */
export interface ArchivedAnswer {
  readonly length: number;
  readonly bytes: Uint8Array;
}

export function encodeQuestion(question: RelayQuestion): Uint8Array {
  switch (question.kind) {
    case 'part': {
      const { of, name, piece, part } = question;
      return joined([VERSION, 1, PIECE_KINDS[of]], hex(name), hex(piece), uint(part, 4));
    }
    case 'names':
      return joined([VERSION, 2], Buffer.from(question.after));
    case 'archived':
      return joined([VERSION, 3], uint(question.at, 4), Buffer.from(question.name));
  }
}

/** @throws RELAY_QUESTION for what is none, or of another version */
export function decodeQuestion(bytes: Uint8Array): RelayQuestion {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (body.length < 2 || body[0] !== VERSION) throw noQuestion();
  const [kind, rest] = [body[1], body.subarray(2)];
  if (kind === 1) {
    const of = (Object.keys(PIECE_KINDS) as PieceKind[]).find((one) => PIECE_KINDS[one] === rest[0]);
    if (of === undefined || rest.length !== 1 + 2 * DIGEST_BYTES + 4) throw noQuestion();
    const [name, piece] = [rest.toString('hex', 1, 33), rest.toString('hex', 33, 65)];
    return { kind: 'part', of, name, piece, part: rest.readUInt32BE(65) };
  }
  if (kind === 2 && rest.length <= MAX_NAME_BYTES) return { kind: 'names', after: rest.toString() };
  if (kind === 3 && rest.length > 4 && rest.length <= 4 + MAX_NAME_BYTES) {
    return { kind: 'archived', at: rest.readUInt32BE(0), name: rest.toString('utf8', 4) };
  }
  throw noQuestion();
}

export const encodePart = ({ length, state, bytes }: PartAnswer): Uint8Array =>
  joined(uint(length, 6), state, bytes);

/** @throws RELAY_ANSWER */
export function decodePart(bytes: Uint8Array): PartAnswer {
  const body = Buffer.from(bytes);
  if (body.length < 6 + STATE_BYTES || body.length > 6 + STATE_BYTES + PART_BYTES) throw noAnswer();
  const content = new Uint8Array(body);
  return {
    length: body.readUIntBE(0, 6),
    state: content.subarray(6, 6 + STATE_BYTES),
    bytes: content.subarray(6 + STATE_BYTES),
  };
}

/** As many of the first of them as one answer holds; a byte more, so that none at all is an answer too. */
export function encodeNames(names: readonly string[]): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(VERSION)];
  let size = 1;
  for (const name of names.slice(0, MAX_NAMES)) {
    const text = Buffer.from(name);
    size += 1 + text.length;
    if (text.length > MAX_NAME_BYTES || size > MAX_NAMES_BYTES) break;
    parts.push(Uint8Array.of(text.length), text);
  }
  return joined(...parts);
}

/** In order, each once, and all after the one that was named. @throws RELAY_ANSWER */
export function decodeNames(bytes: Uint8Array, after: string): string[] {
  const body = Buffer.from(bytes);
  if (body[0] !== VERSION) throw noAnswer();
  const names: string[] = [];
  for (let at = 1; at < body.length; ) {
    const end = at + 1 + body[at]!;
    const name = body.toString('utf8', at + 1, end);
    if (end > body.length || name <= (names.at(-1) ?? after) || names.length === MAX_NAMES) throw noAnswer();
    names.push(name);
    at = end;
  }
  return names;
}

export const encodeArchived = ({ length, bytes }: ArchivedAnswer): Uint8Array =>
  joined(uint(length, 4), bytes);

/** @throws RELAY_ANSWER */
export function decodeArchived(bytes: Uint8Array): ArchivedAnswer {
  if (bytes.length < 4 || bytes.length > 4 + PART_BYTES) throw noAnswer();
  return { length: Buffer.from(bytes).readUInt32BE(0), bytes: bytes.slice(4) };
}

const joined = (...parts: (Uint8Array | readonly number[])[]): Uint8Array =>
  new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));

const hex = (digits: string): Uint8Array => Buffer.from(digits, 'hex');

function uint(value: number, length: 4 | 6): Uint8Array {
  const bytes = Buffer.alloc(length);
  bytes.writeUIntBE(value, 0, length);
  return bytes;
}

const noQuestion = (): DstackError =>
  new DstackError('RELAY_QUESTION', 'this is no question between relays, or one of a later release');
const noAnswer = (): DstackError =>
  new DstackError('RELAY_ANSWER', 'what the relay sent is no answer to what it was asked: ask another');
