/**
 * What compressed files begin with. An app's archive must be a plain tar file: the owner's command and the guest both look, so that
 * what a node would refuse is said where it is made.
 */
import { toHex } from './encoding.ts';

export interface Compression {
  readonly name: string;
  /** Hex. */
  readonly magic: string;
  /** The program that undoes it. */
  readonly decompress: string;
}

/** Magic numbers: RFC 1952 (gzip), RFC 8878 (zstd), the formats' own documents for the others. */
const compressions: readonly Compression[] = [
  { name: 'gzip', magic: '1f8b', decompress: 'gunzip' },
  { name: 'zstd', magic: '28b52ffd', decompress: 'unzstd' },
  { name: 'xz', magic: 'fd377a585a00', decompress: 'unxz' },
  { name: 'bzip2', magic: '425a68', decompress: 'bunzip2' },
  { name: 'lz4', magic: '04224d18', decompress: 'unlz4' },
];

/** How much of a file's beginning `compressionOf` needs. */
export const COMPRESSION_MAGIC_BYTES = 8;

/** How a file that begins with these bytes is compressed; undefined when it is not, by any of these. */
export function compressionOf(start: Uint8Array): Compression | undefined {
  const hex = toHex(start.subarray(0, COMPRESSION_MAGIC_BYTES));
  return compressions.find(({ magic }) => hex.startsWith(magic));
}
