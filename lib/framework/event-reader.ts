/**
 * Reads a contract's logs: a job for each event and handler, stored in the same batch as the cursor that moves past it.
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
import type { Static } from 'typebox';
import { isTooMuch, LogReader } from '../chain/log-reader.ts';
import type { Log } from '../daemon/log.ts';
import { codeOf, messageOf } from '../protocol/errors.ts';
import type { ContractLog, EventHandler } from './handler.ts';
import {
  CursorSchema,
  type DoneSchema,
  type Job,
  type JobSchema,
  LOG_DATA_MAX,
  type ParkedSchema,
} from './job.ts';
import { OwedBlocks } from './owed-blocks.ts';
import { type Store, type StoreOperation, Table } from './store.ts';
import { turns } from './turns.ts';
import { UnreadBlocks } from './unread-blocks.ts';

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
  /** Whether it says so of a log with this topic that is about `subject`, its first indexed word (64 hex digits); false when that is not known. */
  names?(block: number, topic: string, subject: string): boolean;
  /** The contract's logs with one of `topics` as topic 0; `from` and `to` are inclusive. */
  logs(from: number, to: number, topics: readonly string[]): Promise<ContractLog[]>;
}

/** What is read, and for whom. */
export interface EventReading {
  store: Store;
  source: LogSource;
  // biome-ignore lint/suspicious/noExplicitAny: handlers of different events in one list; each E stays inside its handler
  handlers: readonly EventHandler<any>[];
  log: Log;
  /** The first block that matters: where to start without a cursor, or with one that is far behind. */
  startBlock(head: number): Promise<number>;
  /** Blocks that must follow an event's block before it is handled. */
  confirmations: number;
}

export interface EventReadingLimits {
  /** Blocks per call, where the endpoint allows that many. */
  maxRange: number;
  /** The cursor stops while this many jobs are held. */
  maxJobs: number;
  /** How far to go back after a re-org, blocks. */
  rewind: number;
  /**
   * Blocks that are read again with each new one: an endpoint may have a block before it has the block's logs, and then
   * answers as if there were none. At most `rewind`.
   */
  reread: number;
  /** Events that are remembered as handled: of more, the oldest are handled again if they are read again, which is harmless. */
  maxDone: number;
  now: () => number;
}

/** Pages of blocks to read before looking at the jobs. */
const MAX_PAGES = 50;
/** How long the chain may be shorter than it was: endpoints behind one address are some blocks apart. */
const SHORTER_MS = 30_000;

/** How long an endpoint may refuse a block that it gives no smaller part of, while it gives the next one. */
const REFUSED_MS = 120_000;
/** For how many blocks it is remembered that one was refused: more than are read again. */
const REFUSED_BLOCKS = 1024;

/** Where events are that are known already. */
export interface EventTables {
  readonly jobs: Table<typeof JobSchema>;
  readonly parked: Table<typeof ParkedSchema>;
  readonly done: Table<typeof DoneSchema>;
}

export class EventReader {
  readonly #options: EventReading & EventReadingLimits;
  readonly #tables: EventTables;
  readonly #cursor: Table<typeof CursorSchema>;
  readonly #logs: LogReader<{ hash: string; logs: ContractLog[] } | undefined>;
  /** When the chain was last read to its end, Unix milliseconds. */
  polledAt: number | undefined;
  /** The newest block when everything up to it had been read. */
  #complete: string | undefined;
  /** The last block whose logs were asked for, and not only said to be none. */
  #readTo: number | undefined;
  /** Whether blocks that are said to be quiet were so far. */
  #trustsQuiet = true;
  /** Blocks that have shown their logs, which are all there at once: they need not be read again, until the chain is another. */
  readonly #shown = new Set<number>();
  /** Whether more blocks can be read at once. */
  isBehind = false;
  /** Blocks that are refused although nothing less can be asked for: since when, and whether that was said. */
  readonly #refused = new Map<number, { since: number; isSaid: boolean }>();
  /** The last block that is read at present. */
  #safe = 0;
  /** Since when the chain has been shorter than what was read of it. */
  #shorterSince: number | undefined;
  /** Blocks whose logs are not there yet, by what they say of themselves. */
  readonly #owed = new OwedBlocks();
  /** Blocks that may have events of which no handler has to know yet. */
  readonly #unread: UnreadBlocks;

