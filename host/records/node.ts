/**
 * A node's records: what comes in is judged by lib/protocol/records, written to the log, then to the index, and only then acknowledged and shown.
 *
 *     add ─► Intake (judges once; limbo) ─► log, a group at a time ─► index ─► acknowledged, subscribers told
 */
import { join } from 'node:path';
import type { Log } from '../../lib/daemon/log.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../lib/protocol/records/codec.ts';
import { type Genesis, genesisOf } from '../../lib/protocol/records/genesis.ts';
import { recordId } from '../../lib/protocol/records/identity.ts';
import { Intake, type LimboRoom } from '../../lib/protocol/records/intake.ts';
import {
  type Draft,
  makeRecord,
  type Permitter,
  withCertificate,
  withoutPermit,
} from '../../lib/protocol/records/make.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import type { Standing } from '../../lib/protocol/records/trust.ts';
import { Weights } from '../../lib/protocol/records/weights.ts';
import { compactedSize } from './compact.ts';
import { chooseDiscarded, type Prunable, type PruneChoice, wantedAgain } from './discard.ts';
import { type OpenFolder, openFolder } from './folder.ts';
import { GroupCommit } from './group-commit.ts';
import { chooseLinks } from './links.ts';
import { entryBytes, GROUP_BYTES, isForRoom, type OpenOptions, stoppedBy } from './log.ts';
import { flagsOf } from './log-format.ts';
import { type Pending, PendingMembers } from './pending.ts';
import { PULSES_FILE, Pulses } from './pulses.ts';
import { type Answer, answer, type RecordQuery } from './query.ts';
import { Refusals } from './refusals.ts';
import type { Item, ItemRange, RecordSet, Verdict } from './types.ts';

/** For each peer. */
const ROOM: LimboRoom = { records: 1_000, bytes: 4 << 20 };
/** Milliseconds from when the disk was full to when the node looks whether there is room: the first time, and at most. */
const ROOM_AFTER = [5_000, 300_000] as const;
/** Records whose weight is kept up to date; each takes a bit a record. */
const MOST_FOLLOWED = 64;

export interface NodeOptions extends Pick<OpenOptions, 'fileOf'> {
  /** What of one peer may wait for others. */
  readonly room?: LimboRoom;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /**
   * Whether this node has all that its peers have: what then comes under names that another owner has already is suspected. Absent: it has, as a node
   * without peers does.
   */
  readonly isSynchronised?: () => boolean;
  readonly log?: Log<'info' | 'warn' | 'error'>;
  /** Milliseconds from when the disk was full to when the node looks whether there is room. */
  readonly roomAfter?: number;
}

/** What this node makes a record from: it chooses the time and the links. */
export type OwnDraft = Omit<Draft, 'timestamp' | 'links'>;

export interface Pruned extends Prunable {
  /** Bytes of the log. */
  readonly before: number;
  readonly after: number;
}

export class RecordsNode implements RecordSet {
  readonly genesis: Genesis;
  readonly pulses: Pulses;
  readonly #store: OpenFolder;
  readonly #options: NodeOptions;
  #intake: Intake;
  #members: PendingMembers;
  #commit: GroupCommit<Pending>;
  readonly #refusals = new Refusals();
  readonly #listeners = new Set<(items: readonly Item[]) => void>();
  #pruning: Promise<void> | undefined;
  readonly #weights = new Weights(MOST_FOLLOWED);
  #stopped: DstackError | undefined;
  #isClosed = false;
  #roomAfter: number;
  #awaitingRoom: NodeJS.Timeout | undefined;

