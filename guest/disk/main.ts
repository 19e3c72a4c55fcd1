/**
 * The disk daemon. It runs as root, opens the data disk once the replicator gives it the key, and reports the outcome.
 * Start reading at disk.ts.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { groupId } from '../../lib/daemon/groups.ts';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseHostHints } from '../../lib/protocol/network-config.ts';
import { check } from '../../lib/protocol/schema.ts';
import { DiskKeyReply, type DiskStatusReply, FolderRequest, sockets } from '../../lib/protocol/sockets.ts';
import { groupOfSocket } from '../daemons.ts';
import type { AppFolders } from './app-folders.ts';
import { bringUpDisk } from './disk.ts';

const run = '/run/dstack';
const log = pino({ name: 'disk' });
let status: DiskStatusReply = { state: 'opening' };
let shownDone = 0;
let folders: AppFolders | undefined;

function report(next: DiskStatusReply): void {
  const sameStage = next.state === 'formatting' && status.state === 'formatting';
  status = next;
  if (sameStage && (next.done ?? 0) < shownDone + 0.25) return;
  shownDone = next.done ?? 0;
  log[next.state === 'failed' ? 'error' : 'info'](next, `data disk ${next.state}`);
}

mkdirSync(join(run, 'disk'), { recursive: true });
// Its siblings can ask for the status, and for nothing else.
await serveUnix({
  path: join(run, sockets.diskStatus),
  mode: 0o666,
  routes: { 'GET /v1/status': () => status },
});
const kubernethes = groupOfSocket(sockets.diskFolders);
await serveUnix({
  path: join(run, sockets.diskFolders),
  gid: kubernethes === undefined ? undefined : groupId('/', kubernethes),
  routes: {
    'POST /v1/folder': (body) => {
      if (folders === undefined) throw new DstackError('NOT_READY', `the data disk is ${status.state}`);
      return folders.folder(check(FolderRequest, body, 'BAD_REQUEST', 'the request for a folder'));
    },
  },
});

folders = await bringUpDisk({
  serial: 'dstack-data',
  runDirectory: join(run, 'disk'),
  mountPoint: '/mnt/encrypted_data',
  owners: { acme: userOf('dstack-acme'), etcd: userOf('dstack-etcd'), kv: userOf('dstack-kv') },
  mayCreate: parseHostHints(readFileSync(join(run, 'host.json'))).disk === 'create',
  async keyOf(diskId, epoch) {
    const reply = await callUnix({
      path: join(run, sockets.replicatorForDisk),
      method: 'POST',
      route: '/v1/disk-key',
      body: { diskId: toHex(diskId), ...(epoch === undefined ? {} : { epoch }) },
      reply: DiskKeyReply,
      connectWithin: 120_000,
    });
    return { epoch: reply.epoch, key: fromHex(reply.key, 32) };
  },
  report,
});

/** A user's ids from the image's own /etc/passwd. */
function userOf(name: string): { uid: number; gid: number } | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  return line === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}
