/**
 * When an authority proposes to renew (RFC 9773), as a test wants it: pebble proposes all of a short certificate's life, its last moment
 * too, so that chance alone would say how much time is left for the order.
 */
import { request as ask, createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { newKey } from './authority.ts';
import type { Pebble } from './pebble.ts';

/** The same authority by another port. */
export interface Way {
  readonly directory: string;
  close(): void;
}

/** Its directory names no place for proposals. */
export function withoutProposals(pebble: Pebble): Promise<Way> {
  return by(pebble, ({ renewalInfo: _, ...directory }) => directory);
}

/** It proposes that each certificate be renewed so many seconds after it is asked about it. */
export function proposing(pebble: Pebble, after: number): Promise<Way> {
  return by(
    pebble,
    (directory) => directory,
    () => {
      const at = new Date(Date.now() + after * 1000).toISOString();
      return { suggestedWindow: { start: at, end: at } };
    },
  );
}

async function by(
  pebble: Pebble,
  edit: (directory: Record<string, unknown>) => object,
  propose?: () => object,
): Promise<Way> {
  const { hostname } = new URL(pebble.directory);
  const key = newKey();
  const cert = pebble.authority.issue({ key, names: [hostname] });
  const pem = key.privateKey.export({ format: 'pem', type: 'pkcs8' });
  const itself = { host: '127.0.0.1', port: pebble.port, servername: 'localhost', ca: pebble.authority.pem };
  const server = createServer({ cert, key: pem }, (request, response) => {
    const { url: path, method, headers } = request;
    if (propose !== undefined && path?.includes('/renewalInfo/')) {
      response.end(JSON.stringify(propose()));
      return;
    }
    // With the same `host`: pebble makes its URLs of it.
    const to = ask({ ...itself, path, method, headers, agent: false }, async (answer) => {
      if (path !== '/dir') {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
        return;
      }
      response.end(JSON.stringify(edit(JSON.parse(await text(answer)))));
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
