/**
 * The public files of an audit: what relays keep for ever, read from folders or from relays over HTTP. Nobody here is
 * trusted. A file counts by what it hashes to, never by its name or by who served it, so copies from several relays
 * can be thrown together: a spoiled one does not hide a good one.
 *
 * Each source is read separately, within its own limits. Its faults are reported as its own and cost the others nothing. A source
 * can make a verdict worse, never better: a malformed record is a failure where a missing one would be a gap.
 */
import { opendir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { sha256, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { CONFIG_MAX_BYTES, configHash } from '../../lib/protocol/network-config.ts';
import {
  type AnswerMessage,
  AnswerMessageSchema,
  type BootstrapPackage,
  BootstrapPackageSchema,
  type RequestMessage,
  RequestMessageSchema,
  requestOf,
  type SealedMessage,
  SealedMessageSchema,
} from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { download } from '../download.ts';

/** What is taken from one source. */
export interface SourceLimits {
  /** Files, including useless ones. */
  readonly records: number;
  /** Of all its files in total. */
  readonly bytes: number;
  readonly milliseconds: number;
  /** Different files about the same subject. An honest relay has one or a few; each is judged, which takes time. */
  readonly versions: number;
}
const LIMITS: SourceLimits = {
  records: 100_000,
  bytes: 256 * 1024 * 1024,
  milliseconds: 600_000,
  versions: 16,
};
/** Larger files are skipped. Bytes. */
const MAX_RECORD_BYTES = 2 * 1024 * 1024;
/** How many files are requested from a relay at the same time. */
const AT_ONCE = 8;
/** How many faults of a source are reported; the others are counted. */
const FAULTS_TOLD = 10;
const ListSchema = Type.Object({ records: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 1000 }) });
const LIST_MAX_BYTES = 256 * 1024;

/** Every well-formed version that was found, by what it is about. Keys are lower-case hex without 0x. */
export interface Archives {
  /** By request hash. */
  readonly requests: ReadonlyMap<string, readonly RequestMessage[]>;
  /** By request hash. */
  readonly answers: ReadonlyMap<string, readonly AnswerMessage[]>;
  /** By request hash. Relays keep none: what gossip carried may have been caught by somebody. */
  readonly sealed: ReadonlyMap<string, readonly SealedMessage[]>;
  /** By quote hash. */
  readonly bootstraps: ReadonlyMap<string, readonly BootstrapPackage[]>;
  /** network.json, by its hash. */
  readonly configs: ReadonlyMap<string, Uint8Array>;
  readonly sources: readonly SourceReport[];
}

/** What one source gave. */
export interface SourceReport {
  readonly source: string;
  /** The files that it gave, useful or not, and their bytes. */
  readonly records: number;
  readonly bytes: number;
  /** The first few of its faults, in words, some of which may be somebody else's. */
  readonly faults: readonly string[];
  readonly faultCount: number;
}

/**
 * Reads all sources at the same time. Whatever one of them does wrong is in its report; it is never thrown.
 * @param sources folders, or a relay's base URL
 */
export async function readRecords(
  sources: readonly string[],
  limits: Partial<SourceLimits> = {},
): Promise<Archives> {
  const kept = new Kept();
  const readers = sources.map((name) => new Source(name, { ...LIMITS, ...limits }, kept));
  await Promise.all(readers.map((reader) => reader.read()));
  const { requests, answers, sealed, bootstraps, configs } = kept;
  const reports = readers.map((reader) => reader.report());
  return { requests, answers, sealed, bootstraps, configs, sources: reports };
}

/** What all sources gave: each file once, however many sources have it under however many names. */
class Kept {
  readonly requests = new Map<string, RequestMessage[]>();
  readonly answers = new Map<string, AnswerMessage[]>();
  readonly sealed = new Map<string, SealedMessage[]>();
  readonly bootstraps = new Map<string, BootstrapPackage[]>();
  readonly configs = new Map<string, Uint8Array>();
  readonly #hashes = new Set<string>();

