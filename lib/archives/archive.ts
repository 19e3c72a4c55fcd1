/**
 * The check of a docker-archive (`docker save`, `podman save --format docker-archive`) against an image digest.
 *
 * The digest is the SHA-256 of the image's config, and the config lists the SHA-256 of every uncompressed layer
 * (`rootfs.diff_ids`, OCI image spec, config.md). So the digest fixes every byte that a container can see. Nothing else
 * in the archive is trusted, and nothing else is taken from it.
 *
 * The archive may lie where others can change it at any moment. So it is read once: the config into memory, and then
 * each layer on its way to whoever needs it, by `checkedLayer`, which lets its last bytes go only when all of them had the right hash.
 */
import { createHash } from 'node:crypto';
import { Type } from 'typebox';
import { COMPRESSION_MAGIC_BYTES, compressionOf } from '../protocol/compression.ts';
import { fromHex, toHex } from '../protocol/encoding.ts';
import { codeOf, DstackError } from '../protocol/errors.ts';
import { parseJson } from '../protocol/schema.ts';
import { LayerTally, type Room } from './layer.ts';
import { type ByteSource, readExactly, readTar, type TarEntry } from './tar.ts';

/** manifest.json and a config are small; more is an attack. Bytes. */
const MAX_JSON = 1024 * 1024;
export const CONFIG_IN_ARCHIVE_MAX_BYTES = MAX_JSON;
const MAX_LAYERS = 128;
const CHUNK = 1024 * 1024;

const Name = Type.String({ minLength: 1, maxLength: 512 });

/** Exactly one image; its tags are ignored. */
const IndexSchema = Type.Array(
  Type.Object({ Config: Name, Layers: Type.Array(Name, { minItems: 1, maxItems: MAX_LAYERS }) }),
  { minItems: 1, maxItems: 1 },
);

const ConfigSchema = Type.Object({
  architecture: Type.Literal('amd64'),
  os: Type.Literal('linux'),
  rootfs: Type.Object({
    type: Type.Literal('layers'),
    diff_ids: Type.Array(Type.String({ pattern: '^sha256:[0-9a-f]{64}$', maxLength: 71 }), {
      minItems: 1,
      maxItems: MAX_LAYERS,
    }),
  }),
});

/**
 * The archive has the image that was asked for, and the image is one that no node runs: whoever sent it is not to blame, and no other
 * copy of it is better.
 */
export class ImageRefused extends DstackError {}

/** An image whose config is the right one, and where an archive says that its layers are, in order: they were not read yet. */
export interface FoundImage {
  /** 64 hex digits. */
  digest: string;
  config: Uint8Array;
  layers: FoundLayer[];
}

export interface FoundLayer {
  /** What its bytes have to hash to, 64 hex digits. */
  digest: string;
  entry: TarEntry;
  /** Counted from the base. */
  position: number;
}

/**
 * Finds an image, by its digest of 64 hex digits, in an archive of this length.
 * @throws ARCHIVE_TRUNCATED, ARCHIVE_COMPRESSED, ARCHIVE_SPARSE, ARCHIVE_MALFORMED, ARCHIVE_NOT_REGULAR, ARCHIVE_LINK_ESCAPE,
 *   ARCHIVE_LINK_LOOP, ARCHIVE_DIGEST_MISMATCH, ARCHIVE_LAYER_MISMATCH for another number of layers; an ImageRefused for a config that is
 *   right, and still none
 */
export async function findImage(file: ByteSource, length: number, digest: string): Promise<FoundImage> {
  const { config, layers } = await readImage(file, length, digest);
  return { digest, config, layers };
}

/**
 * Where an image's config and each of its layers are, by their digests.
 * @throws what `findImage` throws
 */
export async function piecesOfImage(
  file: ByteSource,
  length: number,
  digest: string,
): Promise<Map<string, TarEntry>> {
  const { configEntry, layers } = await readImage(file, length, digest);
  return new Map([[digest, configEntry], ...layers.map((one) => [one.digest, one.entry] as const)]);
}

