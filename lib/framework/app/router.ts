/**
 * The enclave's side of HTTP: routes with schemas and bounds, and the one that answers a contract's requests.
 *
 * Which request is next is what the chain says at a confirmed block: its number, and its hash over all that is in it. Not what the host says,
 * and not what a disk says. So a host that repeats, swaps, alters or makes up requests gets a refusal, and an enclave that was
 * started again, on this disk or another, goes on where the contract is.
 */
import { createHmac } from 'node:crypto';
import type { Server } from 'node:http';
import { type Static, type TSchema, Type } from 'typebox';
import { HttpRefusal, jsonServer, type Route } from '../../daemon/json-server.ts';
import type { Log } from '../../daemon/log.ts';
import { decodeStrictly } from '../../protocol/abi.ts';
import { fromHex, lengthPrefixed, utf8 } from '../../protocol/encoding.ts';
import { codeOf, DstackError, messageOf, Retryable } from '../../protocol/errors.ts';
import { type Hex, parseHex, sameHex } from '../../protocol/hex.ts';
import { check, Strict } from '../../protocol/schema.ts';
import { within } from '../within.ts';
import {
  ANSWER_TAG,
  type Answer,
  type AppDomain,
  AppRequestSchema,
  type Attested,
  AttestedSchema,
  answerData,
  decodeProgress,
  hashOf,
  kindName,
  kindWord,
  PROGRESS_CALL,
  requestHash,
} from './answer.ts';
import {
  type Answering,
  type Enclave,
  Refusal,
  type RequestContext,
  type RequestHandler,
} from './enclave.ts';

/** Where a host asks for the answer to a contract's request. */
export const ANSWER_PATH = '/v1/answer';

/** Of a body, bytes, where a route does not say otherwise. */
const BODY_MAX_BYTES = 64 * 1024;
/** Of a request with what the host adds to it. */
const ANSWER_MAX_BYTES = 1024 * 1024;
/** For a handler, milliseconds, where `answers` does not say otherwise: less than a host waits. */
const HANDLE_MAX_MS = 50_000;
/** Requests that wait for their turn: callers that are gone still have theirs. */
const WAITING_MAX = 32;
/** Requests of visitors at once: what they cost the app's share of the agent, and of the chain, delays the contract's answers. */
const VISITORS_MAX = 8;
/** Characters of a message: no host reads more of it than this. */
const MESSAGE_MAX = 2000;
const CONNECTIONS = { connections: 64, perSource: 32 };

const AnswerAsked = Strict({ request: AppRequestSchema, evidence: Type.Optional(Type.Unknown()) });

export interface RouteOptions<E extends Enclave, Q extends TSchema, R extends TSchema> {
  /** What does not fit is refused with BAD_REQUEST. */
  readonly request: Q;
  /** What a handler may answer; anything else is its own mistake, and does not leave the enclave. */
  readonly response: R;
  /** Bytes of the body; 64 KiB by default. */
  readonly maxBytes?: number;
  /** For visitors of the app's website too. Without it, hosts alone ask it. */
  readonly open?: boolean;
  readonly handle: RequestHandler<E, Static<Q>, Static<R>>;
}

export class Router<E extends Enclave> {
  readonly #enclave: E;
  readonly #log: Log<'warn'>;
  readonly #routes = new Map<string, { maxBytes: number; isOpen: boolean; route: Route }>();
  readonly #kinds = new Map<string, Answering<E, unknown, unknown>>();
  /** The last answer being made: one after the other, as the contract takes them. */
  #answering: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #visitors = 0;
  #domain: AppDomain | undefined;
  #handleMax = HANDLE_MAX_MS;

  constructor(enclave: E, log: Log<'warn'>) {
    this.#enclave = enclave;
    this.#log = log;
  }

