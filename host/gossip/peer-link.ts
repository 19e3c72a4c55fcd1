/**
 * What this relay does towards one peer that its operator chose, in three loops that know of each other's results only: it
 * *listens* to which messages the peer has, *fetches* those that are its turn, and *announces* this host's to a peer that does not
 * listen itself.
 *
 * Nothing here is trusted. What a peer announces and does not give, or gives under another id, it is charged for; who has used
 * up its credit is left alone for a while, and longer each time.
 */
import type { TSchema } from 'typebox';
import type { Log } from '../../lib/daemon/log.ts';
import { type Store, Table } from '../../lib/framework/store.ts';
import { codeOf, DstackError, Retryable } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { Count, check, HexOf, Strict } from '../../lib/protocol/schema.ts';
import { type HttpJsonReply, httpJson } from '../http-json.ts';
import type { Exchange } from './carrier.ts';
import type { Charges } from './charges.ts';
import type { Mesh, MeshPeer } from './mesh.ts';
import { idOf } from './message-kind.ts';
import { Bell, pausing } from './pausing.ts';
import { PEER_HEADER, type PeerKeys } from './peer-keys.ts';
import {
  AboutReplySchema,
  ANNOUNCED,
  AnnouncedSchema,
  AnnouncementReplySchema,
  BODIES,
  BODIES_MAX_BYTES,
  BodiesReplySchema,
  gossipPaths,
  IDS,
  SUBJECTS,
  WAIT_MAX_SECONDS,
} from './protocol.ts';
import type { Wants } from './wants.ts';

/** What all links of a relay have in common. */
export interface LinkShared {
  exchange: Exchange;
  wants: Wants;
  charges: Charges;
  keys: PeerKeys;
  mesh(): Mesh<PeerLink>;
  store: Store;
  log: Log;
  closing: AbortSignal;
  /** Milliseconds that a peer has to give what it is asked for. */
  askMs: number;
  /** Milliseconds between looks at a lazy peer. */
  lazyMs: number;
}

const PAUSE_MIN_MS = 200;
const PAUSE_MAX_MS = 15_000;
/** Pause per message while a peer's backlog is fetched. */
const MESSAGE_PAUSE_MS = 10;
/** Between polls that bring news: what comes meanwhile is in one reply, and no peer polls more often than it may. */
const NEWS_PAUSE_MS = 100;
/** How long eager peers have to speak of what a lazy one has. */
const GRACE_MS = 1_000;
/** A peer that polled within this time listens. */
const LISTENS_MS = (WAIT_MAX_SECONDS + 15) * 1000;
/** Bodies that wait to be judged: at most so many, and so many characters of JSON. */
const WAITING = 32;
const WAITING_SIZE = 1024 * 1024;
/** How often a message is judged again that only another one can turn into a good one. */
const EARLY_TRIES = 4;
const SAVE_MS = 1_000;
/** Between looks for subjects that are sought; and before the same is asked of the same peer again, at least and at most. */
const SEEK_PAUSE_MS = 1_000;
const SEEK_MIN_MS = 2_000;
const SEEK_MAX_MS = 300_000;

const PulledSchema = Strict({ log: HexOf(16), after: Count });
const PushedSchema = Strict({ sequence: Count });

/** A body that can't be judged yet. */
interface Waiting {
  value: unknown;
  size: number;
  tries: number;
  notBefore: number;
}

export class PeerLink implements MeshPeer {
  readonly peer: string;
  readonly #shared: LinkShared;
  readonly #pulled: Table<typeof PulledSchema>;
  readonly #pushed: Table<typeof PushedSchema>;
  readonly #works = new Map<string, boolean>();
  /** What was read of the peer's log, and which of it is still open; oldest first. */
  readonly #batches: { log: Hex; next: number; open: Set<string> }[] = [];
  readonly #waiting = new Map<string, Waiting>();
  readonly #turn = new Bell();
  readonly #pace = new Bell();
  readonly #heardBell = new Bell();
  readonly #seekBell = new Bell();
  /** Ids of which no eager peer has spoken. */
  readonly #gaps = new Set<string>();
  #trouble = '';
  /** Until when nothing is asked of it, because what it gives is of no use. */
  #restUntil = 0;
  /** How often this peer was asked about a subject that is sought, and when it is again. */
  readonly #soughtOf = new Map<string, { times: number; again: number }>();
  /** Where the next poll goes on. */
  #position: { log: Hex; after: number } | undefined;
  /** Where everything is done up to, if that is not written yet. */
  #settled: { log: Hex; after: number } | undefined;
  #key: string | undefined;
  /** What the peer's own polls show: until where it has read this host's log, and when it said so. */
  #heard = { after: 0, at: 0 };
  #savedAt = 0;
  usefulAt = 0;
  /** Milliseconds from a request for bodies to its end, smoothed; undefined before the first. */
  latency: number | undefined;