  /** @param admit asked whether one more about this subject is taken @throws AUDIT_RECORDS for anything but a record */
  add(kind: RecordKind, bytes: Uint8Array, admit: (subject: string) => void): void {
    const hash = `${kind} ${toHex(sha256(bytes))}`;
    if (this.#hashes.has(hash)) return;
    const text = new TextDecoder().decode(bytes);
    const what = `this ${kind}`;
    const keep = <T>(map: Map<string, T[]>, subject: string, message: T) => {
      admit(`${kind} ${subject}`);
      const present = map.get(subject);
      if (present === undefined) map.set(subject, [message]);
      else present.push(message);
    };
    if (kind === 'config') {
      if (bytes.length > CONFIG_MAX_BYTES) {
        throw new DstackError(
          'AUDIT_RECORDS',
          `${what} has ${bytes.length} bytes, more than ${CONFIG_MAX_BYTES}`,
        );
      }
      this.configs.set(toHex(configHash(bytes)), bytes);
    } else if (kind === 'request') {
      const message = parseJson(RequestMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      keep(this.requests, toHex(requestOf(message).hash), message);
    } else if (kind === 'answer') {
      const message = parseJson(AnswerMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      keep(this.answers, message.requestHash, message);
    } else if (kind === 'sealed') {
      const message = parseJson(SealedMessageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      keep(this.sealed, message.requestHash, message);
    } else {
      const message = parseJson(BootstrapPackageSchema, text, 'AUDIT_RECORDS', what, MAX_RECORD_BYTES);
      keep(this.bootstraps, message.quoteHash, message);
    }
    this.#hashes.add(hash);
  }
}

type RecordKind = 'request' | 'answer' | 'sealed' | 'bootstrap' | 'config';
/** By the beginning of its name; undefined for files that an audit does not read. */
const kindOf = (name: string): RecordKind | undefined =>
  /^(request|answer|sealed|bootstrap|config)-.*\.json$/s.exec(name)?.[1] as RecordKind | undefined;

/** One source while it is read. */
class Source {
  readonly #source: string;
  readonly #limits: SourceLimits;
  readonly #kept: Kept;
  readonly #faults: string[] = [];
  #faultCount = 0;
  #records = 0;
  #bytes = 0;
  readonly #versions = new Map<string, number>();

  constructor(source: string, limits: SourceLimits, kept: Kept) {
    this.#source = source;
    this.#limits = limits;
    this.#kept = kept;
  }

  async read(): Promise<void> {
    const overdue = AbortSignal.timeout(this.#limits.milliseconds);
    try {
      if (/^https?:\/\//.test(this.#source)) await this.#readRelay(overdue);
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
      if (kind === undefined) continue;
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

  async #readRelay(overdue: AbortSignal): Promise<void> {
    const url = `${this.#source.replace(/\/$/, '')}/v1/records`;
    const get = (path: string, maxBytes: number) =>
      download(`${url}${path}`, maxBytes, 'AUDIT_RECORDS', overdue);
    for (let after = ''; ; ) {
      this.#goesOn(overdue);
      const text = new TextDecoder().decode(await get(`?after=${encodeURIComponent(after)}`, LIST_MAX_BYTES));
      const { records } = parseJson(ListSchema, text, 'AUDIT_RECORDS', 'its list', LIST_MAX_BYTES);
      const last = records.at(-1);
      if (last === undefined) return;
      for (let at = 0; at < records.length; at += AT_ONCE) {
        this.#goesOn(overdue);
        await Promise.all(
          records.slice(at, at + AT_ONCE).map(async (name) => {
            const kind = kindOf(name);
            if (kind === undefined) this.#records += 1;
            else await this.#take(name, kind, () => get(`/${encodeURIComponent(name)}`, MAX_RECORD_BYTES));
          }),
        );
      }
      if (last <= after) throw new DstackError('AUDIT_RECORDS', `its list does not continue after ${after}`);
      after = last;
    }
  }

  /** Takes one file; what is wrong with it concerns no other. */
  async #take(name: string, kind: RecordKind, read: () => Promise<Uint8Array>): Promise<void> {
    this.#records += 1;
    try {
      const bytes = await read();
      this.#bytes += bytes.length;
      this.#kept.add(kind, bytes, (subject) => {
        const given = this.#versions.get(subject) ?? 0;
        if (given >= this.#limits.versions) {
          throw new DstackError('AUDIT_RECORDS', `it is one of more than ${given} versions of ${subject}`);
        }
        this.#versions.set(subject, given + 1);
      });
    } catch (error) {
      this.#fault(error as Error, name);
    }
  }

  /** @throws AUDIT_RECORDS once the source has had its share */
  #goesOn(overdue: AbortSignal): void {
    const { records, bytes, milliseconds } = this.#limits;
    const over = overdue.aborted
      ? `it took more than ${milliseconds / 1000} s`
      : this.#bytes >= bytes
        ? `it gave more than ${bytes} bytes`
        : this.#records >= records
          ? `it has more than ${records} files`
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
