/**
 * Runs handlers over a contract's logs.
 *
 * What is durable, and when: the cursor moves in the same batch that stores the jobs of the blocks it moves over, so no
 * event is lost; a job's effects are stored before the first is carried out, and the job is deleted after the last, so
 * none is forgotten. Effects may be carried out twice after a crash; what carries them out makes that harmless. A request to the
 * enclave may be repeated too; enclaves are written for that.
 *
 * Anyone may cause events. An event that waits for something that may never come is *parked*: it does not count towards the
 * number of jobs at which the cursor stops, and nobody looks at it until what it waits for has come. It is deleted when it
 * expires, or when so many are parked that the endpoint must have invented them, or somebody pays for blocks full of them: then those
 * that have waited longest go first.
 */
import type { Static, TSchema } from 'typebox';
import { codeOf, DstackError, messageOf, Retryable } from '../protocol/errors.ts';
import { check } from '../protocol/schema.ts';
import { EventReader, type EventReading, type EventReadingLimits } from './event-reader.ts';
import {
  type Effect,
  type Enclave,
  type EventHandler,
  NotYet,
  type Outlet,
  type Verdict,
} from './handler.ts';
import { DoneSchema, EffectsSchema, type Job, JobSchema, ParkedSchema } from './job.ts';
import { Rounds } from './rounds.ts';
import { type Spoiled, type StoreOperation, Table } from './store.ts';
import { turns } from './turns.ts';

export interface EventLoopOptions extends EventReading, Partial<EventReadingLimits> {
  enclave: Enclave;
  host: Outlet;
  /** What a gossip effect may carry. */
  message: TSchema;
  /** How often the chain is polled, milliseconds. */
  pollInterval: number;
  /** A job is given up after this many unforeseen errors. */
  maxAttempts?: number;
  /** Jobs worked on at the same time. */
  concurrency?: number;
  /** Events that wait for something else than the chain; see above. */
  maxParked?: number;
  /** Called once for each stored job that can't be read. */
  onSetAside?: () => void;
}

/** A job as the operator sees it. */
export interface OpenJob {
  handler: string;
  block: number;
  transaction: string;
  attempts: number;
  reason: string;
}

/** How far a loop is, for those who run it. */
export interface EventProgress {
  /** Jobs being worked on, then parked ones; at most 100. */
  open(): OpenJob[];
  /** How many jobs are being worked on, and how many are parked. */
  count(): { jobs: number; parked: number };
  /** The last block whose events are stored; undefined before the first poll. */
  cursor(): number | undefined;
  /** How many unreadable jobs are kept aside. */
  setAside(): number;
  /** What is failing at present, in words. */
  problems(): string[];
  /** When the chain was last read to its end, Unix milliseconds; undefined before the first time. */
  polledAt(): number | undefined;
}

/** Unreadable jobs that are kept; further ones are dropped. */
const ASIDE = 'loop/aside/';
const MAX_ASIDE = 100;
const WAIT_MIN_MS = 1000;
const WAIT_MAX_MS = 15_000;
const BACKOFF_MAX_MS = 15_000;
/** Jobs that are read at once. */
const PAGE = 100;

/** Nothing is put off for longer than these: what seems to be was, before the clock was set back. */
const hasCome = (time: number, now: number): boolean =>
  time <= now || time > now + Math.max(WAIT_MAX_MS, BACKOFF_MAX_MS);

export class EventLoop implements EventProgress {
  readonly #options: Required<EventLoopOptions>;
  readonly #jobs: Table<typeof JobSchema>;
  readonly #done: Table<typeof DoneSchema>;
  readonly #reader: EventReader;
  readonly #parked: Table<typeof ParkedSchema>;
  readonly #running = new Set<string>();
  readonly #rounds = new Rounds(() => this.#round());
  readonly #problems = new Map<string, string>();
  /** When waiting jobs are looked at again; after a restart, at once. */
  readonly #waitUntil = new Map<string, number>();
  /** Keys woken while jobs were being worked on: a job about to be parked must not miss them. */
  readonly #woken = new Set<string>();
  #impatient = false;

