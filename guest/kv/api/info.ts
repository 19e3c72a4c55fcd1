/** What monitors ask: /health, /livez, /readyz, /version, and for the owner /metrics. As etcd 3.5 answers. */
import type { Caller } from '../types.ts';
import { pathOf, type Request, type Response } from './gateway.ts';
import type { Metrics } from './metrics.ts';

export interface Condition {
  /** Why the store cannot be written to now; undefined if it can. */
  readonly problem: () => Promise<string | undefined>;
  /** etcd's. */
  readonly version: () => Promise<string>;
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

const paths: Readonly<
  Record<string, (condition: Condition, metrics: Metrics, caller: Caller) => Promise<Answer>>
> = {
  '/health': async ({ problem }) => {
    const reason = await problem();
    return reason === undefined
      ? json(200, { health: 'true', reason: '' })
      : json(503, { health: 'false', reason });
  },
  '/livez': async () => text(200, 'ok\n'),
  '/readyz': async ({ problem }) => {
    const reason = await problem();
    return reason === undefined ? text(200, 'ok\n') : text(503, `[-]serializable_read failed: ${reason}\n`);
  },
  '/version': async ({ version }) => {
    const server = await version();
    return json(200, { etcdserver: server, etcdcluster: `${server.split('.').slice(0, 2).join('.')}.0` });
  },
  // How much others write is not for everyone.
  '/metrics': async (_, metrics, caller) =>
    caller.owner ? text(200, metrics.text()) : text(403, "the owner's only\n"),
};

export function hasInfo(request: Request): boolean {
  return Object.hasOwn(paths, pathOf(request));
}

export async function answerInfo(
  request: Request,
  response: Response,
  { condition, metrics, caller }: { condition: Condition; metrics: Metrics; caller: Caller },
): Promise<void> {
  const known = request.method === 'GET' || request.method === 'HEAD';
  const { code, type, body } = known
    ? await paths[pathOf(request)]!(condition, metrics, caller).catch(() => text(503, 'etcd is away\n'))
    : text(405, 'Method Not Allowed\n');
  if (response.destroyed) return;
  response.setHeader('content-type', type);
  response.statusCode = code;
  response.end(request.method === 'HEAD' ? '' : body);
}