  constructor(peer: string, shared: LinkShared) {
    this.peer = peer;
    this.#shared = shared;
    this.#pulled = new Table(shared.store, 'gossip/pulled/', PulledSchema);
    this.#pushed = new Table(shared.store, 'gossip/pushed/', PushedSchema);
    const saved = this.#pulled.get(keyOf(peer));
    if (saved !== undefined) this.#position = { ...saved };
  }

  start(): Promise<void>[] {
    return [
      this.#forever('poll', () => this.#listen(), this.#pace),
      this.#forever('fetch', () => this.#fetch()),
      this.#forever('announce', () => this.#announce()),
      this.#forever('seek', () => this.#seek(), this.#seekBell),
    ];
  }

  get isReachable(): boolean | undefined {
    return this.#works.get('poll');
  }

  hurry(): void {
    this.#pace.ring();
  }

  /** It may have its turn to be asked. */
  turn(): void {
    this.#turn.ring();
  }

  /** Something is sought that was not before. */
  sought(): void {
    this.#seekBell.ring();
  }

  /** The peer itself reads this host's log, and has everything up to `after`. */
  heard(after: number): void {
    this.#heard = { after: Math.max(after, this.#heard.after), at: Date.now() };
    this.#heardBell.ring();
  }

  /** Writes where it stands: what is lost by a crash is only read again. */
  save(): void {
    this.#advance();
    this.#savedAt = Date.now();
    if (this.#settled === undefined) return;
    this.#pulled.put(keyOf(this.peer), this.#settled);
    this.#settled = undefined;
  }

  /** Everything before the first batch with something open is done. */
  #advance(): void {
    const { wants } = this.#shared;
    while (this.#batches.length > 0) {
      const { open, log, next } = this.#batches[0]!;
      for (const id of open) if (!wants.isOffered(id, this.peer)) open.delete(id);
      if (open.size > 0) return;
      this.#batches.shift();
      this.#settled = { log, after: next };
    }
  }

