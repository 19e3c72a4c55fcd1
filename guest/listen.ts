/** One server at several addresses: Node gives a server one, and takes connections that others accepted for it. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

/** Resolves once all of them are listened on. @throws what listening throws, for any of them */
export async function listenAt(server: Server, addresses: readonly string[], port: number): Promise<void> {
  const [first, ...others] = addresses;
  // The first by itself: a server that never listened watches over no time-outs.
  server.listen(port, first);
  await once(server, 'listening');
  await Promise.all(
    others.map(async (address) => {
      const options = { allowHalfOpen: true, noDelay: true };
      const acceptor = createServer(options, (socket) => server.emit('connection', socket));
      acceptor.listen(port, address);
      await once(acceptor, 'listening');
    }),
  );
}
