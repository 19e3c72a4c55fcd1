/**
 * How much may be written before it is looked whether etcd's database has room for more. What apps keep is bounded (usage.ts) and history
 * gives way (room.ts), but whoever writes fast enough would fill the database between two looks, and an etcd that is full refuses the
 * writes of all. So a write goes to etcd only while the database has room for it whatever becomes of it there; else it waits until room
 * was made, which is begun at once. One namespace may take half of the room at a time: who writes little finds the other half. And who
 * found none at a look because others wrote meanwhile has its room kept until the next.
 */
import { cancelled, etcdError } from '../../../lib/etcd/errors.ts';
import type { LedgerEvent } from '../types.ts';
import type { Keyspace } from './keyspace.ts';
import type { Done, Room } from './room.ts';
import type { Waiter } from './shares.ts';
import { namespaceOf, OF_A_KEY } from './usage.ts';

/** What a byte takes in the database at most: values that just do not fit a page take two. */
const OF_A_BYTE = 2;
/** The database writes its last page anew with each commit, beside the one before: it may hold so many writes, however large they are. */
const LAST_PAGE = { writes: 4, copies: 2 };
/**
 * Of the database, for what does not wait: deletions, floors, the node's daemons. Where no more than that was written since the last look,
 * it is known what etcd has, and a write that has room itself can't find it full: what else it makes be written, the next look shows.
 */
const KEPT_BACK = 1 / 32;
/** Of the room that there is, what one namespace may take until it is looked again. */
const OF_ONE = 1 / 2;

interface Waiting {
  readonly bytes: number;
  /** Others took its room at a look. */
  isOwed: boolean;
  readonly start: () => void;
  readonly fail: (error: unknown) => void;
}

export class Intake {
  readonly #room: Pick<Room, 'look' | 'dbSize'>;
  readonly #database: number;
  /** What the database had on the disk at the last look. Bytes, as all that follows. */
  #measured = 0;
  /** What was written since, by namespace; and before, while it is being looked. */
  #written = new Map<string, number>();
  #before: ReadonlyMap<string, number> = new Map();
  readonly #underWay = new Map<string, number>();
  /** Of the last writes. */
  #last: readonly number[] = [];
  /** By namespace: the one that was served last comes last. */
  readonly #waiting = new Map<string, Waiting[]>();
  #looking: Promise<Done> | undefined;
  #making: Promise<void> | undefined;
  /** Writes that ended, and that began to wait: each is a reason to look again. */
  #changes = 0;
  /** Resolves with the next of them, and with the end of a look. */
  #news = Promise.withResolvers<void>();

  /** @param database bytes that etcd's database may have */
  constructor(room: Pick<Room, 'look' | 'dbSize'>, database: number) {
    this.#room = room;
    this.#database = database;
  }

