/** What monitors ask: /health, /livez, /readyz, /version, and for the owner /metrics, as etcd 3.5 answers; and what an app's clients outside trust. */
import type { Caller } from '../types.ts';
import { pathOf, type Request, type Response } from './gateway.ts';
import type { Metrics } from './metrics.ts';

export interface Condition {
  /** Why the store cannot be written to now; undefined if it can. */
  readonly problem: () => Promise<string | undefined>;
  /** etcd's. */
  readonly version: () => Promise<string>;
}

/** What clients outside of an app's have to trust, PEM; undefined where it has none. */
export type RootOf = (caller: Caller) => string | undefined;

interface About {
  readonly condition: Condition;
  readonly metrics: Metrics;
  readonly caller: Caller;
  readonly clientsRoot: RootOf | undefined;
}

interface Answer {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

const json = (code: number, value: object): Answer => ({
  code,
  type: 'application/json',
  body: JSON.stringify(value),
});
const text = (code: number, body: string): Answer => ({ code, type: 'text/plain; charset=utf-8', body });

const paths: Readonly<Record<string, (about: About) => Promise<Answer>>> = {
  '/health': async ({ condition: { problem } }) => {
    const reason = await problem();
    return reason === undefined
      ? json(200, { health: 'true', reason: '' })
      : json(503, { health: 'false', reason });
  },
  '/livez': async () => text(200, 'ok\n'),
  '/readyz': async ({ condition: { problem } }) => {
    const reason = await problem();
    return reason === undefined ? text(200, 'ok\n') : text(503, `[-]serializable_read failed: ${reason}\n`);
  },
  '/version': async ({ condition: { version } }) => {
    const server = await version();
    return json(200, { etcdserver: server, etcdcluster: `${server.split('.').slice(0, 2).join('.')}.0` });
  },
  // How much others write is not for everyone.
  '/metrics': async ({ metrics, caller }) =>
    caller.owner ? text(200, metrics.text()) : text(403, "the owner's only\n"),
  '/clients.pem': async ({ caller, clientsRoot }) => {
    const root = clientsRoot?.(caller);
    return root === undefined
      ? text(404, 'no clients outside, by network.json; or no certificate for them yet\n')
      : { code: 200, type: 'application/x-pem-file', body: root };
  },
};

export function hasInfo(request: Request): boolean {
  return Object.hasOwn(paths, pathOf(request));
}

export async function answerInfo(request: Request, response: Response, about: About): Promise<void> {
  const known = request.method === 'GET' || request.method === 'HEAD';
  const { code, type, body } = known
    ? await paths[pathOf(request)]!(about).catch(() => text(503, 'etcd is away\n'))
    : text(405, 'Method Not Allowed\n');
  if (response.destroyed) return;
  response.setHeader('content-type', type);
  response.statusCode = code;
  response.end(request.method === 'HEAD' ? '' : body);
}