  private constructor(folder: string, genesis: Genesis, store: OpenFolder, options: NodeOptions) {
    this.genesis = genesis;
    this.#store = store;
    this.#options = options;
    this.pulses = new Pulses(join(folder, PULSES_FILE), {
      memberOf: (id) => {
        const row = store.index.rowOf(id);
        return row && { owner: fromHex(row.owner), timestamp: row.timestamp };
      },
      now: () => this.#now(),
      drift: genesis.rules.drift,
    });
    this.#roomAfter = options.roomAfter ?? ROOM_AFTER[0];
    ({ commit: this.#commit, members: this.#members, intake: this.#intake } = this.#begin());
  }

  /** Nothing is under way, and nothing waits. */
  #begin(): {
    readonly commit: GroupCommit<Pending>;
    readonly members: PendingMembers;
    readonly intake: Intake;
  } {
    const { isSynchronised, room = ROOM } = this.#options;
    const commit = new GroupCommit<Pending>((group) => this.#write(group), GROUP_BYTES);
    const members = new PendingMembers(
      this.#store.index,
      () => ({ synchronised: isSynchronised?.() ?? true, discarded: false }),
      (pending) => commit.push(pending, entryBytes(pending.bytes)),
    );
    return { commit, members, intake: new Intake(this.genesis, members, room) };
  }

  /**
   * Opens the folder that `createRecords` made, for this process alone.
   * @throws RECORDS_FOLDER, RECORDS_HELD, RECORDS_LOG_DAMAGED, RECORDS_LOG_FORM, RECORDS_INDEX
   */
  static async open(folder: string, options: NodeOptions = {}): Promise<RecordsNode> {
    const store = await openFolder(folder, options);
    const { log, index, replayed } = store;
    if (log.cut > 0)
      options.log?.warn(
        { folder, bytes: log.cut },
        'the end of the log was never acknowledged and is cut off',
      );
    if (replayed > 0)
      options.log?.info({ folder, records: replayed }, 'records of the log are in the index now');
    try {
      return new RecordsNode(folder, genesisOf(decodeRecord(log.read(index.rowAt(1).place))), store, options);
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  get network(): string {
    return toHex(this.genesis.id);
  }

  get count(): number {
    return this.#store.index.count;
  }

  /**
   * Why nothing is taken; undefined while all is well. What is there is shown all the same. Where the disk was full, the node goes on by itself once there
   * is room; else only a start helps.
   */
  get stopped(): DstackError | undefined {
    return this.#stopped;
  }

  has(id: string): boolean {
    return this.#store.index.rowOf(id) !== undefined;
  }

  lacksValue(id: string): boolean {
    return this.#store.index.rowOf(id)?.lacksValue ?? false;
  }

  lackingValues(limit: number, after?: string): string[] {
    const row = after === undefined ? 0 : (this.#store.index.rowOf(after)?.row ?? 0);
    return this.#store.index.lackingValues(row, limit);
  }

  inOrder(ids: readonly string[]): string[] {
    return this.#store.index.inOrder(ids);
  }

  /** @throws RECORDS_LOG_DAMAGED when the disk does not give what was written */
  get(id: string): Uint8Array | undefined {
    const row = this.#store.index.rowOf(id);
    return row && this.#store.log.read(row.place);
  }

  items(range?: ItemRange): Iterable<Item> {
    return this.#store.index.items(range);
  }

  /** What a record of this time would stand on; fewer than genesis asks for only where the network has no more. */
  linksFor(timestamp: number): string[] {
    const { minLinks, drift } = this.genesis.rules;
    return chooseLinks(this.#store.index, minLinks, timestamp, drift);
  }

  /** Certificates of an owner for this time that no authority took back, the one that ends last first. */
  certificatesFor(owner: Uint8Array, time: number): string[] {
    return this.#store.index.certificatesFor(owner, time);
  }

  /** What this node itself holds against a member; undefined for what is none. */
  standingOf(id: string): Standing | undefined {
    const row = this.#store.index.rowOf(id);
    if (row === undefined) return undefined;
    const { isCollider, certificate } = row;
    const isRevoked = certificate !== undefined && this.#store.index.isRevoked(certificate);
    return { isCollider, isRevoked };
  }

  /** Identities of what stands on a record, directly, in the order in which they came. */
  childrenOf(id: string, limit: number): string[] {
    return this.#store.index.childrenOf(id, limit);
  }

  /** In solutions; undefined for what is no member. It reads the graph the first time that a record is asked for. */
  weightOf(id: string): number | undefined {
    const row = this.#store.index.rowOf(id);
    return row && this.#weigh(row.row);
  }

  /** @throws RECORDS_QUERY; RECORDS_LOG_DAMAGED */
  query(query: RecordQuery): Answer {
    const { index, log } = this.#store;
    const records = {
      index,
      read: log.read.bind(log),
      weigh: (row: number) => this.#weigh(row),
    };
    return answer(records, query);
  }

  async add(bytes: Uint8Array, from: string): Promise<Verdict> {
    while (this.#pruning !== undefined) await this.#pruning;
    if (this.#stopped !== undefined) throw this.#stopped;
    const verdict = this.#judge(bytes, from);
    const isKept = verdict.kind === 'members' || verdict.kind === 'restored';
    if (isKept || (verdict.kind === 'known' && this.#members.has(verdict.id))) await this.#commit.settled();
    return verdict;
  }

  /**
   * Makes a record of now, with links that suit it, and adds it.
   * @param ownerSeed Ed25519's
   * @param permitter absent: a certificate of the owner, or nothing where genesis asks for nothing
   * @returns its identity
   * @throws RECORDS_PERMIT without a certificate; what `add` throws, and what the record is refused for
   */
  async make(draft: OwnDraft, ownerSeed: Uint8Array, permitter?: Permitter): Promise<string> {
    const timestamp = this.#now();
    const links = this.linksFor(timestamp).map((id) => fromHex(id));
    const permit = permitter ?? this.#freePermit(publicKeyOfSeed(ownerSeed), timestamp);
    const record = makeRecord({ ...draft, timestamp, links }, ownerSeed, permit);
    const verdict = await this.add(encodeRecord(record), '');
    if (verdict.kind === 'refused') throw new DstackError(verdict.code, verdict.message);
    return toHex(recordId(record));
  }

  /**
   * Throws values away, and gives their space back: the log is written anew. Records that come meanwhile wait; questions are answered.
   * @param isAlone nobody asks anything meanwhile: on a full disk, the room of the index is taken for the new log
   * @throws RECORDS_PRUNE_ROOM where there is no room for the new log: then nothing has changed; RECORDS_STOPPED, RECORDS_LOG_DAMAGED
   */
  async prune(choice: PruneChoice, isAlone = false): Promise<Pruned> {
    return await this.#alone(async () => {
      const { log, index } = this.#store;
      const { fates, ...counts } = await chooseDiscarded({ log, index }, choice);
      const before = log.end;
      if (counts.discarded > 0 || before > compactedSize(index)) await this.#store.compact(fates, isAlone);
      if (this.#store.index !== index)
        ({ commit: this.#commit, members: this.#members, intake: this.#intake } = this.#begin());
      return { ...counts, before, after: this.#store.log.end };
    });
  }

  /** What `prune` would throw away. */
  async prunable(choice: PruneChoice): Promise<Prunable> {
    return await this.#alone(async () => {
      const { fates: _, ...counts } = await chooseDiscarded(this.#store, choice);
      return counts;
    });
  }

  /** Values that were thrown away here are wanted again: peers are asked for them. @returns how many */
  async wantAgain(): Promise<number> {
    return await this.#alone(async () => {
      const { fates, wanted } = wantedAgain(this.#store.index);
      if (wanted > 0) await this.#store.compact(fates, false);
      return wanted;
    });
  }

  /** While nothing is written, and nothing that comes is judged. */
  async #alone<T>(task: () => Promise<T>): Promise<T> {
    while (this.#pruning !== undefined) await this.#pruning;
    if (this.#stopped !== undefined) throw this.#stopped;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pruning = promise;
    try {
      await this.#commit.settled();
      return await task();
    } finally {
      this.#pruning = undefined;
      resolve();
    }
  }

  subscribe(listener: (items: readonly Item[]) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  wanted(): string[] {
    return this.#intake.wanted();
  }

  waiting(): string[] {
    return this.#intake.waiting();
  }

  forget(from: string): void {
    this.#intake.forget(from);
  }

  /** The index as text, a line for each row: for comparing it with one that is made anew. */
  dump(): Iterable<string> {
    return this.#store.index.dump();
  }

  /** Once what is being written is on the disk. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#awaitingRoom);
    // Who waits until something is thrown away does not begin any more.
    this.#stopped ??= new DstackError('RECORDS_STOPPED', 'this node was closed; start it again');
    while (this.#pruning !== undefined) await this.#pruning;
    // Who waits for it is told.
    await this.#commit.settled().catch(() => {});
    this.pulses.close();
    await this.#store.close();
  }

  #judge(bytes: Uint8Array, from: string): Verdict {
    const refused = this.#refusals.of(bytes);
    if (refused !== undefined) return refused;
    try {
      return this.#intake.offer(bytes, from, this.#now());
    } catch (error) {
      if (!(error instanceof DstackError) || !error.code.startsWith('RECORD_')) throw this.#stop(error);
      const refusal = { kind: 'refused', code: error.code, message: error.message } as const;
      // There may be room later.
      if (error.code !== 'RECORD_LIMBO_FULL') this.#refusals.remember(bytes, refusal);
      return refusal;
    }
  }

  async #write(group: readonly Pending[]): Promise<void> {
    const { log, index } = this.#store;
    try {
      const places = await log.append(
        group.map((pending) => ({ record: pending.bytes, flags: flagsOf(pending) })),
      );
      const entries = group.map((pending, i) => ({ ...pending, place: places[i]! }));
      const before = index.count;
      index.insert(entries, { salt: toHex(log.header.salt), end: log.end });
      for (const pending of group) this.#members.settle(pending);
      this.#roomAfter = this.#options.roomAfter ?? ROOM_AFTER[0];
      if (index.count > before) this.#tell(index.latest(index.count - before).toReversed());
    } catch (error) {
      throw this.#stop(error);
    }
  }

  #tell(items: readonly Item[]): void {
    for (const listener of this.#listeners) {
      try {
        listener(items.map(({ timestamp, id }) => ({ timestamp, id })));
      } catch (error) {
        this.#options.log?.error({ err: error }, 'a subscriber of records failed');
      }
    }
  }

  /** @returns what everybody is told from now on */
  #stop(error: unknown): DstackError {
    if (this.#stopped === undefined) {
      this.#stopped =
        error instanceof DstackError && error.code === 'RECORDS_STOPPED' ? error : stoppedBy(error);
      this.#options.log?.error({ err: this.#stopped }, 'no more records are taken');
      if (isForRoom(this.#stopped)) this.#awaitRoom();
    }
    return this.#stopped;
  }

  #awaitRoom(): void {
    if (this.#isClosed) return;
    this.#awaitingRoom = setTimeout(() => void this.#goOnWithRoom(), this.#roomAfter).unref();
  }

  async #goOnWithRoom(): Promise<void> {
    // Who waits for what was under way is told first.
    await this.#commit.settled().catch(() => {});
    if (this.#isClosed) return;
    const { index } = this.#store;
    try {
      if (!this.#store.hasRoom()) {
        this.#awaitRoom();
        return;
      }
      const arrived = this.#store.goOn();
      ({ commit: this.#commit, members: this.#members, intake: this.#intake } = this.#begin());
      this.#stopped = undefined;
      // Until something was written: there may be room for others alone.
      this.#roomAfter = Math.max(this.#roomAfter, Math.min(ROOM_AFTER[1], 2 * this.#roomAfter));
      this.#options.log?.info({ records: arrived }, 'there is room, and records are taken again');
      if (arrived > 0) this.#tell(index.latest(arrived).toReversed());
    } catch (error) {
      this.#options.log?.error({ err: error }, 'no records can be taken yet');
      this.#awaitRoom();
    }
  }

  #weigh(row: number): number {
    const parentsBefore = (parents: readonly number[]) => parents.map((parent) => parent - 1);
    for (const { work, parents } of this.#store.index.graph(this.#weights.rows + 1))
      this.#weights.add(parentsBefore(parents), work);
    return this.#weights.weigh(row - 1);
  }

  #freePermit(owner: Uint8Array, time: number): Permitter {
    const { rules } = this.genesis;
    const key = toHex(owner);
    if (key === toHex(this.genesis.owner) || rules.authorities.includes(key)) return withoutPermit;
    const [certificate] = this.#store.index.certificatesFor(owner, time);
    if (certificate !== undefined) return withCertificate(fromHex(certificate));
    throw new DstackError(
      'RECORDS_PERMIT',
      `no certificate of ${key} is here; do work for the record, or get certified`,
    );
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now();
  }
}
