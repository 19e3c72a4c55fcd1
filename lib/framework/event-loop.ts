/**
 * Runs handlers over a contract's logs.
 *
 * What is durable, and when: the cursor moves in the same batch that stores the jobs of the blocks it moves over, so no
 * event is lost; a job's effects are stored before the first is carried out, and the job is deleted after the last, so
 * none is forgotten. Effects may be carried out twice after a crash; Host makes that harmless. A request to the
 * enclave may be repeated too; enclaves are written for that.
 *
 * Anyone may cause events. An event that waits for something that may never come is *parked*: it does not count towards the
 * number of jobs at which the cursor stops, and nobody looks at it until what it waits for has come. It is deleted when it
 * expires.
 *
 * An endpoint's logs may lag behind its own head, so the last blocks are read again with each new one; events already known
 * are recognised by their id.
 *
 * Re-orgs: logs are read `confirmations` deep. If the block at the cursor is later replaced by another, the loop goes back
 * `rewind` blocks; an event that moved has a new id and is handled again, which is harmless because handlers read state.
 *
 * An endpoint may show a head that is far beyond its chain, once. The cursor is then where nothing will be for long; the loop goes
 * back to the first block that matters when the chain is still shorter after a while.
 */
import type { Static, TSchema } from 'typebox';
import { LogReader } from '../chain/log-reader.ts';
import type { Log } from '../daemon/log.ts';
import { codeOf, DstackError, Retryable } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import {
  type ContractLog,
  type Effect,
  type Enclave,
  type EventHandler,
  type Host,
  NotYet,
  type Verdict,
} from './handler.ts';
import { CursorSchema, DoneSchema, EffectsSchema, type Job, JobSchema, ParkedSchema } from './job.ts';
import { OwedBlocks } from './owed-blocks.ts';
import { Rounds } from './rounds.ts';
import { type Spoiled, type Store, type StoreOperation, Table } from './store.ts';

/** Where logs come from. Replies are expected to be bounded and checked by the implementation. */
export interface LogSource {
  /** The newest block; the one before, as long as no newer one can be there. */
  head(): Promise<{ readonly number: number; readonly hash: string }>;
  /** Milliseconds until a newer block may be there; 0 when that is not known. */
  readonly rest?: number;
  /** The hash of a block, undefined when there is no block with that number. */
  blockHash(number: number): Promise<string | undefined>;
  /** Whether those blocks, by what they say of themselves, have no such logs; false when that is not known. */
  isQuiet?(from: number, to: number, topics: readonly string[]): boolean;
  /** Whether a block says of itself that it may well have such logs; false when that is not known. */
  isLoud?(block: number, topics: readonly string[]): boolean;
  /** The contract's logs with one of `topics` as topic 0; `from` and `to` are inclusive. */
  logs(from: number, to: number, topics: readonly string[]): Promise<ContractLog[]>;
}

export interface EventLoopOptions {
  store: Store;
  source: LogSource;
  enclave: Enclave;
  host: Host;
  // biome-ignore lint/suspicious/noExplicitAny: handlers of different events in one list; each E stays inside its handler
  handlers: readonly EventHandler<any>[];
  /** What a gossip effect may carry. */
  message: TSchema;
  log: Log;
  /** The first block that matters: where to start without a cursor, or with one that is far behind. */
  startBlock(head: number): Promise<number>;
  /** Blocks that must follow an event's block before it is handled. */
  confirmations: number;
  /** How often the chain is polled, milliseconds. */
  pollInterval: number;
  /** Blocks per call, where the endpoint allows that many. */
  maxRange?: number;
  /** The cursor stops while this many jobs are held. */
  maxJobs?: number;
  /** How far to go back after a re-org, blocks. */
  rewind?: number;
  /**
   * Blocks that are read again with each new one: an endpoint may have a block before it has the block's logs, and then
   * answers as if there were none. At most `rewind`.
   */
  reread?: number;
  /** A job is given up after this many unforeseen errors. */
  maxAttempts?: number;
  /** Jobs worked on at the same time. */
  concurrency?: number;
  /** Called once for each stored job that can't be read. */
  onSetAside?: () => void;
  now?: () => number;
}

