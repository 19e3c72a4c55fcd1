/**
 * Carries gossip over plain HTTP, between relays that know each other's address.
 *
 * Each relay serves `POST /v1/gossip` (one message) and `GET /v1/gossip?log=&after=&wait=` (what it holds, long-polled).
 * It pushes to and polls from its configured peers, so a message reaches everyone even if one side of a pair can't be
 * dialled. Where it stands with each peer is durable. Nothing here is trusted: messages are checked one by one, and a
 * peer's bad message costs that peer its place in line and nothing else.
 */
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Log } from '../../lib/daemon/log.ts';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { Count, check, HexOf, Strict } from '../../lib/protocol/schema.ts';
import { httpJson } from '../http-json.ts';
import type { Carrier, Entry, Exchange, PeerStatus } from './carrier.ts';
import { RateLimit } from './rate-limit.ts';

export interface HttpCarrierOptions {
  /** Where it stands with each peer is stored here. */
  store: Store;
  /** Base URLs of the relays to exchange messages with. */
  peers: readonly string[];
  log: Log;
  /** Messages that one address may push: how many at once, and per second. */
  rate?: { burst: number; perSecond: number };
}

/** Messages in one reply: with the largest messages, this many fit the reader's bound. */
const BATCH = 32;
const REPLY_MAX_BYTES = BATCH * MESSAGE_MAX_BYTES + 4096;
/** A reply of ours ends with the message that goes beyond this: a reader who never reads it holds that much of our memory. */
const REPLY_FULL_BYTES = 512 * 1024;
const WAIT_MAX_SECONDS = 25;
/** Long polls at once: in total, and of one source. */
const MAX_WAITERS = 128;
const MAX_WAITERS_OF_ONE = 8;
const PAUSE_MIN_MS = 200;
/** Pause per message while a peer's backlog is read. */
const MESSAGE_PAUSE_MS = 20;
const PAUSE_MAX_MS = 15_000;

const BatchSchema = Type.Object({
  log: HexOf(16),
  next: Count,
  messages: Type.Array(Type.Unknown(), { maxItems: BATCH }),
});
const QuerySchema = Type.Object({
  log: Type.Optional(HexOf(16)),
  after: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
  wait: Type.Optional(Type.Integer({ minimum: 0, maximum: WAIT_MAX_SECONDS })),
});
const PulledSchema = Strict({ log: HexOf(16), after: Count });
const PushedSchema = Strict({ sequence: Count });

export class HttpCarrier implements Carrier {
  readonly peers: readonly string[];
  readonly #options: HttpCarrierOptions;
  readonly #pulled: Table<typeof PulledSchema>;
  readonly #pushed: Table<typeof PushedSchema>;
  readonly #pushRate: RateLimit;
  readonly #pollRate: RateLimit;
  /** Long polls that wait, by source. */
  readonly #waiting = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #reachable = new Map<string, boolean>();
  #exchange!: Exchange;
  #loops: Promise<void>[] = [];

  constructor(options: HttpCarrierOptions) {
    this.#options = options;
    this.peers = options.peers;
    this.#pulled = new Table(options.store, 'gossip/pulled/', PulledSchema);
    this.#pushed = new Table(options.store, 'gossip/pushed/', PushedSchema);
    this.#pushRate = new RateLimit(options.rate ?? { burst: 60, perSecond: 2 });
    this.#pollRate = new RateLimit({ burst: 120, perSecond: 10 });
  }

  attach(exchange: Exchange): void {
    this.#exchange = exchange;
  }

