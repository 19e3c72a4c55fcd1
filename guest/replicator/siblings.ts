/**
 * What the node's other daemons get: each has its own socket, which only it can open, with the routes that ../daemons.ts
 * gives it and no others. A call made before the node has joined is held until then.
 */
import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import type { Reached } from '../../lib/chain/chain-client.ts';
import { groupId } from '../../lib/daemon/groups.ts';
import type { Routes } from '../../lib/daemon/json-server.ts';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check } from '../../lib/protocol/schema.ts';
import {
  AppKeyRequest,
  AttestRequest,
  DiskKeyRequest,
  type InfoReply,
  SiteEvidenceRequest,
} from '../../lib/protocol/sockets.ts';
import { type Daemon, daemons, groupOfSocket } from '../daemons.ts';
import type { KeyManager } from './key-manager.ts';
import type { SiteWitness } from './site-evidence.ts';

/** A node that has joined: its keys, and what others may know about it. */
export interface Joined {
  keys: KeyManager;
  info: InfoReply;
  site: SiteWitness;
  /** Whether the chain still moves: after an hour without a new block, nothing more is attested. @throws CHAIN_STALE */
  requireFresh(): void;
  /** The block and the time that this node has reached: its other reader must not start before them. */
  reached(): Reached;
}

/** @param root prefix of /etc/group; where a group is missing, only the replicator's own user may connect */
export async function serveSiblings(
  runDirectory: string,
  joined: Promise<Joined>,
  root: string,
  table: readonly Daemon[] = daemons,
): Promise<Server[]> {
  mkdirSync(join(runDirectory, 'replicator'), { recursive: true });
  const routes = keyRoutes(joined);
  const served = table.find(({ name }) => name === 'replicator')?.serves ?? [];
  return Promise.all(
    served.map(({ path, asker }) => {
      const group = groupOfSocket(path, table);
      return serveUnix({
        path: join(runDirectory, path),
        routes: routesOf(asker, table, routes),
        gid: group === undefined ? undefined : groupId(root, group),
      });
    }),
  );
}

/** Every route by which a key, or a signature made with one, leaves this process. */
function keyRoutes(joined: Promise<Joined>): Routes {
  return {
    'GET /v1/tls-key': async () => {
      const { keys } = await joined;
      return { epoch: keys.epoch, privateKey: toHex(keys.tlsKey()) };
    },
    'POST /v1/site-evidence': async (body) => {
      const { nonce } = check(SiteEvidenceRequest, body, 'BAD_REQUEST', 'the request for evidence');
      const { site } = await joined;
      return site.evidence(nonce === undefined ? undefined : fromHex(nonce, 32));
    },
    'POST /v1/disk-key': async (body) => {
      const { diskId, epoch } = check(DiskKeyRequest, body, 'BAD_REQUEST', 'the request for a disk key');
      const { keys } = await joined;
      const born = epoch ?? keys.epoch;
      return { epoch: born, key: toHex(keys.diskKey(fromHex(diskId), born)) };
    },
    'POST /v1/app-key': async (body) => {
      const { app, tag } = check(AppKeyRequest, body, 'BAD_REQUEST', 'the request for an app key');
      const { keys } = await joined;
      return { key: toHex(keys.appKey(app, tag)) };
    },
    'POST /v1/attest': async (body) => {
      const { app, tag, data } = check(AttestRequest, body, 'BAD_REQUEST', 'the request for an attestation');
      const { keys, requireFresh } = await joined;
      requireFresh();
      return { signature: toHex(keys.signAttestation(app, tag, fromHex(data))) };
    },
    'GET /v1/info': async () => (await joined).info,
    'GET /v1/status': async () => {
      const { keys, reached } = await joined;
      return { joined: true, epoch: keys.epoch, reached: reached() };
    },
  };
}

/** The routes that the table gives one daemon. @throws DstackError ROUTE_UNKNOWN when the table names a route that does not exist */
function routesOf(asker: string, table: readonly Daemon[], routes: Routes): Routes {
  const allowed = table.find(({ name }) => name === asker)?.keys ?? [];
  return Object.fromEntries(
    allowed.map((name) => {
      const route = routes[name];
      if (route === undefined)
        throw new DstackError('ROUTE_UNKNOWN', `${asker} is allowed ${name}, which no route answers`);
      return [name, route];
    }),
  );
}
