/**
 * One JSON-RPC 2.0 call over HTTP(S) to an untrusted endpoint: bounded in time and size, without redirects, and the form of
 * the reply is checked before anything in it is used.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { type Static, type TSchema, Type } from 'typebox';
import { answerTo } from '../daemon/http-answer.ts';
import { readText } from '../daemon/http-body.ts';
import { DstackError, Retryable } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { type RpcErrorKind, type RpcErrorSaid, revertDataIn, rpcErrorKind, shown } from './rpc-errors.ts';

/** Some endpoints add `"error": null` to a result. */
const ReplySchema = Type.Object({
  jsonrpc: Type.Literal('2.0'),
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(Type.Null()),
});

/**
 * The endpoint understood the call and refused it. `reason` is its own message, made printable and cut to length; `kind` is
 * what that means; `data` is what a contract reverted with, if it did, as 0x-hex.
 */
export class RpcRefusal extends Retryable {
  readonly reason: string;
  readonly data: string | undefined;
  readonly kind: RpcErrorKind;

  constructor(what: string, reason: string, data: string | undefined, kind: RpcErrorKind = 'unknown') {
    super('RPC_REFUSED', `${what}: ${reason}`);
    this.reason = reason;
    this.data = data;
    this.kind = kind;
  }
}

/** Not a refusal: it says nothing about the call itself. */
export class RpcRateLimited extends Retryable {
  /** How long the endpoint asks not to be called, milliseconds; undefined when it does not say. */
  readonly retryAfter: number | undefined;

  constructor(message: string, retryAfter?: number) {
    super('RPC_RATE_LIMITED', message);
    this.retryAfter = retryAfter;
  }
}

export interface RpcOptions {
  /** For one call, milliseconds. */
  timeout?: number | undefined;
  /** Larger replies are refused. Bytes. */
  maxReplyBytes?: number | undefined;
  /** Calls at once; further ones wait, and their time runs. 4 by default. */
  connections?: number | undefined;
}

export interface RpcEndpoint {
  readonly url: string;
  /** What people are shown: the host alone. */
  readonly name: string;
  /**
   * One call; its result is checked against `schema`.
   * @throws RpcRefusal, RpcRateLimited; Retryable RPC_UNREACHABLE (no reply in time), RPC_TOO_LARGE, RPC_STATUS,
   * RPC_NOT_JSON, RPC_MALFORMED
   */
  call<T extends TSchema>(schema: T, method: string, params: readonly unknown[]): Promise<Static<T>>;
}

