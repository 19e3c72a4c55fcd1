/**
 * Archives whose layers are compressed, made into such as nodes take. Docker's containerd image store saves layers as a registry has them, and it is the
 * default of new installations. An image's digest is over its config, which names the layers by what they are uncompressed, so it stays
 * the same: what is decompressed here is still checked by every node.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Duplex, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { DstackError } from '../../lib/protocol/errors.ts';

/** By the names of `compressionOf`. */
const decompressors: Readonly<Record<string, () => Duplex>> = {
  gzip: createGunzip,
  zstd: createZstdDecompress,
};
/** As much as a node takes. */
const MAX_BYTES = 1024 ** 3;

export const canDecompress = (compression: string): boolean => Object.hasOwn(decompressors, compression);

/**
 * Writes an archive of the named entries alone.
 * @param kept names of entries, and how each is compressed
 * @param folder for it, and for the layers meanwhile
 * @returns its path
 * @throws ARCHIVE_MALFORMED for what does not decompress, ARCHIVE_TOO_LARGE
 */
export async function withPlainLayers(
  archive: string,
  kept: ReadonlyMap<string, string | undefined>,
  folder: string,
): Promise<string> {
  const path = join(folder, 'plain.tar');
  const from = createReadStream(archive);
  const entries = extract();
  from.on('error', (error) => entries.destroy(error));
  const to = pack();
  const written = pipeline(to, createWriteStream(path));
  // Whoever fails first is who is told of; the other one follows from it.
  written.catch(() => {});
  const room = { left: MAX_BYTES };
  try {
    for await (const entry of from.pipe(entries)) {
      const { name, type } = entry.header;
      if (!kept.has(name)) {
        entry.resume();
        continue;
      }
      const compression = kept.get(name);
      if (compression === undefined) {
        if (type === 'symlink') to.entry(entry.header);
        else await pipeline(entry, to.entry({ name, size: entry.header.size ?? 0 }));
        if (type === 'symlink') entry.resume();
        continue;
      }
      const layer = join(folder, 'layer');
      await decompress(archive, name, compression, entry, layer, room);
      await pipeline(createReadStream(layer), to.entry({ name, size: (await stat(layer)).size }));
    }
    to.finalize();
    await written;
  } catch (error) {
    to.destroy();
    throw error;
  } finally {
    from.destroy();
  }
  return path;
}

async function decompress(
  archive: string,
  name: string,
  compression: string,
  layer: AsyncIterable<unknown>,
  path: string,
  room: { left: number },
): Promise<void> {
  const counted = new Transform({
    transform(chunk: Buffer, _, done) {
      room.left -= chunk.length;
      if (room.left >= 0) done(null, chunk);
      else
        done(
          new DstackError(
            'ARCHIVE_TOO_LARGE',
            `the layers in ${archive} are more than 1 GiB once decompressed, and no node takes that: make the image smaller`,
          ),
        );
    },
  });
  try {
    await pipeline(layer, decompressors[compression]!(), counted, createWriteStream(path));
  } catch (cause) {
    if (cause instanceof DstackError || (cause as NodeJS.ErrnoException).syscall !== undefined) throw cause;
    throw new DstackError(
      'ARCHIVE_MALFORMED',
      `the layer ${name} in ${archive} says that it is compressed with ${compression}, and does not decompress: ${(cause as Error).message}`,
      { cause },
    );
  }
}
