/**
 * The ledger at work: follows etcd's revisions, makes a leaf of each, and says when a write's answer may leave.
 *
 * A revision is covered when its leaf is in the tree in memory: etcd has it on the disk, and every leaf is made again from etcd's events after a crash. What is
 * signed and served is what is on the disk: leaves are written in batches, one sync for many, and the head over them
 * after. Compaction waits for that too (`durable`). A disk without room is waited for: what was not written is known, and is written
 * when there is some. Any other failure, of the disk or of the order of revisions, stops the ledger for good, and with it every answer to a write.
 */

import { type EarlierHead, openCheckpoint, signCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { buildLeaf, indexOf, revisionAt } from '../../../lib/ledger/leaf.ts';
import { Edge, EMPTY_ROOT, edgeOf, leafHash, type OnNode } from '../../../lib/ledger/merkle.ts';
import type { NoteSigner } from '../../../lib/ledger/note.ts';
import {
  type LeafPolicy,
  NOTHING_PUBLIC,
  POLICY_KEY,
  policyAfter,
  readPolicy,
} from '../../../lib/ledger/policy.ts';
import type { LedgerEvent } from '../../../lib/ledger/record.ts';
import type { Salts } from '../../../lib/ledger/salt.ts';
import { bytesEqual } from '../../../lib/protocol/encoding.ts';
import { codeOf, DstackError, hasCode } from '../../../lib/protocol/errors.ts';
import type { Ledger, OnRevision, RevisionSource } from '../types.ts';
import type { Disk } from './disk.ts';
import { Batch, isNoRoom, LogFiles, type LogState, mismatch, policyBytes, policyState } from './log-files.ts';

export interface LedgerOptions {
  readonly disk: Disk;
  /** Its name is the log's origin. */
  readonly signer: NoteSigner;
  readonly salts: Salts;
  /** The chain's time, seconds since 1970: it goes into signed heads. */
  readonly now: () => number;
  /** Between two batches, while nobody waits for one. Milliseconds. */
  readonly pauseMs?: number;
  /** The logs whose leaves it began with: its heads name them. */
  readonly continues?: readonly EarlierHead[];
  /** How many of the last leaves are made again at a start, and compared. */
  readonly compared?: number;
  /** How many leaves may be in memory alone before writes wait for the disk. */
  readonly mostBehind?: number;
  /** Served beside the log (lib/protocol/ledger-evidence.ts). */
  readonly evidence?: string;
  /** Told once, when the ledger has stopped by itself. */
  readonly onStop?: (error: DstackError) => void;
  /** Told of each revision that the log did not have yet, before `covered` resolves for it. */
  readonly onRevision?: OnRevision;
}

const MAX_BEHIND = 20_000;
/** How often it is tried to write where the disk has no room. Milliseconds. */
const ROOM_MS = 500;
/** Syncs of the ledger's disk compete with etcd's, so they are few while nobody waits. Milliseconds. */
const PAUSE_MS = 100;
const COMPARED = 256;
/** A tile is so many levels of the tree, of which it has the lowest. */
const TILE_LEVELS = 8;
/** How old a served head gets while nothing is written. */
const HEAD_LASTS_MS = 60_000;

export class KvLedger implements Ledger {
  readonly #options: LedgerOptions;
  readonly #files: LogFiles;
  readonly #edge: Edge;
  readonly #stopping = new AbortController();
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();
  readonly #waitingForDisk = new Map<number, PromiseWithResolvers<void>>();
  readonly #fresher: NodeJS.Timeout;
  #batch = new Batch();
  #policy: LeafPolicy;
  #policyState: LogState['policy'];
  #acknowledged: number;
  #writing: Promise<void> | undefined;
  #pause: NodeJS.Timeout | undefined;
  #stopped: DstackError | undefined;
  #following: Promise<void> | undefined;
  #closed: Promise<void> | undefined;
  #closing = false;
  /** Hashes of the last leaves on the disk, to be compared with what etcd's events make of them. */
  #compared = new Map<number, Uint8Array>();

  private constructor(options: LedgerOptions, files: LogFiles, edge: (onNode: OnNode) => Edge) {
    this.#options = options;
    this.#files = files;
    this.#edge = edge(({ level }, hash) => {
      if (level % TILE_LEVELS === 0) this.#batch.levels[level / TILE_LEVELS]!.push(hash);
    });
    const { policy, size } = files.state;
    this.#policy = policy === undefined ? NOTHING_PUBLIC : readPolicy(policyBytes(policy));
    this.#policyState = policy;
    this.#acknowledged = size;
    this.#fresher = setInterval(() => this.#freshHead(), HEAD_LASTS_MS).unref();
  }

  /**
   * Takes up a log where its newest signed head is.
   * @throws LEDGER_MISMATCH when the files are not what that head says, or this key did not sign it
   */
  static async open(options: LedgerOptions): Promise<KvLedger> {
    const files = await LogFiles.open(options.disk);
    const { head, size } = files.state;
    if (head === '') return new KvLedger(options, files, (onNode) => new Edge(onNode));
    await files.requireRoot(rootIn(head, size, options.signer));
    const nodes = edgeOf(size);
    const hashes = await files.hashes(nodes);
    return new KvLedger(options, files, (onNode) => Edge.at(size, nodes.map(hashes), onNode));
  }

  /**
   * Follows etcd from here on.
   * @param engineRevision etcd's newest, read before: a head over more than that is of an etcd that has lost revisions
   * @throws LEDGER_MISMATCH, LEDGER_GAP
   */
  async follow(source: RevisionSource, engineRevision: bigint): Promise<void> {
    const { size, policy } = this.#files.state;
    const covered = revisionAt(size - 1);
    if (engineRevision < covered) {
      throw mismatch(`its head is over revision ${covered}, and etcd has got to ${engineRevision} only`);
    }
    const compacted = source.compactRevision();
    if (compacted > covered) {
      throw new DstackError(
        'LEDGER_GAP',
        `revisions ${covered + 1n} to ${compacted} are compacted, and not in the ledger`,
      );
    }
    // Leaves from before a policy was in force can't be compared: they were made under another.
    const from = Math.max(
      0,
      size - (this.#options.compared ?? COMPARED),
      policy?.since ?? 0,
      indexOf(compacted) + 1,
    );
    for (let index = from; index < size; index += 1) {
      const node = { level: 0, index };
      this.#compared.set(index, (await this.#files.hashes([node]))(node));
    }
    const followed = source.follow(
      revisionAt(from) - 1n,
      (revision, events) => this.#each(revision, events),
      this.#stopping.signal,
    );
    this.#following = followed.catch((error: unknown) => {
      const isGap = hasCode(error, 'REVISIONS_COMPACTED');
      this.#stop(
        isGap
          ? new DstackError('LEDGER_GAP', 'a revision was compacted before it was in the ledger', {
              cause: error,
            })
          : error,
      );
    });
  }

  covered(revision: bigint): Promise<void> {
    const index = indexOf(revision);
    if (this.#stopped !== undefined) return Promise.reject(this.#stopped);
    if (index < this.#acknowledged) return Promise.resolve();
    return waitFor(this.#waiting, index);
  }

  get durable(): bigint {
    return revisionAt(this.#files.state.size - 1);
  }

  get log(): KvLedger {
    return this;
  }

  get #mostBehind(): number {
    return this.#options.mostBehind ?? MAX_BEHIND;
  }

  /** How many leaves there are, and how many of them are on the disk. */
  get sizes(): { tree: number; disk: number } {
    return { tree: this.#edge.size, disk: this.#files.state.size };
  }

  /** What is on the disk: for receipts and tiles. */
  get files(): LogFiles {
    return this.#files;
  }

  get options(): LedgerOptions {
    return this.#options;
  }

  /** The newest signed head over what is on the disk; before there is any, one over no leaves. */
  head(): string {
    return this.#files.state.head === '' ? this.#sign(0, EMPTY_ROOT) : this.#files.state.head;
  }

  /** Returns when the revision's leaf is on the disk and in a signed head. @throws LEDGER_STOPPED */
  async onDisk(revision: bigint): Promise<void> {
    const index = indexOf(revision);
    if (this.#stopped !== undefined) throw this.#stopped;
    if (index < this.#files.state.size) return;
    const found = waitFor(this.#waitingForDisk, index);
    this.#write();
    await found;
  }

  /** Writes what there is, and lets go of the files. What waits is refused. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing = true;
    if (this.#stopped === undefined) {
      this.#write();
      await this.#writing;
    }
    this.#stop(new DstackError('LEDGER_STOPPED', 'the store ends'), false);
    await this.#following;
    await this.#writing;
    await this.#files.close();
  }

  #each(revision: bigint, events: readonly LedgerEvent[]): void {
    if (this.#stopped !== undefined) throw this.#stopped;
    const index = indexOf(revision);
    const expected = this.#edge.size - this.#compared.size;
    if (index !== expected) {
      throw new DstackError(
        'LEDGER_GAP',
        `revision ${revision} came, and ${revisionAt(expected)} is the next of the ledger`,
      );
    }
    const leaf = buildLeaf(revision, events, this.#policy, this.#options.salts);
    const hash = leafHash(leaf.entry);
    const known = this.#compared.get(index);
    if (known !== undefined) {
      if (!bytesEqual(known, hash))
        throw mismatch(`etcd's revision ${revision} is not the one of leaf ${index}`);
      this.#compared.delete(index);
      return;
    }
    this.#edge.append(hash);
    this.#files.add(this.#batch, index, leaf.entry, leaf.records);
    this.#policy = policyAfter(this.#policy, events);
    const change = events.findLast(({ key }) => bytesEqual(key, POLICY_KEY));
    if (change !== undefined) this.#policyState = policyState(change.value, index + 1);
    this.#options.onRevision?.(revision, events);
    this.#acknowledge();
    this.#writeSoon();
  }

  #acknowledge(): void {
    const { size } = this.#files.state;
    const until = Math.min(this.#edge.size, size + this.#mostBehind);
    for (; this.#acknowledged < until; this.#acknowledged += 1) settle(this.#waiting, this.#acknowledged);
  }

  #writeSoon(): void {
    const isWanted = this.#waitingForDisk.size > 0 || this.#batch.count >= this.#mostBehind / 2;
    if (isWanted) setImmediate(() => this.#write());
    else this.#pause ??= setTimeout(() => this.#write(), this.#options.pauseMs ?? PAUSE_MS);
  }

  /** One batch at a time: what comes meanwhile is the next. */
  #write(): void {
    // Before anything else: a pause that ended while a batch was written must not stand in the way of the next.
    clearTimeout(this.#pause);
    this.#pause = undefined;
    if (this.#writing !== undefined || this.#batch.count === 0 || this.#stopped !== undefined) return;
    this.#writing = this.#writeBatch()
      .catch((error: unknown) => this.#stop(error))
      .finally(() => {
        this.#writing = undefined;
        if (this.#batch.count > 0) this.#writeSoon();
      });
  }

  async #writeBatch(): Promise<void> {
    const batch = this.#batch;
    this.#batch = new Batch();
    const before = this.#files.state.size;
    const head = this.#sign(this.#edge.size, this.#edge.root());
    const policy = this.#policyState;
    if (!(await this.#written(batch, { head, ...(policy === undefined ? {} : { policy }) }))) return;
    for (let index = before; index < this.#files.state.size; index += 1) settle(this.#waitingForDisk, index);
    this.#acknowledge();
  }

  /** Waits for room. False when the ledger is closed before there is any: the next start makes the leaves again. */
  async #written(batch: Batch, head: Pick<LogState, 'head' | 'policy'>): Promise<boolean> {
    for (;;) {
      try {
        await this.#files.write(batch, head);
        return true;
      } catch (error) {
        if (!isNoRoom(error)) throw error;
        if (this.#closing) return false;
        await new Promise((resolve) => setTimeout(resolve, ROOM_MS));
      }
    }
  }

  /** A head of the same size with a newer time: who reads it sees that the store is alive. */
  #freshHead(): void {
    if (this.#writing !== undefined || this.#batch.count > 0 || this.#stopped !== undefined) return;
    const { size, policy } = this.#files.state;
    if (size !== this.#edge.size || size === 0) return;
    const head = this.#sign(size, this.#edge.root());
    this.#writing = this.#written(new Batch(), { head, ...(policy === undefined ? {} : { policy }) })
      .then(() => {})
      .catch((error: unknown) => this.#stop(error))
      .finally(() => {
        this.#writing = undefined;
        if (this.#batch.count > 0) this.#writeSoon();
      });
  }

  #sign(size: number, root: Uint8Array): string {
    const { signer, now, continues = [] } = this.#options;
    return signCheckpoint({ origin: signer.name, size, root, time: now(), continues }, [signer]);
  }

  #stop(cause: unknown, told = true): void {
    if (this.#stopped !== undefined) return;
    const isOurs = cause instanceof DstackError && /^LEDGER_/.test(cause.code);
    const why = isOurs
      ? cause
      : new DstackError('LEDGER_DISK', `the ledger failed: ${(cause as Error).message}`, { cause });
    this.#stopped = new DstackError(
      'LEDGER_STOPPED',
      `the ledger has stopped (${codeOf(why)}): ${why.message}`,
      { cause: why },
    );
    clearInterval(this.#fresher);
    clearTimeout(this.#pause);
    this.#stopping.abort();
    for (const waiting of [this.#waiting, this.#waitingForDisk]) {
      for (const { reject } of waiting.values()) reject(this.#stopped);
      waiting.clear();
    }
    if (told) this.#options.onStop?.(why);
  }
}

/** @throws LEDGER_MISMATCH for a head that this key did not sign, or over another size */
function rootIn(head: string, size: number, signer: NoteSigner): Uint8Array {
  try {
    const checkpoint = openCheckpoint(head, signer.name, [signer]);
    if (checkpoint.size === size) return checkpoint.root;
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw mismatch(`its head is not signed by this network's key (${cause.code})`);
  }
  throw mismatch(`its head is not over the ${size} leaves that it is stored with`);
}

function waitFor(waiting: Map<number, PromiseWithResolvers<void>>, index: number): Promise<void> {
  const known = waiting.get(index);
  if (known !== undefined) return known.promise;
  const created = Promise.withResolvers<void>();
  waiting.set(index, created);
  return created.promise;
}

function settle(waiting: Map<number, PromiseWithResolvers<void>>, index: number): void {
  waiting.get(index)?.resolve();
  waiting.delete(index);
}
