/**
 * Signed notes (C2SP signed-note): text, an empty line, and a line for each signature. A verifier key names who signs and by which key:
 * `name+hash+base64(type ‖ public key)`, as Go's sumdb prints it. Ed25519 only (type 1).
 */
import { publicKeyOfApp, signWith, verifySignature } from '../protocol/app-keys.ts';
import { bytesEqual, utf8 } from '../protocol/encoding.ts';
import { DstackError } from '../protocol/errors.ts';
import { sha256Of } from './merkle.ts';

const ED25519 = 1;
const MAX_NOTE_BYTES = 64 * 1024;
const MAX_SIGNATURES = 64;

export interface NoteKey {
  readonly name: string;
  /** 32 bytes, RFC 8032. */
  readonly publicKey: Uint8Array;
}

export interface NoteSigner extends NoteKey {
  /** The Ed25519 seed, 32 bytes. */
  readonly seed: Uint8Array;
}

export interface NoteSignature {
  readonly name: string;
  /** 4 bytes. */
  readonly keyId: Uint8Array;
  readonly signature: Uint8Array;
}

export interface Note {
  /** With the newline at its end. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

export function noteSigner(name: string, seed: Uint8Array): NoteSigner {
  requireName(name);
  return { name, seed, publicKey: publicKeyOfApp('ed25519', seed) };
}

/** SHA-256(name ‖ 0x0a ‖ type ‖ public key), the first 4 bytes. */
export function keyIdOf({ name, publicKey }: NoteKey): Uint8Array {
  return sha256Of(Buffer.concat([utf8(`${name}\n`), Uint8Array.of(ED25519), publicKey])).subarray(0, 4);
}

export function verifierKey(key: NoteKey): string {
  const id = Buffer.from(keyIdOf(key)).toString('hex');
  return `${key.name}+${id}+${base64(Uint8Array.of(ED25519, ...key.publicKey))}`;
}

/** @throws VKEY_INVALID for what is no Ed25519 verifier key, or names another hash than its key's */
export function parseVerifierKey(text: string): NoteKey {
  const [name = '', id = '', encoded = '', ...rest] =
    text.split('+').length > 3 ? splitKey(text) : text.split('+');
  const bytes = fromBase64(encoded);
  if (!isName(name) || bytes?.length !== 33 || bytes[0] !== ED25519 || rest.length > 0) {
    throw new DstackError('VKEY_INVALID', 'a verifier key is NAME+HASH+KEY, the key of Ed25519');
  }
  const key = { name, publicKey: bytes.subarray(1) };
  if (Buffer.from(keyIdOf(key)).toString('hex') !== id) {
    throw new DstackError('VKEY_INVALID', `the verifier key's hash ${id} is not that of its name and key`);
  }
  return key;
}

/** Base64 may have a plus of its own; a name and a hash have none. */
function splitKey(text: string): string[] {
  const [name = '', id = ''] = text.split('+', 2);
  return [name, id, text.slice(name.length + id.length + 2)];
}

/** The note with the signatures of all signers. @throws NOTE_INVALID for text that no note may have */
export function signNote(text: string, signers: readonly NoteSigner[]): string {
  requireText(text);
  const lines = signers.map((signer) => {
    const signature = signWith('ed25519', signer.seed, utf8(text));
    return `— ${signer.name} ${base64(Uint8Array.of(...keyIdOf(signer), ...signature))}\n`;
  });
  return `${text}\n${lines.join('')}`;
}

/** The note's parts, unverified. @throws NOTE_INVALID */
export function parseNote(note: string): Note {
  if (Buffer.byteLength(note) > MAX_NOTE_BYTES) throw invalid(`it is larger than ${MAX_NOTE_BYTES} bytes`);
  const end = note.lastIndexOf('\n\n');
  if (end < 0) throw invalid('it has no empty line before signatures');
  const text = note.slice(0, end + 1);
  requireText(text);
  const lines = note.slice(end + 2).split('\n');
  if (lines.pop() !== '' || lines.length === 0) throw invalid('it does not end with signature lines');
  if (lines.length > MAX_SIGNATURES) throw invalid(`it has more than ${MAX_SIGNATURES} signatures`);
  return { text, signatures: lines.map(parseSignature) };
}

/**
 * The text of a note that at least one of the keys signed. Signatures of others are ignored; one that a key given is named for must be its own.
 * @throws NOTE_INVALID, NOTE_UNSIGNED, NOTE_SIGNATURE
 */
export function openNote(note: string, keys: readonly NoteKey[]): Note {
  const parsed = parseNote(note);
  let signed = 0;
  for (const { name, keyId, signature } of parsed.signatures) {
    const key = keys.find((known) => known.name === name && bytesEqual(keyIdOf(known), keyId));
    if (key === undefined) continue;
    if (!verifySignature('ed25519', utf8(parsed.text), signature, key.publicKey)) {
      throw new DstackError('NOTE_SIGNATURE', `the note's signature by ${name} is not of that key`);
    }
    signed += 1;
  }
  if (signed === 0) {
    const names = keys.map(({ name }) => name).join(', ');
    throw new DstackError('NOTE_UNSIGNED', `the note has no signature by ${names}`);
  }
  return parsed;
}

function parseSignature(line: string): NoteSignature {
  const [name = '', encoded = '', ...rest] = line.startsWith('— ') ? line.slice(2).split(' ') : [];
  const bytes = fromBase64(encoded);
  if (!isName(name) || bytes === undefined || bytes.length < 5 || rest.length > 0) {
    throw invalid('a line after its text is no signature');
  }
  return { name, keyId: bytes.subarray(0, 4), signature: bytes.subarray(4) };
}

/** Standard base64 in its only spelling; undefined for anything else. */
export function fromBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  return text !== '' && bytes.toString('base64') === text ? new Uint8Array(bytes) : undefined;
}

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

const isName = (name: string): boolean => name !== '' && !/[\p{White_Space}+\p{Cc}]/u.test(name);

function requireName(name: string): void {
  if (!isName(name)) throw new DstackError('NOTE_NAME', `not the name of a key: ${JSON.stringify(name)}`);
}

function requireText(text: string): void {
  if (!text.endsWith('\n')) throw invalid('its text does not end with a newline');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u0009\u000b-\u001f]/.test(text)) throw invalid('it holds control characters');
  if (text.includes('\ufffd') || !text.isWellFormed()) throw invalid('it is not UTF-8');
}

const invalid = (why: string) => new DstackError('NOTE_INVALID', `not a signed note: ${why}`);
