/** Relays' gossip alone, many in one process, over real HTTP on loopback, with everything that travels counted. */
import type { AddressInfo } from 'node:net';
import fastify from 'fastify';
import { openStore } from '../../lib/framework/store.ts';
import { codeOf, Retryable } from '../../lib/protocol/errors.ts';
import { Gossip, type GossipOptions } from './gossip.ts';
import { HttpCarrier, type HttpCarrierOptions } from './http-carrier.ts';

export interface MeshHost {
  gossip: Gossip<unknown>;
  url: string;
  close(): Promise<void>;
}

export interface Counts {
  /** Whole messages that were sent by one relay to another. */
  bodies: number;
  /** Messages that came to a check of their kind. */
  checks: number;
  /** HTTP bodies in both directions, bytes. */
  bytes: number;
  requests: number;
}

export interface MeshOptions {
  relays: number;
  kinds: GossipOptions<unknown>['kinds'];
  context?: () => unknown;
  /** Which others a relay is told of; all by default. */
  peersOf?: (nth: number) => number[];
  /** URLs that it is told of besides: of peers that are none of these. */
  furtherPeers?: (nth: number) => string[];
  /** Whether nothing gets from one relay to another at present, in either direction. */
  isCut?: (one: number, other: number) => boolean;
  carrier?: Partial<HttpCarrierOptions>;
  limits?: GossipOptions<unknown>['limits'];
}

/** At the beginning of a path: which relay calls. */
const FROM = /^\/from\/(\d+)/;

/** Relays that are told of each other, not started yet. */
export async function newMesh(
  options: MeshOptions,
): Promise<{ hosts: MeshHost[]; counts: Counts; close(): Promise<void> }> {
  const { relays, context = () => undefined, carrier = {}, limits } = options;
  const { furtherPeers = () => [], isCut = () => false } = options;
  const peersOf = options.peersOf ?? ((nth) => [...Array(relays).keys()].filter((other) => other !== nth));
  const counts: Counts = { bodies: 0, checks: 0, bytes: 0, requests: 0 };
  const kinds = options.kinds.map((kind) => ({
    ...kind,
    admit: (message, given) => {
      counts.checks += 1;
      return kind.admit(message, given);
    },
  })) as typeof options.kinds;
  const apps = await Promise.all(
    Array.from({ length: relays }, async (_, nth) => {
      const app = fastify({ forceCloseConnections: true, rewriteUrl: ({ url }) => url!.replace(FROM, '') });
      const cutOff = ({ originalUrl }: { originalUrl: string }) =>
        isCut(Number(FROM.exec(originalUrl)?.[1] ?? nth), nth);
      app.addHook('onRequest', async (request, reply) => {
        if (cutOff(request)) reply.hijack().raw.destroy();
      });
      app.setErrorHandler((error, _request, reply) =>
        reply
          .status(error instanceof Retryable ? 503 : /^GOSSIP_(RATE|CREDIT)$/.test(codeOf(error)) ? 429 : 400)
          .send({ code: codeOf(error) }),
      );
      app.addHook('onSend', async (request, reply, payload) => {
        if (cutOff(request)) return void reply.raw.destroy();
        counts.requests += 1;
        counts.bytes += Number(request.headers['content-length'] ?? 0) + String(payload ?? '').length;
        if (request.method === 'POST' && request.url === '/v1/gossip') counts.bodies += 1;
        const found = JSON.parse(String(payload ?? '{}')) as { messages?: unknown[] };
        counts.bodies += found.messages?.length ?? 0;
        return payload;
      });
      return app;
    }),
  );
  // Addresses first: each is told of the others before it exists.
  const { createServer } = await import('node:net');
  const ports = await Promise.all(
    apps.map(
      () =>
        new Promise<number>((resolve) => {
          const server = createServer().listen(0, '127.0.0.1', () => {
            const { port } = server.address() as AddressInfo;
            server.close(() => resolve(port));
          });
        }),
    ),
  );
  const urlOf = (nth: number) => `http://127.0.0.1:${ports[nth]}`;
  const hosts = await Promise.all(
    apps.map(async (app, nth) => {
      const store = openStore(':memory:');
      const log = { info() {}, warn() {} };
      // Each calls the others by a path that says who it is, so that one direction can be cut and another not.
      const peers = [...peersOf(nth).map((other) => `${urlOf(other)}/from/${nth}`), ...furtherPeers(nth)];
      const gossip = new Gossip({
        store,
        kinds,
        context,
        carriers: [new HttpCarrier({ store, peers, log, ...carrier })],
        log,
        ...(limits && { limits }),
      });
      gossip.routes(app);
      await app.listen({ host: '127.0.0.1', port: ports[nth]! });
      return {
        gossip,
        url: urlOf(nth),
        close: async () => {
          await gossip.close();
          await app.close();
          store.close();
        },
      };
    }),
  );
  return { hosts, counts, close: async () => void (await Promise.all(hosts.map((host) => host.close()))) };
}

/** Until all of them hold so many messages. */
export async function spread(hosts: readonly MeshHost[], count: number, within = 60_000): Promise<void> {
  const all = () => hosts.every(({ gossip }) => gossip.last >= count);
  for (const deadline = Date.now() + within; !all(); ) {
    if (Date.now() > deadline) {
      throw new Error(
        `after ${within} ms they hold ${hosts.map(({ gossip }) => gossip.last).join(' ')}, not ${count}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
