/**
 * Carries gossip over plain HTTP, between relays that know each other's address: ids first, each body once. README.md has the
 * protocol; here is what a relay answers, peer-link.ts is what it asks.
 *
 * Nothing here is trusted: messages are checked one by one, and a peer's bad message costs that peer its place in line and
 * nothing else.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Log } from '../../lib/daemon/log.ts';
import { RateLimit } from '../../lib/daemon/rate-limit.ts';
import { sourceOf } from '../../lib/daemon/server-limits.ts';
import type { Store } from '../../lib/framework/store.ts';
import { DstackError, Retryable } from '../../lib/protocol/errors.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { check } from '../../lib/protocol/schema.ts';
import type { Carrier, Entry, Exchange, PeerStatus } from './carrier.ts';
import { type Charge, Charges } from './charges.ts';
import { Mesh } from './mesh.ts';
import { idOf } from './message-kind.ts';
import { PEER_HEADER, PeerKeys } from './peer-keys.ts';
import { PeerLink } from './peer-link.ts';
import {
  AboutRequestSchema,
  AnnouncementSchema,
  BodiesRequestSchema,
  GOSSIP_PROTOCOL,
  gossipPaths,
  IDS,
  PollQuerySchema,
  REPLY_FULL_BYTES,
} from './protocol.ts';
import type { Sent } from './shared-parts.ts';
import { Wants } from './wants.ts';

export interface HttpCarrierOptions {
  /** Where it stands with each peer is stored here. */
  store: Store;
  /** Base URLs of the relays to exchange messages with. */
  peers: readonly string[];
  log: Log;
  /** Messages that one stranger's address may push: how many at once, and per second. */
  rate?: { burst: number; perSecond: number };
  /** Milliseconds that a peer has to give what it is asked for; 5,000 by default. */
  askMs?: number;
  /** Milliseconds between looks at a lazy peer; by default so many that one of them is looked at each second. */
  lazyMs?: number;
  /** For the metrics. */
  onCharge?: (source: string, what: Charge | 'GOSSIP_USELESS') => void;
}

/** Milliseconds. */
const ASK_MS = 5_000;
/** Messages in one reply to a relay of before. */
const BATCH = 32;
/** Long polls at once: of all strangers, and of one source. */
const MAX_WAITERS = 128;
const MAX_WAITERS_OF_ONE = 8;
/** Ids that one source may have open, and all strangers. */
const OPEN = { perSource: 2 * IDS, total: 16 * IDS };
/** Who can't be asked, and is told to send, has this part of the time that others have. */
const SENT_WITHIN = 0.4;
/** By source, where strangers share what they get by address and each known peer has its own. */
const RATES = {
  /** Requests. */
  poll: { burst: 120, perSecond: 10 },
  /** Announcements. */
  announce: { burst: 60, perSecond: 4 },
  /** Lists of subjects. */
  about: { burst: 60, perSecond: 2 },
  /** Bodies. */
  body: { burst: 1024, perSecond: 64 },
  push: { burst: 60, perSecond: 2 },
  pushOfPeer: { burst: 240, perSecond: 32 },
};

export class HttpCarrier implements Carrier {
  readonly peers: readonly string[];
  readonly #keys: PeerKeys;
  readonly #wants: Wants;
  readonly #charges: Charges;
  readonly #options: HttpCarrierOptions;
  readonly #rates: Readonly<Record<keyof typeof RATES, RateLimit>>;
  /** Long polls that wait, by source. */
  readonly #waiting = new Map<string, number>();
  readonly #closing = new AbortController();
  readonly #links = new Map<string, PeerLink>();
  readonly #sources = new WeakMap<FastifyRequest, string>();
  #mesh = new Mesh<PeerLink>([]);
  #exchange!: Exchange;
  #loops: Promise<void>[] = [];

