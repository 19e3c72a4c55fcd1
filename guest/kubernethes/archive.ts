/**
 * The check of a docker-archive (`docker save`, `podman save --format docker-archive`) against an image digest.
 *
 * The digest is the SHA-256 of the image's config, and the config lists the SHA-256 of every uncompressed layer
 * (`rootfs.diff_ids`, OCI image spec, config.md). So the digest fixes every byte that a container can see. Nothing else
 * in the archive is trusted, and nothing else reaches the container engine: `verifiedStream` writes a new archive.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { Type } from 'typebox';
import { COMPRESSION_MAGIC_BYTES, compressionOf } from '../../lib/protocol/compression.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { readExactly, readTar, type TarEntry } from './tar.ts';

/** manifest.json and a config are small; more is an attack. Bytes. */
const MAX_JSON = 1024 * 1024;
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

/** Proof that a copy holds the image: its config and where its layers lie, in order. */
export interface VerifiedImage {
  /** 64 hex digits. */
  digest: string;
  config: Uint8Array;
  layers: { digest: string; entry: TarEntry }[];
}

/**
 * Checks a copy (see host-files.ts) against the digest, 64 hex digits.
 * @throws ARCHIVE_TRUNCATED, ARCHIVE_COMPRESSED, ARCHIVE_MALFORMED, ARCHIVE_NOT_REGULAR, ARCHIVE_LINK_ESCAPE,
 *   ARCHIVE_LINK_LOOP, ARCHIVE_DIGEST_MISMATCH, ARCHIVE_LAYER_MISMATCH
 */
export async function verifyArchive(
  file: FileHandle,
  length: number,
  digest: string,
): Promise<VerifiedImage> {
  const entries = byName(await readTar(file, length));
  const index = await readIndex(file, length, entries);
  const config = await readJson(file, length, regular(entries, index.Config), index.Config);
  assertConfigDigest(config, digest);
  const diffIds = parseConfig(config);
  const layers = await checkLayers(file, length, entries, index.Layers, diffIds);
  return { digest, config, layers };
}

/** A new docker-archive of exactly the checked bytes, under names of our own. Fails when reading the file fails. */
export function verifiedStream(file: FileHandle, length: number, image: VerifiedImage): Readable {
  const archive = pack();
  const write = async () => {
    const index = [
      {
        Config: `${image.digest}.json`,
        RepoTags: [],
        Layers: image.layers.map(({ digest }) => `${digest}.tar`),
      },
    ];
    archive.entry({ name: 'manifest.json' }, Buffer.from(utf8(JSON.stringify(index))));
    archive.entry({ name: `${image.digest}.json` }, Buffer.from(image.config));
    const written = new Set<string>();
    for (const { digest, entry } of image.layers) {
      if (written.has(digest)) continue;
      written.add(digest);
      await writeEntry(archive, `${digest}.tar`, file, length, entry);
    }
    archive.finalize();
  };
  write().catch((error: Error) => archive.destroy(error));
  return Readable.from(archive, { objectMode: false });
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

async function readIndex(file: FileHandle, length: number, entries: ReadonlyMap<string, TarEntry>) {
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
  file: FileHandle,
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

function parseConfig(config: Uint8Array): string[] {
  const parsed = parseJson(ConfigSchema, text(config), 'ARCHIVE_MALFORMED', "the image's config", MAX_JSON);
  return parsed.rootfs.diff_ids.map((id) => id.slice('sha256:'.length));
}

async function checkLayers(
  file: FileHandle,
  length: number,
  entries: ReadonlyMap<string, TarEntry>,
  names: readonly string[],
  diffIds: readonly string[],
): Promise<VerifiedImage['layers']> {
  if (names.length !== diffIds.length) {
    throw new DstackError(
      'ARCHIVE_LAYER_MISMATCH',
      `the archive has ${names.length} layers, the image ${diffIds.length}`,
    );
  }
  const layers: VerifiedImage['layers'] = [];
  for (const [position, digest] of diffIds.entries()) {
    const entry = layerEntry(entries, names[position]!);
    const actual = await hashRange(file, length, entry);
    if (actual !== digest) {
      await assertNotPacked(file, length, entry, position);
      throw new DstackError(
        'ARCHIVE_LAYER_MISMATCH',
        `layer ${position} of the archive hashes to ${actual}, the image has ${digest}: copy it again`,
      );
    }
    layers.push({ digest, entry });
  }
  return layers;
}

/** Some engines save compressed layers, while the image's digests are over the uncompressed ones. */
async function assertNotPacked(
  file: FileHandle,
  length: number,
  entry: TarEntry,
  position: number,
): Promise<void> {
  const start = await readExactly(file, entry.offset, Math.min(COMPRESSION_MAGIC_BYTES, entry.size), length);
  const found = compressionOf(start);
  if (found === undefined) return;
  throw new DstackError(
    'ARCHIVE_COMPRESSED',
    `layer ${position} of the archive is compressed with ${found.name}, which is not decompressed here: save the image with uncompressed layers (skopeo copy --dest-decompress, or podman save)`,
  );
}

async function hashRange(file: FileHandle, length: number, entry: TarEntry): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of range(file, length, entry)) hash.update(chunk);
  return hash.digest('hex');
}

async function* range(file: FileHandle, length: number, entry: TarEntry): AsyncGenerator<Buffer> {
  for (let at = 0; at < entry.size; at += CHUNK) {
    yield await readExactly(file, entry.offset + at, Math.min(CHUNK, entry.size - at), length);
  }
}

async function writeEntry(
  archive: ReturnType<typeof pack>,
  name: string,
  file: FileHandle,
  length: number,
  entry: TarEntry,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const sink = archive.entry({ name, size: entry.size }, (error) => (error ? reject(error) : resolve()));
  for await (const chunk of range(file, length, entry)) {
    if (!sink.write(chunk)) await once(sink, 'drain');
  }
  sink.end(undefined);
  await promise;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const shown = (name: string): string => JSON.stringify(name.slice(0, 120));
