/**
 * What the node's other daemons get: each has a socket of its own, open to its group alone, with its own purpose on it
 * and nothing else. A call made before the node has joined is held until it has.
 */
import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import type { KeyManager } from '../../lib/framework/key-manager.ts';
import { type Route, serveUnix } from '../../lib/framework/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  AppKeyRequest,
  AttestRequest,
  DiskKeyRequest,
  type InfoReply,
  sockets,
} from '../../lib/protocol/sockets.ts';

/** A node that has joined: its keys, and what may be told of it. */
export interface Joined {
  keys: KeyManager;
  info: InfoReply;
  /** Whether the chain still moves: with no new block for an hour nothing more is vouched for. @throws CHAIN_STALE */
  requireFresh(): void;
}

/** Group ids by daemon; a daemon without one (root, or in a test) shares the replicator's own permission. */
export type SiblingGroups = Partial<Record<'tls' | 'agent' | 'kubernethes', number | undefined>>;

export async function serveSiblings(
  runDirectory: string,
  joined: Promise<Joined>,
  groups: SiblingGroups,
): Promise<Server[]> {
  mkdirSync(join(runDirectory, 'replicator'), { recursive: true });
  const at = (socket: string, routes: Record<string, Route>, gid?: number) =>
    serveUnix({ path: join(runDirectory, socket), routes, gid });

  return Promise.all([
    at(
      sockets.replicatorForTls,
      {
        'GET /v1/tls-key': async () => {
          const { keys } = await joined;
          return { epoch: keys.epoch, privateKey: toHex(keys.tlsKey()) };
        },
      },
      groups.tls,
    ),
    at(sockets.replicatorForDisk, {
      'POST /v1/disk-key': async (body) => {
        const { diskId, epoch } = check(DiskKeyRequest, body, 'BAD_REQUEST', 'the request for a disk key');
        const { keys } = await joined;
        if (epoch !== undefined && epoch !== keys.epoch) {
          throw new DstackError(
            'EPOCH_UNKNOWN',
            `the disk was made in epoch ${epoch}; this node holds the secret of epoch ${keys.epoch} only`,
          );
        }
        return { epoch: keys.epoch, key: toHex(keys.diskKey(fromHex(diskId))) };
      },
    }),
    at(
      sockets.replicatorForAgent,
      {
        'POST /v1/app-key': async (body) => {
          const { app, tag } = check(AppKeyRequest, body, 'BAD_REQUEST', 'the request for an app key');
          const { keys } = await joined;
          return { key: toHex(keys.appKey(app, tag)) };
        },
        'POST /v1/attest': async (body) => {
          const { app, tag, data } = check(
            AttestRequest,
            body,
            'BAD_REQUEST',
            'the request for an attestation',
          );
          const { keys, requireFresh } = await joined;
          requireFresh();
          return { signature: toHex(keys.signAttestation(app, tag, fromHex(data))) };
        },
        'GET /v1/info': async () => (await joined).info,
      },
      groups.agent,
    ),
    at(
      sockets.replicatorForKubernethes,
      {
        'GET /v1/status': async () => ({ joined: true, epoch: (await joined).keys.epoch }),
      },
      groups.kubernethes,
    ),
  ]);
}