  constructor(options: HttpCarrierOptions) {
    const { peers, store, rate, askMs = ASK_MS, onCharge } = options;
    this.#options = options;
    this.peers = peers;
    this.#keys = new PeerKeys(store);
    this.#charges = new Charges(onCharge);
    this.#wants = new Wants({
      ...OPEN,
      askMs,
      isChosen: (source) => this.peers.includes(source),
      onTurn: (source) => this.#links.get(source)?.turn(),
      onLate: (id, source) => {
        this.#charges.charge(source, 'GOSSIP_UNDELIVERED');
        if (!this.#links.has(source)) this.#wants.fail(id, source);
      },
    });
    const limits = { ...RATES, ...(rate && { push: rate, pushOfPeer: rate }) };
    this.#rates = {
      poll: new RateLimit(limits.poll),
      announce: new RateLimit(limits.announce),
      about: new RateLimit(limits.about),
      body: new RateLimit(limits.body),
      push: new RateLimit(limits.push),
      pushOfPeer: new RateLimit(limits.pushOfPeer),
    };
  }

  attach(exchange: Exchange): void {
    this.#exchange = exchange;
    const { store, log, askMs = ASK_MS, lazyMs = lazyMsOf(this.peers.length) } = this.#options;
    const shared = {
      exchange,
      wants: this.#wants,
      charges: this.#charges,
      keys: this.#keys,
      mesh: () => this.#mesh,
      store,
      log,
      closing: this.#closing.signal,
      askMs,
      lazyMs,
    };
    for (const peer of this.peers) this.#links.set(peer, new PeerLink(peer, shared));
    this.#mesh = new Mesh([...this.#links.values()]);
    exchange.sought.onNew(() => {
      for (const link of this.#links.values()) link.sought();
    });
  }

  start(): void {
    if (this.#loops.length > 0) return;
    this.#loops = [...this.#links.values()].flatMap((link) => link.start());
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#loops);
    this.#wants.close();
    for (const link of this.#links.values()) link.save();
  }

  /** Which peers answered when last polled. */
  status(): PeerStatus[] {
    return [...this.#links.values()].map(({ peer, isReachable }) => ({
      peer,
      reachable: isReachable ?? false,
    }));
  }

  /** Of the peers the one in the middle: a few slow ones say nothing of the others. */
  latency(): number | undefined {
    const seen = [...this.#links.values()].flatMap((link) => link.latency ?? []).toSorted((a, b) => a - b);
    return seen[seen.length >> 1];
  }

  routes(app: FastifyInstance): void {
    app.get(gossipPaths.ids, async (request) => {
      const source = this.#spend('poll', this.#sourceOf(request));
      const { after, wait } = this.#asked(request);
      this.#links.get(source)?.heard(after);
      const { rows, next } = await this.#news(source, after, wait);
      this.#links.get(source)?.heard(after);
      const { identity } = this.#exchange;
      const proof = this.#keys.proof(headerOf(request));
      return {
        protocol: GOSSIP_PROTOCOL,
        key: this.#keys.own,
        ...(proof !== undefined && { proof }),
        log: identity,
        next,
        ids: rows,
      };
    });
    app.post(gossipPaths.ids, { bodyLimit: 16 * 1024 }, async (request) => {
      const source = this.#spend('announce', this.#sourceOf(request));
      this.#charges.check(source);
      const { ids } = check(AnnouncementSchema, request.body, 'GOSSIP_QUERY', 'the announcement');
      const [wanted, later]: [string[], string[]] = [[], []];
      for (const id of new Set(ids)) {
        if (this.#exchange.knows(id, source)) continue;
        (this.#isWanted(id, source) ? wanted : later).push(id);
      }
      return { wanted, later };
    });
    app.post(gossipPaths.bodies, { bodyLimit: 4 * 1024 }, async (request) => {
      const { ids, knows } = check(BodiesRequestSchema, request.body, 'GOSSIP_QUERY', 'the request');
      this.#spend('body', this.#sourceOf(request), ids.length);
      return this.#bodies(ids, new Set(knows));
    });
    app.post(gossipPaths.about, { bodyLimit: 8 * 1024 }, async (request) => {
      this.#spend('about', this.#sourceOf(request));
      const { subjects } = check(AboutRequestSchema, request.body, 'GOSSIP_QUERY', 'the request');
      return { ids: subjects.flatMap((subject) => this.#exchange.idsAbout(subject)).slice(0, IDS) };
    });
    app.post(gossipPaths.messages, { bodyLimit: MESSAGE_MAX_BYTES }, async (request) => {
      const source = this.#sourceOf(request);
      const id = idOf(request.body) ?? '';
      // What was wanted is paid for already.
      if (!this.#wants.isAskedOf(id, source)) this.#spend(this.#pushOf(source), source);
      return this.#pushed(id, request.body, source);
    });
    app.get(gossipPaths.messages, async (request) => {
      const source = this.#spend('poll', this.#sourceOf(request));
      const { after, wait } = this.#asked(request);
      if (after >= this.#exchange.last) await this.#waitFor(source, after, wait);
      const batch = fitting(this.#exchange.after(after, BATCH));
      const next = batch.at(-1)?.sequence ?? after;
      return { log: this.#exchange.identity, next, messages: batch.map((entry) => entry.message) };
    });
  }

  /** Where a reader goes on, and how long it waits, milliseconds. */
  #asked(request: FastifyRequest): { after: number; wait: number } {
    const raw = request.query as Record<string, unknown>;
    const query = check(
      PollQuerySchema,
      { ...raw, ...numeric(raw, 'after'), ...numeric(raw, 'wait') },
      'GOSSIP_QUERY',
      'the query',
    );
    // Positions in another log, or in one that was lost, mean nothing here: such a reader starts from the beginning.
    const after = query.log === this.#exchange.identity ? Math.min(query.after ?? 0, this.#exchange.last) : 0;
    return { after, wait: (query.wait ?? 0) * 1000 };
  }

  /** What a reader has not brought itself. */
  async #news(source: string, from: number, wait: number): Promise<{ rows: string[]; next: number }> {
    const until = Date.now() + wait;
    for (let after = from; ; ) {
      const rows = this.#exchange.idsAfter(after, IDS);
      const next = rows.at(-1)?.sequence ?? after;
      // Several strangers may have one address: what one of them brought is news to another.
      const isPeer = this.#links.has(source);
      const news = rows.filter((row) => !isPeer || row.source !== source).map(({ id }) => id);
      const left = until - Date.now();
      if (news.length > 0 || left <= 0 || this.#closing.signal.aborted) return { rows: news, next };
      if (rows.length === 0 && !(await this.#waitFor(source, after, left))) return { rows: [], next };
      after = next;
    }
  }

  /** Several relays may have one address: what one of them was told to send is not wanted of the next. */
  #isWanted(id: string, source: string): boolean {
    if (this.#wants.isAskedOf(id, source)) return false;
    if (!this.#wants.take(id, source, SENT_WITHIN * (this.#options.askMs ?? ASK_MS))) return false;
    if (this.#rates[this.#pushOf(source)].take(source)) return true;
    this.#wants.fail(id, source);
    return false;
  }

  async #pushed(id: string, value: unknown, source: string): Promise<{ id: string; fresh: boolean }> {
    try {
      const { entry, fresh } = await this.#exchange.accept(value, source);
      this.#wants.settle(id);
      return { id: entry.id, fresh };
    } catch (error) {
      if (error instanceof Retryable) {
        if (this.#wants.isAskedOf(id, source)) this.#wants.fail(id, source);
      } else this.#wants.settle(id);
      throw error;
    }
  }

  #bodies(ids: readonly string[], knows: ReadonlySet<string>): { messages: Sent[]; missing: string[] } {
    const messages: Sent[] = [];
    const missing: string[] = [];
    let bytes = 0;
    for (const id of ids) {
      if (bytes > REPLY_FULL_BYTES) break;
      const entry = this.#exchange.get(id);
      if (entry === undefined) {
        missing.push(id);
        continue;
      }
      const sent = this.#exchange.parts.without(entry.message, knows);
      bytes += Buffer.byteLength(JSON.stringify(sent.message));
      messages.push(sent);
    }
    return { messages, missing };
  }

  /** False where there is no room left, or the source has many long polls already: there is no wait then, and the reader polls. */
  async #waitFor(source: string, after: number, wait: number): Promise<boolean> {
    const others = this.#waiting.get(source) ?? 0;
    if (others >= MAX_WAITERS_OF_ONE) return false;
    if (!this.#links.has(source) && this.#strangersWaiting() >= MAX_WAITERS) return false;
    this.#waiting.set(source, others + 1);
    await this.#exchange.change(after, wait);
    const left = this.#waiting.get(source)! - 1;
    if (left === 0) this.#waiting.delete(source);
    else this.#waiting.set(source, left);
    return true;
  }

  #strangersWaiting(): number {
    return [...this.#waiting].reduce((sum, [source, own]) => (this.#links.has(source) ? sum : sum + own), 0);
  }

  callerOf(request: FastifyRequest): string | undefined {
    const found = this.#sourceOf(request);
    return this.#links.has(found) ? found : undefined;
  }

  /** A peer that this host's operator chose, by its key; else an address. */
  #sourceOf(request: FastifyRequest): string {
    // Said once, a header counts once.
    const found =
      this.#sources.get(request) ??
      this.#keys.peerOf(headerOf(request), request.method, request.url) ??
      sourceOf(request.ip);
    this.#sources.set(request, found);
    return found;
  }

  #pushOf(source: string): 'push' | 'pushOfPeer' {
    return this.#links.has(source) ? 'pushOfPeer' : 'push';
  }

  /** @throws GOSSIP_RATE */
  #spend(what: keyof typeof RATES, source: string, cost = 1): string {
    if (!this.#rates[what].take(source, cost)) {
      throw new DstackError('GOSSIP_RATE', 'too many requests from this address; slow down and try again');
    }
    return source;
  }
}

function headerOf(request: FastifyRequest): string | undefined {
  const header = request.headers[PEER_HEADER];
  return typeof header === 'string' ? header : undefined;
}

/** The more peers there are, the more rarely each is looked at: one look a second finds a gap as well. */
const lazyMsOf = (peers: number): number => Math.max(5_000, Math.min(30_000, 1_000 * peers));

/** The first of these, and more for as long as the reply is not too long. */
function fitting(entries: readonly Entry[]): Entry[] {
  let bytes = 0;
  return entries.filter(({ message }) => {
    if (bytes > REPLY_FULL_BYTES) return false;
    bytes += Buffer.byteLength(JSON.stringify(message));
    return true;
  });
}

const numeric = (query: Record<string, unknown>, name: string): Record<string, unknown> =>
  typeof query[name] === 'string' && /^\d{1,16}$/.test(query[name]) ? { [name]: Number(query[name]) } : {};