export function rpcEndpoint(url: string, options: RpcOptions = {}): RpcEndpoint {
  const { timeout = 10_000, maxReplyBytes = 1024 * 1024, connections = 4 } = options;
  const name = nameOf(url);
  const secure = url.startsWith('https://');
  const agent = secure
    ? new HttpsAgent({ keepAlive: true, maxSockets: connections })
    : new HttpAgent({ keepAlive: true, maxSockets: connections });
  let id = 0;

  /** @param once no second attempt: the caller decides this, since a call may change something */
  async function post(body: string, once: boolean, isSecond = false): Promise<IncomingMessage> {
    const req = (secure ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      // The second attempt gets a connection of its own.
      agent: isSecond ? false : agent,
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      signal: AbortSignal.timeout(timeout),
    });
    const answer = answerTo(req);
    req.end(body);
    try {
      return await answer;
    } catch (error) {
      // A server may close a kept-alive connection just as it is used again, which says nothing about the server.
      const isStale = req.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
      if (isStale && !once && !isSecond) return post(body, once, true);
      throw error;
    }
  }

  async function exchange(method: string, params: readonly unknown[]): Promise<unknown> {
    id += 1;
    const body = JSON.stringify({ jsonrpc: '2.0', id, method, params });
    const res = await post(body, method === 'eth_sendRawTransaction');
    const status = res.statusCode ?? 0;
    const retryAfter = retryAfterOf(res.headers['retry-after']);
    const limited = status === 429 || (status === 503 && retryAfter !== undefined);
    // Read whatever the status is: some endpoints send a proper refusal with a status other than 200.
    const text = await readText(res, limited ? LIMITED_MAX_BYTES : maxReplyBytes).catch((error) => {
      if (limited) return '';
      throw error;
    });
    const value = parsed(text);
    const said = refusalIn(value, status);
    if (limited) throw rateLimited(method, said?.message ?? `HTTP ${status}`, retryAfter ?? backoffIn(said));
    if (said !== undefined) throw refusal(method, said, retryAfter);
    if (value !== undefined) return value;
    const what = `${name} answered ${method} with HTTP ${status}: ${shown(text, 200)}`;
    if (status === 413) throw new Retryable('RPC_TOO_LARGE', what);
    throw new Retryable(status === 200 ? 'RPC_NOT_JSON' : 'RPC_STATUS', what);
  }

  function refusal(method: string, said: RpcErrorSaid, retryAfter: number | undefined): Retryable {
    const kind = rpcErrorKind(method, said);
    const reason = shown(said.message);
    if (kind === 'rate-limited') return rateLimited(method, reason, retryAfter ?? backoffIn(said));
    return new RpcRefusal(`${name} refused ${method}`, reason, revertDataIn(said), kind);
  }

  function rateLimited(method: string, how: string, retryAfter: number | undefined): RpcRateLimited {
    const message = `${name} wants fewer requests; it did not answer ${method}: ${shown(how)}`;
    return new RpcRateLimited(message, retryAfter);
  }

  return {
    url,
    name,
    async call(schema, method, params) {
      try {
        const value = await exchange(method, params);
        const reply = check(ReplySchema, value, 'RPC_MALFORMED', `the reply of ${name} to ${method}`);
        return check(schema, reply.result, 'RPC_MALFORMED', `what ${name} says of ${method}`);
      } catch (error) {
        throw retryable(error as Error, `${name} did not answer ${method}`);
      }
    },
  };
}

/** For a page that only says that there were too many requests. */
const LIMITED_MAX_BYTES = 64 * 1024;

/** Only the host name: the path of an endpoint is often its API key. */
function nameOf(url: string): string {
  return URL.parse(url)?.host ?? 'the endpoint';
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The refusal in a reply, in any of the forms in use; undefined when the reply is not a refusal. */
function refusalIn(value: unknown, status: number): RpcErrorSaid | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const reply = value as Record<string, unknown>;
  if (typeof reply.error === 'string') return { code: undefined, message: reply.error, data: undefined };
  if (typeof reply.error === 'object' && reply.error !== null) {
    return saidIn(reply.error as Record<string, unknown>);
  }
  // Gateways answer without the JSON-RPC envelope.
  const bare = !('result' in reply) && typeof reply.message === 'string';
  return bare && ('code' in reply || status !== 200) ? saidIn(reply) : undefined;
}

function saidIn({ code, message, data }: Record<string, unknown>): RpcErrorSaid {
  return {
    code: typeof code === 'number' ? code : undefined,
    message: typeof message === 'string' ? message : `an error without a message, code ${String(code)}`,
    data,
  };
}

/** A `Retry-After` header, in seconds or as a date (RFC 9110, 10.2.3), as milliseconds from now. */
function retryAfterOf(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** What Infura adds to the error, seconds. */
function backoffIn(said: RpcErrorSaid | undefined): number | undefined {
  const rate = (said?.data as { rate?: { backoff_seconds?: unknown } } | null | undefined)?.rate;
  const seconds = rate?.backoff_seconds;
  return typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : undefined;
}

/** No fault of an endpoint is final: it may be repaired, or another one may answer under its name tomorrow. */
function retryable(cause: Error, what: string): Retryable {
  if (cause instanceof Retryable) return cause;
  if (!(cause instanceof DstackError)) {
    return new Retryable('RPC_UNREACHABLE', `${what}: ${cause.message}`, { cause });
  }
  const code = cause.code.replace('BODY_', 'RPC_');
  return new Retryable(code, cause.code === code ? cause.message : `${what}: ${cause.message}`, { cause });
}
