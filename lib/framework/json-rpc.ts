/**
 * One JSON-RPC 2.0 call over HTTP(S) to an endpoint that is not trusted: bounded in time and size, no redirects, and
 * the reply's form is checked before anyone looks into it.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { type Static, type TSchema, Type } from 'typebox';
import { codeOf, DstackError } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { Retryable } from './handler.ts';
import { readJson } from './unix-http.ts';

const ReplySchema = Type.Object({
  jsonrpc: Type.Literal('2.0'),
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(
    Type.Object({ code: Type.Number(), message: Type.String(), data: Type.Optional(Type.Unknown()) }),
  ),
});

/**
 * The endpoint understood the call and refused it: `reason` is its own message, cut; `data` what a contract reverted
 * with, if it did: 0x-hex.
 */
export class RpcRefusal extends Retryable {
  readonly reason: string;
  readonly data: string | undefined;

  constructor(what: string, reason: string, data: string | undefined) {
    super('RPC_REFUSED', `${what}: ${reason}`);
    this.reason = reason;
    this.data = data;
  }
}

export interface RpcOptions {
  /** Of one call, milliseconds. */
  timeout?: number | undefined;
  /** A larger reply is refused, bytes. */
  maxReplyBytes?: number | undefined;
}

export interface RpcEndpoint {
  readonly url: string;
  /**
   * One call; its result is checked against `schema`.
   * @throws RpcRefusal; Retryable RPC_RATE_LIMITED, RPC_UNREACHABLE (no reply in time), RPC_TOO_LARGE, RPC_STATUS,
   * RPC_NOT_JSON, RPC_MALFORMED
   */
  call<T extends TSchema>(schema: T, method: string, params: readonly unknown[]): Promise<Static<T>>;
}

export function rpcEndpoint(url: string, options: RpcOptions = {}): RpcEndpoint {
  const { timeout = 10_000, maxReplyBytes = 1024 * 1024 } = options;
  const secure = url.startsWith('https://');
  const agent = secure
    ? new HttpsAgent({ keepAlive: true, maxSockets: 4 })
    : new HttpAgent({ keepAlive: true, maxSockets: 4 });
  let id = 0;

  function post(body: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const req = (secure ? httpsRequest : httpRequest)(url, {
        method: 'POST',
        agent,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        signal: AbortSignal.timeout(timeout),
      });
      req.on('error', reject);
      req.on('response', resolve);
      req.end(body);
    });
  }

  async function exchange(method: string, params: readonly unknown[]): Promise<unknown> {
    id += 1;
    const res = await post(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    if (res.statusCode === 429) {
      res.destroy();
      throw rateLimited(url, method, 'HTTP 429');
    }
    try {
      // Whatever the status: some endpoints send a proper refusal with one that is not 200.
      return await readJson(res, maxReplyBytes);
    } catch (error) {
      if (res.statusCode === 200 || codeOf(error) !== 'BODY_NOT_JSON') throw error;
      throw new DstackError('RPC_STATUS', `${url} answered ${method} with HTTP ${res.statusCode}`);
    }
  }

  return {
    url,
    async call(schema, method, params) {
      try {
        const value = await exchange(method, params);
        const reply = check(ReplySchema, value, 'RPC_MALFORMED', `the reply of ${url} to ${method}`);
        if (reply.error === undefined) {
          return check(schema, reply.result, 'RPC_MALFORMED', `what ${url} says of ${method}`);
        }
        const { message, data } = reply.error;
        if (RATE_LIMIT.test(message)) throw rateLimited(url, method, message.slice(0, 300));
        throw new RpcRefusal(`${url} refused ${method}`, message.slice(0, 300), revertData(data));
      } catch (error) {
        throw retryable(error as Error, `${url} did not answer ${method}`);
      }
    },
  };
}

/** Providers say it in words of their own, often with HTTP 200; their error codes mean other things elsewhere. */
const RATE_LIMIT = /rate.?limit|too many requests|request limit|compute units|throttl/i;

/** Not a refusal: it says nothing about what was asked. */
function rateLimited(url: string, method: string, how: string): Retryable {
  return new Retryable(
    'RPC_RATE_LIMITED',
    `${url} wants fewer requests; it did not answer ${method}: ${how}`,
  );
}

/** Nothing that an endpoint does wrong is final: it may be mended, or another one may be behind its name tomorrow. */
function retryable(cause: Error, what: string): Retryable {
  if (cause instanceof Retryable) return cause;
  if (!(cause instanceof DstackError)) {
    return new Retryable('RPC_UNREACHABLE', `${what}: ${cause.message}`, { cause });
  }
  const code = cause.code.replace('BODY_', 'RPC_');
  return new Retryable(code, cause.code === code ? cause.message : `${what}: ${cause.message}`, { cause });
}

/** Clients put revert data as the error's data, or one level deeper. */
function revertData(data: unknown): string | undefined {
  const candidate = typeof data === 'object' && data !== null && 'data' in data ? data.data : data;
  return typeof candidate === 'string' && /^0x([0-9a-f]{2}){0,4096}$/i.test(candidate)
    ? candidate
    : undefined;
}
