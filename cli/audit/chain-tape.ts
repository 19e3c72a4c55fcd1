/**
 * What a chain answered to one audit, so that the same audit can be made again without it: a proxy that keeps each answer, and one that
 * gives them. Both listen on the loopback and speak JSON-RPC, so that an audit reads either like any endpoint.
 *
 * What is played back is its publisher's word. What of it a block's hash vouches for is judged by `judgeTape` (sources.ts).
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Static, Type } from 'typebox';
import { readBytes } from '../../lib/daemon/http-body.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check, parseJson, Strict } from '../../lib/protocol/schema.ts';

const CallSchema = Type.Object({
  jsonrpc: Type.Literal('2.0'),
  id: Type.Integer(),
  method: Type.String({ maxLength: 64 }),
  params: Type.Array(Type.Unknown(), { maxItems: 8 }),
});
type Call = Static<typeof CallSchema>;
/** Calls are this program's own. */
const CALL_MAX_BYTES = 1024 * 1024;
const REPLY_MAX_BYTES = 32 * 1024 * 1024;
/** More than an audit's readers have between them; whoever else is on this machine finds no more either. */
const MAX_CONNECTIONS = 64;
/** Longer than an audit waits. Milliseconds. */
const TIMEOUT_MS = 60_000;

export const TAPE_MAX_BYTES = 256 * 1024 * 1024;
export const TapeSchema = Strict({
  version: Type.Literal(1),
  answers: Type.Array(
    Strict({
      method: Type.String({ maxLength: 64 }),
      params: Type.Array(Type.Unknown(), { maxItems: 8 }),
      result: Type.Unknown(),
    }),
    { maxItems: 1_000_000 },
  ),
});
export type Tape = Static<typeof TapeSchema>;

/** Far more than any answer of a chain is nested. What is nested without end can be read, and not be written again. */
const MAX_DEPTH = 64;

/** @throws PUBLISHED_CHAIN */
export function parseTape(text: string): Tape {
  const tape = parseJson(TapeSchema, text, 'PUBLISHED_CHAIN', 'chain.json', TAPE_MAX_BYTES);
  for (const { params, result } of tape.answers) {
    if (isDeep([params, result]))
      throw new DstackError('PUBLISHED_CHAIN', `chain.json is nested more than ${MAX_DEPTH} deep`);
  }
  return tape;
}

function isDeep(value: unknown, left = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return left === 0 || Object.values(value).some((one) => isDeep(one, left - 1));
}

interface Proxy {
  readonly url: string;
  close(): void;
}
export interface Recorder extends Proxy {
  /** What was answered so far, each call once, in the calls' order. */
  tape(): Tape;
}
export interface Player extends Proxy {
  /** The first call that the tape has no answer to. */
  missing(): string | undefined;
}

/** In front of an endpoint: hands on its answers, whatever they are, and keeps the results. */
export async function recordChain(endpoint: string): Promise<Recorder> {
  const results = new Map<string, Tape['answers'][number]>();
  const proxy = await serve(async (call) => {
    const response = await fetch(endpoint, {
      method: 'POST',
      body: JSON.stringify(call),
      headers: { 'content-type': 'application/json' },
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const body = await readBytes(response.body as unknown as AsyncIterable<Buffer>, REPLY_MAX_BYTES);
    const { method, params } = call;
    const reply = resultIn(body.toString());
    // The first answer is what an audit goes on from: a head that grew meanwhile would be another audit's.
    if (reply !== undefined && !results.has(keyOf(call)))
      results.set(keyOf(call), { method, params, result: reply.result });
    const retryAfter = response.headers.get('retry-after');
    return { status: response.status, body, ...(retryAfter === null ? {} : { retryAfter }) };
  });
  const inOrder = () => [...results].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, answer]) => answer);
  return { ...proxy, tape: () => ({ version: 1, answers: inOrder() }) };
}

/** An endpoint that has the answers of a tape, and no others. */
export async function playChain({ answers }: Tape): Promise<Player> {
  const results = new Map(answers.map((answer) => [keyOf(answer), answer.result]));
  let missing: string | undefined;
  const proxy = await serve(async (call) => {
    const { id } = call;
    const key = keyOf(call);
    if (!results.has(key)) missing ??= key.slice(0, 200);
    const said = results.has(key)
      ? { result: results.get(key) }
      : { error: { code: -32_000, message: 'chain.json has no answer to this' } };
    return { status: 200, body: JSON.stringify({ jsonrpc: '2.0', id, ...said }) };
  });
  return { ...proxy, missing: () => missing };
}

const keyOf = ({ method, params }: Pick<Call, 'method' | 'params'>): string =>
  JSON.stringify([method, params]);

/** Undefined for a refusal, which the next audit may well not get. */
function resultIn(text: string): { result: unknown } | undefined {
  try {
    const reply: unknown = JSON.parse(text);
    if (typeof reply !== 'object' || reply === null || !('result' in reply)) return undefined;
    return 'error' in reply && reply.error !== null ? undefined : { result: reply.result };
  } catch {
    return undefined;
  }
}

interface Answered {
  readonly status: number;
  readonly body: string | Uint8Array;
  readonly retryAfter?: string;
}

async function serve(answer: (call: Call) => Promise<Answered>): Promise<Proxy> {
  const server = createServer((request, response) => {
    callIn(request)
      .then(answer)
      .then(
        ({ status, body, retryAfter }) => {
          response.writeHead(status, {
            'content-type': 'application/json',
            ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
          });
          response.end(body);
        },
        // As an endpoint that can't be reached.
        () => response.destroy(),
      );
  });
  server.keepAliveTimeout = TIMEOUT_MS;
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => closeAll(server),
  };
}

/** @throws DstackError for what no audit asks */
async function callIn(request: IncomingMessage): Promise<Call> {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  // A web page may reach the loopback, by another name; by the address too, and then what it asks says that a page asks. It could not read
  // the answer, but others would in what is published.
  if (!host?.startsWith('127.0.0.1:') || origin !== undefined || site !== undefined)
    throw new DstackError('WRONG_HOST', 'not asked by an audit');
  const text = (await readBytes(request, CALL_MAX_BYTES)).toString();
  return check(CallSchema, JSON.parse(text), 'BAD_REQUEST', 'the call');
}

function closeAll(server: Server): void {
  server.close();
  server.closeAllConnections();
}
