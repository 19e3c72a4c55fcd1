/**
 * Gossip over plain HTTP between relays that know each other's address.
 *
 * Each relay serves `POST /v1/gossip` (one message) and `GET /v1/gossip?log=&after=&wait=` (what it holds, long-polled).
 * It pushes to and polls from its configured peers, so a message reaches everyone even if one side of a pair can't be
 * dialled. Where it stands with each peer is durable. Nothing here is trusted: messages are checked one by one by
 * `admit`, a peer's bad message costs that peer its place in line and nothing else.
 */
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import {
  type GossipMessage,
  GossipMessageSchema,
  MESSAGE_MAX_BYTES,
} from '../../lib/protocol/onboarding-messages.ts';
import { Count, check, HexOf, Strict } from '../../lib/protocol/schema.ts';
import { httpJson } from '../http-json.ts';
import { MessageLog, type MessageLogLimits, messageId, SELF } from './message-log.ts';
import { RateLimit } from './rate-limit.ts';
import type { GossipEntry, GossipTransport } from './transport.ts';

export interface GossipLog {
  info(fields: object, msg: string): void;
  warn(fields: object, msg: string): void;
}

export interface HttpGossipOptions {
  store: Store;
  /** Base URLs of the relays to exchange messages with. */
  peers: readonly string[];
  /**
   * The message as it may be kept and passed on: without what is not worth it. Throws a typed error when nothing of it
   * is; a Retryable one when that can't be told yet. Called after size and schema are checked.
   */
  admit(message: GossipMessage): Promise<GossipMessage>;
  log: GossipLog;
  limits?: Partial<MessageLogLimits>;
  /** Messages that one address may push: how many at once, and per second. */
  rate?: { burst: number; perSecond: number };
  /** Called for each message that was refused, for the metrics. */
  onRefused?: (code: string) => void;
}

/** Messages in one reply: with the largest messages, this many fit the reader's bound. */
const BATCH = 32;
const REPLY_MAX_BYTES = BATCH * MESSAGE_MAX_BYTES + 4096;
/** A reply of ours ends with the message that goes beyond this: who does not read it holds that much of our memory. */
const REPLY_FULL_BYTES = 512 * 1024;
const WAIT_MAX_SECONDS = 25;
/** Long polls at once, of all and of one source. */
const MAX_WAITERS = 128;
const MAX_WAITERS_OF_ONE = 8;
/** How often this host's own message is given out again while it is published again and again. */
const RENEW_AFTER_MS = 30_000;
const MAX_RENEWED = 64;
const PAUSE_MIN_MS = 200;
/** The pace at which a peer's backlog is taken in, per message. */
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

export class HttpGossip implements GossipTransport {
  readonly log: MessageLog;
  readonly #options: HttpGossipOptions;
  readonly #pulled: Table<typeof PulledSchema>;
  readonly #pushed: Table<typeof PushedSchema>;
  readonly #pushRate: RateLimit;
  readonly #pollRate: RateLimit;
  readonly #subscribers = new Set<(entry: GossipEntry) => void>();
  readonly #waiters = new Set<() => void>();
  /** Long polls that wait, by source. */
  readonly #waiting = new Map<string, number>();
  /** When this host's own messages were given out last, by id. */
  readonly #renewed = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #reachable = new Map<string, boolean>();
  #loops: Promise<void>[] = [];

  constructor(options: HttpGossipOptions) {
    this.#options = options;
    this.log = new MessageLog(options.store, { reserved: options.peers, ...options.limits });
    this.#pulled = new Table(options.store, 'gossip/pulled/', PulledSchema);
    this.#pushed = new Table(options.store, 'gossip/pushed/', PushedSchema);
    this.#pushRate = new RateLimit(options.rate ?? { burst: 60, perSecond: 2 });
    this.#pollRate = new RateLimit({ burst: 120, perSecond: 10 });
  }

