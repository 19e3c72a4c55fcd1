/**
 * Takes the website's visitors at an address of this host and passes them on to the VM, each with a header that says where it comes
 * from. With QEMU's user networking the guest sees one address for all of them: without the header it can't count them apart, and no
 * app can know.
 *
 * A visitor's own bytes come after the header, so that a header of theirs is no header.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { limitConnections } from '../../lib/daemon/server-limits.ts';
import { proxyHeader } from './proxy-header.ts';

/** As in the guest (guest/tls/front-config.ts), which counts after the handshake only. */
const LIMITS = { connections: 4_000, perSource: 500, firstByteWithin: 15_000 };

export interface Forwarder {
  readonly address: AddressInfo;
  /** Ends all connections. */
  close(): void;
}

/**
 * @param listen where visitors come
 * @param port where the VM expects headers, on the loopback
 * @throws what listening throws
 */
export async function forwardVisitors(
  listen: { readonly host: string; readonly port: number },
  port: number,
): Promise<Forwarder> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (visitor) => {
    const header = headerOf(visitor);
    if (header === undefined) return void visitor.destroy();
    const guest = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
    for (const [one, other] of [
      [visitor, guest],
      [guest, visitor],
    ] as const) {
      open.add(one);
      one
        .on('error', () => {})
        .on('close', () => {
          open.delete(one);
          other.destroy();
        });
    }
    guest.write(header);
    visitor.pipe(guest);
    guest.pipe(visitor);
  });
  limitConnections(server, LIMITS);
  server.listen(listen);
  await once(server, 'listening');
  return {
    address: server.address() as AddressInfo,
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** None for a connection that is gone already. */
function headerOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): Buffer | undefined {
  if (remoteAddress === undefined || localAddress === undefined) return undefined;
  return proxyHeader(
    { address: remoteAddress, port: remotePort ?? 0 },
    { address: localAddress, port: localPort ?? 0 },
  );
}
