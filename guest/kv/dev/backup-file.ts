/**
 * What is in a backup, once it is decrypted: frames, each behind its length as 4 bytes.
 *
 *     {"file": NAME}, its bytes in frames of a MiB at most, an empty frame    for each file
 *     {"manifest": NOTE}                                                      at the end, and nothing after it
 *
 * The note (C2SP signed-note) names the log and the SHA-256 of each file, and is signed by the log's key: whoever can encrypt to the
 * owner of a backup can still not make one. Its text begins with words that no head of a log begins with.
 */
import { createHash } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { type NoteSigner, openNote, signNote } from '../../../lib/ledger/note.ts';
import { toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { HexOf, parseJson, Strict } from '../../../lib/protocol/schema.ts';
import { FILES } from '../ledger/log-files.ts';
import { LogNameSchema } from './log.ts';

export const SNAPSHOT = 'snapshot';
const NAMES: readonly string[] = [...FILES, SNAPSHOT];
const TITLE = 'dstack kv backup v1';
const MAX_FRAME = 1024 * 1024;
const MAX_NOTE = 64 * 1024;

const ManifestSchema = Strict({
  name: LogNameSchema,
  files: Type.Record(Type.String({ pattern: '^[a-z0-9]{1,16}$' }), HexOf(32), {
    maxProperties: NAMES.length,
  }),
});
type Manifest = Static<typeof ManifestSchema>;
const FileSchema = Strict({ file: Type.String({ maxLength: 16 }) });
const EndSchema = Strict({ manifest: Type.String({ maxLength: MAX_NOTE }) });
const HeaderSchema = Type.Union([FileSchema, EndSchema]);

export interface BackupPart {
  readonly name: string;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** @param parts every file of the ledger, and the snapshot */
export async function* backupFrames(
  name: Manifest['name'],
  parts: AsyncIterable<BackupPart>,
  signer: NoteSigner,
): AsyncGenerator<Uint8Array> {
  const files: Manifest['files'] = {};
  for await (const part of parts) {
    const hash = createHash('sha256');
    yield framed(utf8(JSON.stringify({ file: part.name })));
    for await (const chunk of part.chunks)
      for (let at = 0; at < chunk.length; at += MAX_FRAME) {
        const piece = chunk.subarray(at, at + MAX_FRAME);
        hash.update(piece);
        yield framed(piece);
      }
    yield framed(new Uint8Array());
    files[part.name] = toHex(hash.digest());
  }
  const text = `${TITLE}\n${JSON.stringify({ name, files } satisfies Manifest)}\n`;
  yield framed(utf8(JSON.stringify({ manifest: signNote(text, [signer]) })));
}

/** Where the files go. */
export interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/**
 * Reads a backup, and gives each file to a sink. Nothing of it may be believed before this returns.
 * @param signerOf the key that has to have signed it, by what it says of itself
 * @returns the name of the log
 * @throws KV_BACKUP for bytes that are no backup, KV_BACKUP_OTHER for one that another key signed
 */
export async function readBackup(
  chunks: AsyncIterable<Uint8Array>,
  sinkFor: (name: string) => Promise<Sink>,
  signerOf: (name: Manifest['name']) => NoteSigner,
): Promise<Manifest['name']> {
  const frames = framesOf(chunks);
  const found = new Map<string, string>();
  for (;;) {
    const header = parseJson(
      HeaderSchema,
      textOf(await next(frames)),
      'KV_BACKUP',
      'a part of the backup',
      MAX_FRAME,
    );
    if ('manifest' in header) {
      if (!(await frames.next()).done) throw invalid('something follows its end');
      return requireManifest(header.manifest, found, signerOf);
    }
    const { file } = header;
    if (!NAMES.includes(file) || found.has(file))
      throw invalid(`it has a file ${JSON.stringify(file)} that is not expected`);
    const sink = await sinkFor(file);
    const hash = createHash('sha256');
    try {
      for (let bytes = await next(frames); bytes.length > 0; bytes = await next(frames)) {
        hash.update(bytes);
        await sink.write(bytes);
      }
    } finally {
      await sink.close();
    }
    found.set(file, toHex(hash.digest()));
  }
}

function requireManifest(
  note: string,
  found: ReadonlyMap<string, string>,
  signerOf: (name: Manifest['name']) => NoteSigner,
): Manifest['name'] {
  const [title, json = '', rest] = note.split('\n');
  if (title !== TITLE || rest !== '') throw invalid('its manifest is of another kind');
  const manifest = parseJson(ManifestSchema, json, 'KV_BACKUP', 'the manifest of the backup', MAX_NOTE);
  const { name } = signerOf(manifest.name);
  try {
    openNote(note, [signerOf(manifest.name)]);
  } catch (cause) {
    throw new DstackError(
      'KV_BACKUP_OTHER',
      `the backup says that it is of ${name}, and was not made with this secret: it is of another store, or forged`,
      { cause },
    );
  }
  const isWhole = NAMES.every(
    (file) => found.get(file) !== undefined && found.get(file) === manifest.files[file],
  );
  if (!isWhole) throw invalid('its files are not those that it was signed over');
  return manifest.name;
}

async function* framesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = Buffer.alloc(0);
  for await (const chunk of chunks) {
    held = Buffer.concat([held, chunk]);
    for (;;) {
      if (held.length < 4) break;
      const length = held.readUInt32BE();
      if (length > MAX_FRAME) throw invalid(`it has a part of ${length} bytes`);
      if (held.length < 4 + length) break;
      yield held.subarray(4, 4 + length);
      held = held.subarray(4 + length);
    }
  }
  if (held.length > 0) throw invalid('it ends within a part');
}

async function next(frames: AsyncGenerator<Uint8Array>): Promise<Uint8Array> {
  const { value, done } = await frames.next();
  if (done) throw invalid('it ends too early');
  return value;
}

function framed(bytes: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(4 + bytes.length);
  frame.writeUInt32BE(bytes.length);
  frame.set(bytes, 4);
  return frame;
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

const invalid = (why: string) => new DstackError('KV_BACKUP', `this is no backup of a store: ${why}`);
