/**
 * The public files of an audit: what relays keep for ever, read from folders or from relays over HTTP. Nobody here is
 * trusted. A file counts by what it hashes to, never by its name or by who served it, so copies from several relays
 * can be thrown together: a spoiled one does not hide a good one.
 *
 * An archive may be of any size: each record is handed on as it is read, and none is kept here. What a source may cost besides is
 * bounded: files that are about nothing in the network's history, versions of what is, and its time.
 *
 * Each source is read separately, within its own limits. Its faults are reported as its own and cost the others nothing. A source
 * can make a verdict worse, never better: a malformed record is a failure where a missing one would be a gap.
 */
import { opendir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Address } from '../../host/records/wire/address.ts';
import { sha256 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { RecordsArchive, recordsAddressOf } from '../records-archive.ts';
import { kindOf, MAX_RECORD_BYTES, type RecordKind, type RecordTaker, recordOf } from './record.ts';
import { RelayArchive } from './relay-archive.ts';

/** What is taken from one source. */
export interface SourceLimits {
  /** Files that are about nothing that the audit asks for, or were read before. */
  readonly records: number;
  /** Of those files in total. */
  readonly bytes: number;
  readonly milliseconds: number;
  /** Different files about the same subject. An honest relay has one or a few; each is judged, which takes time. */
  readonly versions: number;
}
const LIMITS: SourceLimits = {
  records: 1_000_000,
  bytes: 1024 * 1024 * 1024,
  milliseconds: 600_000,
  versions: 16,
};
/** How many files are requested from a relay at the same time. */
const AT_ONCE = 8;
/** How many faults of a source are reported; the others are counted. */
const FAULTS_TOLD = 10;

/** What one source gave. */
export interface SourceReport {
  readonly source: string;
  /** The files that it gave, useful or not, and their bytes. What the audit had no need of is not among them. */
  readonly records: number;
  readonly bytes: number;
  /** The first few of its faults, in words, some of which may be somebody else's. */
  readonly faults: readonly string[];
  readonly faultCount: number;
}

/**
 * Reads all sources at the same time, and hands on each record once, however many sources have it under however many names. Whatever one
 * of them does wrong is in its report; it is never thrown.
 * @param sources folders, relays' base URLs, or relays by records (cli/records-archive.ts), which are those of the network
 */
export async function readRecords(
  sources: readonly string[],
  taker: RecordTaker,
  network: Domain,
  limits: Partial<SourceLimits> = {},
): Promise<SourceReport[]> {
  const once = new Once(taker);
  const readers = sources.map((name) => new Source(name, { ...LIMITS, ...limits }, once, network));
  await Promise.all(readers.map((reader) => reader.read()));
  return readers.map((reader) => reader.report());
}

/** Hands on what the audit asks for once. What it does not ask for is not remembered: of that there may be any number. */
class Once {
  readonly #taker: RecordTaker;
  /** What each that was taken is about, by its hash. */
  readonly #taken = new Map<string, string>();

  constructor(taker: RecordTaker) {
    this.#taker = taker;
  }

  skips(name: string): boolean {
    return this.#taker.skips(name);
  }

  /**
   * @param hasRoom whether the source may give one more file about this subject
   * @returns whether it is about something that the audit asks for, and not too often
   * @throws AUDIT_RECORDS for anything but a record, and for a version too many
   */
  take(kind: RecordKind, bytes: Uint8Array, hasRoom: (subject: string) => boolean): boolean {
    const hash = `${kind} ${Buffer.from(sha256(bytes)).toString('base64')}`;
    const known = this.#taken.get(hash);
    if (known !== undefined) return hasRoom(known);
    const record = recordOf(kind, bytes);
    const wanted = this.#taker.wants(record);
    if (wanted) {
      const subject = `${kind} ${record.subject}`;
      if (!hasRoom(subject)) {
        throw new DstackError('AUDIT_RECORDS', `it is one of too many versions of ${subject}`);
      }
      this.#taken.set(hash, subject);
    }
    this.#taker.take(record);
    return wanted;
  }
}

/** One source while it is read. */
class Source {
  readonly #source: string;
  readonly #limits: SourceLimits;
  readonly #once: Once;
  readonly #network: Domain;
  readonly #faults: string[] = [];
  #faultCount = 0;
  #records = 0;
  #bytes = 0;
  /** Of those, what was of no use. */
  #idle = { records: 0, bytes: 0 };
  readonly #versions = new Map<string, number>();

  constructor(source: string, limits: SourceLimits, once: Once, network: Domain) {
    this.#source = source;
    this.#network = network;
    this.#limits = limits;
    this.#once = once;
  }

  async read(): Promise<void> {
    const overdue = AbortSignal.timeout(this.#limits.milliseconds);
    try {
      const byRecords = recordsAddressOf(this.#source);
      if (byRecords !== undefined) await this.#askRelay(byRecords, overdue);
      else if (/^https?:\/\//.test(this.#source))
        await this.#readRelay(new RelayArchive(this.#source, overdue), overdue);
      else await this.#readFolder(overdue);
    } catch (error) {
      // Reading ends here; what it gave before still counts.
      this.#fault(error as Error);
    }
  }

  report(): SourceReport {
    return {
      source: withoutPassword(this.#source),
      records: this.#records,
      bytes: this.#bytes,
      faults: this.#faults,
      faultCount: this.#faultCount,
    };
  }

  async #readFolder(overdue: AbortSignal): Promise<void> {
    for await (const { name } of await opendir(this.#source)) {
      const kind = kindOf(name);
      if (kind === undefined || this.#once.skips(name)) continue;
      this.#goesOn(overdue);
      await this.#take(name, kind, async () => {
        const path = join(this.#source, name);
        const found = await stat(path);
        if (!found.isFile()) throw new DstackError('AUDIT_RECORDS', 'it is not a regular file');
        if (found.size > MAX_RECORD_BYTES) {
          throw new DstackError('AUDIT_RECORDS', `it has ${found.size} bytes, more than ${MAX_RECORD_BYTES}`);
        }
        return readFile(path);
      });
    }
  }

  async #askRelay(address: Address, overdue: AbortSignal): Promise<void> {
    const options = { address, domain: this.#network, until: overdue, code: 'AUDIT_RECORDS' };
    const relay = await RecordsArchive.open({ ...options, maxBytes: MAX_RECORD_BYTES });
    try {
      await this.#readRelay(relay, overdue);
    } finally {
      await relay.close();
    }
  }

  async #readRelay(
    relay: Pick<RelayArchive, 'pages' | 'file' | 'bundled'>,
    overdue: AbortSignal,
  ): Promise<void> {
    for await (const { after, names } of relay.pages()) {
      this.#goesOn(overdue);
      const left = new Set(names.filter((name) => this.#isOfUse(name)));
      for await (const { name, bytes } of relay.bundled(after, [...left])) {
        this.#goesOn(overdue);
        left.delete(name);
        await this.#take(name, kindOf(name)!, async () => bytes);
      }
      const single = [...left];
      for (let at = 0; at < single.length; at += AT_ONCE) {
        this.#goesOn(overdue);
        const some = single.slice(at, at + AT_ONCE);
        await Promise.all(some.map((name) => this.#take(name, kindOf(name)!, () => relay.file(name))));
      }
    }
  }

  /** By its name. One that is no record's counts: a list may never end. */
  #isOfUse(name: string): boolean {
    if (kindOf(name) !== undefined) return !this.#once.skips(name);
    this.#records += 1;
    this.#idle.records += 1;
    return false;
  }

  /** Takes one file; what is wrong with it concerns no other. */
  async #take(name: string, kind: RecordKind, read: () => Promise<Uint8Array>): Promise<void> {
    this.#records += 1;
    let size = 0;
    try {
      const bytes = await read();
      size = bytes.length;
      this.#bytes += size;
      if (this.#once.take(kind, bytes, (subject) => this.#hasRoom(subject))) return;
    } catch (error) {
      this.#fault(error as Error, name);
    }
    this.#idle.records += 1;
    this.#idle.bytes += size;
  }

  #hasRoom(subject: string): boolean {
    const given = this.#versions.get(subject) ?? 0;
    if (given >= this.#limits.versions) return false;
    this.#versions.set(subject, given + 1);
    return true;
  }

  /** @throws AUDIT_RECORDS once the source has had its share */
  #goesOn(overdue: AbortSignal): void {
    const { records, bytes, milliseconds } = this.#limits;
    const over = overdue.aborted
      ? `it took more than ${milliseconds / 1000} s`
      : this.#idle.bytes >= bytes
        ? `it gave more than ${bytes} bytes of no use to this audit`
        : this.#idle.records >= records
          ? `it has more than ${records} files of no use to this audit`
          : undefined;
    if (over !== undefined) throw new DstackError('AUDIT_RECORDS', `${over}: the rest was not read`);
  }

  #fault(error: Error, name?: string): void {
    this.#faultCount += 1;
    if (this.#faults.length >= FAULTS_TOLD) return;
    const text = name === undefined ? error.message : `${name}: ${error.message}`;
    this.#faults.push(text.replaceAll(this.#source, withoutPassword(this.#source)).slice(0, 300));
  }
}

/** Reports are passed on, and a source's URL may contain a password. */
function withoutPassword(source: string): string {
  if (!URL.canParse(source)) return source;
  const url = new URL(source);
  if (url.username === '' && url.password === '') return source;
  [url.username, url.password] = ['', ''];
  return url.href;
}
