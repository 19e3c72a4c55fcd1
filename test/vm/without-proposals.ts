/** An authority that does not say when to renew (RFC 9773): pebble does, and proposes all of a short certificate's life, its last moment too. */
import { request as ask, createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { newKey } from '../support/authority.ts';
import type { Pebble } from '../support/pebble.ts';

/** The same authority by another port, whose directory names no place for proposals. */
export async function withoutProposals(pebble: Pebble): Promise<{ directory: string; close(): void }> {
  const { hostname } = new URL(pebble.directory);
  const key = newKey();
  const cert = pebble.authority.issue({ key, names: [hostname] });
  const pem = key.privateKey.export({ format: 'pem', type: 'pkcs8' });
  const itself = { host: '127.0.0.1', port: pebble.port, servername: 'localhost', ca: pebble.authority.pem };
  const server = createServer({ cert, key: pem }, (request, response) => {
    const { url: path, method, headers } = request;
    // With the same `host`: pebble makes its URLs of it.
    const to = ask({ ...itself, path, method, headers, agent: false }, async (answer) => {
      if (path !== '/dir') {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
        return;
      }
      const { renewalInfo: _, ...directory } = JSON.parse(await text(answer));
      response.end(JSON.stringify(directory));
    });
    to.on('error', () => response.destroy());
    request.pipe(to);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    directory: `https://${hostname}:${(server.address() as AddressInfo).port}/dir`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
