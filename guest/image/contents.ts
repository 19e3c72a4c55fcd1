/** What is inside an image: every file of its root and its initramfs, its packages, its command line. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type ImageManifest, parseImageManifest } from '../../lib/protocol/image.ts';
import { readCpio } from './cpio.ts';
import { sha256File } from './download.ts';
import { type ErofsInode, readErofs } from './erofs.ts';
import { type LockedPackage, parseLock } from './packages.ts';
import { run } from './run.ts';
import { zstdFrameBytes } from './zstd-frame.ts';

/** One entry of the root or of the initramfs. */
export interface Entry {
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  /** Permission bits. */
  readonly mode: number;
  /** User and group that it belongs to. */
  readonly owner: string;
  /** Extended attributes as they are stored, hex: capabilities among them. */
  readonly attributes: string;
  readonly size: number;
  /** SHA-256 (hex) of a file; for a link, its target. */
  readonly content: string;
  /** A file's bytes, up to `limit` of them. */
  readonly read: (limit: number) => Promise<Buffer>;
}

export interface ImageContents {
  readonly folder: string;
  readonly manifest: ImageManifest;
  /** Absent when the image came without its packages.lock. */
  readonly packages?: readonly LockedPackage[];
  /** The files that the host boots: SHA-256 (hex) and size. */
  readonly parts: ReadonlyMap<string, { readonly sha256: string; readonly size: number }>;
  /** `/usr/bin/node` and the like. */
  readonly root: ReadonlyMap<string, Entry>;
  readonly initramfs: ReadonlyMap<string, Entry>;
}

const MAX_INITRAMFS_BYTES = 2 ** 30;

/**
 * Opens an image for as long as `use` takes: its root is unpacked into a temporary folder.
 * @throws DstackError IMAGE_MISSING, IMAGE_INVALID, TOOL_MISSING, COMMAND_FAILED when the root cannot be unpacked.
 */
export async function withImage<Result>(
  folder: string,
  use: (image: ImageContents) => Promise<Result>,
): Promise<Result> {
  const manifestFile = join(folder, 'image.json');
  if (!existsSync(manifestFile)) {
    throw new DstackError('IMAGE_MISSING', `there is no ${manifestFile}: build the image with ./build_vm.sh`);
  }
  const manifest = parseImageManifest(await readFile(manifestFile, 'utf8'));
  const unpacked = await mkdtemp(join(tmpdir(), 'dstack-image-'));
  try {
    const root = join(unpacked, 'root');
    const tool = toolCommand('fsck.erofs', [
      `--extract=${root}`,
      '--no-preserve-owner',
      '--preserve-perms',
      join(folder, 'root.img'),
    ]);
    await run(tool.command, tool.args, { env: tool.env });
    const parts = new Map<string, { sha256: string; size: number }>();
    for (const name of Object.keys(manifest.files)) {
      const file = join(folder, name);
      parts.set(name, { sha256: await sha256File(file), size: (await stat(file)).size });
    }
    const lock = join(folder, 'packages.lock');
    return await use({
      folder,
      manifest,
      ...(existsSync(lock) && { packages: parseLock(await readFile(lock, 'utf8')) }),
      parts,
      root: await entriesBelow(root, readErofs(await readFile(join(folder, 'root.img')))),
      initramfs: initramfsEntries(await readFile(join(folder, 'initramfs.cpio.zst'))),
    });
  } finally {
    await rm(unpacked, { recursive: true, force: true });
  }
}

/** What fsck.erofs unpacked, and what only root could unpack: owners and attributes, read from the file system itself. */
async function entriesBelow(
  root: string,
  inodes: ReadonlyMap<string, ErofsInode>,
): Promise<Map<string, Entry>> {
  const entries = new Map<string, Entry>();
  for (const found of await readdir(root, { recursive: true, withFileTypes: true })) {
    const file = join(found.parentPath, found.name);
    const name = `/${relative(root, file)}`;
    const link = found.isSymbolicLink();
    const kind = link ? 'link' : found.isDirectory() ? 'folder' : found.isFile() ? 'file' : 'other';
    const inode = inodes.get(name);
    if (inode === undefined)
      throw new DstackError('IMAGE_INVALID', `fsck.erofs and the erofs reader disagree about ${name}`);
    entries.set(name, {
      kind,
      mode: inode.mode & 0o7777,
      owner: `${inode.user}:${inode.group}`,
      attributes: inode.attributes,
      size: kind === 'file' ? (await stat(file)).size : 0,
      content: kind === 'file' ? await sha256File(file) : kind === 'link' ? await readlink(file) : '',
      read: (limit) => readStart(file, limit),
    });
  }
  // fsck.erofs leaves out what it cannot make, such as a device.
  for (const [name, { mode, user, group, attributes }] of inodes) {
    if (entries.has(name)) continue;
    entries.set(name, {
      kind: 'other',
      mode,
      owner: `${user}:${group}`,
      attributes,
      size: 0,
      content: '',
      read: async () => Buffer.alloc(0),
    });
  }
  return entries;
}

async function readStart(file: string, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream(file, { end: limit - 1 })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** @throws DstackError IMAGE_INVALID, CPIO_INVALID when it is not one cpio archive packed with zstd, and nothing more. */
export function initramfsEntries(packed: Buffer): Map<string, Entry> {
  // The kernel goes on to read what follows an archive, packed or not; the unpacker here stops.
  if (zstdFrameBytes(packed) !== packed.length) {
    throw new DstackError('IMAGE_INVALID', 'the initramfs is not one zstd frame: something follows it');
  }
  let archive: Buffer;
  try {
    archive = zstdDecompressSync(packed, { maxOutputLength: MAX_INITRAMFS_BYTES });
  } catch (error) {
    throw new DstackError('IMAGE_INVALID', 'the initramfs cannot be unpacked', { cause: error });
  }
  const kinds: Readonly<Record<number, Entry['kind']>> = { 4: 'folder', 8: 'file', 10: 'link' };
  return new Map(
    readCpio(archive).map(({ path, mode, bytes }): [string, Entry] => {
      const kind = kinds[mode >>> 12] ?? 'other';
      return [
        `/${path}`,
        {
          kind,
          mode: mode & 0o7777,
          // readCpio accepts no other owner, and the format has no attributes.
          owner: '0:0',
          attributes: '',
          size: kind === 'file' ? bytes.length : 0,
          content:
            kind === 'file'
              ? createHash('sha256').update(bytes).digest('hex')
              : kind === 'link'
                ? bytes.toString('utf8')
                : '',
          read: async (limit) => bytes.subarray(0, limit),
        },
      ];
    }),
  );
}