  async #listen(): Promise<number> {
    const { exchange, wants, keys, charges, lazyMs } = this.#shared;
    // Room for one reply more: what is not heard would have to be read again.
    if (wants.openOf(this.peer) > IDS) return PAUSE_MIN_MS;
    const isEager = this.#shared.mesh().isEager(this);
    // The first poll returns at once, so that it is soon known whether the peer is there.
    const wait = isEager && this.isReachable === true ? WAIT_MAX_SECONDS : 0;
    const query = new URLSearchParams({ wait: String(wait) });
    if (this.#position !== undefined) {
      query.set('log', this.#position.log);
      query.set('after', String(this.#position.after));
    }
    const from = this.#position;
    const path = `${gossipPaths.ids}?${query}`;
    const header = keys.header(this.#key, 'GET', path) ?? keys.header(undefined, 'GET', path);
    const batch = await this.#ask(AnnouncedSchema, path, {
      header,
      timeout: (WAIT_MAX_SECONDS + 10) * 1000,
      maxBytes: 64 * 1024,
    });
    if (batch.key === keys.own) {
      throw new DstackError('GOSSIP_SELF', `${this.peer} is this relay itself: take it out of the peers`);
    }
    this.#identify(batch.key, keys.isProof(batch.key, header, batch.proof));
    let news = batch.ids.filter((id) => !exchange.knows(id, this.peer));
    if (!isEager && news.length > 0) {
      await pausing(GRACE_MS, this.#shared.closing);
      news = news.filter((id) => !exchange.knows(id, this.peer));
      this.#gaps.clear();
      for (const id of news) if (!wants.has(id)) this.#gaps.add(id);
    }
    charges.check(this.peer);
    // Meanwhile it was decided to read what was before once more.
    if (from !== this.#position) return PAUSE_MIN_MS;
    // No room to hear all of it: it is read again.
    if (!news.every((id) => wants.offer(id, this.peer))) return 5 * PAUSE_MIN_MS;
    this.#batches.push({ log: batch.log, next: batch.next, open: new Set(news) });
    this.#position = { log: batch.log, after: batch.next };
    if (Date.now() - this.#savedAt > SAVE_MS) this.save();
    // A peer that answers at once, with nothing new or with ever more, must not make us loop without a pause.
    if (news.length > 0 && isEager) return NEWS_PAUSE_MS;
    // Not all lazy peers at the same time.
    return isEager || batch.ids.length === IDS ? PAUSE_MIN_MS : lazyMs * (0.75 + Math.random() / 2);
  }

  async #fetch(): Promise<number> {
    const { wants, charges, exchange, askMs } = this.#shared;
    for (const [id, { notBefore }] of this.#waiting) if (notBefore <= Date.now()) await this.#judge(id);
    const rest = this.#restUntil - Date.now();
    if (rest > 0) return rest;
    const room = this.#size() > WAITING_SIZE ? 0 : WAITING - this.#waiting.size;
    const ids = room === 0 ? [] : wants.claim(this.peer, Math.min(BODIES, room));
    if (ids.length === 0) {
      if (Date.now() - this.#savedAt > SAVE_MS) this.save();
      const due = Math.min(...[...this.#waiting.values()].map(({ notBefore }) => notBefore - Date.now()));
      await this.#turn.pause(Math.max(10, Math.min(60_000, due)), this.#shared.closing);
      return 0;
    }
    const asked = new Set<string>(ids);
    const started = Date.now();
    const parts = exchange.parts.atHand();
    let given = 0;
    try {
      charges.check(this.peer);
      const reply = await this.#ask(BodiesReplySchema, gossipPaths.bodies, {
        body: { ids, knows: parts.names() },
        timeout: askMs,
        maxBytes: BODIES_MAX_BYTES,
      });
      const took = Date.now() - started;
      this.latency = this.latency === undefined ? took : 0.8 * this.latency + 0.2 * took;
      for (const sent of reply.messages) {
        const value = parts.whole(sent as { message: unknown; without?: Record<string, string> });
        const id = idOf(value) ?? '';
        if (!asked.delete(id)) {
          charges.charge(this.peer, 'GOSSIP_OTHER_BODY');
          continue;
        }
        given += 1;
        this.#waiting.set(id, { value, size: JSON.stringify(value).length, tries: 0, notBefore: 0 });
        await this.#judge(id);
      }
      for (const id of reply.missing) {
        if (!asked.delete(id)) continue;
        wants.fail(id, this.peer);
        charges.charge(this.peer, 'GOSSIP_MISSING');
      }
      // What did not fit is asked for again, after something that did.
      if (given === 0 && asked.size > 0 && reply.messages.length === 0) {
        for (const id of asked) wants.fail(id, this.peer);
        throw charges.charge(this.peer, 'GOSSIP_UNDELIVERED', 'announced messages that it does not give');
      }
      // However it fails to give anything, it is not asked without a pause.
      return given === 0 ? PAUSE_MIN_MS : given * MESSAGE_PAUSE_MS;
    } catch (error) {
      if (codeOf(error) === 'GOSSIP_CREDIT') this.#goBack();
      if (Date.now() - started >= askMs) charges.charge(this.peer, 'GOSSIP_UNDELIVERED');
      throw error;
    } finally {
      for (const id of asked) wants.release(id, this.peer, given === 0);
      this.#advance();
    }
  }

  /** Has a body checked that was delivered. One that can't be judged yet waits, and holds its place. */
  async #judge(id: string): Promise<void> {
    const { wants, exchange, charges } = this.#shared;
    const waiting = this.#waiting.get(id)!;
    try {
      const { fresh } = await exchange.accept(waiting.value, this.peer);
      if (fresh) this.usefulAt = Date.now();
      if (this.#gaps.delete(id) && fresh) this.#shared.mesh().graft(this);
    } catch (error) {
      const { tries } = waiting;
      const isEarly = exchange.isEarly(waiting.value, codeOf(error)) && tries < EARLY_TRIES;
      if (error instanceof Retryable || isEarly) {
        const pause = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(tries + 1, 10));
        this.#waiting.set(id, { ...waiting, tries: tries + 1, notBefore: Date.now() + pause });
        wants.renew(id, this.peer, pause);
        return;
      }
      if (exchange.isFault(waiting.value, codeOf(error))) charges.charge(this.peer, 'GOSSIP_REFUSED');
      else this.#restUntil = Date.now() + charges.useless(this.peer);
    }
    this.#waiting.delete(id);
    wants.settle(id);
  }

  /** Nothing that it said counts; what was not done is read again once it is heard again, since some of it may be good. */
  #goBack(): void {
    this.#shared.wants.drop(this.peer);
    this.#batches.length = 0;
    const done = this.#settled ?? this.#pulled.get(keyOf(this.peer));
    this.#position = done && { ...done };
  }

  /** What it says of itself counts once it has shown that the key is its own. */
  #identify(key: string, isProven: boolean): void {
    const { keys, log } = this.#shared;
    const other = isProven ? keys.learn(this.peer, key) : undefined;
    this.#key = isProven ? key : undefined;
    const trouble = !isProven
      ? "shows a key that it does not prove to have: what it sends by itself counts as a stranger's"
      : other === undefined
        ? ''
        : `has the same key as ${other}: take one of them out of the peers. Until then what this relay sends by itself counts as a stranger's`;
    if (trouble !== '' && trouble !== this.#trouble) {
      log.warn({ peer: this.peer, code: 'GOSSIP_KEY' }, `gossip peer ${this.peer} ${trouble}`);
    }
    this.#trouble = trouble;
  }

  #size(): number {
    return this.#waiting.values().reduce((sum, { size }) => sum + size, 0);
  }

  async #announce(): Promise<number> {
    const { exchange, closing, lazyMs, askMs } = this.#shared;
    if (this.isReachable !== true) {
      await this.#heardBell.pause(PAUSE_MIN_MS, closing);
      return 0;
    }
    const saved = this.#pushed.get(keyOf(this.peer))?.sequence ?? 0;
    const from = Math.min(exchange.last, Math.max(saved, this.#heard.after));
    // Who listens need not be told.
    if (Date.now() - this.#heard.at < LISTENS_MS) {
      if (from > saved + ANNOUNCED) this.#pushed.put(keyOf(this.peer), { sequence: from });
      await this.#heardBell.pause(LISTENS_MS, closing);
      return PAUSE_MIN_MS;
    }
    const rows = exchange.idsAfter(from, ANNOUNCED);
    if (rows.length === 0) {
      await exchange.change(from, 60_000);
      return 0;
    }
    const ids = rows.filter(({ source }) => source !== this.peer).map(({ id }) => id);
    const reply =
      ids.length === 0
        ? { wanted: [], later: [] }
        : await this.#ask(AnnouncementReplySchema, gossipPaths.ids, {
            body: { ids },
            timeout: Math.max(10_000, askMs),
            maxBytes: 16 * 1024,
          });
    for (const id of reply.wanted) if (ids.includes(id)) await this.#deliver(id);
    const later = new Set<string>(reply.later);
    const first = rows.find(({ id }) => later.has(id));
    const sequence = first === undefined ? rows.at(-1)!.sequence : first.sequence - 1;
    if (sequence > saved) this.#pushed.put(keyOf(this.peer), { sequence });
    if (first !== undefined) return 5 * PAUSE_MIN_MS;
    return this.#shared.mesh().isEager(this) ? 0 : lazyMs;
  }

