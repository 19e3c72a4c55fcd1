/**
 * The folders of the data disk that containers write to, and how much fits into each.
 *
 *     volumes/<app>/                               root's alone: what a container does to its mount reaches no further
 *     volumes/<app>/data                           the app's own folder
 *     volumes/<app>/<container>@<SHA-256 of path>  a container's volume
 *
 * Each folder is a project of ext4 (project quotas), whose id is the folder's inode number. A container cannot move its files to
 * another project: that takes the machine's own user namespace, and it has another.
 */
import { constants, existsSync } from 'node:fs';
import { access, chmod, mkdir, rename, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { FolderReply, FolderRequest } from '../../lib/protocol/sockets.ts';
import * as system from './system.ts';

/** Of the file system, for the folder of an app whose manifest gives no size. */
const SHARE = 1 / 2;
/** Of files and folders, however small the volume. */
const MIN_FILES = 64;
const KIB = 1024;

export class AppFolders {
  readonly #mountPoint: string;
  readonly #limited: boolean;
  /** Two makers of one folder would hide it from each other half made. */
  #last: Promise<unknown> = Promise.resolve();

  /** @param limited whether the file system counts by projects */
  constructor(mountPoint: string, limited: boolean) {
    this.#mountPoint = mountPoint;
    this.#limited = limited;
  }

  get #root(): string {
    return join(this.#mountPoint, 'volumes');
  }

  async prepare(): Promise<void> {
    await mkdir(this.#root, { recursive: true });
    await chmod(this.#root, 0o700);
  }

  /** @throws DISK_NO_QUOTA, DISK_COMMAND */
  folder(request: FolderRequest): Promise<FolderReply> {
    const made = this.#last.then(() => this.#folder(request));
    this.#last = made.catch(() => undefined);
    return made;
  }

  async #folder({ app, volume }: FolderRequest): Promise<FolderReply> {
    if (volume !== undefined && !this.#limited)
      throw new DstackError(
        'DISK_NO_QUOTA',
        'the data disk was formatted by an earlier release and holds nothing to a size: a volume needs a new disk',
      );
    const own = join(this.#root, app);
    await mkdir(own, { recursive: true });
    await chmod(own, 0o700);
    if (volume === undefined) await this.#takeOver(app, join(own, 'data'));
    const name = volume === undefined ? 'data' : `${volume.container}@${toHex(sha256(utf8(volume.path)))}`;
    const folder = join(own, name);
    await this.#make(folder);
    if (this.#limited) await this.#limit(folder, volume?.mebibytes);
    return { folder };
  }

  /** Earlier releases had the app's own folder at apps/<app>. In one step, so that it is never in two places or none. */
  async #takeOver(app: string, folder: string): Promise<void> {
    const earlier = join(this.#mountPoint, 'apps', app);
    if (existsSync(earlier) && !existsSync(folder)) await rename(earlier, folder);
  }

  /** Anyone in the container may write to a new one; what the app changes of that later is its own affair. */
  async #make(folder: string): Promise<void> {
    if (await exists(folder)) return;
    const making = `${folder}.part`;
    await mkdir(making, { recursive: true });
    if (this.#limited) {
      const { ino } = await stat(making);
      await system.run('chattr', ['-p', String(ino), '+P', making]);
    }
    await chmod(making, 0o777);
    await rename(making, folder);
  }

  async #limit(folder: string, mebibytes: number | undefined): Promise<void> {
    const { blocks, bsize, files } = await statfs(this.#mountPoint);
    const all = (blocks * bsize) / KIB;
    const kibibytes = mebibytes === undefined ? Math.floor(all * SHARE) : mebibytes * KIB;
    const most = Math.max(MIN_FILES, Math.floor(files * Math.min(1, kibibytes / all)));
    const { ino } = await stat(folder);
    const limits = [0, kibibytes, 0, most].map(String);
    await system.run('setquota', ['-P', String(ino), ...limits, this.#mountPoint]);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}