  /** Starts exchanging messages with the peers. */
  start(): void {
    if (this.#loops.length > 0) return;
    this.#loops = this.#options.peers.flatMap((peer) => [
      this.#forever(peer, 'poll', () => this.#pullOnce(peer)),
      this.#forever(peer, 'push', () => this.#pushOnce(peer)),
    ]);
  }

  async publish(message: GossipMessage): Promise<GossipEntry> {
    // What is held was admitted, and may be too old to be so again.
    const isHeld = this.log.get(messageId(message)) !== undefined;
    const { entry, fresh } = isHeld ? this.log.add(message, SELF) : await this.#accept(message, SELF);
    return this.#renew(entry, fresh) ?? entry;
  }

  /** What is published again is given out again, once in a while: a peer may have had no room for it, or lost it. */
  #renew({ id }: GossipEntry, fresh: boolean): GossipEntry | undefined {
    const now = Date.now();
    const known = this.#renewed.get(id);
    if (!fresh && known !== undefined && now - known < RENEW_AFTER_MS) return undefined;
    this.#renewed.delete(id);
    this.#renewed.set(id, now);
    if (this.#renewed.size > MAX_RENEWED) this.#renewed.delete(this.#renewed.keys().next().value!);
    // After a restart it is not known when it was given out last: the pause begins anew.
    if (fresh || known === undefined) return undefined;
    const entry = this.log.renew(id);
    this.#notify();
    return entry;
  }

  subscribe(callback: (entry: GossipEntry) => void, since: number): () => void {
    let position = since;
    for (
      let batch = this.log.after(position, BATCH);
      batch.length > 0;
      batch = this.log.after(position, BATCH)
    ) {
      for (const { sequence, id, message } of batch) {
        this.#deliver(callback, { sequence, id, message });
        position = sequence;
      }
    }
    this.#subscribers.add(callback);
    return () => this.#subscribers.delete(callback);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#notify();
    await Promise.all(this.#loops);
  }

  /** Which peers answered when last polled. */
  peers(): { peer: string; reachable: boolean }[] {
    return this.#options.peers.map((peer) => ({
      peer,
      reachable: this.#reachable.get(`poll ${peer}`) ?? false,
    }));
  }

  /** The two routes that peers use. */
  routes(app: FastifyInstance): void {
    app.post('/v1/gossip', { bodyLimit: MESSAGE_MAX_BYTES }, async (request) => {
      this.#spend(this.#pushRate, request.ip);
      const { entry, fresh } = await this.#accept(request.body, sourceOf(request.ip));
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
      // Positions in another log, or in one that was lost, mean nothing here: such a reader starts anew.
      const after = query.log === this.log.identity ? Math.min(query.after ?? 0, this.log.last) : 0;
      if (after >= this.log.last) await this.#waitFor(sourceOf(request.ip), (query.wait ?? 0) * 1000);
      const batch = fitting(this.log.after(after, BATCH));
      const next = batch.at(-1)?.sequence ?? after;
      return { log: this.log.identity, next, messages: batch.map((entry) => entry.message) };
    });
  }

  /** A reader for whom there is no room left, or whose source has many that wait, waits not at all and polls instead. */
  async #waitFor(source: string, wait: number): Promise<void> {
    const others = this.#waiting.get(source) ?? 0;
    if (others >= MAX_WAITERS_OF_ONE || this.#waiters.size >= MAX_WAITERS) return;
    this.#waiting.set(source, others + 1);
    await this.#change(wait);
    const left = this.#waiting.get(source)! - 1;
    if (left === 0) this.#waiting.delete(source);
    else this.#waiting.set(source, left);
  }

  /** Checks, stores and tells everyone. @throws GOSSIP_* and what `admit` throws */
  async #accept(value: unknown, source: string): Promise<{ entry: GossipEntry; fresh: boolean }> {
    try {
      const message = check(GossipMessageSchema, value, 'GOSSIP_MALFORMED', 'a gossip message');
      if (Buffer.byteLength(JSON.stringify(message)) > MESSAGE_MAX_BYTES) {
        throw new DstackError(
          'GOSSIP_TOO_LARGE',
          `a message of more than ${MESSAGE_MAX_BYTES} bytes is not kept`,
        );
      }
      const added = this.log.add(await this.#options.admit(message), source);
      if (added.fresh) this.#announce(added.entry);
      return added;
    } catch (error) {
      this.#options.onRefused?.(codeOf(error));
      throw error;
    }
  }

  /** True for a new message. What is refused for good is dropped; what is only refused now stops the batch. */
  async #acceptOrDrop(value: unknown, peer: string): Promise<boolean> {
    try {
      return (await this.#accept(value, peer)).fresh;
    } catch (error) {
      if (error instanceof Retryable) throw error;
      return false;
    }
  }

  #announce(entry: GossipEntry): void {
    for (const subscriber of this.#subscribers) this.#deliver(subscriber, entry);
    this.#notify();
  }

  #deliver(callback: (entry: GossipEntry) => void, entry: GossipEntry): void {
    try {
      callback(entry);
    } catch (error) {
      this.#options.log.warn({ code: codeOf(error) }, `a subscriber failed on message ${entry.id}`);
    }
  }

  #notify(): void {
    for (const wake of [...this.#waiters]) wake();
  }

  /** Resolves at the next message, at `close`, or after `wait` milliseconds. */
  #change(wait: number): Promise<void> {
    if (wait <= 0 || this.#closing.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, wait);
      this.#waiters.add(done);
    });
  }

  #spend(limit: RateLimit, ip: string): void {
    if (!limit.take(sourceOf(ip))) {
      throw new DstackError('GOSSIP_RATE', 'too many requests from this address; slow down and try again');
    }
  }

  /** Runs a step for a peer again and again; it returns the pause before the next, and failing makes pauses grow. */
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
    // The first poll comes back at once, so that it is soon known whether the peer is there.
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
    // Whoever answers at once, with nothing new or with ever more of it, gets no busy loop out of us.
    return fresh > 0 ? fresh * MESSAGE_PAUSE_MS : PAUSE_MIN_MS;
  }

  async #pushOnce(peer: string): Promise<number> {
    const key = peerKey(peer);
    const from = this.#pushed.get(key)?.sequence ?? 0;
    const batch = this.log.after(from, 1);
    const entry = batch[0];
    if (entry === undefined) {
      await this.#change(60_000);
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
      // A refusal is the peer's last word on this message; only "not now" is worth another try.
      if (reply.status === 429 || reply.status >= 500) {
        throw new DstackError('GOSSIP_PEER', `${peer} answered a push with HTTP ${reply.status}`);
      }
    }
    this.#pushed.put(key, { sequence: entry.sequence });
    return 0;
  }
}

/** The first of these, and more as long as the reply is not too long for one. */
function fitting<Entry extends { message: GossipMessage }>(entries: readonly Entry[]): Entry[] {
  let bytes = 0;
  return entries.filter(({ message }) => {
    if (bytes > REPLY_FULL_BYTES) return false;
    bytes += Buffer.byteLength(JSON.stringify(message));
    return true;
  });
}

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
