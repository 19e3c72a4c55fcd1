/**
 * The demo's certificate authority: pebble, which issues for a name that leads to this machine. What a visitor and the authority
 * reach under that name is the `Road`: one port for http and one for https, led to whichever node there is.
 */
import { writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Pebble, startPebble } from '../../test/support/pebble.ts';
import type { DemoHost, DemoNetwork } from './host.ts';

/** Browsers look for every name below `localhost` on their own machine (RFC 6761, section 6.3). */
export const SITE_NAME = 'dstack.localhost';
/** This machine, in QEMU's user network. */
const HOST_SEEN_BY_GUESTS = '10.0.2.2';

export interface DemoAuthority {
  road: Road;
  /** For `npx dstack network config --site`. */
  siteFile: string;
  /** PEM: whoever trusts it trusts the website. Made anew each time. */
  rootFile: string;
  stop(): Promise<void>;
}

export interface AuthorityOptions {
  /** Of a certificate, seconds; 90 days by default. */
  readonly lifetime?: number;
  /** By which way the nodes reach its directory; straight by default. */
  readonly by?: (pebble: Pebble) => Promise<{ directory: string; close(): void }>;
}

export async function startAuthority(
  network: Pick<DemoNetwork, 'folder'>,
  { lifetime, by = async ({ directory }) => ({ directory, close() {} }) }: AuthorityOptions = {},
): Promise<DemoAuthority> {
  const road = await openRoad();
  const pebble = await startPebble({
    address: HOST_SEEN_BY_GUESTS,
    httpPort: road.http.port,
    tlsPort: road.tls.port,
    ...(lifetime !== undefined && { lifetime }),
  });
  const way = await by(pebble);
  const siteFile = join(network.folder, 'site.json');
  const rootFile = join(network.folder, 'authority.pem');
  const site = {
    domains: [SITE_NAME],
    acme: { directory: way.directory, challenges: ['http-01'], firstWithin: 2 },
    roots: pebble.roots,
  };
  writeFileSync(siteFile, JSON.stringify(site, null, 2));
  writeFileSync(rootFile, pebble.roots.at(-1)!);
  return {
    road,
    siteFile,
    rootFile,
    async stop() {
      road.close();
      way.close();
      await pebble.stop();
    },
  };
}

/** What stands for the name's address: two ports of this machine, and the node that they lead to. */
export interface Road {
  readonly http: Lane;
  readonly tls: Lane;
  leadTo(host: Pick<DemoHost, 'httpPort' | 'tlsPort'>): void;
  close(): void;
}

export async function openRoad(): Promise<Road> {
  const [http, tls] = [await openLane(), await openLane()];
  return {
    http,
    tls,
    leadTo({ httpPort, tlsPort }) {
      http.leadTo(httpPort);
      tls.leadTo(tlsPort);
    },
    close() {
      http.close();
      tls.close();
    },
  };
}

interface Lane {
  readonly port: number;
  /** Connections from now on lead to that port of this machine. Until then they are closed. */
  leadTo(port: number): void;
  close(): void;
}

/** A port of the loopback that leads to another, by bytes. */
async function openLane(): Promise<Lane> {
  let end: number | undefined;
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (from) => {
    if (end === undefined) return void from.destroy();
    const to = connect({ port: end, host: '127.0.0.1', allowHalfOpen: true });
    forward(from, to);
    forward(to, from);
  });
  const forward = (one: Socket, other: Socket): void => {
    open.add(one);
    one.on('close', (failed) => {
      open.delete(one);
      // One that ended well has said so by the pipe: the other may still have bytes of it to send.
      if (failed) other.destroy();
    });
    one.on('error', () => {});
    one.pipe(other);
  };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    leadTo(port) {
      end = port;
    },
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