  /** @throws HANDLER_TWICE when two handlers have the same topic and name: what is stored could not tell them apart */
  constructor(options: EventLoopOptions) {
    for (const [index, { name, topic }] of options.handlers.entries()) {
      if (options.handlers.findIndex((one) => one.name === name && one.topic === topic) === index) continue;
      throw new DstackError('HANDLER_TWICE', `two handlers of ${topic} are called ${name}: rename one`);
    }
    this.#options = {
      maxRange: 2000,
      maxJobs: 2000,
      maxParked: 50_000,
      maxDone: 200_000,
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
    const tables = { jobs: this.#jobs, parked: this.#parked, done: this.#done };
    this.#reader = new EventReader(this.#options, tables);
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

  count(): { jobs: number; parked: number } {
    return { jobs: this.#jobs.count(), parked: this.#parked.count() };
  }

  cursor(): number | undefined {
    return this.#reader.cursor?.block;
  }

  setAside(): number {
    return this.#options.store.count(ASIDE);
  }

  problems(): string[] {
    return [...this.#problems].map(([what, problem]) => `${what}: ${problem}`);
  }

  polledAt(): number | undefined {
    return this.#reader.polledAt;
  }

  async #round(): Promise<number> {
    await this.#guarded('reading the chain', () => this.#reader.collect(() => this.#rounds.stopped));
    await this.#guarded('forgetting events', () => this.#endParked());
    await this.#guarded('working on events', () => this.#work());
    const { pollInterval, source } = this.#options;
    return this.#reader.isBehind ? 0 : Math.min(pollInterval, source.rest || pollInterval);
  }

  /** A step may fail for any outside reason; the loop continues, and reports each new problem once. */
  async #guarded(what: string, step: () => Promise<void>): Promise<void> {
    try {
      await step();
      if (this.#problems.delete(what)) this.#options.log.info({}, `${what} works again`);
    } catch (error) {
      const problem = `${codeOf(error)}: ${messageOf(error)}`;
      if (problem !== this.#problems.get(what)) {
        this.#options.log.warn({ code: codeOf(error) }, `${what} failed, trying again: ${problem}`);
      }
      this.#problems.set(what, problem);
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
    const due = this.#firstOfEach(await this.#readJobs(turn)).filter(
      ({ id, value }) =>
        hasCome(value.notBefore, now) && (impatient || hasCome(this.#waitUntil.get(id) ?? 0, now)),
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

  /** Without those that have to wait for an earlier one of the same key. */
  #firstOfEach(jobs: readonly { id: string; value: Job }[]): { id: string; value: Job }[] {
    const taken = new Set<string>();
    return jobs.filter(({ value }) => {
      const handler = this.#handlerOf(value);
      if (handler?.key === undefined) return true;
      let key: string;
      try {
        key = handler.key(handler.decode(value.log));
      } catch {
        // Said when its turn comes.
        return true;
      }
      const line = JSON.stringify([value.log.topics[0], handler.name, key]);
      if (taken.has(line)) return false;
      taken.add(line);
      return true;
    });
  }

  /** Handlers of one contract are told apart by their topic and name. */
  // biome-ignore lint/suspicious/noExplicitAny: each E stays inside its handler
  #handlerOf({ handler, log }: Job): EventHandler<any> | undefined {
    return this.#options.handlers.find(({ name, topic }) => name === handler && topic === log.topics[0]);
  }

  /** What is to be looked at now, all at once: a handler may read what it needs for all of them together. */
  #foresee(jobs: readonly Job[]): void {
    for (const handler of this.#options.handlers) {
      if (handler.foresee === undefined) continue;
      const events = jobs.flatMap((job) => {
        if (this.#handlerOf(job) !== handler || job.effects !== undefined) return [];
        try {
          return [handler.decode(job.log)];
        } catch {
          // Said when its turn comes.
          return [];
        }
      });
      try {
        handler.foresee(events);
      } catch (error) {
        const fields = { handler: handler.name, code: codeOf(error) };
        this.#options.log.warn(
          fields,
          `events are not foreseen, and worked on as they are: ${messageOf(error)}`,
        );
      }
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
    const handler = this.#handlerOf(job);
    if (handler === undefined)
      throw new DstackError('LOOP_NO_HANDLER', `nothing handles ${job.handler} any more`);
    const event = handler.decode(job.log);
    const now = this.#options.now();
    if (job.firstSeen > now) {
      // The clock was set back.
      job.firstSeen = now;
      this.#jobs.put(id, job);
    }
    const verdict = await handler.request(event, { log: job.log, age: now - job.firstSeen });
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
    const cursor = this.#reader.cursor?.block ?? 0;
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
      if (parked.until >= cursor && this.#parked.count() <= this.#options.maxParked) return;
      const { job, key } = parked;
      const handler = this.#handlerOf(job);
      try {
        handler?.over?.(handler.decode(job.log));
      } catch (error) {
        const fields = { handler: job.handler, code: codeOf(error) };
        this.#options.log.warn(
          fields,
          `an event has expired, which its handler fails to take: ${messageOf(error)}`,
        );
      }
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
    const handler = this.#handlerOf(job);
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
    // Nothing failed: it is looked at again at the next start.
    if (this.#rounds.stopped && codeOf(error) === 'STOPPED') return;
    const current = this.#jobs.get(id) ?? job;
    // Looked at again in every round from now on.
    if (error instanceof NotYet) return this.#pause(id, current, `${error.code}: ${error.message}`, 0);
    const reason = `${codeOf(error)}: ${messageOf(error)}`;
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

const parkedKey = (key: string, id: string): string => `loop/parked-for/${key}/${id}`;

const clip = (text: string): string => text.slice(0, 500);
