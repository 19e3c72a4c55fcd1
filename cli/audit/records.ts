/**
 * The public files of an audit: what relays keep for ever, read from folders or from relays over HTTP. Nobody here is
 * trusted. A file counts by what it hashes to, never by its name or by who served it, so copies from several relays
 * can be thrown together: a spoiled one does not hide a good one.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { toHex } from '../../lib/protocol/encoding.ts';
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
} from '../../lib/protocol/onboarding-messages.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { download } from '../download.ts';

/** Larger files are passed over, bytes. */
const MAX_RECORD_BYTES = 8 * 1024 * 1024;
/** A source that lists more is not read to its end. */
const MAX_RECORDS = 100_000;
const ListSchema = Type.Object({ records: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 1000 }) });
const LIST_MAX_BYTES = 256 * 1024;

/** Every well-formed version that was found, by what it is about. Keys are lower-case hex without 0x. */
export interface Records {
  /** By request hash. */
  readonly requests: ReadonlyMap<string, readonly RequestMessage[]>;
  /** By request hash. */
  readonly answers: ReadonlyMap<string, readonly AnswerMessage[]>;
  /** By quote hash. */
  readonly bootstraps: ReadonlyMap<string, readonly BootstrapPackage[]>;
  /** network.json, by its hash. */
  readonly configs: ReadonlyMap<string, Uint8Array>;
  /** Files that are not what their name says: source and reason. */
  readonly unreadable: readonly string[];
}

/** @param sources folders, or a relay's base URL @throws AUDIT_RECORDS for a source that can't be read at all */
export async function readRecords(sources: readonly string[]): Promise<Records> {
  const collected = new Collected();
  for (const source of sources) {
    for await (const { name, bytes } of /^https?:\/\//.test(source)
      ? fromRelay(source)
      : fromFolder(source)) {
      try {
        collected.add(name, bytes);
      } catch (error) {
        collected.unreadable.push(`${source} ${name}: ${(error as Error).message}`);
      }
    }
  }
  return collected;
}

class Collected implements Records {
  readonly requests = new Map<string, RequestMessage[]>();
  readonly answers = new Map<string, AnswerMessage[]>();
  readonly bootstraps = new Map<string, BootstrapPackage[]>();
  readonly configs = new Map<string, Uint8Array>();
  readonly unreadable: string[] = [];

  add(name: string, bytes: Uint8Array): void {
    const [kind] = name.split('-');
    const read = <T>(schema: Parameters<typeof parseJson>[0]): T =>
      parseJson(schema, new TextDecoder().decode(bytes), 'AUDIT_RECORDS', name, MAX_RECORD_BYTES) as T;
    if (kind === 'config') {
      if (bytes.length <= CONFIG_MAX_BYTES) this.configs.set(toHex(configHash(bytes)), bytes);
    } else if (kind === 'request') {
      const message = read<RequestMessage>(RequestMessageSchema);
      push(this.requests, toHex(requestOf(message).hash), message);
    } else if (kind === 'answer') {
      const message = read<AnswerMessage>(AnswerMessageSchema);
      push(this.answers, message.requestHash, message);
    } else if (kind === 'bootstrap') {
      const message = read<BootstrapPackage>(BootstrapPackageSchema);
      push(this.bootstraps, message.quoteHash, message);
    }
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const present = map.get(key);
  if (present === undefined) map.set(key, [value]);
  else present.push(value);
}

interface File {
  name: string;
  bytes: Uint8Array;
}

async function* fromFolder(folder: string): AsyncGenerator<File> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (cause) {
    throw new DstackError('AUDIT_RECORDS', `cannot read the folder ${folder}: ${(cause as Error).message}`, {
      cause,
    });
  }
  for (const name of names
    .filter((name) => name.endsWith('.json'))
    .sort()
    .slice(0, MAX_RECORDS)) {
    const path = join(folder, name);
    const { size } = await stat(path);
    if (size <= MAX_RECORD_BYTES) yield { name, bytes: await readFile(path) };
  }
}

async function* fromRelay(base: string): AsyncGenerator<File> {
  let after = '';
  for (let seen = 0; seen < MAX_RECORDS; ) {
    const url = `${base.replace(/\/$/, '')}/v1/records`;
    const listed = await download(
      `${url}?after=${encodeURIComponent(after)}`,
      LIST_MAX_BYTES,
      'AUDIT_RECORDS',
    );
    const text = new TextDecoder().decode(listed);
    const { records } = parseJson(ListSchema, text, 'AUDIT_RECORDS', `the list of ${base}`, LIST_MAX_BYTES);
    if (records.length === 0) return;
    for (const name of records) {
      const bytes = await download(`${url}/${encodeURIComponent(name)}`, MAX_RECORD_BYTES, 'AUDIT_RECORDS');
      yield { name, bytes };
    }
    seen += records.length;
    const last = records.at(-1)!;
    if (last <= after) return;
    after = last;
  }
}