  /** Asks an eager peer what it has about subjects of which this host should have something. */
  async #seek(): Promise<number> {
    const { exchange, wants, mesh, charges } = this.#shared;
    const now = Date.now();
    const sought = new Set(exchange.sought.all());
    for (const subject of this.#soughtOf.keys()) if (!sought.has(subject)) this.#soughtOf.delete(subject);
    if (sought.size === 0 || this.isReachable !== true || !mesh().isEager(this)) return SEEK_PAUSE_MS;
    const timesOf = (subject: string) => this.#soughtOf.get(subject)?.times ?? 0;
    // Anyone can have any number of them sought: the newest first, since a while later the chain names others.
    const due = [...sought]
      .reverse()
      .filter((subject) => (this.#soughtOf.get(subject)?.again ?? 0) <= now)
      .toSorted((a, b) => timesOf(a) - timesOf(b));
    const subjects = due.slice(0, SUBJECTS);
    if (subjects.length === 0 || wants.openOf(this.peer) > IDS) return SEEK_PAUSE_MS;
    const { ids } = await this.#ask(AboutReplySchema, gossipPaths.about, {
      body: { subjects },
      timeout: 10_000,
      maxBytes: 64 * 1024,
    });
    for (const subject of subjects) {
      const times = 1 + timesOf(subject);
      // The first time it may just not be there yet.
      this.#soughtOf.set(subject, { times, again: now + Math.min(SEEK_MAX_MS, SEEK_MIN_MS * 2 ** times) });
    }
    charges.check(this.peer);
    for (const id of ids) if (!exchange.knows(id, this.peer)) wants.offer(id, this.peer);
    // No faster than a peer takes it.
    return SEEK_PAUSE_MS;
  }

