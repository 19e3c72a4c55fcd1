/**
 * A relay's archive, asked for by records: names in pages, and files one by one, several on their way at a time. The relay needs no port for HTTP that
 * others reach. Nothing is believed of it: whoever reads a file looks at what it is.
 */
import { MessageRecords } from '../host/gossip/message-records.ts';
import { type Address, requireAddress } from '../host/records/wire/address.ts';
import { type Visit, visit } from '../host/records/wire/visitor.ts';
import { wholeFile } from '../host/relay/archive-courier.ts';
import { codeOf, DstackError } from '../lib/protocol/errors.ts';
import { decodeNames, encodeQuestion } from '../lib/protocol/relay-questions.ts';
import type { Domain } from '../lib/protocol/typed-data.ts';

const URL_FORM = /^records:\/\/(?:([0-9a-f]{64})@)?(\[[0-9a-fA-F:.]+\]|[^\s/@:[\]]+):(\d{1,5})\/?$/;
/** Files that are on their way at once. */
const AT_ONCE = 8;

/**
 * The relay's address in `records://KEY@HOST:PORT`; the key may be left out.
 * @throws WIRE_ADDRESS for a text that is none; undefined for what begins in another way
 */
export function recordsAddressOf(text: string): Address | undefined {
  if (!text.startsWith('records://')) return undefined;
  const [, key, host, port] = URL_FORM.exec(text) ?? [];
  if (host === undefined) {
    const message = `records://KEY@HOST:PORT is a relay by records, and ${text.slice(0, 200)} is none`;
    throw new DstackError('WIRE_ADDRESS', message);
  }
  const address = {
    host: host.replace(/^\[|\]$/g, ''),
    port: Number(port),
    ...(key !== undefined && { key }),
  };
  requireAddress(address, 1);
  return address;
}

export class RecordsArchive {
  readonly #visit: Visit;
  readonly #code: string;
  readonly #until: AbortSignal;
  readonly #most: number;

  private constructor(options: RecordsArchiveOptions, visit: Visit) {
    this.#visit = visit;
    this.#code = options.code;
    this.#until = options.until;
    this.#most = options.maxBytes;
  }

  /** @throws an error with `code` when there is no connection */
  static async open(options: RecordsArchiveOptions): Promise<RecordsArchive> {
    const { network } = new MessageRecords(options.domain);
    const opening = visit(options.address, network);
    // Whoever does not wait for it any more ends it all the same.
    const opened = await inTime(opening, options.until).catch((cause) => {
      void opening.then((late) => late.end()).catch(() => {});
      throw new DstackError(options.code, (cause as Error).message, { cause });
    });
    return new RecordsArchive(options, opened);
  }

  /** All names after one, a page at a time, with the name that the page comes after. @throws an error with `code` */
  async *pages(first = ''): AsyncGenerator<{ readonly after: string; readonly names: readonly string[] }> {
    for (let after = first; ; ) {
      const names = await this.#told(async () =>
        decodeNames(await this.#ask({ kind: 'names', after }), after),
      );
      const last = names.at(-1);
      if (last === undefined) return;
      yield { after, names };
      after = last;
    }
  }

  /** @throws an error with `code`, also for a file that the relay does not give */
  async file(name: string): Promise<Uint8Array> {
    const bytes = await this.#told(() => wholeFile(name, this.#most, (what) => this.#tell(what)));
    if (bytes === undefined) throw new DstackError(this.#code, 'the relay names it and does not give it');
    return bytes;
  }

  /** Those of these files that the relay gives, in their order; which of them it does not is found by `file`. */
  async *bundled(
    _after: string,
    names: readonly string[],
  ): AsyncGenerator<{ readonly name: string; readonly bytes: Uint8Array }> {
    const coming: Promise<{ name: string; bytes: Uint8Array } | undefined>[] = [];
    const begin = (name: string): void => {
      coming.push(
        this.file(name).then(
          (bytes) => ({ name, bytes }),
          () => undefined,
        ),
      );
    };
    const left = [...names];
    while (left.length > 0 || coming.length > 0) {
      while (left.length > 0 && coming.length < AT_ONCE) begin(left.shift()!);
      const found = await coming.shift();
      if (found !== undefined) yield found;
    }
  }

  async close(): Promise<void> {
    await this.#visit.end();
  }

  async #ask(question: Parameters<typeof encodeQuestion>[0]): Promise<Uint8Array> {
    return await this.#tell(encodeQuestion(question));
  }

  async #tell(what: Uint8Array): Promise<Uint8Array> {
    return await inTime(this.#visit.ask(what), this.#until);
  }

  async #told<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      throw new DstackError(this.#code, `${codeOf(cause)}: ${(cause as Error).message}`, { cause });
    }
  }
}

export interface RecordsArchiveOptions {
  readonly address: Address;
  /** Whose relay it is. */
  readonly domain: Domain;
  /** Ends whatever is being read. */
  readonly until: AbortSignal;
  /** Of whatever goes wrong. */
  readonly code: string;
  /** Of one file. */
  readonly maxBytes: number;
}

async function inTime<T>(work: Promise<T>, until: AbortSignal): Promise<T> {
  work.catch(() => {});
  const over = Promise.withResolvers<never>();
  const end = () => over.reject(new DstackError('WIRE_LATE', 'the relay took too long'));
  until.addEventListener('abort', end);
  if (until.aborted) end();
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    until.removeEventListener('abort', end);
  }
}