async function readImage(file: ByteSource, length: number, digest: string) {
  const entries = byName(await readTar(file, length));
  const index = await readIndex(file, length, entries);
  const configEntry = regular(entries, index.Config);
  const config = await readJson(file, length, configEntry, index.Config);
  assertConfigDigest(config, digest);
  const layers = layersOf(entries, index.Layers, layersInConfig(config));
  return { config, configEntry, layers };
}

/** Bytes of the image's layers, each counted once. */
export function layerBytes(image: FoundImage): number {
  const sizes = new Map(image.layers.map(({ digest, entry }) => [digest, entry.size]));
  return sizes.values().reduce((sum, size) => sum + size, 0);
}

/**
 * A layer's bytes, piece by piece. The last piece comes only if all of them are the layer's; so whoever has taken in as many bytes
 * as the layer has, has the layer.
 * @param room what the image's layers may take once unpacked
 * @throws ARCHIVE_LAYER_MISMATCH and ARCHIVE_COMPRESSED when they are not; ARCHIVE_TRUNCATED; and for a layer that is right,
 *   and still not one to be unpacked, an ImageRefused: ARCHIVE_COMPRESSED, ARCHIVE_FIFO, ARCHIVE_SPARSE, ARCHIVE_TOO_LARGE, ARCHIVE_MALFORMED
 */
export async function* checkedLayer(
  file: ByteSource,
  length: number,
  { digest, entry, position }: FoundLayer,
  room: Room,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  const tally = new LayerTally(digest, room);
  let start: Buffer | undefined;
  let trouble: unknown;
  let last: Buffer | undefined;
  for await (const chunk of range(file, length, entry)) {
    hash.update(chunk);
    if (start === undefined) {
      start = chunk.subarray(0, COMPRESSION_MAGIC_BYTES);
      trouble = packed(start, position);
    }
    trouble ??= troubleOf(() => tally.add(chunk));
    // Nothing more is handed on then. Still, the hash says whose fault it is: the host's, or the image's.
    if (trouble !== undefined) continue;
    if (last !== undefined) yield last;
    last = chunk;
  }
  const actual = hash.digest('hex');
  if (actual !== digest) {
    throw (
      packed(start ?? Buffer.alloc(0), position) ??
      new DstackError(
        'ARCHIVE_LAYER_MISMATCH',
        `layer ${position} of the archive hashes to ${actual}, the image has ${digest}: copy it again`,
      )
    );
  }
  trouble ??= troubleOf(() => tally.end());
  if (trouble !== undefined) throw imageRefused(trouble);
  if (last !== undefined) yield last;
}

function imageRefused(cause: unknown): ImageRefused {
  return new ImageRefused(codeOf(cause), (cause as Error).message, { cause });
}

function troubleOf(action: () => void): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Names are only compared and never used as paths; still, names that no honest tool writes are refused. */
function byName(entries: readonly TarEntry[]): Map<string, TarEntry> {
  const map = new Map<string, TarEntry>();
  for (const entry of entries) {
    if (entry.kind === 'other') {
      throw new DstackError(
        'ARCHIVE_NOT_REGULAR',
        `the archive has a device, FIFO or hard link: ${shown(entry.name)}`,
      );
    }
    const name = entry.name.replace(/^\.\//, '').replace(/\/$/, '');
    if (name.startsWith('/') || name.split('/').includes('..') || name.includes('\\')) {
      throw new DstackError(
        'ARCHIVE_MALFORMED',
        `the archive has a name that leads elsewhere: ${shown(entry.name)}`,
      );
    }
    if (map.has(name) && entry.kind !== 'directory') {
      throw new DstackError('ARCHIVE_MALFORMED', `the archive has two entries ${shown(entry.name)}`);
    }
    map.set(name, entry);
  }
  return map;
}

function regular(entries: ReadonlyMap<string, TarEntry>, name: string): TarEntry {
  const entry = entries.get(name);
  if (entry === undefined) throw new DstackError('ARCHIVE_MALFORMED', `the archive has no ${shown(name)}`);
  if (entry.kind !== 'file') {
    throw new DstackError(
      'ARCHIVE_NOT_REGULAR',
      `${shown(name)} in the archive is a ${entry.kind}, not a file`,
    );
  }
  return entry;
}

/**
 * A layer by its name. Older engines write equal layers once, and relative links to it elsewhere. A link is resolved by name
 * within the archive only: no file system ever sees it. A wrong link gains nothing, because the bytes are hashed.
 */
function layerEntry(entries: ReadonlyMap<string, TarEntry>, name: string): TarEntry {
  const seen = new Set<string>();
  let at = name;
  for (;;) {
    const entry = entries.get(at);
    if (entry?.kind !== 'symlink') return regular(entries, at);
    if (seen.has(at)) {
      throw new DstackError('ARCHIVE_LINK_LOOP', `the link ${shown(name)} in the archive leads to itself`);
    }
    seen.add(at);
    at = linked(at, entry.target ?? '');
  }
}

/** The name that a link's text refers to, relative to the link's folder. */
function linked(link: string, target: string): string {
  const parts = link.split('/').slice(0, -1);
  const escapes = () =>
    new DstackError(
      'ARCHIVE_LINK_ESCAPE',
      `the link ${shown(link)} leads out of the archive, to ${shown(target)}`,
    );
  if (target.startsWith('/')) throw escapes();
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) throw escapes();
  }
  return parts.join('/');
}