  constructor(options: EventReading & EventReadingLimits, tables: EventTables) {
    this.#options = options;
    this.#tables = tables;
    this.#cursor = new Table(options.store, 'loop/', CursorSchema);
    this.#unread = new UnreadBlocks(options);
    const { maxRange } = options;
    this.#logs = new LogReader({
      first: maxRange,
      longest: maxRange,
      read: (from, to) => this.#readPage(from, to),
    });
  }

  /** Stores a job for every new event, together with the cursor that has moved past it. @param stopped ends it between two pages */
  async collect(stopped: () => boolean): Promise<void> {
    this.isBehind = false;
    const { source, confirmations, maxJobs, rewind, reread, startBlock, log } = this.#options;
    const head = await source.head();
    const safe = Math.max(0, head.number - confirmations);
    this.#safe = safe;
    let cursor = this.cursor;
    const isShorter = this.#isShorter(cursor?.block, safe);
    if (head.hash === this.#complete && !isShorter) {
      this.polledAt = this.#options.now();
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
      this.#shown.clear();
      this.#unread.clear();
      this.#forgetDone(await startBlock(safe));
    }
    if (
      cursor !== undefined &&
      cursor.block <= safe &&
      (await source.blockHash(cursor.block)) !== cursor.hash
    ) {
      log.warn({ block: cursor.block }, 'the chain was re-organised: looking at its last blocks again');
      this.#shown.clear();
      this.#unread.clear();
      cursor = { block: Math.max(0, cursor.block - rewind), hash: '' };
    }
    const known = cursor?.block ?? -1;
    const again = Math.max(0, Math.min(known, safe) + 1 - reread);
    // Not beyond the cursor either: what is there is read again from where the chain ends.
    // Nor is it known after a restart which blocks before it were left for later.
    const isRead = known === safe && this.#unread.size === 0 && this.#readTo !== undefined;
    let from = isRead ? safe + 1 : this.#owed.from(again, safe);
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
    if (cursor !== undefined && from <= known && (await this.#isQuiet(from, safe))) {
      const hash = await source.blockHash(safe);
      if (hash === undefined) return;
      if (safe > known) this.#cursor.put('cursor', { block: safe, hash });
      this.#owed.read(from, safe, () => false);
      from = safe + 1;
    }
    const turn = turns();
    for (let pages = 0; from <= safe; pages += 1) {
      if (stopped()) return;
      if (this.#tables.jobs.count() >= maxJobs) return;
      if (pages === MAX_PAGES) {
        this.isBehind = true;
        return;
      }
      const { to, page } = await this.#logs.next(from, safe);
      if (page === undefined) return;
      this.#readTo = to;
      const shown = new Set(page.logs.map(({ blockNumber }) => blockNumber));
      for (const block of shown) this.#shown.add(block);
      for (const block of this.#shown) if (block < safe - reread) this.#shown.delete(block);
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
      this.#unread.read(to);
      this.#options.store.batch([
        ...jobs,
        // A page that is read again may end before the cursor.
        ...(to > known ? [this.#cursor.putting('cursor', { block: to, hash: page.hash })] : []),
        ...this.#forgettable(to),
      ]);
      from = to + 1;
    }
    // What can wait now may not in a second.
    this.#complete = this.#unread.size === 0 ? head.hash : undefined;
    this.polledAt = this.#options.now();
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
      const { sound, spoiled } = this.#tables.done.sift({
        after: String(Math.max(0, block)).padStart(16, '0'),
      });
      if (sound.length + spoiled.length === 0) return;
      this.#options.store.batch([...sound, ...spoiled].map(({ id }) => this.#tables.done.deleting(id)));
    }
  }

  /**
   * Whether those blocks need not be read: they have shown their events, say that they have none of ours, or of those that nobody has to know of now. So
   * that this can only delay an event, each block is read once all the same, with the others that are read again.
   */
  async #isQuiet(from: number, to: number): Promise<boolean> {
    const { reread } = this.#options;
    if (!this.#trustsQuiet || this.#readTo === undefined || to - this.#readTo >= reread) return false;
    for (let block = from; block <= to; block += 1) {
      if (this.#shown.has(block) || this.#isSaidQuiet(block, block)) continue;
      // Of one that was read its events should have been there: it is asked for them again.
      if (block <= this.#readTo || !(await this.#unread.canWait(block, to))) return false;
    }
    return true;
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
    try {
      return { hash, logs: await source.logs(from, to, this.#topics) };
    } catch (error) {
      if (from !== to || !isTooMuch(error)) throw error;
      return { hash, logs: await this.#logsOfRefused(from, error) };
    }
  }

  /**
   * Of a block that is refused although nothing less can be asked for: none once it has been refused for so long that the ones after it must not
   * wait any more. Anyone who pays for a block full of events may have made it one that the endpoint never gives.
   * @throws what the endpoint says of the block; or of the next one: while it refuses that too, it is not about this one
   */
  async #logsOfRefused(block: number, error: unknown): Promise<ContractLog[]> {
    const { now, source, log } = this.#options;
    const refused = this.#refused.get(block) ?? { since: now(), isSaid: false };
    this.#refused.set(block, refused);
    for (const other of this.#refused.keys()) if (other < block - REFUSED_BLOCKS) this.#refused.delete(other);
    if (now() - refused.since < REFUSED_MS || block >= this.#safe) throw error;
    await source.logs(block + 1, block + 1, this.#topics);
    try {
      // It may have been the end of what was wrong with all of them.
      return await source.logs(block, block, this.#topics);
    } catch (again) {
      if (!isTooMuch(again)) throw again;
      // The last blocks are read again with each new one.
      if (!refused.isSaid) {
        const what = 'the endpoint gives the blocks after this one, and not its events: they are left out';
        log.warn({ code: codeOf(again), block }, `${what}. ${messageOf(again)}`);
      }
      refused.isSaid = true;
      return [];
    }
  }

  /** A job for each handler of the event. */
  #jobsOf(log: ContractLog): StoreOperation[] {
    // Anybody may be able to cause such an event: it must not keep the others from being stored.
    if (log.data.length > LOG_DATA_MAX) {
      const fields = { block: log.blockNumber, transaction: log.transactionHash };
      this.#options.log.warn(
        fields,
        `an event with more than ${LOG_DATA_MAX} characters of data is left out`,
      );
      return [];
    }
    return this.#options.handlers
      .filter(({ topic }) => topic === log.topics[0])
      .flatMap(({ name }) => {
        const id = `${eventId(log)}/${name}`;
        if (Object.values(this.#tables).some((table) => table.has(id))) return [];
        const job: Job = {
          handler: name,
          log: { ...log, topics: [...log.topics] },
          firstSeen: this.#unread.since(log.blockNumber) ?? this.#options.now(),
          notBefore: 0,
          attempts: 0,
        };
        return [this.#tables.jobs.putting(id, job)];
      });
  }

  /** Drops marks of handled events that are too old for any re-org the loop goes back for, and those beyond what there is room for. */
  #forgettable(block: number): StoreOperation[] {
    const horizon = block - 2 * this.#options.rewind - this.#options.maxRange;
    // As many as a page may bring.
    const surplus = Math.min(20_000, this.#tables.done.count() - this.#options.maxDone);
    const { sound, spoiled } = this.#tables.done.sift({ limit: Math.max(500, surplus) });
    const old = sound.filter(({ value }, nth) => nth < surplus || value.block < horizon);
    return [...old, ...spoiled].map(({ id }) => this.#tables.done.deleting(id));
  }

  /** A cursor that can't be read counts as missing: events are handled again, which is harmless. */
  get cursor(): Static<typeof CursorSchema> | undefined {
    try {
      return this.#cursor.get('cursor');
    } catch (error) {
      if (codeOf(error) !== 'STORE_CORRUPT') throw error;
      return undefined;
    }
  }
}

/** Identifies one log entry on one fork of the chain; block first, so that the store lists jobs in order. */
function eventId(log: ContractLog): string {
  const block = String(log.blockNumber).padStart(16, '0');
  return `${block}/${log.blockHash}/${log.transactionHash}/${log.logIndex}`;
}
