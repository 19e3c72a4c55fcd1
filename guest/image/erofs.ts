/**
 * Owners and extended attributes in an erofs image: what cannot be unpacked without being root. fsck.erofs unpacks the
 * contents. Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
 */
import { DstackError } from '../../lib/protocol/errors.ts';

export interface ErofsInode {
  /** Type and permission bits. */
  readonly mode: number;
  readonly user: number;
  readonly group: number;
  /** As they are stored with the inode, hex; empty when there are none. */
  readonly attributes: string;
}

const SUPERBLOCK = 1024;
const MAGIC = 0xe0f5e1e2;
const SLOT_BYTES = 32;
const DIRENT_BYTES = 12;
const FOLDER = 0o4;
/** Data layouts of a folder: in blocks of its own, or with the last part behind the inode. */
const PLAIN = 0;
const INLINE = 2;
const MAX_ENTRIES = 1_000_000;

/**
 * Every path below the root (`/usr/bin/node`).
 * @throws DstackError IMAGE_INVALID for anything it does not know, such as an image written by another tool.
 */
export function readErofs(image: Buffer): Map<string, ErofsInode> {
  try {
    return new ErofsReader(image).all();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalid('it is truncated');
  }
}

class ErofsReader {
  readonly #image: Buffer;
  readonly #blockBytes: number;
  readonly #inodes: number;
  readonly #root: number;

  constructor(image: Buffer) {
    if (image.readUInt32LE(SUPERBLOCK) !== MAGIC) throw invalid('it has no superblock');
    this.#image = image;
    this.#blockBytes = 2 ** image.readUInt8(SUPERBLOCK + 12);
    this.#root = image.readUInt16LE(SUPERBLOCK + 14);
    this.#inodes = image.readUInt32LE(SUPERBLOCK + 40) * this.#blockBytes;
  }

  all(): Map<string, ErofsInode> {
    const found = new Map<string, ErofsInode>();
    const visit = (folder: string, number: number, above: readonly number[]): void => {
      for (const [name, child] of this.#folder(number)) {
        const path = `${folder}/${name}`;
        if (found.has(path) || found.size > MAX_ENTRIES)
          throw invalid(`${path} occurs twice, or there are too many entries`);
        const inode = this.#inode(child);
        found.set(path, inode);
        if (inode.mode >>> 12 !== FOLDER) continue;
        if (above.includes(child)) throw invalid(`${path} contains itself`);
        visit(path, child, [...above, child]);
      }
    };
    visit('', this.#root, [this.#root]);
    return found;
  }

  #inode(number: number): ErofsInode & { layout: number; size: number; firstBlock: number; dataAt: number } {
    const image = this.#image;
    const at = this.#inodes + number * SLOT_BYTES;
    const format = image.readUInt16LE(at);
    const extended = (format & 1) === 1;
    const attributesCount = image.readUInt16LE(at + 2);
    // One word each, after a header of 12 bytes that counts as the first.
    const attributesBytes = attributesCount === 0 ? 0 : 12 + 4 * (attributesCount - 1);
    const attributesAt = at + (extended ? 64 : 32);
    // Shared attributes are stored elsewhere. Our images have none, so an image that refers to some is refused.
    if (attributesCount > 0 && image.readUInt8(attributesAt + 4) !== 0) {
      throw invalid('it has extended attributes that files share');
    }
    return {
      layout: (format >>> 1) & 7,
      mode: image.readUInt16LE(at + 4),
      size: extended ? Number(image.readBigUInt64LE(at + 8)) : image.readUInt32LE(at + 8),
      firstBlock: image.readUInt32LE(at + 16),
      user: extended ? image.readUInt32LE(at + 24) : image.readUInt16LE(at + 24),
      group: extended ? image.readUInt32LE(at + 28) : image.readUInt16LE(at + 26),
      attributes: image.toString('hex', attributesAt, attributesAt + attributesBytes),
      dataAt: attributesAt + attributesBytes,
    };
  }

  /** Names and inodes of a folder's entries. A block begins with the entries; their names follow. */
  *#folder(number: number): Generator<[string, number]> {
    const { layout, size, firstBlock, dataAt } = this.#inode(number);
    if (layout !== PLAIN && layout !== INLINE) throw invalid(`a folder has the layout ${layout}`);
    for (let done = 0; done < size; done += this.#blockBytes) {
      const length = Math.min(this.#blockBytes, size - done);
      const inline = layout === INLINE && size - done < this.#blockBytes;
      const at = inline ? dataAt : firstBlock * this.#blockBytes + done;
      const block = this.#image.subarray(at, at + length);
      const count = block.readUInt16LE(8) / DIRENT_BYTES;
      for (let index = 0; index < count; index++) {
        const entry = index * DIRENT_BYTES;
        const nameEnd = index + 1 < count ? block.readUInt16LE(entry + DIRENT_BYTES + 8) : length;
        const name = block.toString('utf8', block.readUInt16LE(entry + 8), nameEnd).replace(/\0.*$/s, '');
        if (name !== '.' && name !== '..') yield [name, Number(block.readBigUInt64LE(entry))];
      }
    }
  }
}

function invalid(why: string): DstackError {
  return new DstackError('IMAGE_INVALID', `the root image cannot be read: ${why}`);
}