async function readIndex(file: ByteSource, length: number, entries: ReadonlyMap<string, TarEntry>) {
  const bytes = await readJson(file, length, regular(entries, 'manifest.json'), 'manifest.json');
  const index = parseJson(
    IndexSchema,
    text(bytes),
    'ARCHIVE_MALFORMED',
    "the archive's manifest.json",
    MAX_JSON,
  );
  return index[0]!;
}

async function readJson(
  file: ByteSource,
  length: number,
  entry: TarEntry,
  name: string,
): Promise<Uint8Array> {
  if (entry.size > MAX_JSON)
    throw new DstackError('ARCHIVE_MALFORMED', `${shown(name)} has ${entry.size} bytes`);
  return new Uint8Array(await readExactly(file, entry.offset, entry.size, length));
}

function assertConfigDigest(config: Uint8Array, digest: string): void {
  const actual = createHash('sha256').update(config).digest('hex');
  if (actual !== toHex(fromHex(digest, 32))) {
    throw new DstackError(
      'ARCHIVE_DIGEST_MISMATCH',
      `the archive holds image ${actual}, not ${digest}; replace the file`,
    );
  }
}

/** The SHA-256 of each layer that a config has, in order, 64 hex digits. @throws an ImageRefused for a config that is none */
export function layersInConfig(config: Uint8Array): string[] {
  try {
    const parsed = parseJson(ConfigSchema, text(config), 'ARCHIVE_MALFORMED', "the image's config", MAX_JSON);
    return parsed.rootfs.diff_ids.map((id) => id.slice('sha256:'.length));
  } catch (error) {
    throw imageRefused(error);
  }
}

function layersOf(
  entries: ReadonlyMap<string, TarEntry>,
  names: readonly string[],
  diffIds: readonly string[],
): FoundLayer[] {
  if (names.length !== diffIds.length) {
    throw new DstackError(
      'ARCHIVE_LAYER_MISMATCH',
      `the archive has ${names.length} layers, the image ${diffIds.length}`,
    );
  }
  return diffIds.map((digest, position) => ({
    digest,
    entry: layerEntry(entries, names[position]!),
    position,
  }));
}

/**
 * Some engines save compressed layers, while the image's digests are over the uncompressed ones. And a digest over a compressed one
 * is no better: the engine would decompress it, to any size.
 */
function packed(start: Buffer, position: number): DstackError | undefined {
  const found = compressionOf(start);
  if (found === undefined) return undefined;
  return new DstackError(
    'ARCHIVE_COMPRESSED',
    `layer ${position} of the archive is compressed with ${found.name}, which is not decompressed here: save the image with uncompressed layers (skopeo copy --dest-decompress, or podman save)`,
  );
}

async function* range(file: ByteSource, length: number, entry: TarEntry): AsyncGenerator<Buffer> {
  for (let at = 0; at < entry.size; at += CHUNK) {
    yield await readExactly(file, entry.offset + at, Math.min(CHUNK, entry.size - at), length);
  }
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const shown = (name: string): string => JSON.stringify(name.slice(0, 120));
