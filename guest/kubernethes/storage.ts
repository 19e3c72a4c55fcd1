/** What a container gets of the node's disks: the disk daemon makes its folders, the host volume has what the host put there. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ContainerPlan } from '../../lib/protocol/manifest.ts';
import { DiskStatusReply, FolderReply, type FolderRequest } from '../../lib/protocol/sockets.ts';
import type { Storage } from './engine.ts';

/** Making a folder is a few programs of the disk daemon, one after the other for all apps. */
const FOLDER_WITHIN = 120_000;
const STATUS_WITHIN = 5_000;

export interface StorageOptions {
  /** Sockets of the disk daemon. */
  readonly diskStatus: string;
  readonly diskFolders: string;
  readonly hostVolume: string;
}

/** @throws DISK_NOT_READY, DISK_ABSENT, DISK_…, HOST_FOLDER */
export function storage(options: StorageOptions): (app: string, plan: ContainerPlan) => Promise<Storage> {
  const folder = async (request: FolderRequest): Promise<string> => {
    const reply = await callUnix({
      path: options.diskFolders,
      method: 'POST',
      route: '/v1/folder',
      body: request,
      reply: FolderReply,
      timeout: FOLDER_WITHIN,
    });
    return reply.folder;
  };

  return async (app, { name, data, volumes, hostVolume }) => {
    const wanted = Object.entries(volumes);
    const hasDisk = (data !== 'none' || wanted.length > 0) && (await diskIsThere(options.diskStatus));
    if (!hasDisk && wanted.length > 0)
      throw new DstackError('DISK_ABSENT', `container ${name} has a volume, and the node has no data disk`);
    const own: Record<string, string> = {};
    for (const [path, mebibytes] of wanted)
      own[path] = await folder({ app, volume: { container: name, path, mebibytes } });
    return {
      ...(hasDisk && data !== 'none' && { data: await folder({ app }) }),
      volumes: own,
      ...(hostVolume !== 'none' && { hostVolume: await hostFolder(options.hostVolume, app) }),
    };
  };
}

async function diskIsThere(path: string): Promise<boolean> {
  const call = { path, method: 'GET', route: '/v1/status', reply: DiskStatusReply } as const;
  const { state, code } = await callUnix({ ...call, timeout: STATUS_WITHIN });
  if (state === 'absent') return false;
  if (state === 'ready') return true;
  const why = code === undefined ? state : `${state} (${code})`;
  throw new DstackError('DISK_NOT_READY', `the data disk is ${why}; the app waits for it`);
}

/**
 * That it is no link now says it to who reads the log; what the host makes of it later, the mount without links (initramfs/init)
 * refuses.
 */
async function hostFolder(hostVolume: string, app: string): Promise<string> {
  const path = join(hostVolume, 'apps', app);
  const found = await lstat(path).catch(() => undefined);
  if (found?.isDirectory() === true) return path;
  throw new DstackError('HOST_FOLDER', `the host volume has no folder apps/${app}, which the app asks for`);
}