  async #deliver(id: string): Promise<void> {
    const entry = this.#shared.exchange.get(id);
    if (entry === undefined) return;
    const reply = await this.#call(gossipPaths.messages, {
      body: entry.message,
      timeout: Math.max(10_000, this.#shared.askMs),
      maxBytes: 16 * 1024,
    });
    // A refusal is the peer's last word on this message; only "not now" is worth another attempt.
    if (reply.status === 429 || reply.status >= 500) {
      throw new DstackError('GOSSIP_PEER', `${this.peer} answered a push with HTTP ${reply.status}`);
    }
  }

  /** @throws GOSSIP_OLD_PEER, GOSSIP_PEER, HTTP_* */
  async #ask<T extends TSchema>(schema: T, path: string, how: Asked) {
    const reply = await this.#call(path, how);
    if (reply.status === 404) {
      throw new DstackError(
        'GOSSIP_OLD_PEER',
        `${this.peer} knows no ids: it is a relay of before, or none. Its operator has to update it; until then it gets what it asks for itself`,
      );
    }
    if (reply.status !== 200)
      throw new DstackError('GOSSIP_PEER', `${this.peer} answered HTTP ${reply.status}`);
    return check(schema, reply.value, 'GOSSIP_PEER', `what ${this.peer} answered`);
  }

  async #call(path: string, how: Asked): Promise<HttpJsonReply> {
    const method = how.body === undefined ? 'GET' : 'POST';
    const known = this.#key === undefined ? undefined : this.#shared.keys.header(this.#key, method, path);
    const header = how.header ?? known;
    return httpJson({
      url: `${this.peer}${path}`,
      ...how,
      ...(header !== undefined && { headers: { [PEER_HEADER]: header } }),
      signal: this.#shared.closing,
    });
  }

  /** Runs a step again and again. The step returns the pause before the next; failures make the pauses grow. */
  async #forever(what: string, step: () => Promise<number>, pace = new Bell()): Promise<void> {
    const { closing, log } = this.#shared;
    let failures = 0;
    while (!closing.aborted) {
      let pause: number;
      try {
        pause = await step();
        failures = 0;
        if (this.#works.get(what) === false) log.info({ peer: this.peer }, `gossip ${what} works again`);
        this.#works.set(what, true);
      } catch (error) {
        if (closing.aborted) return;
        failures += 1;
        pause = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(failures, 10));
        if (this.#works.get(what) !== false) {
          log.warn(
            { peer: this.peer, code: codeOf(error) },
            `gossip ${what} failed: ${(error as Error).message}`,
          );
        }
        this.#works.set(what, false);
        if (what === 'poll' || what === 'fetch') this.#shared.mesh().failed(this);
      }
      if (pause > 0) await pace.pause(pause, closing);
    }
  }
}

interface Asked {
  body?: unknown;
  /** PEER_HEADER; by default what the peer's key asks for. */
  header?: string | undefined;
  timeout: number;
  maxBytes: number;
}

const keyOf = (peer: string): string => Buffer.from(peer).toString('base64url');
