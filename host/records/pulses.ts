/**
 * The latest pulse of each record that has one: lib/protocol/records/pulse.ts. They lie in a file of their own, beside the log: a pulse is no record, and what
 * a loss of power takes from the end of the file, peers give again.
 *
 * Two nodes compare 256 digests, of all pulses whose records begin with that byte, and give each other those of the bytes that differ.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fromHex, sha256, toHex } from '../../lib/protocol/encoding.ts';
import { minuteOf, type Pulse, type Pulsing, verifyPulse } from '../../lib/protocol/records/pulse.ts';
import { dropIndex, noIndex } from './index.ts';
import { stoppedBy } from './log.ts';

export const PULSES_FILE = 'pulses.sqlite';
export const BUCKETS = 256;
export const DIGEST_BYTES = 8;

/** What became of a pulse. */
export type PulseVerdict =
  | 'new'
  /** The one that is here is as late, or later. */
  | 'known'
  /** The record is not here, or not yet. */
  | 'unknown'
  /** Of the future. */
  | 'early'
  /** Not looked at: its owner has had enough of them judged for now. */
  | 'passed over';

/** What the wire sees of a node's pulses. */
export interface PulseSet {
  /**
   * @param mayJudge whether a signature of this owner, in hex, is looked at now; absent: each is
   * @throws RECORD_PULSE for one that is its owner's in no case; RECORDS_STOPPED where the disk takes none
   */
  addPulse(pulse: Pulse, mayJudge?: (owner: string) => boolean): PulseVerdict;
  /** `BUCKETS` digests of `DIGEST_BYTES`. They are made a bucket at a time, and others have their turn between. */
  pulseDigests(): Promise<Uint8Array>;
  /** Those of one bucket, from anywhere on. */
  pulsesIn(bucket: number): Iterable<Pulse>;
  /** Calls for pulses that are new. @returns what ends it */
  subscribePulses(listener: (pulse: Pulse) => void): () => void;
}

interface PulsesOptions {
  readonly memberOf: (id: string) => Pulsing | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds by which clocks may be apart. */
  readonly drift: number;
  /** Milliseconds that only go on. */
  readonly uptime?: () => number;
}

/** From one pulse of a record that is passed on to the next, milliseconds: an owner has a pulse for each minute that its record has been there for. */
const PASSED_ON_EVERY = 60_000;
/** Pulses whose records are looked for before others have their turn. */
const AT_ONCE = 128;

export class Pulses implements PulseSet {
  readonly #db: DatabaseSync;
  readonly #options: PulsesOptions;
  readonly #one: StatementSync;
  readonly #bucket: StatementSync;
  readonly #put: StatementSync;
  readonly #digests = new Uint8Array(BUCKETS * DIGEST_BYTES);
  /** Buckets whose digest is to be made. */
  readonly #stale = new Set<number>();
  /** Buckets that may have pulses of records that a rebuild has lost. */
  readonly #unswept = new Set<number>();
  readonly #sweep: StatementSync;
  readonly #drop: StatementSync;
  readonly #listeners = new Set<(pulse: Pulse) => void>();
  /** When one of a record was last passed on, the earliest first. */
  readonly #passedOn = new Map<string, number>();

