/**
 * The store makes room by itself. What apps keep is bounded (usage.ts), and the rest of the database is for history, which anyone makes by
 * writing one key again and again. When there is much of it, it gives way: first what all namespaces have let go of, then all but the last
 * revisions, whoever still wants them, then as much as is in the ledger on the disk. So a namespace that never compacts does not stop the
 * writes of all, nor does one that writes much. Whoever wants what is gone is told so as of etcd's own compaction.
 */
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
/** Until etcd's figures show what was deleted: it commits ten times a second. Milliseconds. */
const SHOWN_AFTER = 300;

/** What was done, for the log: `dropped` is history that somebody may have wanted. */
export type Done = 'nothing' | 'compacted' | 'dropped';

export class Room {
  readonly #upstream: Upstream;
  readonly #floors: Floors;
  readonly #database: number;
  /** Bytes in use after the last time. */
  #after = 0;
  #looking: Promise<Done> | undefined;

  /** @param database bytes that etcd's database may have */
  constructor(upstream: Upstream, floors: Floors, database: number) {
    this.#upstream = upstream;
    this.#floors = floors;
    this.#database = database;
  }

  /** Looks whether room is to be made, and makes it. To be called every second. @throws RpcError when etcd is away */
  look(): Promise<Done> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<Done> {
    const { dbSize, inUse, isFull } = await this.#state();
    const isMuch = inUse > PARTS.high * this.#database && inUse > this.#after + PARTS.step * this.#database;
    const done = isMuch || isFull ? await this.#compact(isFull) : 'nothing';
    if (isFull || dbSize > PARTS.large * this.#database) await this.#defragment(isFull);
    return done;
  }

  async #compact(isFull: boolean): Promise<Done> {
    const steps: [Done, () => Promise<void>][] = [
      ['compacted', () => this.#floors.compactEtcd(true)],
      ['dropped', () => this.#floors.dropHistory(LAST)],
      ['dropped', () => this.#floors.dropHistory(0n)],
    ];
    let done: Done = 'nothing';
    for (const [what, step] of steps) {
      await step();
      done = what;
      await new Promise((resolve) => setTimeout(resolve, SHOWN_AFTER));
      const { inUse } = await this.#state();
      this.#after = inUse;
      if (!isFull && inUse <= (PARTS.high - PARTS.step) * this.#database) break;
    }
    return done;
  }

  async #defragment(isFull: boolean): Promise<void> {
    const { method } = Maintenance;
    const { dbSize, inUse } = await this.#state();
    if (dbSize - inUse < PARTS.free * this.#database) return;
    await this.#upstream.unary(method.defragment, {});
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

  async #state(): Promise<{ dbSize: number; inUse: number; isFull: boolean }> {
    const { method } = Maintenance;
    const [status, { alarms }] = await Promise.all([
      this.#upstream.unary(method.status, {}),
      this.#upstream.unary(method.alarm, {}),
    ]);
    return {
      dbSize: Number(status.dbSize),
      inUse: Number(status.dbSizeInUse),
      isFull: alarms.some(({ alarm }) => alarm === AlarmType.NOSPACE),
    };
  }
}
