/** The agent's HTTP server: guards, then who asks, then the answer from the replicator for exactly that app. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../../lib/daemon/log.ts';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import type { AppKeyReply, AttestReply, DiskStatusReply, InfoReply } from '../../lib/protocol/sockets.ts';
import { attestationDigest } from '../../lib/protocol/typed-data.ts';
import type { Callers } from './callers.ts';
import { assertPlain, parseQuestion } from './guards.ts';

/** The node's other daemons, as the agent asks them. */
export interface Siblings {
  appKey(app: string, tag: string): Promise<AppKeyReply>;
  attest(app: string, tag: string, data: string): Promise<AttestReply>;
  info(): Promise<InfoReply>;
  disk(): Promise<DiskStatusReply>;
}

interface Answer {
  type: 'text/plain; charset=utf-8' | 'application/octet-stream' | 'application/json';
  body: Uint8Array | string;
}

const statuses: Record<string, number> = {
  METHOD: 405,
  NO_ROUTE: 404,
  WRONG_HOST: 421,
  FORWARDED_REQUEST: 403,
  UNKNOWN_CALLER: 403,
  BAD_TAG: 400,
  BAD_DATA: 400,
};

/** The server, not yet listening. */
export function agentServer(callers: Callers, siblings: Siblings, log: Log<'debug' | 'warn'>): Server {
  let count = 0;
  // An app chooses how often it asks, so repeated identical refusals are logged only once.
  let lastRefusal = '';
  const options = { ...HTTP_CHECKS, maxHeaderSize: 16 * 1024, keepAliveTimeout: 5_000 };
  const server = createServer(options, (request, response) => {
    count += 1;
    const id = `${count}`;
    answer(request, callers, siblings).then(
      ({ app, reply }) => {
        log.debug({ request: id, app, path: pathKind(request) }, 'answered');
        send(response, 200, reply);
      },
      (error: unknown) => {
        const code = codeOf(error);
        const from = request.socket.remoteAddress;
        if (lastRefusal !== `${code} ${from}`)
          log.warn({ request: id, code, from }, `refused: ${(error as Error).message}`);
        lastRefusal = `${code} ${from}`;
        // Ask again when a sibling is away or not ready yet, but not after a refusal.
        send(response, statuses[code] ?? 503, {
          type: 'application/json',
          body: JSON.stringify({
            code,
            message: error instanceof DstackError ? error.message : "see the node's log",
          }),
        });
      },
    );
  });
  // Whatever one app does, there is room left for the others.
  limitConnections(server, { connections: 512, perSource: 64 });
  return server;
}

async function answer(
  request: IncomingMessage,
  callers: Callers,
  siblings: Siblings,
): Promise<{ app: string; reply: Answer }> {
  assertPlain(request);
  const question = parseQuestion(request.url!);
  const { app, manifestHash } = await callers.identify(
    request.socket.remoteAddress,
    request.socket.localAddress,
  );
  switch (question.kind) {
    case 'getkey': {
      const { key } = await siblings.appKey(app, question.tag);
      return { app, reply: { type: 'text/plain; charset=utf-8', body: key } };
    }
    case 'attest': {
      const { signature } = await siblings.attest(app, question.tag, toHex(question.data));
      return { app, reply: { type: 'application/octet-stream', body: fromHex(signature) } };
    }
    case 'appdata': {
      const { chainId, contract } = await siblings.info();
      const attestation = { app: appId(app), tag: question.tag, data: question.data };
      const digest = attestationDigest({ chainId, contract }, attestation);
      return { app, reply: { type: 'application/octet-stream', body: digest } };
    }
    case 'info': {
      const [info, disk] = await Promise.all([siblings.info(), siblings.disk()]);
      const body = { app, manifestHash, ...info, disk: { state: disk.state, diskId: disk.diskId } };
      return { app, reply: { type: 'application/json', body: JSON.stringify(body) } };
    }
  }
}

function send(response: ServerResponse, status: number, { type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(body);
}

/** The first part of the path: tags and data are the app's business. */
const pathKind = (request: IncomingMessage): string => request.url?.split('/')[1] ?? '';