/** A job as the operator sees it. */
export interface OpenJob {
  handler: string;
  block: number;
  transaction: string;
  attempts: number;
  reason: string;
}

/** Pages of blocks to read before looking at the jobs. */
const MAX_PAGES = 50;
/** Unreadable jobs that are kept; further ones are dropped. */
const ASIDE = 'loop/aside/';
const MAX_ASIDE = 100;
const WAIT_MIN_MS = 1000;
const WAIT_MAX_MS = 15_000;
const BACKOFF_MAX_MS = 15_000;
/** How long the chain may be shorter than it was: endpoints behind one address are some blocks apart. */
const SHORTER_MS = 30_000;
/** Jobs that are read at once. */
const PAGE = 100;
/** Work without a turn for the rest of the process. */
const TURN_MS = 20;

export class EventLoop {
  readonly #options: Required<EventLoopOptions>;
  readonly #jobs: Table<typeof JobSchema>;
  readonly #done: Table<typeof DoneSchema>;
  readonly #cursor: Table<typeof CursorSchema>;
  readonly #logs: LogReader<{ hash: string; logs: ContractLog[] } | undefined>;
  readonly #parked: Table<typeof ParkedSchema>;
  readonly #running = new Set<string>();
  readonly #rounds = new Rounds(() => this.#round());
  readonly #problems = new Map<string, string>();
  /** When waiting jobs are looked at again; after a restart, at once. */
  readonly #waitUntil = new Map<string, number>();
  /** Keys woken while jobs were being worked on: a job about to be parked must not miss them. */
  readonly #woken = new Set<string>();
  #impatient = false;
  #polledAt: number | undefined;
  /** The newest block when everything up to it had been read. */
  #complete: string | undefined;
  /** The last block whose logs were asked for, and not only said to be none. */
  #readTo: number | undefined;
  /** Whether blocks that are said to be quiet were so far. */
  #trustsQuiet = true;
  /** Whether more blocks can be read at once. */
  #behind = false;
  /** Since when the chain has been shorter than what was read of it. */
  #shorterSince: number | undefined;
  /** Blocks whose logs are not there yet, by what they say of themselves. */
  readonly #owed = new OwedBlocks();

