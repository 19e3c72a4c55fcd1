/**
 * The limits of every listening server, so that no caller can keep it to itself: how many connections there may be in all and
 * from one source, how soon the first byte must arrive, and how long a request may take to arrive.
 *
 * When all connections are taken, a source with fewer gets one from the source that has the most.
 */
import type { Server as HttpServer } from 'node:http';
import type { Server, Socket } from 'node:net';

export interface ConnectionLimits {
  /** In all. */
  connections: number;
  /** From one source; on a unix socket, where sources can't be told apart, in all. */
  perSource: number;
  /** Milliseconds from the connection to its first byte. */
  firstByteWithin?: number;
  /** Who a connection counts towards; without it, the remote address. */
  sourceOf?: (socket: Socket) => string;
}

/** Milliseconds. Every message is small, so a request that takes longer does so on purpose. */
const FIRST_BYTE_WITHIN = 5_000;
const HEADERS_WITHIN = 5_000;
const REQUEST_WITHIN = 10_000;

/** For `createServer` of node:http: how often Node looks for requests that take too long to arrive. Its default is 30 s. */
export const HTTP_CHECKS = { connectionsCheckingInterval: 1_000 } as const;

/** Limits a server; call it before the server listens. A node:http server must have been made with `HTTP_CHECKS`. */
export function limitConnections(server: Server, limits: ConnectionLimits): void {
  const { connections, perSource, firstByteWithin = FIRST_BYTE_WITHIN } = limits;
  const sourceFor = limits.sourceOf ?? (({ remoteAddress }) => sourceOf(remoteAddress));
  if (isHttp(server)) {
    server.headersTimeout = HEADERS_WITHIN;
    server.requestTimeout = REQUEST_WITHIN;
  }
  const bySource = new Map<string, Set<Socket>>();
  let count = 0;

  const leave = (source: string, socket: Socket): void => {
    const own = bySource.get(source);
    if (own?.delete(socket) !== true) return;
    count -= 1;
    if (own.size === 0) bySource.delete(source);
  };
  /** Closes the oldest connection of the source that has the most, if that is more than a newcomer with `has` will have. */
  const makeRoom = (has: number): boolean => {
    const [source, most] = [...bySource].reduce((a, b) => (b[1].size > a[1].size ? b : a));
    const [oldest] = most;
    if (oldest === undefined || most.size < has + 2) return false;
    oldest.destroy();
    leave(source, oldest);
    return true;
  };

  // Runs before Node's own listener, which would read from the socket.
  server.prependListener('connection', (socket: Socket) => {
    const source = sourceFor(socket);
    const has = bySource.get(source)?.size ?? 0;
    if (has >= perSource || (count >= connections && !makeRoom(has))) {
      socket.destroy();
      return;
    }
    bySource.set(source, (bySource.get(source) ?? new Set()).add(socket));
    count += 1;
    const timer = setTimeout(() => {
      if (socket.bytesRead === 0) socket.destroy();
    }, firstByteWithin);
    socket.once('close', () => {
      clearTimeout(timer);
      leave(source, socket);
    });
  });
}

const isHttp = (server: Server): server is HttpServer => 'headersTimeout' in server;

/**
 * The source that a connection counts towards: an IPv4 address, even when written as IPv6, or the /64 of an IPv6 address,
 * since a host has a whole /64 to itself. Empty for a unix socket.
 * @param address as Node reports it
 */
export function sourceOf(address: string | undefined): string {
  const plain = (address ?? '').replace(/%.*$/, '').toLowerCase();
  if (!plain.includes(':')) return plain;
  const groups = groupsOf(plain);
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (isMapped) return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join('.');
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`;
}

/** The eight groups of an IPv6 address, RFC 4291, section 2.2. */
function groupsOf(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const before = readGroups(head);
  const after = tail === undefined ? [] : readGroups(tail);
  const zeros = new Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0);
  return [...before, ...zeros, ...after];
}

/** An IPv4 address at the end counts as two groups. */
const readGroups = (text: string): number[] =>
  text
    .split(':')
    .filter((group) => group !== '')
    .flatMap((group) => {
      if (!group.includes('.')) return [Number.parseInt(group, 16)];
      const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
      return [a * 256 + b, c * 256 + d];
    });
