/**
 * What the relay serves: to other relays (gossip, the archive, files of apps), and to its operator (health, metrics, status, the archive).
 * Two listeners, so that opening the first to the world does not open the second.
 */

import { isIP } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { RateLimit } from '../../lib/daemon/rate-limit.ts';
import {
  type ConnectionLimits,
  HTTP_CHECKS,
  limitConnections,
  sourceOf,
} from '../../lib/daemon/server-limits.ts';
import { SealingKeyRequestSchema } from '../../lib/protocol/app-secrets.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';
import { nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { Dashboard } from '../dashboard/dashboard.ts';
import type { Gossip } from '../gossip/gossip.ts';
import type { AppFiles } from './app-files.ts';
import { appRoutes } from './app-routes.ts';
import type { Archive } from './archive.ts';
import { archiveRoutes } from './archive-routes.ts';
import type { SealingKeys } from './sealing-keys.ts';

/** Anyone may connect. A peer polls on one connection and pushes on another; several peers may share an address. */
const PEERS: ConnectionLimits = { connections: 512, perSource: 16 };
/** The operator's own tools: as many dashboards as there may be, and whoever is told that there are too many. */
const OPERATORS: ConnectionLimits = { connections: 256, perSource: 192 };

/** What peers may ask. */
export function gossipServer(
  gossip: Pick<Gossip, 'routes' | 'callerOf'>,
  archive: Archive,
  files: AppFiles | undefined,
  sealingKeys: SealingKeys,
  log: Log<'warn'>,
): FastifyInstance {
  const app = server(log, PEERS);
  const limit = new RateLimit({ burst: 240, perSecond: 20 });
  app.addHook('onRequest', async (request) => {
    // By who it is, where that is known: a stranger may have the address of a peer.
    if (!limit.take(gossip.callerOf(request) ?? sourceOf(request.ip))) {
      throw new DstackError('GOSSIP_RATE', 'too many requests from this address; slow down and try again');
    }
  });
  gossip.routes(app);
  archiveRoutes(app, archive);
  if (files !== undefined) appRoutes(app, files);
  app.post(nodePaths.sealingKey, (request) =>
    sealingKeys.of(check(SealingKeyRequestSchema, request.body, 'MESSAGE_MALFORMED', 'the request').app),
  );
  return app;
}

/** One network, as the operator may look at it. */
export interface Served {
  readonly contract: Address;
  readonly archive: Pick<Archive, 'list' | 'read'>;
  /** Brings the gauges up to date. */
  measure(): void;
  status(): object;
  /** Undefined when all is well, else why not. */
  unhealthy(): string | undefined;
}

export interface AdminOptions {
  /** The first is that of host.env itself. */
  services: readonly Served[];
  metrics: Metrics;
  log: Log<'warn'>;
  /** The host in DSTACK_ADMIN_LISTEN: requests may use that name too. */
  hostName: string;
  /** The page that people look at. */
  dashboard?: Pick<Dashboard, 'routes'>;
}

/**
 * What the operator may ask. Everything is read-only, and for the operator alone: a web page in a browser on this machine can
 * reach loopback too, and if it makes its own name point there (DNS rebinding) the browser lets it read the answers. The
 * browser then says which name it asked for, so only addresses and our own names are answered.
 */
export function adminServer(options: AdminOptions): FastifyInstance {
  const { services, metrics, log, hostName, dashboard } = options;
  const app = server(log, OPERATORS);
  app.addHook('onRequest', async (request) => {
    if (!isOwnName(request.headers.host, hostName)) {
      throw new DstackError(
        'HOST_REFUSED',
        'this port answers to an address or to localhost, not to another name',
      );
    }
  });
  archiveRoutes(app, allArchives(services));
  app.get('/healthz', async (_request, reply) => {
    const reasons = services.flatMap((service) => {
      const reason = service.unhealthy();
      return reason === undefined ? [] : [services.length === 1 ? reason : `${service.contract}: ${reason}`];
    });
    return reply
      .status(reasons.length === 0 ? 200 : 503)
      .send(reasons.length === 0 ? { ok: true } : { ok: false, reason: reasons.join('; ') });
  });
  app.get('/metrics', async (_request, reply) => {
    for (const service of services) service.measure();
    return reply.type('text/plain; version=0.0.4').send(metrics.text());
  });
  app.get('/v1/status', async (request) =>
    statusOf(services, (request.query as { contract?: unknown }).contract),
  );
  dashboard?.routes(app);
  return app;
}

/** @param host the header: a name or an address, with or without a port */
function isOwnName(host: string | undefined, hostName: string): boolean {
  const [, address, name] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::\d{1,5})?$/i.exec(host ?? '') ?? [];
  const asked = (address ?? name)?.toLowerCase();
  return (
    asked !== undefined && (asked === 'localhost' || asked === hostName.toLowerCase() || isIP(asked) !== 0)
  );
}