  constructor(options: EventLoopOptions) {
    this.#options = {
      maxRange: 2000,
      maxJobs: 2000,
      rewind: 64,
      reread: 16,
      maxAttempts: 20,
      concurrency: 4,
      onSetAside: () => {},
      now: Date.now,
      ...options,
    };
    this.#jobs = new Table(options.store, 'loop/job/', JobSchema);
    this.#parked = new Table(options.store, 'loop/parked/', ParkedSchema);
    this.#done = new Table(options.store, 'loop/done/', DoneSchema);
    this.#cursor = new Table(options.store, 'loop/', CursorSchema);
    const { maxRange } = this.#options;
    this.#logs = new LogReader({
      first: maxRange,
      longest: maxRange,
      read: (from, to) => this.#readPage(from, to),
    });
  }

  /** Starts polling; errors of the chain are logged and tried again, never thrown. */
  start(): void {
    this.#rounds.start();
  }

  /** Resolves when nothing of the loop is running any more. Unfinished work is in the store. */
  async stop(): Promise<void> {
    await this.#rounds.stop();
  }

  /**
   * Something changed: look at waiting jobs now instead of at the next poll, and at those that were parked for `key`.
   * @param key 64 hex digits
   */
  wake(key?: string): void {
    if (key !== undefined) this.#unpark(key);
    this.#impatient = true;
    this.#rounds.wake();
  }

  /** Jobs being worked on, then parked ones; at most 100. */
  open(): OpenJob[] {
    const limit = 100;
    const jobs = this.#jobs.sift({ limit }).sound.map(({ value }) => value);
    const parked = this.#parked.sift({ limit }).sound.map(({ value }) => value.job);
    return [...jobs, ...parked].slice(0, limit).map((job) => ({
      handler: job.handler,
      block: job.log.blockNumber,
      transaction: job.log.transactionHash,
      attempts: job.attempts,
      reason: job.reason ?? 'not looked at yet',
    }));
  }

  /** How many jobs are being worked on, and how many are parked. */
  count(): { jobs: number; parked: number } {
    return { jobs: this.#jobs.count(), parked: this.#parked.count() };
  }

  /** The last block whose events are stored; undefined before the first poll. */
  cursor(): number | undefined {
    return this.#readCursor()?.block;
  }

  /** How many unreadable jobs are kept aside. */
  setAside(): number {
    return this.#options.store.count(ASIDE);
  }

  /** What is failing at present, in words. */
  problems(): string[] {
    return [...this.#problems].map(([what, problem]) => `${what}: ${problem}`);
  }

  /** When the chain was last read to its end, Unix milliseconds; undefined before the first time. */
  polledAt(): number | undefined {
    return this.#polledAt;
  }

  async #round(): Promise<number> {
    await this.#guarded('reading the chain', () => this.#collect());
    await this.#guarded('forgetting events', () => this.#endParked());
    await this.#guarded('working on events', () => this.#work());
    const { pollInterval, source } = this.#options;
    return this.#behind ? 0 : Math.min(pollInterval, source.rest || pollInterval);
  }

  /** A step may fail for any outside reason; the loop continues, and reports each new problem once. */
  async #guarded(what: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
      if (this.#problems.delete(what)) this.#options.log.info({}, `${what} works again`);
    } catch (error) {
      const problem = `${codeOf(error)}: ${(error as Error).message}`;
      if (problem !== this.#problems.get(what)) {
        this.#options.log.warn({ code: codeOf(error) }, `${what} failed, trying again: ${problem}`);
      }
      this.#problems.set(what, problem);
    }
  }

  /** Stores a job for every new event, together with the cursor that has moved past it. */
  async #collect(): Promise<void> {
    this.#behind = false;
    const { source, confirmations, maxJobs, rewind, reread, startBlock, log } = this.#options;
    const head = await source.head();
    const safe = Math.max(0, head.number - confirmations);
    let cursor = this.#readCursor();
    const isShorter = this.#isShorter(cursor?.block, safe);
    if (head.hash === this.#complete && !isShorter) {
      this.#polledAt = this.#options.now();
      return;
    }
    this.#complete = undefined;
    if (cursor !== undefined && isShorter) {
      const fields = { block: cursor.block, head: head.number };
      log.warn(
        fields,
        'the chain ends before the block up to which it was read: the endpoint had shown more than there is. Its last blocks are looked at again',
      );
      cursor = undefined;
      this.#forgetDone(await startBlock(safe));
    }
    if (
      cursor !== undefined &&
      cursor.block <= safe &&
      (await source.blockHash(cursor.block)) !== cursor.hash
    ) {
      log.warn({ block: cursor.block }, 'the chain was re-organised: looking at its last blocks again');
      cursor = { block: Math.max(0, cursor.block - rewind), hash: '' };
    }
    const known = cursor?.block ?? -1;
    const again = Math.max(0, Math.min(known, safe) + 1 - reread);
    // Not beyond the cursor either: what is there is read again from where the chain ends.
    let from = known === safe ? safe + 1 : this.#owed.from(again, safe);
    if (cursor === undefined || safe - known > rewind) {
      const start = Math.max(0, await startBlock(safe));
      if (cursor !== undefined && start > known + 1) {
        log.warn(
          { from: known + 1, to: start - 1 },
          'too far behind: these blocks are left out, nothing in them matters any more',
        );
      }
      from = Math.max(from, start);
    }
    if (cursor !== undefined && from <= known && this.#isQuiet(from, safe)) {
      const hash = await source.blockHash(safe);
      if (hash === undefined) return;
      if (safe > known) this.#cursor.put('cursor', { block: safe, hash });
      this.#owed.read(from, safe, () => false);
      from = safe + 1;
    }
    const turn = turns();
    for (let pages = 0; from <= safe; pages += 1) {
      if (this.#rounds.stopped) return;
      if (this.#jobs.count() >= maxJobs) return;
      if (pages === MAX_PAGES) {
        this.#behind = true;
        return;
      }
      const { to, page } = await this.#logs.next(from, safe);
      if (page === undefined) return;
      this.#readTo = to;
      const shown = new Set(page.logs.map(({ blockNumber }) => blockNumber));
      this.#owed.read(from, to, (n) => !shown.has(n) && source.isLoud?.(n, this.#topics) === true);
      if (this.#trustsQuiet && page.logs.some(({ blockNumber: n }) => this.#isSaidQuiet(n, n))) {
        log.warn(
          {},
          'the endpoint shows events in blocks that say that they have none: it is asked at each block',
        );
        this.#trustsQuiet = false;
      }
      const jobs: StoreOperation[] = [];
      for (const entry of page.logs) {
        await turn();
        jobs.push(...this.#jobsOf(entry));
      }
      this.#options.store.batch([
        ...jobs,
        // A page that is read again may end before the cursor.
        ...(to > known ? [this.#cursor.putting('cursor', { block: to, hash: page.hash })] : []),
        ...this.#forgettable(to),
      ]);
      from = to + 1;
    }
    this.#complete = head.hash;
    this.#polledAt = this.#options.now();
  }

  /** Whether the chain ends before the cursor, and has for so long that it won't get there soon. */
  #isShorter(block: number | undefined, safe: number): boolean {
    if (block === undefined || block <= safe) {
      this.#shorterSince = undefined;
      return false;
    }
    const now = this.#options.now();
    this.#shorterSince ??= now;
    if (now - this.#shorterSince < SHORTER_MS) return false;
    this.#shorterSince = undefined;
    return true;
  }

  /** Events from a block on are handled again. */
  #forgetDone(block: number): void {
    for (;;) {
      const { sound, spoiled } = this.#done.sift({ after: String(Math.max(0, block)).padStart(16, '0') });
      if (sound.length + spoiled.length === 0) return;
      this.#options.store.batch([...sound, ...spoiled].map(({ id }) => this.#done.deleting(id)));
    }
  }

  /**
   * Whether those blocks need not be read: they say that they have no event of ours. So that this can only delay an event, each
   * block is read once all the same, with the others that are read again.
   */
  #isQuiet(from: number, to: number): boolean {
    const { reread } = this.#options;
    if (!this.#trustsQuiet || this.#readTo === undefined || to - this.#readTo >= reread) return false;
    return this.#isSaidQuiet(from, to);
  }

  #isSaidQuiet(from: number, to: number): boolean {
    return this.#options.source.isQuiet?.(from, to, this.#topics) ?? false;
  }

  get #topics(): string[] {
    return [...new Set(this.#options.handlers.map(({ topic }) => topic))];
  }

  /** Undefined when the chain no longer has such a block. */
  async #readPage(from: number, to: number): Promise<{ hash: string; logs: ContractLog[] } | undefined> {
    const { source } = this.#options;
    // The hash is read before the logs: if a re-org comes between, the next poll sees another hash and goes back.
    const hash = await source.blockHash(to);
    if (hash === undefined) return undefined;
    return { hash, logs: await source.logs(from, to, this.#topics) };
  }

  /** A job for each handler of the event. */
  #jobsOf(log: ContractLog): StoreOperation[] {
    return this.#options.handlers
      .filter(({ topic }) => topic === log.topics[0])
      .flatMap(({ name }) => {
        const id = `${eventId(log)}/${name}`;
        if ([this.#done, this.#jobs, this.#parked].some((table) => table.has(id))) return [];
        const job: Job = {
          handler: name,
          log: { ...log, topics: [...log.topics] },
          firstSeen: this.#options.now(),
          notBefore: 0,
          attempts: 0,
        };
        return [this.#jobs.putting(id, job)];
      });
  }

  /** Drops marks of handled events that are too old for any re-org the loop goes back for. */
  #forgettable(block: number): StoreOperation[] {
    const horizon = block - 2 * this.#options.rewind - this.#options.maxRange;
    const { sound, spoiled } = this.#done.sift({ limit: 500 });
    const old = sound.filter(({ value }) => value.block < horizon);
    return [...old, ...spoiled].map(({ id }) => this.#done.deleting(id));
  }

  /** A cursor that can't be read counts as missing: events are handled again, which is harmless. */
  #readCursor(): Static<typeof CursorSchema> | undefined {
    try {
      return this.#cursor.get('cursor');
    } catch (error) {
      if (codeOf(error) !== 'STORE_CORRUPT') throw error;
      return undefined;
    }
  }

  /** A job that can't be read would never finish; the others must not wait for it. */
  #putAside({ id, text, reason }: Spoiled): void {
    const { store, log, onSetAside } = this.#options;
    const kept: StoreOperation[] =
      this.setAside() < MAX_ASIDE ? [{ kind: 'put', key: ASIDE + id, value: text }] : [];
    store.batch([this.#jobs.deleting(id), ...kept]);
    log.warn({ code: 'STORE_CORRUPT', job: id }, `a job is set aside, the others go on: ${reason}`);
    onSetAside();
  }

  /** Works on due jobs, a few at a time. */
  async #work(): Promise<void> {
    const now = this.#options.now();
    const impatient = this.#impatient;
    this.#impatient = false;
    this.#woken.clear();
    const turn = turns();
    const due = (await this.#readJobs(turn)).filter(
      ({ id, value }) => value.notBefore <= now && (impatient || (this.#waitUntil.get(id) ?? 0) <= now),
    );
    this.#foresee(due.map(({ value }) => value));
    const queue = due.values();
    const worker = async () => {
      for (const { id, value } of queue) {
        await turn();
        if (this.#rounds.stopped) return;
        if (this.#running.has(id)) continue;
        this.#running.add(id);
        try {
          await this.#advance(id, value);
        } finally {
          this.#running.delete(id);
        }
      }
    };
    await Promise.all(Array.from({ length: this.#options.concurrency }, worker));
  }

  async #readJobs(turn: () => Promise<void>): Promise<{ id: string; value: Job }[]> {
    const jobs: { id: string; value: Job }[] = [];
    for (let after: string | undefined; jobs.length < this.#options.maxJobs; ) {
      await turn();
      const { sound, spoiled } = this.#jobs.sift({ limit: PAGE, ...(after !== undefined && { after }) });
      for (const job of spoiled) this.#putAside(job);
      jobs.push(...sound);
      if (sound.length + spoiled.length < PAGE) break;
      after = [...sound, ...spoiled].map(({ id }) => id).reduce((a, b) => (a > b ? a : b));
    }
    return jobs;
  }

  /** What is to be looked at now, all at once: a handler may read what it needs for all of them together. */
  #foresee(jobs: readonly Job[]): void {
    for (const handler of this.#options.handlers) {
      if (handler.foresee === undefined) continue;
      const events = jobs.flatMap((job) => {
        if (job.handler !== handler.name || job.effects !== undefined) return [];
        try {
          return [handler.decode(job.log)];
        } catch {
          // Said when its turn comes.
          return [];
        }
      });
      handler.foresee(events);
    }
  }

  async #advance(id: string, job: Job): Promise<void> {
    try {
      const effects = job.effects ?? (await this.#effectsOf(id, job));
      if (effects === undefined) return;
      if (job.effects === undefined) this.#jobs.put(id, { ...job, effects });
      for (const effect of effects) await this.#carryOut(effect);
      this.#finish(id, job, 'done');
    } catch (error) {
      await this.#failed(id, job, error);
    }
  }

  /** Undefined when there is nothing to carry out now: the job is waiting or finished. */
  async #effectsOf(id: string, job: Job): Promise<Effect[] | undefined> {
    const handler = this.#options.handlers.find((candidate) => candidate.name === job.handler);
    if (handler === undefined)
      throw new DstackError('LOOP_NO_HANDLER', `nothing handles ${job.handler} any more`);
    const event = handler.decode(job.log);
    const verdict = await handler.request(event, { log: job.log, age: this.#options.now() - job.firstSeen });
    if (verdict.kind === 'skip') {
      this.#finish(id, job, verdict.reason);
      return undefined;
    }
    if (verdict.kind === 'wait') {
      this.#wait(id, job, verdict.reason);
      return undefined;
    }
    if (verdict.kind === 'park') {
      this.#park(id, job, verdict);
      return undefined;
    }
    const effects = await handler.settle(
      await this.#options.enclave.request(verdict.path, verdict.body),
      event,
    );
    // Checked here, not when they are read back: effects that can't be stored end this job, and no other.
    return this.#checked(effects, handler.name);
  }

  #checked(effects: readonly Effect[], handler: string): Effect[] {
    const checked = check(EffectsSchema, effects, 'EFFECT_INVALID', `what ${handler} wants to be done`);
    for (const effect of checked) {
      if (effect.kind !== 'gossip') continue;
      check(this.#options.message, effect.message, 'EFFECT_INVALID', `what ${handler} wants to be gossiped`);
    }
    return checked;
  }

  /** Asks again later; the pause grows with the time waited so far. */
  #wait(id: string, job: Job, reason: string): void {
    const age = this.#options.now() - job.firstSeen;
    this.#pause(id, job, reason, Math.min(WAIT_MAX_MS, Math.max(WAIT_MIN_MS, age / 20)));
  }

  /** Writes only changes: waiting is not an event worth storing. */
  #pause(id: string, job: Job, reason: string, pause: number): void {
    this.#waitUntil.set(id, this.#options.now() + pause);
    if (job.reason === clip(reason) && job.attempts === 0) return;
    this.#jobs.put(id, { ...job, attempts: 0, reason: clip(reason) });
    this.#options.log.info({ handler: job.handler, block: job.log.blockNumber }, `waiting: ${reason}`);
  }

  /** Sets a job aside, in the same batch that takes it off the jobs. */
  #park(id: string, job: Job, { key, until, reason }: Extract<Verdict, { kind: 'park' }>): void {
    // What it waits for has come while it was being looked at.
    if (this.#woken.has(key)) return;
    this.#waitUntil.delete(id);
    const parked = { job: { ...job, attempts: 0, notBefore: 0, reason: clip(reason) }, key, until };
    // Lost, it is a job again. Anyone can cause any number of these.
    this.#options.store.batch(
      [
        this.#jobs.deleting(id),
        this.#parked.putting(id, parked),
        { kind: 'put', key: parkedKey(key, id), value: '1' },
      ],
      'soon',
    );
    const fields = { handler: job.handler, block: job.log.blockNumber };
    if (job.reason !== parked.job.reason) this.#options.log.info(fields, `waiting: ${reason}`);
  }

  #unpark(key: string): void {
    this.#woken.add(key);
    const { store } = this.#options;
    for (const { key: row } of store.list(parkedKey(key, ''))) {
      const id = row.slice(parkedKey(key, '').length);
      const parked = this.#readParked(id);
      store.batch([
        { kind: 'delete', key: row },
        this.#parked.deleting(id),
        ...(parked === undefined ? [] : [this.#jobs.putting(id, parked.job)]),
      ]);
    }
  }

  /** A parked job that can't be read is gone; the others must not wait for it. */
  #readParked(id: string): Static<typeof ParkedSchema> | undefined {
    try {
      return this.#parked.get(id);
    } catch (error) {
      if (codeOf(error) !== 'STORE_CORRUPT') throw error;
      this.#options.log.warn({ code: 'STORE_CORRUPT', job: id }, 'a parked event is dropped');
      return undefined;
    }
  }

  /** Events are parked for about the same time, so the oldest expire first. */
  async #endParked(): Promise<void> {
    const { store } = this.#options;
    const cursor = this.#readCursor()?.block ?? 0;
    const turn = turns();
    while (!this.#rounds.stopped) {
      await turn();
      const [row] = store.list(this.#parked.prefix, { limit: 1 });
      if (row === undefined) return;
      const id = row.key.slice(this.#parked.prefix.length);
      const parked = this.#readParked(id);
      if (parked === undefined) {
        this.#parked.delete(id);
        continue;
      }
      if (parked.until >= cursor) return;
      const { job, key } = parked;
      const handler = this.#options.handlers.find((candidate) => candidate.name === job.handler);
      handler?.over?.(handler.decode(job.log));
      store.batch(
        [
          this.#parked.deleting(id),
          { kind: 'delete', key: parkedKey(key, id) },
          this.#done.putting(id, { block: job.log.blockNumber }),
        ],
        'soon',
      );
    }
  }

  /** Whether, after this refusal, the handler has another request or waits for one. */
  async #hasAnother(job: Job, error: DstackError): Promise<boolean> {
    const handler = this.#options.handlers.find((candidate) => candidate.name === job.handler);
    if (handler?.refused === undefined || job.effects !== undefined) return false;
    try {
      return await handler.refused(handler.decode(job.log), error);
    } catch {
      return false;
    }
  }

  async #carryOut(effect: Effect): Promise<void> {
    if (effect.kind === 'gossip') await this.#options.host.publish(effect.message);
    else await this.#options.host.submit({ purpose: effect.purpose, to: effect.to, data: effect.data });
  }

  #finish(id: string, job: Job, reason: string): void {
    this.#close(id, job);
    this.#options.log.info({ handler: job.handler, block: job.log.blockNumber }, `${job.handler}: ${reason}`);
  }

  #close(id: string, job: Job): void {
    this.#waitUntil.delete(id);
    this.#options.store.batch([
      this.#jobs.deleting(id),
      this.#done.putting(id, { block: job.log.blockNumber }),
    ]);
  }

  /**
   * Typed refusals are final. A Retryable is retried for as long as the handler wants: its next `request` can skip. An
   * unforeseen error is retried a bounded number of times.
   */
  async #failed(id: string, job: Job, error: unknown): Promise<void> {
    const current = this.#jobs.get(id) ?? job;
    // Looked at again in every round from now on.
    if (error instanceof NotYet) return this.#pause(id, current, `${error.code}: ${error.message}`, 0);
    const reason = `${codeOf(error)}: ${(error as Error).message}`;
    const attempts = current.attempts + 1;
    if (error instanceof DstackError && (await this.#hasAnother(current, error))) {
      // The handler has another request, or none yet: either way, this refusal is no reason to pause.
      this.#jobs.put(id, { ...current, attempts: 0, notBefore: 0, reason: clip(reason) });
      this.#options.log.info(
        { handler: job.handler, code: codeOf(error) },
        `${job.handler} goes on: ${reason}`,
      );
      this.#rounds.wake();
      return;
    }
    const final =
      error instanceof DstackError ? !(error instanceof Retryable) : attempts >= this.#options.maxAttempts;
    if (final) {
      this.#close(id, job);
      this.#options.log.warn(
        { handler: job.handler, code: codeOf(error), attempts },
        `${job.handler} given up: ${reason}`,
      );
      return;
    }
    if (current.reason !== clip(reason)) {
      this.#options.log.warn(
        { handler: job.handler, code: codeOf(error) },
        `${job.handler} will be tried again: ${reason}`,
      );
    }
    const pause = Math.min(BACKOFF_MAX_MS, 500 * 2 ** Math.min(attempts, 10));
    this.#jobs.put(id, {
      ...current,
      attempts,
      notBefore: this.#options.now() + pause,
      reason: clip(reason),
    });
  }
}

/** Lets the rest of the process have a turn once in a while: the store's calls and most handlers' never wait for anything. */
function turns(): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < TURN_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  };
}

/** Identifies one log entry on one fork of the chain; block first, so that the store lists jobs in order. */
function eventId(log: ContractLog): string {
  const block = String(log.blockNumber).padStart(16, '0');
  return `${block}/${log.blockHash}/${log.transactionHash}/${log.logIndex}`;
}

const parkedKey = (key: string, id: string): string => `loop/parked-for/${key}/${id}`;

const clip = (text: string): string => text.slice(0, 500);
