/**
 * One JSON-RPC 2.0 call over HTTP(S) to an endpoint that is not trusted: bounded in time and size, no redirects, and
 * the reply's form is checked before anyone looks into it.
 */
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { Type } from 'typebox';
import { DstackError } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { readJson } from './unix-http.ts';

const ReplySchema = Type.Object({
  jsonrpc: Type.Literal('2.0'),
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(Type.Object({ code: Type.Number(), message: Type.String() })),
});

/** A reply larger than this is refused, in bytes. */
const MAX_REPLY_BYTES = 1024 * 1024;

export interface RpcEndpoint {
  readonly url: string;
  call(method: string, params: readonly unknown[]): Promise<unknown>;
}

/** @param timeout of one call, in milliseconds */
export function rpcEndpoint(url: string, timeout = 10_000): RpcEndpoint {
  const secure = url.startsWith('https://');
  const agent = secure
    ? new HttpsAgent({ keepAlive: true, maxSockets: 4 })
    : new HttpAgent({ keepAlive: true, maxSockets: 4 });
  let id = 0;

  async function call(method: string, params: readonly unknown[]): Promise<unknown> {
    id += 1;
    const body = JSON.stringify({ jsonrpc: '2.0', id, method, params });
    const value = await new Promise<unknown>((resolve, reject) => {
      const req = (secure ? httpsRequest : httpRequest)(url, {
        method: 'POST',
        agent,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        signal: AbortSignal.timeout(timeout),
      });
      req.on('error', reject);
      req.on('response', (res) => {
        if (res.statusCode !== 200) {
          res.resume();
          reject(new DstackError('RPC_STATUS', `${url} answered ${method} with HTTP ${res.statusCode}`));
          return;
        }
        readJson(res, MAX_REPLY_BYTES).then(resolve, reject);
      });
      req.end(body);
    }).catch((cause: Error) => {
      if (cause instanceof DstackError) throw cause;
      throw new DstackError('RPC_UNREACHABLE', `${url} did not answer ${method}: ${cause.message}`, {
        cause,
      });
    });
    const reply = check(ReplySchema, value, 'RPC_MALFORMED', `the reply of ${url} to ${method}`);
    if (reply.error !== undefined) {
      throw new DstackError('RPC_ERROR', `${url} refused ${method}: ${reply.error.message.slice(0, 300)}`);
    }
    return reply.result;
  }
  return { url, call };
}
