/** A port that nothing listens on. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** One of the loopback that was free a moment ago: whoever is to have it may find that another was faster. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