  /** A revision of etcd's: whatever wrote it, it takes room. */
  told(events: readonly LedgerEvent[]): void {
    for (const { key, value } of events)
      add(this.#written, namespaceOf(key) ?? '', OF_A_BYTE * (key.length + value.length + OF_A_KEY));
  }

  /** Looks whether there is room, and makes it. To be called every second. @throws RpcError when etcd is away */
  look(): Promise<Done> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
      this.#wake();
    });
    return this.#looking;
  }

  /**
   * Runs a write once there is room for it, in turn with those of other namespaces.
   *
   * @param bytes that it puts @throws RpcError "database space exceeded" where no room can be made for it
   */
  async run<T>({ id }: Keyspace, bytes: number, run: () => Promise<T>, waiter?: Waiter): Promise<T> {
    // The node's own daemons write little, and what they do waits for nobody's history.
    if (!id.startsWith('d/') && (this.#waiting.has(id) || !this.#hasRoom(id, bytes)))
      await this.#wait(id, bytes, waiter?.signal);
    else this.#begin(id, bytes);
    try {
      return await run();
    } finally {
      add(this.#underWay, id, -OF_A_BYTE * bytes);
      this.#changed();
    }
  }

  #changed(): void {
    this.#changes += 1;
    this.#wake();
  }

  #wake(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  #begin(id: string, bytes: number): void {
    add(this.#underWay, id, OF_A_BYTE * bytes);
    this.#last = [...this.#last.slice(1 - LAST_PAGE.writes), bytes];
  }

  /** Who has gone leaves nothing behind: what it asked for may be large. */
  #wait(id: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(cancelled());
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#remove(id, waiting);
        reject(cancelled());
      };
      const waiting: Waiting = {
        bytes,
        isOwed: false,
        start: () => {
          signal?.removeEventListener('abort', leave);
          this.#begin(id, bytes);
          resolve();
        },
        fail: (error) => {
          signal?.removeEventListener('abort', leave);
          reject(error);
        },
      };
      const own = this.#waiting.get(id) ?? [];
      this.#waiting.set(id, own);
      own.push(waiting);
      signal?.addEventListener('abort', leave, { once: true });
      this.#changed();
      this.#making ??= this.#makeRoom();
    });
  }

  #remove(id: string, waiting: Waiting): void {
    const left = this.#waiting.get(id)?.filter((one) => one !== waiting) ?? [];
    if (left.length === 0) this.#waiting.delete(id);
    else this.#waiting.set(id, left);
  }

  /** While anything waits. It is over in the very moment in which nothing does: what comes next begins it anew. */
  async #makeRoom(): Promise<void> {
    for (let changes = 0; this.#waiting.size > 0; ) {
      try {
        // One that began before knows nothing of what waits now.
        await this.#looking;
        changes = this.#changes;
        await this.look();
      } catch (error) {
        for (const all of this.#waiting.values()) for (const { fail } of all) fail(error);
        this.#waiting.clear();
        break;
      }
      const refused = this.#refuse();
      const served = this.#serve();
      // Where only writes that are under way are in the way, another look would find what this one found, and each costs etcd a write.
      const isTheSame = changes === this.#changes && this.#written.size === 0;
      if (!refused && !served && isTheSame) await this.#news.promise;
    }
    this.#making = undefined;
  }

  async #look(): Promise<Done> {
    const before = this.#written;
    const firsts = [...this.#waiting.values()].flatMap(([first]) => first ?? []);
    const wanted = Math.max(0, ...firsts.map(({ bytes }) => this.#least(bytes) + this.#rewritten(bytes)));
    this.#before = before;
    this.#written = new Map();
    try {
      const done = await this.#room.look({ wanted, written: before.size > 0 });
      this.#measured = this.#room.dbSize;
      return done;
    } catch (error) {
      for (const [id, bytes] of before) add(this.#written, id, bytes);
      throw error;
    } finally {
      this.#before = new Map();
    }
  }

  /** What has no room even where nothing else is written: it would wait for ever. @returns whether there was any */
  #refuse(): boolean {
    let refused = false;
    for (const [id, all] of this.#waiting)
      for (const waiting of all)
        if (this.#measured + this.#least(waiting.bytes) > this.#database) {
          this.#remove(id, waiting);
          waiting.fail(etcdError('noSpace'));
          refused = true;
        }
    return refused;
  }

  /** One of each namespace after the other, as long as there is room. @returns whether any had */
  #serve(): boolean {
    let any = false;
    for (let served = true; served; any ||= served) {
      served = false;
      for (const [id, [first]] of [...this.#waiting]) {
        if (first === undefined || !this.#hasRoom(id, first.bytes)) continue;
        const [, ...left] = this.#waiting.get(id) ?? [];
        this.#waiting.delete(id);
        if (left.length > 0) this.#waiting.set(id, left);
        first.start();
        served = true;
      }
    }
    for (const [id, [first]] of this.#waiting)
      if (first !== undefined) first.isOwed ||= this.#isWithinHalf(id, first.bytes);
    return any;
  }

  #hasRoom(id: string, bytes: number): boolean {
    const room = this.#database - this.#measured;
    const taken = this.#takenByAll();
    const owed = this.#owedBefore(id);
    const needed = taken + this.#least(bytes) + owed;
    if (needed > room) return false;
    if (taken <= KEPT_BACK * this.#database) return true;
    return needed + this.#rewritten(bytes) <= room && this.#isWithinHalf(id, bytes);
  }

  #isWithinHalf(id: string, bytes: number): boolean {
    const own = this.#takenBy(id);
    return own === 0 || own + this.#least(bytes) <= OF_ONE * (this.#database - this.#measured);
  }

  /** What is kept for the one that waits longest of those that are owed; nothing of that for itself. */
  #owedBefore(id: string): number {
    for (const [other, [first]] of this.#waiting)
      if (first?.isOwed) return other === id ? 0 : this.#least(first.bytes) + this.#rewritten(first.bytes);
    return 0;
  }

  /** What a write needs itself, with what has to be left. */
  #least(bytes: number): number {
    return OF_A_BYTE * bytes + KEPT_BACK * this.#database;
  }

  /** What it makes be written anew. */
  #rewritten(bytes: number): number {
    const page = [...this.#last.slice(1 - LAST_PAGE.writes), bytes].reduce((sum, one) => sum + one, 0);
    return LAST_PAGE.copies * page;
  }

  #takenBy(id: string): number {
    return [this.#before, this.#written, this.#underWay].reduce((sum, all) => sum + (all.get(id) ?? 0), 0);
  }

  #takenByAll(): number {
    let sum = 0;
    for (const all of [this.#before, this.#written, this.#underWay])
      for (const bytes of all.values()) sum += bytes;
    return sum;
  }
}

function add(all: Map<string, number>, id: string, bytes: number): void {
  const sum = (all.get(id) ?? 0) + bytes;
  if (sum === 0) all.delete(id);
  else all.set(id, sum);
}
