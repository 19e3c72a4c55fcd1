/**
 * What records are found by: an SQLite file that is made from the log, and can be made again from it, with the same content. It holds no record
 * and no truth: a record is written here after its log entry is on the disk, and what a crash takes from it is read from the log at the next start.
 *
 * Records are rows, numbered in the order in which they became members. An insert touches the record, what it stands on and what it is found by; never
 * all that it stands on at any depth. Records and names are found by the first 8 bytes of identity and claim key, and are compared whole when they were read;
 * conflicts are kept by half of their key: to find another with the same half takes 2^128 tries.
 */
import { closeSync, existsSync, openSync, rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { fromHex, toHex, uint64 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { conflictKey } from '../../lib/protocol/records/conflicts.ts';
import type { DagRecord, RecordType } from '../../lib/protocol/records/format.ts';
import { dependenciesOf, type MemberFacts } from '../../lib/protocol/records/membership.ts';
import type { TagRange } from '../../lib/protocol/records/ordinals.ts';
import {
  type Certificate,
  decodeCertificate,
  decodeCommentary,
  decodeRevocation,
} from '../../lib/protocol/records/statements.ts';
import type { Place } from './log.ts';
import type { Marks } from './log-format.ts';
import type { Item, ItemRange } from './types.ts';

/** Another index is made anew. */
const VERSION = 3;
/** Rows that are read at a time while somebody iterates. */
const PAGE = 512;

const SCHEMA = `
  CREATE TABLE records (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    length INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    -- by how much the latest timestamp of all that it stands on is later
    later INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    -- 0, or bits: 1 the value is not there; 2 another owner's was first; 4 it is a certificate; 8 the value is not wanted back
    state INTEGER NOT NULL,
    work INTEGER NOT NULL,
    -- the row of its certificate
    certificate INTEGER,
    -- rows that it stands on, 4 bytes each
    parents BLOB NOT NULL
  ) STRICT;
  CREATE INDEX by_id ON records (substr(id, 1, 8));
  CREATE INDEX by_time ON records (timestamp, substr(id, 1, 8));
  CREATE INDEX by_owner ON records (owner, timestamp);
  CREATE INDEX lacking ON records (row) WHERE (state & 9) = 1;
  CREATE TABLE owners (owner INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT;
  CREATE TABLE names (claim BLOB, tag BLOB, row INTEGER, PRIMARY KEY (claim, tag, row)) WITHOUT ROWID, STRICT;
  CREATE TABLE children (parent INTEGER, child INTEGER, PRIMARY KEY (parent, child)) WITHOUT ROWID, STRICT;
  CREATE TABLE tips (row INTEGER PRIMARY KEY) STRICT;
  -- the owner of the first record of each set of names and ordinals
  CREATE TABLE firsts (conflict BLOB PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID, STRICT;
  CREATE TABLE certificates (
    row INTEGER PRIMARY KEY, subject BLOB NOT NULL, serial BLOB NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX certificates_by_subject ON certificates (subject);
  CREATE TABLE revocations (authority INTEGER, serial BLOB, row INTEGER NOT NULL, PRIMARY KEY (authority, serial)) WITHOUT ROWID, STRICT;
  CREATE TABLE opinions (subject BLOB, oracle INTEGER, row INTEGER NOT NULL, PRIMARY KEY (subject, oracle)) WITHOUT ROWID, STRICT;
  -- of which log, and up to where
  CREATE TABLE covered (salt TEXT NOT NULL, end INTEGER NOT NULL) STRICT;
  PRAGMA user_version = ${VERSION};
`;
/** With what makes a row of them the only one. */
const TABLES = {
  records: 'row',
  owners: 'owner',
  names: 'claim, tag, row',
  children: 'parent, child',
  tips: 'row',
  firsts: 'conflict',
  certificates: 'row',
  revocations: 'authority, serial',
  opinions: 'subject, oracle',
  covered: 'salt',
};

const PRUNED = 1;
const COLLIDER = 2;
const CERTIFICATE = 4;
const DISCARDED = 8;

/** A record that is in the log. */
export interface Indexed extends Marks {
  readonly id: string;
  readonly record: DagRecord;
  readonly place: Place;
}

/** Where a record is after the log was written anew, and whether its value is still there. */
export interface Moved {
  readonly place: Place;
  readonly isPruned: boolean;
  readonly isDiscarded: boolean;
}

/** What the index has of a record. */
export interface Row {
  readonly row: number;
  readonly id: string;
  readonly place: Place;
  readonly timestamp: number;
  readonly newest: number;
  readonly owner: string;
  readonly isPruned: boolean;
  /** Its value was thrown away here, and is not wanted back. */
  readonly isDiscarded: boolean;
  /** Its value is wanted. */
  readonly lacksValue: boolean;
  /** Another owner's record of the same names and ordinals was seen first. */
  readonly isCollider: boolean;
  /** Its difficulty; 0 without work. */
  readonly work: number;
  readonly certificate: number | undefined;
}

/** Of a name, ordinals in one of these ranges. */
export interface NameQuery {
  readonly claimKey: Uint8Array;
  readonly tags: readonly TagRange[];
}

/** Milliseconds since 1970, both included. */
export interface TimeRange {
  readonly from: number;
  readonly to: number;
}

type Raw = Record<string, SQLInputValue>;
const COLUMNS =
  'r.row, r.id, r.at, r.length, r.timestamp, r.timestamp + r.later AS newest, o.key AS owner, r.state, r.work, r.certificate';
const FROM = 'FROM records r CROSS JOIN owners o ON o.owner = r.owner';

export class RecordIndex {
  readonly path: string;
  readonly #db: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();
  #count: number;

  private constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.path = path;
    this.#count = Number(this.#get('SELECT count(*) AS n FROM records')!.n);
  }

  /**
   * The index in this file, or an empty one where there is none, it is of another version, or it can't be read: all of it is in the log.
   * @throws RECORDS_INDEX where none can be made
   */
  static open(path: string): RecordIndex {
    try {
      if (!existsSync(path)) return RecordIndex.make(path);
      return RecordIndex.#openAt(path);
    } catch {
      return RecordIndex.make(path);
    }
  }

  /** An empty one, in the place of what is there. @throws RECORDS_INDEX */
  static make(path: string): RecordIndex {
    try {
      dropIndex(path);
      // With its mode from the beginning on: SQLite gives that to the files beside it.
      closeSync(openSync(path, 'wx', 0o600));
      return RecordIndex.#openAt(path);
    } catch (cause) {
      throw noIndex(path, cause);
    }
  }

  static #openAt(path: string): RecordIndex {
    const db = new DatabaseSync(path);
    try {
      // The log is what is durable: what a loss of power takes from the end of this is read from there.
      db.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;');
      db.exec('PRAGMA cache_size=-8192; PRAGMA temp_store=MEMORY;');
      const isNew = Number(db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()!.n) === 0;
      if (isNew) db.exec(`BEGIN; ${SCHEMA} COMMIT;`);
      const version = Number(db.prepare('PRAGMA user_version').get()!.user_version);
      if (version !== VERSION) throw new Error(`version ${version}`);
      return new RecordIndex(db, path);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  get count(): number {
    return this.#count;
  }

  /** Of all records as they lie in the log. */
  get recordBytes(): number {
    return Number(this.#get('SELECT coalesce(sum(length), 0) AS n FROM records')!.n);
  }

  /** Of which log it is made, and up to where; undefined while it is empty. */
  get covered(): { readonly salt: string; readonly end: number } | undefined {
    const raw = this.#get('SELECT salt, end FROM covered');
    return raw && { salt: String(raw.salt), end: Number(raw.end) };
  }

  /** Writes records that are in the log up to `end`, in its order; all or none. */
  insert(entries: readonly Indexed[], covered: { readonly salt: string; readonly end: number }): void {
    const before = this.#count;
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      for (const entry of entries) this.#insertOne(entry);
      this.#cover(covered);
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#count = before;
      // SQLite has rolled back by itself where the disk is full.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  rowOf(id: string): Row | undefined {
    const raw = this.#get(
      `SELECT ${COLUMNS} ${FROM} WHERE substr(r.id, 1, 8) = ? AND r.id = ?`,
      ...idKeys(id),
    );
    return raw && rowOf(raw);
  }

  rowAt(row: number): Row {
    return rowOf(this.#get(`SELECT ${COLUMNS} ${FROM} WHERE r.row = ?`, row)!);
  }

  factsOf(id: string): MemberFacts | undefined {
    const raw = this.#get(
      'SELECT row, timestamp + later AS newest, state FROM records WHERE substr(id, 1, 8) = ? AND id = ?',
      ...idKeys(id),
    );
    if (raw === undefined) return undefined;
    const newest = Number(raw.newest);
    if ((Number(raw.state) & CERTIFICATE) === 0) return { newest };
    return { newest, certificate: this.certificateAt(Number(raw.row)) };
  }

  certificateAt(row: number): Certificate {
    return certificateOf(
      this.#get('SELECT subject, serial, not_before, not_after FROM certificates WHERE row = ?', row)!,
    );
  }

  /** Certificates of an owner for this time that no authority took back, the one that ends last first. */
  certificatesFor(subject: Uint8Array, time: number): string[] {
    const raws = this.#all(
      `SELECT r.id FROM certificates c JOIN records r ON r.row = c.row
       WHERE c.subject = ? AND c.not_before <= ? AND c.not_after >= ?
         AND NOT EXISTS (SELECT 1 FROM revocations v WHERE v.authority = r.owner AND v.serial = c.serial)
       ORDER BY c.not_after DESC, c.row LIMIT 16`,
      subject,
      time,
      time,
    );
    return raws.map(({ id }) => toHex(id as Uint8Array));
  }

  /** Whether the authority that gave the certificate in this row took it back. */
  isRevoked(certificate: number): boolean {
    return (
      this.#get(
        `SELECT 1 AS found FROM certificates c JOIN records r ON r.row = c.row
         JOIN revocations v ON v.authority = r.owner AND v.serial = c.serial WHERE c.row = ?`,
        certificate,
      ) !== undefined
    );
  }

  /** Those of these owners that said they suspect the record. */
  suspecting(id: string, oracles: readonly Uint8Array[]): Uint8Array[] {
    const subject = fromHex(id);
    return oracles.filter(
      (oracle) =>
        this.#get(
          'SELECT 1 AS found FROM opinions p JOIN owners o ON o.owner = p.oracle WHERE p.subject = ? AND o.key = ?',
          subject,
          oracle,
        ) !== undefined,
    );
  }

  /** Records with a name, in the order of their tags; of one tag the one that came first is first. A few of another name may be among them. */
  byName({ claimKey, tags }: NameQuery, limit: number): Row[] {
    const rows: Row[] = [];
    for (const { from, to } of tags) {
      const raws = this.#all(
        `SELECT ${COLUMNS} FROM names n CROSS JOIN records r ON r.row = n.row CROSS JOIN owners o ON o.owner = r.owner
         WHERE n.claim = ? AND n.tag BETWEEN ? AND ? ORDER BY n.tag, n.row LIMIT ?`,
        prefix(claimKey),
        from,
        to,
        limit - rows.length,
      );
      rows.push(...raws.map(rowOf));
      if (rows.length >= limit) break;
    }
    return rows;
  }

  /** Records of these owners, of each in the order of time. */
  byOwners(owners: readonly string[], time: TimeRange, limit: number): Row[] {
    const rows: Row[] = [];
    for (const owner of owners) {
      const raws = this.#all(
        `SELECT ${COLUMNS} FROM owners o CROSS JOIN records r ON r.owner = o.owner
         WHERE o.key = ? AND r.timestamp BETWEEN ? AND ? ORDER BY r.timestamp, r.row LIMIT ?`,
        fromHex(owner),
        time.from,
        time.to,
        limit - rows.length,
      );
      rows.push(...raws.map(rowOf));
      if (rows.length >= limit) break;
    }
    return rows;
  }

  /** Records in the order of time. */
  byTime({ from, to }: TimeRange, limit: number): Row[] {
    return this.#all(
      `SELECT ${COLUMNS} ${FROM} WHERE r.timestamp BETWEEN ? AND ? ORDER BY r.timestamp, substr(r.id, 1, 8), r.id LIMIT ?`,
      from,
      to,
      limit,
    ).map(rowOf);
  }

  *items({ from, before, limit = Number.POSITIVE_INFINITY }: ItemRange = {}): Generator<Item> {
    let left = limit;
    let next: Item = from ?? { timestamp: 0, id: '' };
    for (let isFirst = true; left > 0; isFirst = false) {
      const page = this.#page(next, isFirst, Math.min(left, PAGE));
      for (const item of page) {
        if (before !== undefined && !isBefore(item, before)) return;
        yield item;
      }
      if (page.length < Math.min(left, PAGE)) return;
      left -= page.length;
      next = page.at(-1)!;
    }
  }

  /** Rows that nothing stands on: the oldest and the newest. */
  tips(most: number): Row[] {
    const rows = ['ASC', 'DESC'].flatMap((order) =>
      this.#all(`SELECT row FROM tips ORDER BY row ${order} LIMIT ?`, most >> 1).map(({ row }) =>
        Number(row),
      ),
    );
    return [...new Set(rows)].map((row) => this.rowAt(row));
  }

  /** The records that became members last, newest first. */
  latest(most: number): Row[] {
    return this.#all(`SELECT ${COLUMNS} ${FROM} ORDER BY r.row DESC LIMIT ?`, most).map(rowOf);
  }

  /** Of these identities those that are here, by row. */
  inOrder(ids: readonly string[]): string[] {
    const rows = ids.flatMap((id) => {
      const raw = this.#get('SELECT row FROM records WHERE substr(id, 1, 8) = ? AND id = ?', ...idKeys(id));
      return raw === undefined ? [] : [{ id, row: Number(raw.row) }];
    });
    return rows.toSorted((a, b) => a.row - b.row).map(({ id }) => id);
  }

  /** Records whose values are wanted, behind this row. */
  lackingValues(row: number, limit: number): string[] {
    return this.#all(
      'SELECT id FROM records WHERE (state & 9) = 1 AND row > ? ORDER BY row LIMIT ?',
      row,
      limit,
    ).map(({ id }) => toHex(id as Uint8Array));
  }

  /** Identities of what stands on a record, directly. */
  childrenOf(id: string, limit: number): string[] {
    const raws = this.#all(
      `SELECT c.id FROM records p JOIN children l ON l.parent = p.row JOIN records c ON c.row = l.child
       WHERE substr(p.id, 1, 8) = ? AND p.id = ? ORDER BY l.child LIMIT ?`,
      ...idKeys(id),
      limit,
    );
    return raws.map((raw) => toHex(raw.id as Uint8Array));
  }

  /** All, in the order in which they became members. */
  *rows(): Generator<Row> {
    for (let last = 0; last < this.#count; last += PAGE) {
      yield* this.#all(`SELECT ${COLUMNS} ${FROM} WHERE r.row > ? ORDER BY r.row LIMIT ?`, last, PAGE).map(
        rowOf,
      );
    }
  }

  /**
   * The log was written anew, with one entry for each row, in their order.
   * @param exchange puts the new log into the place of the old one; before what is written here counts. @throws what it throws, and then nothing has changed
   */
  relocate(
    moved: Iterable<Moved>,
    covered: { readonly salt: string; readonly end: number },
    exchange: () => void,
  ): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      let row = 0;
      for (const { place, isPruned, isDiscarded } of moved) {
        row += 1;
        this.#run(
          'UPDATE records SET at = ?, length = ?, state = (state & ?) | ? WHERE row = ?',
          place.at,
          place.length,
          ~(PRUNED | DISCARDED),
          (isPruned ? PRUNED : 0) | (isDiscarded ? DISCARDED : 0),
          row,
        );
      }
      if (row !== this.#count) throw new Error(`the new log has ${row} records, not ${this.#count}`);
      this.#cover(covered);
      exchange();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
    // What SQLite wrote beside the file is as large as what was changed. Where that can't be given back, it is changed all the same.
    try {
      this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } catch {}
  }

  /** For weights.ts: of each row from this one on its work and the rows that it stands on. */
  *graph(from = 1): Generator<{ readonly work: number; readonly parents: number[] }> {
    const statement = this.#db.prepare('SELECT work, parents FROM records WHERE row >= ? ORDER BY row');
    for (const { work, parents } of statement.iterate(from)) {
      yield { work: Number(work), parents: parentsOf(parents as Uint8Array) };
    }
  }

  /** All that it has, a line for each row: two indexes of one log have the same. */
  *dump(): Generator<string> {
    for (const [table, order] of Object.entries(TABLES)) {
      const statement = this.#db.prepare(`SELECT * FROM ${table} ORDER BY ${order}`);
      for (const raw of statement.iterate()) {
        const values = Object.values(raw).map((value) =>
          value instanceof Uint8Array ? toHex(value) : value,
        );
        yield `${table} ${JSON.stringify(values)}`;
      }
    }
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
  }

  #cover({ salt, end }: { readonly salt: string; readonly end: number }): void {
    this.#run('DELETE FROM covered');
    this.#run('INSERT INTO covered VALUES (?, ?)', salt, end);
  }

  #insertOne({ id, record, place, synchronised, discarded }: Indexed): void {
    const known = this.#get(
      'SELECT row, state FROM records WHERE substr(id, 1, 8) = ? AND id = ?',
      ...idKeys(id),
    );
    // Of a member only its value can come later.
    if (known !== undefined) {
      const state = Number(known.state) & ~(PRUNED | DISCARDED);
      this.#run(
        'UPDATE records SET at = ?, length = ?, state = ? WHERE row = ?',
        place.at,
        place.length,
        state,
        known.row!,
      );
      return;
    }
    const row = this.#count + 1;
    const stands = dependenciesOf(record).map((parent) => this.#parent(parent));
    const parents = stands.map((parent) => parent.row).toSorted((a, b) => a - b);
    const newest = Math.max(record.timestamp, ...stands.map((parent) => parent.newest));
    const owner = this.#ownerOf(record.owner);
    const { permit } = record;
    const state =
      (record.value.kind === 'pruned' ? PRUNED : 0) |
      (discarded ? DISCARDED : 0) |
      (this.#isCollider(record, owner) && synchronised ? COLLIDER : 0) |
      (record.type === 'certificate' ? CERTIFICATE : 0);
    this.#run(
      'INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      row,
      fromHex(id),
      place.at,
      place.length,
      record.timestamp,
      newest - record.timestamp,
      owner,
      state,
      permit.kind === 'work' ? permit.difficulty : 0,
      permit.kind === 'certificate' ? this.#parent(toHex(permit.certificate)).row : null,
      new Uint8Array(Uint32Array.from(parents).buffer),
    );
    this.#count = row;
    for (const { claimKey, ordinalTag } of record.selectors) {
      // Another name of it may have begun with the same bytes: the row finds the record by both, and the keys are compared whole.
      this.#run('INSERT OR IGNORE INTO names VALUES (?, ?, ?)', prefix(claimKey), ordinalTag, row);
    }
    for (const parent of parents) {
      this.#run('INSERT INTO children VALUES (?, ?)', parent, row);
      this.#run('DELETE FROM tips WHERE row = ?', parent);
    }
    this.#run('INSERT INTO tips VALUES (?)', row);
    if (record.value.kind === 'whole') this.#insertStatement(row, owner, record.type, record.value.bytes);
  }

  #insertStatement(row: number, owner: number, type: RecordType, value: Uint8Array): void {
    if (type === 'certificate') {
      const { subject, serial, notBefore, notAfter } = decodeCertificate(value);
      this.#run(
        'INSERT INTO certificates VALUES (?, ?, ?, ?, ?)',
        row,
        subject,
        uint64(serial),
        notBefore,
        notAfter,
      );
    } else if (type === 'revocation') {
      const serial = uint64(decodeRevocation(value));
      this.#run('INSERT OR IGNORE INTO revocations VALUES (?, ?, ?)', owner, serial, row);
    } else if (type === 'commentary') {
      const { subject } = decodeCommentary(value);
      this.#run('INSERT OR IGNORE INTO opinions VALUES (?, ?, ?)', subject, owner, row);
    }
  }

  /** Whether another owner was first; if nobody was, this one is. In the shared mode owners do not meet. */
  #isCollider(record: DagRecord, owner: number): boolean {
    if (record.selectors.length === 0 || record.shared) return false;
    const conflict = half(conflictKey(record));
    const first = this.#get('SELECT owner FROM firsts WHERE conflict = ?', conflict);
    if (first !== undefined) return Number(first.owner) !== owner;
    this.#run('INSERT INTO firsts VALUES (?, ?)', conflict, owner);
    return false;
  }

  #ownerOf(key: Uint8Array): number {
    const known = this.#get('SELECT owner FROM owners WHERE key = ?', key);
    if (known !== undefined) return Number(known.owner);
    return Number(this.#prepare('INSERT INTO owners (key) VALUES (?)').run(key).lastInsertRowid);
  }

  #parent(id: string): { row: number; newest: number } {
    const raw = this.#get(
      'SELECT row, timestamp + later AS newest FROM records WHERE substr(id, 1, 8) = ? AND id = ?',
      ...idKeys(id),
    );
    if (raw !== undefined) return { row: Number(raw.row), newest: Number(raw.newest) };
    throw new DstackError(
      'RECORDS_LOG_DAMAGED',
      `the log has a record before ${id}, on which it stands; \`records rebuild\` keeps what is sound`,
    );
  }

  /** From an item on, or after it. First those of its own time, which may be many. */
  #page({ timestamp, id }: Item, isIncluded: boolean, limit: number): Item[] {
    const key = fromHex(id);
    const same = this.#all(
      `SELECT timestamp, id FROM records
       WHERE timestamp = ? AND substr(id, 1, 8) >= ? AND id ${isIncluded ? '>=' : '>'} ?
       ORDER BY substr(id, 1, 8), id LIMIT ?`,
      timestamp,
      key.subarray(0, 8),
      key,
      limit,
    );
    const later = this.#all(
      'SELECT timestamp, id FROM records WHERE timestamp > ? ORDER BY timestamp, substr(id, 1, 8), id LIMIT ?',
      timestamp,
      limit - same.length,
    );
    return [...same, ...later].map((raw) => ({
      timestamp: Number(raw.timestamp),
      id: toHex(raw.id as Uint8Array),
    }));
  }

  #get(sql: string, ...values: SQLInputValue[]): Raw | undefined {
    return this.#prepare(sql).get(...values) as Raw | undefined;
  }

  #all(sql: string, ...values: SQLInputValue[]): Raw[] {
    return this.#prepare(sql).all(...values) as Raw[];
  }

  #run(sql: string, ...values: SQLInputValue[]): void {
    this.#prepare(sql).run(...values);
  }

  #prepare(sql: string): StatementSync {
    const known = this.#prepared.get(sql);
    if (known !== undefined) return known;
    const made = this.#db.prepare(sql);
    this.#prepared.set(sql, made);
    return made;
  }
}

