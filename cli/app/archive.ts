/** What `app pack` reads of an archive of `docker save`: the digest that names its image and the file that nodes take, or why none would. */
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { extract } from 'tar-stream';
import { Type } from 'typebox';
import { findImage } from '../../lib/archives/archive.ts';
import { COMPRESSION_MAGIC_BYTES, compressionOf } from '../../lib/protocol/compression.ts';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { requireNamed } from '../owner/connection.ts';
import { canDecompress, withPlainLayers } from './plain-layers.ts';

export interface PlainArchive {
  /** SHA-256 of the config of its one image, whatever the config's name: 64 hex digits. */
  readonly digest: string;
  /** The archive itself, or one with the same image in plain layers. */
  readonly file: string;
}

/**
 * @param scratch makes a folder for what has to be written, which the caller removes
 * @throws ARCHIVE_MALFORMED, ARCHIVE_COMPRESSED, ARCHIVE_PLATFORM, ARCHIVE_TOO_LARGE and what else nodes refuse it for; FILE
 */
export async function plainArchive(archive: string, scratch: () => Promise<string>): Promise<PlainArchive> {
  await requireFile(archive);
  await requirePlain(archive);
  const { small, starts } = await readEntries(archive);
  const index = small.get('manifest.json');
  if (index === undefined)
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `${archive} has no manifest.json: make it with \`docker save\``,
    );
  const images = parseJson(
    DockerIndexSchema,
    index.toString('utf8'),
    'ARCHIVE_MALFORMED',
    `manifest.json of ${archive}`,
    SMALL,
  );
  const layers = images[0]?.Layers ?? [];
  const compressed = layers.map((layer) => compressionOf(starts.get(layer) ?? Buffer.alloc(0))?.name);
  for (const [at, compression] of compressed.entries()) {
    if (compression === undefined || canDecompress(compression)) continue;
    throw new DstackError(
      'ARCHIVE_COMPRESSED',
      `layer ${at} in ${archive} is compressed with ${compression}, which is not decompressed here: save the image with plain layers, by podman save, or skopeo copy --dest-decompress`,
    );
  }
  const name = images.length === 1 ? images[0]?.Config : undefined;
  const config = name === undefined ? undefined : small.get(name);
  if (config === undefined)
    throw new DstackError('ARCHIVE_MALFORMED', `${archive} does not hold exactly one image with its config`);
  requirePlatform(archive, config);
  const digest = toHex(sha256(config));
  const isPlain = compressed.every((compression) => compression === undefined);
  const parts: [string, string | undefined][] = layers.map((layer, at) => [layer, compressed[at]]);
  const kept = new Map([...parts, ['manifest.json', undefined], [name!, undefined]] as typeof parts);
  const file = isPlain ? archive : await withPlainLayers(archive, kept, await scratch());
  await requireImage(archive, file, digest);
  return { digest, file };
}

/** A node would say it too, once the rollout is signed and paid for. @throws ARCHIVE_PLATFORM, ARCHIVE_MALFORMED */
function requirePlatform(archive: string, config: Buffer): void {
  const text = config.toString('utf8');
  const what = `the image's config in ${archive}`;
  const { os, architecture } = parseJson(PlatformSchema, text, 'ARCHIVE_MALFORMED', what, SMALL);
  if (os === 'linux' && architecture === 'amd64') return;
  throw new DstackError(
    'ARCHIVE_PLATFORM',
    `${archive} holds an image for ${os}/${architecture}, and nodes run linux/amd64: build or pull it with --platform linux/amd64`,
  );
}

/** What nodes check before they read the layers, by the same code. @throws ARCHIVE_… */
async function requireImage(archive: string, plain: string, digest: string): Promise<void> {
  const file = await open(plain);
  try {
    await findImage(file, (await file.stat()).size, digest);
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    throw new DstackError(error.code, `no node would take ${archive}: ${error.message}`, { cause: error });
  } finally {
    await file.close();
  }
}

const SMALL = 1024 * 1024;
/** Of all small entries together: a real archive has a few kilobytes of them. */
const SMALL_TOTAL = 64 * SMALL;
const PlatformSchema = Type.Object({ os: Type.String(), architecture: Type.String() });
const DockerIndexSchema = Type.Array(
  Type.Object({ Config: Type.String(), Layers: Type.Optional(Type.Array(Type.String())) }),
);

/** @throws FILE, USAGE, ARCHIVE_MALFORMED for an empty one */
async function requireFile(archive: string): Promise<void> {
  requireNamed('the archive', archive);
  const found = await stat(archive).catch((cause: NodeJS.ErrnoException) => {
    throw new DstackError('FILE', `cannot read ${archive} (the archive): ${cause.code}`, { cause });
  });
  if (!found.isFile())
    throw new DstackError(
      'FILE',
      `${archive} is not a file: give the archive of an image, made with \`docker save\``,
    );
  if (found.size === 0)
    throw new DstackError('ARCHIVE_MALFORMED', `${archive} is empty: make it with \`docker save\``);
}

/** @throws ARCHIVE_COMPRESSED */
async function requirePlain(archive: string): Promise<void> {
  const file = await open(archive);
  const start = Buffer.alloc(COMPRESSION_MAGIC_BYTES);
  const { bytesRead } = await file.read(start, 0, start.length, 0).finally(() => file.close());
  const found = compressionOf(start.subarray(0, bytesRead));
  if (found === undefined) return;
  const plain = `${basename(archive).replace(/\.(tgz|txz|tbz2?|tzst)$|\.tar\.[a-z0-9]+$|\.[a-z0-9]+$/i, '')}.tar`;
  throw new DstackError(
    'ARCHIVE_COMPRESSED',
    `${archive} is compressed with ${found.name}, and nodes take plain tar files only: make one with \`${found.decompress} -c ${archive} > ${plain}\`, and give that`,
  );
}

interface Entries {
  /** The JSON entries, by name; layers are skipped. */
  readonly small: ReadonlyMap<string, Buffer>;
  /** How each entry begins, for compressionOf. */
  readonly starts: ReadonlyMap<string, Buffer>;
}

/** @throws ARCHIVE_MALFORMED */
async function readEntries(archive: string): Promise<Entries> {
  const small = new Map<string, Buffer>();
  const starts = new Map<string, Buffer>();
  const file = createReadStream(archive);
  const tar = extract();
  file.on('error', (error) => tar.destroy(error));
  let total = 0;
  try {
    for await (const entry of file.pipe(tar)) {
      const { name, size = 0 } = entry.header;
      const isSmall = size <= SMALL;
      if (isSmall) total += size;
      if (total > SMALL_TOTAL) throw new Error(`its small entries are more than ${SMALL_TOTAL} bytes`);
      const chunks: Buffer[] = [];
      for await (const chunk of entry) {
        if (isSmall || chunks.length === 0) chunks.push(chunk as Buffer);
      }
      const content = Buffer.concat(chunks);
      starts.set(name, content.subarray(0, COMPRESSION_MAGIC_BYTES));
      if (isSmall) small.set(name, content);
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined) throw cause;
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `${archive} is not an archive of \`docker save\`: ${message}`,
      {
        cause,
      },
    );
  } finally {
    file.destroy();
  }
  return { small, starts };
}
