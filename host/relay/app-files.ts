/**
 * The files of apps on this host's volume: `manifests/<hash>.json`, `archives/<image digest>.tar` and `secrets/<envelope's hash>.json`,
 * as its guest reads them (guest/kubernethes). The relay gives them to other relays, and puts there what it got from them (app-courier.ts).
 */
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { MANIFEST_MAX_BYTES } from '../../lib/protocol/manifest.ts';
import { ENVELOPE_MAX_BYTES } from '../../lib/protocol/sockets.ts';

export const APP_FILE_KINDS = ['manifests', 'archives', 'secrets'] as const;
export type AppFileKind = (typeof APP_FILE_KINDS)[number];

/** The largest that are exchanged, in bytes: a guest takes none that are larger. */
export const APP_FILE_MAX_BYTES: Readonly<Record<AppFileKind, number>> = {
  manifests: MANIFEST_MAX_BYTES,
  archives: 1024 * 1024 * 1024,
  secrets: ENVELOPE_MAX_BYTES,
};
const SUFFIX: Readonly<Record<AppFileKind, string>> = {
  manifests: '.json',
  archives: '.tar',
  secrets: '.json',
};

/** A draft of what, and with what suffix; its name is `draft`'s, or that of the tag beside it. */
const DRAFT = /^([0-9a-f]{64})(\.json|\.tar)\.[0-9a-f]{16}\.part(\.tag){0,2}$/;

/** Beside a draft: of which file of the peer's it is. */
export const tagFile = (draft: string): string => `${draft}.tag`;

export interface OpenAppFile {
  file: FileHandle;
  size: number;
  /** Tells this file from any other that is or was in its place: for a reader who goes on where it was cut off. */
  tag: string;
}

export class AppFiles {
  readonly #volume: string;

  constructor(volume: string) {
    this.#volume = volume;
  }

  /** @param hash 64 hex digits @throws ENCODING_HEX for what is no hash */
  path(kind: AppFileKind, hash: string): string {
    return join(this.#volume, kind, `${toHex(fromHex(hash, 32))}${SUFFIX[kind]}`);
  }

  async has(kind: AppFileKind, hash: string): Promise<boolean> {
    return stat(this.path(kind, hash)).then(
      () => true,
      () => false,
    );
  }

  /** Undefined for one that is not there, is no regular file, or is too large. The caller closes it. */
  async open(kind: AppFileKind, hash: string): Promise<OpenAppFile | undefined> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(this.path(kind, hash), flags).catch(() => undefined);
    if (file === undefined) return undefined;
    const found = await file.stat();
    const { size, mtimeMs, ino } = found;
    if (found.isFile() && size <= APP_FILE_MAX_BYTES[kind])
      return { file, size, tag: `${ino}-${size}-${Math.floor(mtimeMs)}` };
    await file.close();
    return undefined;
  }

  /**
   * Where a file is written before it is whole: beside its place, under a name that no guest asks for.
   *
   * @param mark 16 hex digits
   */
  async draft(kind: AppFileKind, hash: string, mark: string): Promise<string> {
    await mkdir(join(this.#volume, kind), { recursive: true });
    return `${this.path(kind, hash)}.${mark}.part`;
  }

  /**
   * All drafts, and the tags beside them, with the hash of what each was to become. What is no regular file is none, nor is anything
   * in a folder that a link leads to.
   */
  async drafts(kind: AppFileKind): Promise<{ hash: string; path: string }[]> {
    const folder = join(this.#volume, kind);
    const isFolder = await lstat(folder).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isFolder) return [];
    return (await readdir(folder, { withFileTypes: true })).flatMap((entry) => {
      const [, hash, suffix] = DRAFT.exec(entry.name) ?? [];
      if (hash === undefined || suffix !== SUFFIX[kind] || !entry.isFile()) return [];
      return [{ hash, path: join(folder, entry.name) }];
    });
  }

  /** Puts a draft that is whole and durable in its place, at once; what is there by now, stays. */
  async place(kind: AppFileKind, hash: string, draft: string): Promise<void> {
    await link(draft, this.path(kind, hash)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await rm(draft);
  }
}
