/** The log itself, below /ledger/: the signed head and the tiles, as tools for C2SP tlog-tiles fetch them. Whoever has a connection may read it. */
import type { KvLedger } from '../ledger/ledger.ts';
import { logResource } from '../ledger/receipts.ts';
import { pathOf, type Request, type Response } from './gateway.ts';

const PREFIX = '/ledger/';
const FOR_EVER = 'public, max-age=31536000, immutable';

export function isOfLog(request: Request): boolean {
  return pathOf(request).startsWith(PREFIX);
}

export async function answerLog(request: Request, response: Response, log: KvLedger): Promise<void> {
  const isRead = request.method === 'GET' || request.method === 'HEAD';
  const found = isRead ? await logResource(log, pathOf(request).slice(PREFIX.length)) : undefined;
  if (response.destroyed) return;
  response.statusCode = found === undefined ? (isRead ? 404 : 405) : 200;
  response.setHeader('content-type', found?.type ?? 'text/plain; charset=utf-8');
  if (found !== undefined) response.setHeader('cache-control', found.immutable ? FOR_EVER : 'no-cache');
  const body = found === undefined ? 'not in the log\n' : Buffer.from(found.bytes);
  response.setHeader('content-length', Buffer.byteLength(body));
  response.end(request.method === 'HEAD' ? '' : body);
}
