/**
 * The store makes room by itself. What apps keep is bounded (usage.ts), and the rest of the database is for history, which anyone makes by
 * writing one key again and again. When there is much of it, it gives way: first what all namespaces have let go of, then all but the last
 * revisions, whoever still wants them, then as much as is in the ledger on the disk. So a namespace that never compacts does not stop the
 * writes of all, nor does one that writes much. Whoever wants what is gone is told so as of etcd's own compaction.
 */
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import { AlarmRequest_AlarmAction, AlarmType, Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import type { Upstream } from '../types.ts';
import type { Floors } from './floors.ts';

/** Of the database. */
const PARTS = {
  /** In use, above which history gives way. */
  high: 5 / 8,
  /** That have to be more than after the last time: where there is no history left, nothing can give way. */
  step: 1 / 16,
  /** On the disk, above which it is defragmented: etcd does nothing else meanwhile, and refuses all writes when there is no more. */
  large: 7 / 8,
  /** That have to be free for that. */
  free: 1 / 8,
};
/** Revisions that are kept as long as there is room: for watches that are taken up again. */
const LAST = 1_000n;
/** Etcd commits ten times a second, if anything was written. Milliseconds. */
const COMMITTED_AFTER = 150;
/** What one commit frees is in the figures after the next ones: those of a store that nobody writes to stay what they were. */
const COMMITS = 3;
/** Keys that were deleted and not compacted: etcd has them in memory, and looks at them with the others. */
const MOST_DELETED = 500_000;

/** What was done, for the log: `dropped` is history that somebody may have wanted. */
export type Done = 'nothing' | 'compacted' | 'dropped';

/** What it is looked for. */
export interface Need {
  /** Bytes that have to be free, on the disk. */
  readonly wanted: number;
  /** Something was answered since the last look, and may not be in etcd's figures yet. */
  readonly written: boolean;
}

const NOTHING: Need = { wanted: 0, written: false };

interface State {
  /** Bytes on the disk. */
  readonly dbSize: number;
  readonly inUse: number;
  /** Etcd refuses writes. */
  readonly isFull: boolean;
}

export class Room {
  readonly #upstream: Upstream;
  readonly #floors: Floors;
  readonly #database: number;
  readonly #deleted: () => number;
  /** Bytes in use after the last time. */
  #after = 0;
  #dbSize = 0;
  #looking: Promise<Done> | undefined;

  /** @param database bytes that etcd's database may have @param deleted keys that were deleted and not compacted */
  constructor(upstream: Upstream, floors: Floors, database: number, deleted: () => number = () => 0) {
    this.#upstream = upstream;
    this.#floors = floors;
    this.#database = database;
    this.#deleted = deleted;
  }

  /** Bytes that the database had on the disk at the end of the last look. */
  get dbSize(): number {
    return this.#dbSize;
  }

  /** Looks whether room is to be made, and makes it. To be called every second. @throws RpcError when etcd is away */
  look(need: Need = NOTHING): Promise<Done> {
    this.#looking ??= this.#look(need).finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look({ wanted, written }: Need): Promise<Done> {
    const state = await (written ? this.#committed() : this.#state());
    this.#after = Math.min(this.#after, state.inUse);
    const isWanted =
      this.#isMuch(state.inUse, wanted) || this.#areMany || state.isFull || this.#isLarge(state, wanted);
    return isWanted ? this.#make(state, wanted) : 'nothing';
  }

  async #make(found: State, wanted: number): Promise<Done> {
    // What is let go of because of figures of the past, nobody gets back.
    const isSure = !this.#isMuch(found.inUse, wanted) || found.isFull;
    const { inUse, isFull } = isSure ? found : await this.#stateNow();
    const isCompacted = this.#isMuch(inUse, wanted) || this.#areMany || isFull;
    const done = isCompacted ? await this.#compact(isFull, wanted) : 'nothing';
    if (isFull || this.#isLarge(await this.#state(), wanted)) await this.#defragment(isFull, wanted);
    return done;
  }

  #isLarge({ dbSize }: Pick<State, 'dbSize'>, wanted: number): boolean {
    return dbSize > Math.min(PARTS.large * this.#database, this.#database - wanted);
  }

  #isMuch(inUse: number, wanted: number): boolean {
    return (
      inUse > Math.min(PARTS.high * this.#database, this.#database - wanted) &&
      inUse > this.#after + PARTS.step * this.#database
    );
  }

  get #areMany(): boolean {
    return this.#deleted() > MOST_DELETED;
  }

  async #compact(isFull: boolean, wanted: number): Promise<Done> {
    const steps: [Done, () => Promise<void>][] = [
      ['compacted', () => this.#floors.compactEtcd(true)],
      ['dropped', () => this.#floors.dropHistory(LAST)],
      ['dropped', () => this.#floors.dropHistory(0n)],
    ];
    let done: Done = 'nothing';
    for (const [what, step] of steps) {
      await step();
      done = what;
      const { inUse } = await this.#stateNow();
      this.#after = inUse;
      const enough = Math.min((PARTS.high - PARTS.step) * this.#database, this.#database - wanted);
      if (!isFull && !this.#areMany && inUse <= enough) break;
    }
    return done;
  }

  async #defragment(isFull: boolean, wanted: number): Promise<void> {
    const { method } = Maintenance;
    const { dbSize, inUse } = await this.#state();
    const isShort = dbSize > this.#database - wanted;
    if (dbSize - inUse < (isShort ? PARTS.step : PARTS.free) * this.#database) return;
    await this.#upstream.unary(method.defragment, {});
    await this.#state();
    if (!isFull) return;
    const { alarms } = await this.#upstream.unary(method.alarm, {});
    for (const { memberID, alarm } of alarms)
      if (alarm === AlarmType.NOSPACE)
        await this.#upstream.unary(method.alarm, {
          action: AlarmRequest_AlarmAction.DEACTIVATE,
          memberID,
          alarm,
        });
  }

  /** With what was deleted up to now. */
  async #stateNow() {
    for (let n = 0; n < COMMITS; n += 1) {
      await this.#writeSomething();
      await new Promise((resolve) => setTimeout(resolve, COMMITTED_AFTER));
    }
    return this.#state();
  }

  /** With what was answered up to now: etcd takes nothing while it commits, so that this follows the commit. */
  async #committed(): Promise<State> {
    await new Promise((resolve) => setTimeout(resolve, COMMITTED_AFTER));
    await this.#writeSomething();
    return this.#state();
  }

  /** What makes no revision, so that nobody sees it. Etcd refuses it when it is full. */
  async #writeSomething(): Promise<void> {
    try {
      const { ID } = await this.#upstream.unary(Lease.method.leaseGrant, { TTL: 60n });
      await this.#upstream.unary(Lease.method.leaseRevoke, { ID });
    } catch (error) {
      if (!(error instanceof RpcError && error.status === status.resourceExhausted)) throw error;
    }
  }

  async #state(): Promise<State> {
    const { method } = Maintenance;
    const [status, { alarms }] = await Promise.all([
      this.#upstream.unary(method.status, {}),
      this.#upstream.unary(method.alarm, {}),
    ]);
    this.#dbSize = Number(status.dbSize);
    return {
      dbSize: this.#dbSize,
      inUse: Number(status.dbSizeInUse),
      isFull: alarms.some(({ alarm }) => alarm === AlarmType.NOSPACE),
    };
  }
}