export function noIndex(path: string, cause: unknown): DstackError {
  return new DstackError(
    'RECORDS_INDEX',
    `no index of the records can be made in ${path}: ${(cause as Error).message}; make room, or check the folder`,
    { cause },
  );
}

/** Removes an index with the files beside it. */
export function dropIndex(path: string): void {
  for (const end of ['', '-wal', '-shm', '-journal']) rmSync(path + end, { force: true });
}

function rowOf(raw: Raw): Row {
  const state = Number(raw.state);
  return {
    row: Number(raw.row),
    id: toHex(raw.id as Uint8Array),
    place: { at: Number(raw.at), length: Number(raw.length) },
    timestamp: Number(raw.timestamp),
    newest: Number(raw.newest),
    owner: toHex(raw.owner as Uint8Array),
    isPruned: (state & PRUNED) !== 0,
    isDiscarded: (state & DISCARDED) !== 0,
    lacksValue: (state & (PRUNED | DISCARDED)) === PRUNED,
    isCollider: (state & COLLIDER) !== 0,
    work: Number(raw.work),
    certificate: raw.certificate === null ? undefined : Number(raw.certificate),
  };
}

function certificateOf(raw: Raw): Certificate {
  return {
    subject: raw.subject as Uint8Array,
    serial: Buffer.from(raw.serial as Uint8Array).readBigUInt64BE(),
    notBefore: Number(raw.not_before),
    notAfter: Number(raw.not_after),
  };
}

function parentsOf(bytes: Uint8Array): number[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 4 }, (_, i) => view.readUInt32LE(4 * i));
}

const prefix = (key: Uint8Array): Uint8Array => key.subarray(0, 8);
const half = (key: Uint8Array): Uint8Array => key.subarray(0, 16);

function idKeys(id: string): [Uint8Array, Uint8Array] {
  const whole = fromHex(id);
  return [prefix(whole), whole];
}

function isBefore(a: Item, b: Item): boolean {
  return a.timestamp < b.timestamp || (a.timestamp === b.timestamp && a.id < b.id);
}