  /** @throws RECORDS_INDEX where the file can't be used */
  constructor(path: string, options: PulsesOptions) {
    this.#options = options;
    this.#db = openPulses(path);
    this.#one = this.#db.prepare('SELECT id, minute, signature FROM pulses WHERE id = ?');
    this.#bucket = this.#db.prepare(
      'SELECT id, minute, signature FROM pulses WHERE id BETWEEN ? AND ? ORDER BY id',
    );
    this.#put = this.#db.prepare('INSERT OR REPLACE INTO pulses VALUES (?, ?, ?)');
    this.#sweep = this.#db.prepare('SELECT id FROM pulses WHERE id > ? AND id <= ? ORDER BY id LIMIT ?');
    this.#drop = this.#db.prepare('DELETE FROM pulses WHERE id = ?');
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      this.#stale.add(bucket);
      this.#unswept.add(bucket);
    }
  }

  of(id: string): Pulse | undefined {
    const raw = this.#one.get(fromHex(id));
    return raw && pulseOf(raw);
  }

  addPulse(pulse: Pulse, mayJudge?: (owner: string) => boolean): PulseVerdict {
    const { memberOf, now, drift } = this.#options;
    const { id, minute, signature } = pulse;
    const member = memberOf(id);
    if (member === undefined) return 'unknown';
    // Before the signature, which costs the most.
    if (minute <= (this.of(id)?.minute ?? -1)) return 'known';
    if (minute > minuteOf(now() + drift)) return 'early';
    if (mayJudge !== undefined && !mayJudge(toHex(member.owner))) return 'passed over';
    verifyPulse(pulse, member);
    try {
      this.#put.run(fromHex(id), minute, signature);
    } catch (cause) {
      throw stoppedBy(cause);
    }
    this.#stale.add(bucketOf(id));
    // What is not passed on, comparisons find.
    if (this.#isDue(id)) for (const listener of this.#listeners) listener(pulse);
    return 'new';
  }

  #isDue(id: string): boolean {
    const now = (this.#options.uptime ?? (() => performance.now()))();
    for (const [other, at] of this.#passedOn) {
      if (now - at < PASSED_ON_EVERY) break;
      this.#passedOn.delete(other);
    }
    if (this.#passedOn.has(id)) return false;
    this.#passedOn.set(id, now);
    return true;
  }

  async pulseDigests(): Promise<Uint8Array> {
    for (const bucket of [...this.#stale]) {
      await nextTurn();
      await this.#dropOrphansIn(bucket);
      if (!this.#db.isOpen) break;
      this.#stale.delete(bucket);
      this.#digests.set(this.#digestOf(bucket), bucket * DIGEST_BYTES);
    }
    return this.#digests.slice();
  }

  *pulsesIn(bucket: number): Generator<Pulse> {
    // Else a bucket of more than an answer takes would give the same ones each time.
    const middle = randomBytes(32);
    middle[0] = bucket;
    yield* this.#in(bucket, middle);
    yield* this.#in(bucket, undefined, middle);
  }

  subscribePulses(listener: (pulse: Pulse) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  /** Of records that a rebuild has lost; once after a start, and not at it: there may be as many as records. */
  async #dropOrphansIn(bucket: number): Promise<void> {
    if (!this.#unswept.delete(bucket)) return;
    const [from, to] = [new Uint8Array(32), new Uint8Array(32).fill(0xff)];
    from[0] = to[0] = bucket;
    for (let after: Uint8Array = from; this.#db.isOpen; await nextTurn()) {
      const ids = this.#sweep.all(after, to, AT_ONCE).map(({ id }) => id as Uint8Array);
      for (const id of ids) if (this.#options.memberOf(toHex(id)) === undefined) this.#drop.run(id);
      if (ids.length < AT_ONCE) return;
      after = ids.at(-1)!;
    }
  }

  /** Those of a bucket, in order. @param first and last of the records, both among them; all where they are left out */
  *#in(bucket: number, first?: Uint8Array, last?: Uint8Array): Generator<Pulse> {
    const [from, to] = [first ?? new Uint8Array(32), last ?? new Uint8Array(32).fill(0xff)];
    from[0] = to[0] = bucket;
    for (const raw of this.#bucket.all(from, to)) yield pulseOf(raw);
  }

  #digestOf(bucket: number): Uint8Array {
    const parts = [...this.#in(bucket)].map(({ id, minute }) => `${id} ${minute}\n`);
    return sha256(Buffer.from(parts.join(''))).subarray(0, DIGEST_BYTES);
  }
}

/** Those of which two nodes have another digest, in any order: what does not fit into one answer comes with another. */
export function bucketsApart(a: Uint8Array, b: Uint8Array): number[] {
  const start = Math.floor(Math.random() * BUCKETS);
  return Array.from({ length: BUCKETS }, (_, i) => (start + i) % BUCKETS).filter((bucket) => {
    const [from, to] = [bucket * DIGEST_BYTES, (bucket + 1) * DIGEST_BYTES];
    return Buffer.compare(a.subarray(from, to), b.subarray(from, to)) !== 0;
  });
}

/** What can't be read is made anew: peers have it. */
function openPulses(path: string): DatabaseSync {
  try {
    if (existsSync(path)) return pulsesAt(path);
  } catch {}
  try {
    dropIndex(path);
    closeSync(openSync(path, 'wx', 0o600));
    return pulsesAt(path);
  } catch (cause) {
    throw noIndex(path, cause);
  }
}

function pulsesAt(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    db.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;');
    db.exec(
      'CREATE TABLE IF NOT EXISTS pulses (id BLOB PRIMARY KEY, minute INTEGER NOT NULL, signature BLOB NOT NULL) WITHOUT ROWID, STRICT',
    );
    db.prepare('SELECT id, minute, signature FROM pulses LIMIT 1').all();
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

const bucketOf = (id: string): number => Number.parseInt(id.slice(0, 2), 16);

const pulseOf = ({ id, minute, signature }: Record<string, unknown>): Pulse => ({
  id: toHex(id as Uint8Array),
  minute: Number(minute),
  signature: signature as Uint8Array,
});