  /** Adds `POST path`. @throws ROUTE_TWICE */
  route<Q extends TSchema, R extends TSchema>(path: string, options: RouteOptions<E, Q, R>): this {
    const { request, response, maxBytes = BODY_MAX_BYTES, open: isOpen = false, handle } = options;
    this.#add(path, { maxBytes, isOpen }, async (body) => {
      const asked = check(request, body, 'BAD_REQUEST', `the body of ${path}`);
      const answer = await handle(this.#enclave, asked, undefined);
      return check(response, answer, 'BAD_RESPONSE', `what the handler of ${path} answers`);
    });
    return this;
  }

  /**
   * Answers requests of this contract.
   * @param options.within milliseconds that a handler may take; after that there is no answer, and the host asks again. More than 50,000 is of
   * use with a longer `timeout` of the host's `enclaveAt`
   * @throws ROUTE_TWICE when it already answers one
   */
  answers(domain: AppDomain, options: { within?: number } = {}): this {
    this.#add(ANSWER_PATH, { maxBytes: ANSWER_MAX_BYTES, isOpen: false }, (body) => this.#inTurn(body));
    this.#domain = domain;
    this.#handleMax = options.within ?? HANDLE_MAX_MS;
    return this;
  }

  /** What it answers requests of one kind. @throws KIND_NAME, KIND_TWICE */
  kind<Q, R>(name: string, answering: Answering<E, Q, R>): this {
    kindWord(name);
    if (this.#kinds.has(name)) throw new DstackError('KIND_TWICE', `${name} has a handler already`);
    this.#kinds.set(name, answering as Answering<E, unknown, unknown>);
    return this;
  }

  /**
   * The server, not yet listening.
   * @param isOpen that of visitors: it has the open routes, and a contract's requests are nothing of theirs, who could take up their turns
   */
  server(isOpen = false): Server {
    const routes = [...this.#routes].filter(([, one]) => one.isOpen || !isOpen);
    return jsonServer({
      routes: Object.fromEntries(
        routes.map(([key, { route }]) => [key, isOpen ? this.#forVisitors(key, route) : route]),
      ),
      maxBodyBytes: (key) => this.#routes.get(key)?.maxBytes ?? 0,
      limits: CONNECTIONS,
      refusalOf: (error, { url }) => this.#refusalOf(error, url ?? ''),
    });
  }

  /** Resolves with the server once it listens. @param asked.isOpen listens for visitors */
  async listen(asked: { port: number; host?: string; isOpen?: boolean }): Promise<Server> {
    const { port, host = '127.0.0.1', isOpen = false } = asked;
    const server = this.server(isOpen);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
    return server;
  }

  #add(path: string, bounds: { maxBytes: number; isOpen: boolean }, route: Route): void {
    const key = `POST ${path}`;
    if (this.#routes.has(key)) throw new DstackError('ROUTE_TWICE', `${path} has a handler already`);
    this.#routes.set(key, { ...bounds, route });
  }

  /** Anybody may be a visitor, with as many connections, and requests on each, as there are. */
  #forVisitors(key: string, route: Route): Route {
    return async (body) => {
      if (this.#visitors >= VISITORS_MAX)
        throw new Retryable('BUSY', `${VISITORS_MAX} visitors are being answered: ask again later`);
      this.#visitors += 1;
      try {
        return await within(HANDLE_MAX_MS, `the handler of ${key}`, () => route(body));
      } finally {
        this.#visitors -= 1;
      }
    };
  }

  async #inTurn(body: unknown): Promise<Attested> {
    const asked = check(AnswerAsked, body, 'BAD_REQUEST', `the body of ${ANSWER_PATH}`);
    if (this.#waiting >= WAITING_MAX)
      throw new Retryable('BUSY', `${WAITING_MAX} requests are waiting to be answered: ask again later`);
    this.#waiting += 1;
    const before = this.#answering;
    const answer = before.then(() => this.#attested(asked)).finally(() => this.#waiting--);
    this.#answering = answer.catch(() => {});
    return answer;
  }

  async #attested({ request, evidence }: Static<typeof AnswerAsked>): Promise<Attested> {
    const domain = this.#domain!;
    const { attestor, chain } = this.#enclave;
    const block = await chain.head();
    const progress = decodeProgress(await chain.call(domain.contract, PROGRESS_CALL, block));
    const { data, ...rest } = request;
    const asked = { ...rest, dataHash: hashOf(data) };
    const hash = requestHash(asked);
    const { sequence } = request;
    if (sequence <= progress.settled)
      throw new HttpRefusal(409, 'REQUEST_SETTLED', `request ${sequence} is settled`);
    if (sequence > progress.settled + 1)
      throw new HttpRefusal(409, 'REQUEST_AHEAD', `request ${progress.settled + 1} comes first`);
    if (!sameHex(hash, progress.next))
      throw new HttpRefusal(
        409,
        'REQUEST_NOT_ON_CHAIN',
        `request ${sequence} is another one at block ${block.number}, or not there yet`,
      );
    const context = {
      sequence,
      sender: request.sender,
      block,
      call: (to: string, calldata: string) => chain.call(to, calldata, block),
      seed: await this.#seed(domain, hash),
    };
    const outcome = await this.#outcome(request.kind, data, context, evidence);
    const { number: blockNumber, hash: blockHash } = block;
    const answer: Answer = { ...asked, blockNumber, blockHash, ...outcome };
    const { signature } = await attestor.attest({ tag: ANSWER_TAG, data: answerData(domain, answer) });
    // Also a response that is too long for a transaction ends here, as the handler's mistake.
    return check(AttestedSchema, { ...answer, signature }, 'BAD_RESPONSE', 'the answer');
  }

  /** A response, or the code of a refusal that is for good. @throws whatever else the handler does: then there is no answer */
  async #outcome(
    kind: Hex,
    data: Hex,
    context: Omit<RequestContext, 'evidence' | 'signal'>,
    given: unknown,
  ): Promise<{ code: string; response: Hex }> {
    const refused = (code: string) => ({ code, response: parseHex('0x') });
    const answering = this.#kinds.get(kindName(kind) ?? '');
    if (answering === undefined) return refused('KIND_UNKNOWN');
    let request: unknown;
    try {
      request = decodeStrictly({ words: 0, dynamic: true, ...answering.request }, data, 'request');
    } catch (error) {
      if (codeOf(error) === 'CONTRACT_DATA_INVALID') return refused('DATA_INVALID');
      throw error;
    }
    const evidence =
      answering.evidence === undefined
        ? undefined
        : check(answering.evidence, given, 'EVIDENCE_INVALID', `what the host adds to ${kindName(kind)}`);
    try {
      const what = `the handler of ${kindName(kind)}`;
      const response = await within(this.#handleMax, what, (signal) =>
        answering.handle(this.#enclave, request, { ...context, evidence, signal }),
      );
      return { code: '', response: parseHex(`0x${answering.response.encode(response)}`) };
    } catch (error) {
      if (error instanceof Refusal) return refused(error.code);
      throw error;
    }
  }

  /** Follows from a key that the app alone has. Another contract of the app may have had a request with the same hash, and its chance is known. */
  async #seed({ chainId, contract }: AppDomain, hash: Hex): Promise<Uint8Array> {
    const { key } = await this.#enclave.keys.key({ tag: 'dstack/v1/seed', type: 'raw' });
    const request = [utf8(String(chainId)), fromHex(contract.slice(2)), fromHex(hash.slice(2))];
    return createHmac('sha256', fromHex(key)).update(lengthPrefixed(request)).digest();
  }

  #refusalOf(error: unknown, url: string): { status: number; code: string; message: string } {
    const code = codeOf(error);
    // Messages of errors that are not ours may say anything, also what the enclave keeps to itself.
    const message =
      error instanceof DstackError ? error.message.slice(0, MESSAGE_MAX) : "see the enclave's log";
    if (error instanceof HttpRefusal) return { status: error.status, code, message };
    this.#log.warn({ code, url, reason: messageOf(error) }, 'a request was not answered');
    if (error instanceof Refusal) return { status: 422, code, message };
    if (code === 'BAD_REQUEST' || code === 'EVIDENCE_INVALID') return { status: 400, code, message };
    return { status: error instanceof Retryable ? 503 : 500, code, message };
  }
}