  start(): void {
    if (this.#loops.length > 0) return;
    this.#loops = this.peers.flatMap((peer) => [
      this.#forever(peer, 'poll', () => this.#pullOnce(peer)),
      this.#forever(peer, 'push', () => this.#pushOnce(peer)),
    ]);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#loops);
  }

  /** Which peers answered when last polled. */
  status(): PeerStatus[] {
    return this.peers.map((peer) => ({ peer, reachable: this.#reachable.get(`poll ${peer}`) ?? false }));
  }

  /** The two routes that peers use. */
  routes(app: FastifyInstance): void {
    app.post('/v1/gossip', { bodyLimit: MESSAGE_MAX_BYTES }, async (request) => {
      this.#spend(this.#pushRate, request.ip);
      const { entry, fresh } = await this.#exchange.accept(request.body, sourceOf(request.ip));
      return { id: entry.id, fresh };
    });
    app.get('/v1/gossip', async (request) => {
      this.#spend(this.#pollRate, request.ip);
      const raw = request.query as Record<string, unknown>;
      const query = check(
        QuerySchema,
        { ...raw, ...numeric(raw, 'after'), ...numeric(raw, 'wait') },
        'GOSSIP_QUERY',
        'the query',
      );
      // Positions in another log, or in one that was lost, mean nothing here: such a reader starts from the beginning.
      const after =
        query.log === this.#exchange.identity ? Math.min(query.after ?? 0, this.#exchange.last) : 0;
      if (after >= this.#exchange.last)
        await this.#waitFor(sourceOf(request.ip), after, (query.wait ?? 0) * 1000);
      const batch = fitting(this.#exchange.after(after, BATCH));
      const next = batch.at(-1)?.sequence ?? after;
      return { log: this.#exchange.identity, next, messages: batch.map((entry) => entry.message) };
    });
  }

  /** Where there is no room left, or the source has many long polls already, there is no wait: the reader polls instead. */
  async #waitFor(source: string, after: number, wait: number): Promise<void> {
    const others = this.#waiting.get(source) ?? 0;
    if (others >= MAX_WAITERS_OF_ONE || sum(this.#waiting) >= MAX_WAITERS) return;
    this.#waiting.set(source, others + 1);
    await this.#exchange.change(after, wait);
    const left = this.#waiting.get(source)! - 1;
    if (left === 0) this.#waiting.delete(source);
    else this.#waiting.set(source, left);
  }

  /** True for a new message. One that is refused for good is dropped; one that is refused for now stops the batch. */
  async #acceptOrDrop(value: unknown, peer: string): Promise<boolean> {
    try {
      return (await this.#exchange.accept(value, peer)).fresh;
    } catch (error) {
      if (error instanceof Retryable) throw error;
      return false;
    }
  }

  #spend(limit: RateLimit, ip: string): void {
    if (!limit.take(sourceOf(ip))) {
      throw new DstackError('GOSSIP_RATE', 'too many requests from this address; slow down and try again');
    }
  }

  /** Runs a step for a peer again and again. The step returns the pause before the next; failures make the pauses grow. */
  async #forever(peer: string, what: 'poll' | 'push', step: () => Promise<number>): Promise<void> {
    const key = `${what} ${peer}`;
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      let pause: number;
      try {
        pause = await step();
        failures = 0;
        if (this.#reachable.get(key) === false) {
          this.#options.log.info({ peer }, `gossip ${what} works again`);
        }
        this.#reachable.set(key, true);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        failures += 1;
        pause = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(failures, 10));
        if (this.#reachable.get(key) !== false) {
          this.#options.log.warn(
            { peer, code: codeOf(error) },
            `gossip ${what} failed: ${(error as Error).message}`,
          );
        }
        this.#reachable.set(key, false);
      }
      await pausing(pause, this.#closing.signal);
    }
  }

  async #pullOnce(peer: string): Promise<number> {
    const key = peerKey(peer);
    const position = this.#pulled.get(key);
    // The first poll returns at once, so that it is soon known whether the peer is there.
    const wait = this.#reachable.get(`poll ${peer}`) ? WAIT_MAX_SECONDS : 0;
    const query = new URLSearchParams({ wait: String(wait) });
    if (position !== undefined) {
      query.set('log', position.log);
      query.set('after', String(position.after));
    }
    const reply = await httpJson({
      url: `${peer}/v1/gossip?${query}`,
      timeout: (WAIT_MAX_SECONDS + 10) * 1000,
      maxBytes: REPLY_MAX_BYTES,
      signal: this.#closing.signal,
    });
    if (reply.status !== 200) throw new DstackError('GOSSIP_PEER', `${peer} answered HTTP ${reply.status}`);
    const batch = check(BatchSchema, reply.value, 'GOSSIP_PEER', `what ${peer} answered`);
    let fresh = 0;
    for (const value of batch.messages) {
      if (await this.#acceptOrDrop(value, peer)) fresh += 1;
    }
    this.#pulled.put(key, { log: batch.log, after: batch.next });
    // A peer that answers at once, with nothing new or with ever more, must not make us loop without a pause.
    return fresh > 0 ? fresh * MESSAGE_PAUSE_MS : PAUSE_MIN_MS;
  }

  async #pushOnce(peer: string): Promise<number> {
    const key = peerKey(peer);
    const from = this.#pushed.get(key)?.sequence ?? 0;
    const batch = this.#exchange.after(from, 1);
    const entry = batch[0];
    if (entry === undefined) {
      await this.#exchange.change(from, 60_000);
      return 0;
    }
    if (entry.source !== peer) {
      const reply = await httpJson({
        url: `${peer}/v1/gossip`,
        body: entry.message,
        timeout: 10_000,
        maxBytes: 16 * 1024,
        signal: this.#closing.signal,
      });
      // A refusal is the peer's last word on this message; only "not now" is worth another attempt.
      if (reply.status === 429 || reply.status >= 500) {
        throw new DstackError('GOSSIP_PEER', `${peer} answered a push with HTTP ${reply.status}`);
      }
    }
    this.#pushed.put(key, { sequence: entry.sequence });
    return 0;
  }
}

/** The first of these, and more for as long as the reply is not too long. */
function fitting(entries: readonly Entry[]): Entry[] {
  let bytes = 0;
  return entries.filter(({ message }) => {
    if (bytes > REPLY_FULL_BYTES) return false;
    bytes += Buffer.byteLength(JSON.stringify(message));
    return true;
  });
}

const sum = (counts: ReadonlyMap<string, number>): number =>
  counts.values().reduce((total, count) => total + count, 0);

const peerKey = (peer: string): string => Buffer.from(peer).toString('base64url');

const numeric = (query: Record<string, unknown>, name: string): Record<string, unknown> =>
  typeof query[name] === 'string' && /^\d{1,16}$/.test(query[name]) ? { [name]: Number(query[name]) } : {};

function pausing(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done);
  });
}