/** The status of the network that is asked for; else of the first one, with a list of all when there are several. */
function statusOf(services: readonly Served[], contract: unknown): object {
  if (contract === undefined) {
    const networks = services.map((service) => ({ contract: service.contract, ...service.status() }));
    return { ...networks[0], ...(networks.length > 1 && { networks }) };
  }
  const wanted = String(contract).toLowerCase();
  const found = services.find((service) => addressKey(service.contract) === wanted);
  if (found === undefined) {
    const known = services.map((service) => service.contract).join(', ');
    throw new DstackError('NO_NETWORK', `this relay serves ${known}, not ${wanted.slice(0, 60)}`);
  }
  return { contract: found.contract, ...found.status() };
}

/** Names of files are hashes of their contents, so those of all networks fit into one list. */
function allArchives(services: readonly Served[]): Pick<Archive, 'list' | 'read'> {
  return {
    list: (after, limit = 1000) =>
      [...new Set(services.flatMap(({ archive }) => archive.list(after, limit)))].sort().slice(0, limit),
    read: (name) => services.map(({ archive }) => archive.read(name)).find((text) => text !== undefined),
  };
}

function server(log: Log<'warn'>, limits: ConnectionLimits): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: 1024,
    http: HTTP_CHECKS,
    connectionTimeout: 60_000,
    keepAliveTimeout: 10_000,
    // A peer that only holds a connection open must not delay the relay's shutdown by that minute.
    forceCloseConnections: true,
    // What is refused before there is a request, such as a path that is none.
    frameworkErrors: (error, _request, reply) => {
      const { status, code, message } = refusal(error);
      void (reply as FastifyReply).status(status).send({ code, message });
    },
  });
  // JSON alone: web pages can send text without permission.
  app.removeContentTypeParser('text/plain');
  limitConnections(app.server, limits);
  app.setNotFoundHandler(async (request, reply) =>
    reply.status(404).send({
      code: 'NO_ROUTE',
      message: `nothing here answers ${request.method} ${request.url.slice(0, 100)}`,
    }),
  );
  app.setErrorHandler(async (error, request, reply) => {
    const { status, code, message } = refusal(error);
    if (status === 500)
      log.warn({ url: request.url.slice(0, 100), error: String(error) }, 'a request failed inside');
    // A bucket regains a token much sooner.
    if (status === 429) reply.header('retry-after', '1');
    return reply.status(status).send({ code, message });
  });
  return app;
}

/** Of refusals with another status than 400, or 503 where trying again may help. */
const STATUSES: Readonly<Record<string, number>> = {
  GOSSIP_RATE: 429,
  GOSSIP_CREDIT: 429,
  HOST_REFUSED: 403,
  ORIGIN_REFUSED: 403,
  NO_RECORD: 404,
  NO_NETWORK: 404,
  DASHBOARD_FULL: 503,
};

/** Our own refusals say why; fastify's (body too large, not JSON) keep their status; anything else is our fault and says nothing. */
function refusal(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof DstackError) {
    const status = STATUSES[error.code] ?? (error instanceof Retryable ? 503 : 400);
    return { status, code: codeOf(error), message: error.message.slice(0, 500) };
  }
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return { status: statusCode, code: 'HTTP_REQUEST', message: String(message).slice(0, 500) };
  }
  return { status: 500, code: 'INTERNAL', message: "internal error; see the relay's log" };
}
