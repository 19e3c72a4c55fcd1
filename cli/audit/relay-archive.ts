/**
 * A relay's archive, over HTTP: names in pages, and files one by one or many in a bundle (host/relay/archive-routes.ts). A relay of an
 * earlier release has no bundles, and one that spoils them has none for this audit: the files are then asked for one by one.
 */
import { extract } from 'tar-stream';
import { Type } from 'typebox';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import { download } from '../download.ts';
import { MAX_RECORD_BYTES } from './record.ts';

const ListSchema = Type.Object({ records: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 1000 }) });
const LIST_MAX_BYTES = 256 * 1024;
/** A bundle has a megabyte of files, or one that is larger, and its headers. */
const BUNDLE_MAX_BYTES = 2 * MAX_RECORD_BYTES;
/** For fewer files than this of a page no bundle is asked for: most of it would be of no use. */
const WORTH_A_BUNDLE = 32;

export interface ArchivedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export class RelayArchive {
  readonly #url: string;
  readonly #overdue: AbortSignal;
  #hasBundles = true;

  /** @param overdue ends whatever is being read */
  constructor(relay: string, overdue: AbortSignal) {
    this.#url = `${relay.replace(/\/$/, '')}/v1/records`;
    this.#overdue = overdue;
  }

  /** All names, a page at a time, with the name that the page comes after. @throws AUDIT_RECORDS */
  async *pages(): AsyncGenerator<{ readonly after: string; readonly names: readonly string[] }> {
    for (let after = ''; ; ) {
      const bytes = await this.#get(`?after=${encodeURIComponent(after)}`, LIST_MAX_BYTES);
      const text = new TextDecoder().decode(bytes);
      const { records } = parseJson(ListSchema, text, 'AUDIT_RECORDS', 'its list', LIST_MAX_BYTES);
      const last = records.at(-1);
      if (last === undefined) return;
      if (last <= after) throw new DstackError('AUDIT_RECORDS', `its list does not continue after ${after}`);
      yield { after, names: records };
      after = last;
    }
  }

  /** One file. @throws AUDIT_RECORDS */
  file(name: string): Promise<Uint8Array> {
    return this.#get(`/${encodeURIComponent(name)}`, MAX_RECORD_BYTES);
  }

  /**
   * Those of these files that come in bundles, each once: all of them, some or none.
   * @param after the name that their page comes after
   */
  async *bundled(after: string, names: readonly string[]): AsyncGenerator<ArchivedFile> {
    if (names.length < WORTH_A_BUNDLE) return;
    const left = new Set(names);
    const end = names.reduce((last, name) => (name > last ? name : last));
    while (this.#hasBundles && left.size > 0) {
      let found: readonly ArchivedFile[];
      try {
        found = await this.#bundle(after);
      } catch (error) {
        if (codeOf(error) !== 'AUDIT_RECORDS' || this.#overdue.aborted) throw error;
        this.#hasBundles = false;
        return;
      }
      const last = found.at(-1)?.name;
      if (last === undefined) return;
      for (const file of found) if (left.delete(file.name)) yield file;
      if (last >= end) return;
      after = last;
    }
  }

  /** The next bundle. @throws AUDIT_RECORDS for what is none, or does not go on */
  async #bundle(after: string): Promise<readonly ArchivedFile[]> {
    const bytes = await this.#get(`?bundle=${encodeURIComponent(after)}`, BUNDLE_MAX_BYTES);
    const files: ArchivedFile[] = [];
    let last = after;
    for await (const { header, ...entry } of entriesOf(bytes)) {
      if (header.type !== 'file' || header.name <= last) {
        throw new DstackError('AUDIT_RECORDS', 'its bundle is not of files in order');
      }
      last = header.name;
      files.push({ name: last, bytes: entry.bytes });
    }
    return files;
  }

  #get(path: string, maxBytes: number): Promise<Uint8Array> {
    return download(`${this.#url}${path}`, maxBytes, 'AUDIT_RECORDS', this.#overdue);
  }
}

/** @throws AUDIT_RECORDS for what is no tar archive */
async function* entriesOf(tar: Uint8Array) {
  const reader = extract();
  reader.end(tar);
  try {
    for await (const entry of reader) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry) chunks.push(chunk as Uint8Array);
      yield { header: entry.header, bytes: Buffer.concat(chunks) };
    }
  } catch (cause) {
    throw new DstackError('AUDIT_RECORDS', 'its bundle is no tar archive', { cause });
  }
}
