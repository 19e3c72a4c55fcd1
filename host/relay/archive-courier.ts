/**
 * Fills this relay's archive with what others have and it has not: what was before it came, or while it was away. It asks the relays of its settings that are
 * connected by records, each by itself: for the names, in their order, and then for the files that the chain names (archived-item.ts). So an archive can
 * be made again from any others that have all of it between them. HTTP's peers are not asked: whoever has those copies an archive by its bundles.
 */
import type { Log } from '../../lib/daemon/log.ts';
import type { Metrics } from '../../lib/daemon/metrics.ts';
import { Rounds } from '../../lib/framework/rounds.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import {
  type ArchivedAnswer,
  decodeArchived,
  decodeNames,
  encodeQuestion,
} from '../../lib/protocol/relay-questions.ts';
import { PART_BYTES } from '../../lib/protocol/sha256-parts.ts';
import type { AskablePeer } from '../gossip/carrier.ts';
import type { Archive } from './archive.ts';
import {
  ITEM_MAX_BYTES,
  isNamedByChain,
  itemNamed,
  keepItem,
  type NamedItem,
  versionsOf,
} from './archived-item.ts';
import { inTime, Lie } from './asked-parts.ts';
import type { Network } from './network.ts';

export interface ArchiveCourierOptions {
  archive: Archive;
  network: Pick<Network, 'domain' | 'recent' | 'request' | 'foresee' | 'isConfigAllowed'>;
  askable(): readonly AskablePeer[];
  metrics: Pick<Metrics, 'count'>;
  log: Log<'info' | 'warn'>;
  bounds?: Partial<ArchiveBounds>;
}

export interface ArchiveBounds {
  /** Milliseconds from one look at who is connected to the next. */
  interval: number;
  /** From when all of a peer's names were gone through to when it is asked again; after one that failed; after one that lied. */
  again: number;
  after: number;
  leftFor: number;
  /** For each answer, and for all of one peer's before others have their turn: a peer may give everything, and that for ever. */
  within: number;
  inAll: number;
  /** Names of one peer that nobody needs, at one time. */
  strangers: number;
  /** Of these, network.jsons, of each of which the chain is asked by itself. */
  configs: number;
  /** Versions of one thing that are taken of one peer at one time (of an answer, ever), and that are kept. Each is one that an audit judges. */
  versions: number;
  versionsKept: number;
}

const BOUNDS: ArchiveBounds = {
  interval: 5_000,
  again: 3_600_000,
  after: 60_000,
  leftFor: 3_600_000,
  within: 30_000,
  inAll: 600_000,
  strangers: 4_096,
  configs: 64,
  versions: 2,
  versionsKept: 8,
};
/** Files that are on their way at once. */
const AT_ONCE = 4;

export class ArchiveCourier {
  readonly #options: ArchiveCourierOptions;
  readonly #bounds: ArchiveBounds;
  readonly #ending = new AbortController();
  /** Until when the peer at hand may be asked. */
  #until = 0;
  /** When a peer is to be asked again, by its name. */
  readonly #due = new Map<string, number>();
  readonly #rounds = new Rounds(async () => {
    await this.look();
    return this.#bounds.interval;
  });
  /**
   * Answers that were taken beside another to the same request, by who gave them and the request. Those of a former epoch can't all be judged here: its key is
   * in events only.
   */
  readonly #beside = new Map<string, number>();
  /** What answers and bootstrap packages of the archive name, once that was asked for. */
  #configs: Promise<ReadonlySet<string>> | undefined;

  constructor(options: ArchiveCourierOptions) {
    this.#options = options;
    this.#bounds = { ...BOUNDS, ...options.bounds };
  }

  start(): void {
    this.#rounds.start();
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#rounds.stop();
  }

  /** Asks those that are due. Never fails. */
  async look(): Promise<void> {
    for (const peer of this.#options.askable()) {
      if (this.#ending.signal.aborted) return;
      if ((this.#due.get(peer.peer) ?? 0) > performance.now()) continue;
      const pause = await this.#askAll(peer);
      this.#due.set(peer.peer, performance.now() + pause);
    }
  }

  /** @returns milliseconds until the peer is asked again */
  async #askAll(peer: AskablePeer): Promise<number> {
    const { log } = this.#options;
    this.#configs = undefined;
    this.#until = performance.now() + this.#bounds.inAll;
    let taken = 0;
    try {
      for await (const items of this.#lacking(peer)) taken += await this.#takeAll(peer, items);
      if (taken > 0) log.info({ peer: peer.peer, files: taken }, 'took files of the archive from a relay');
      return this.#bounds.again;
    } catch (error) {
      if (this.#ending.signal.aborted) return 0;
      const code = codeOf(error);
      this.#count(code);
      log.warn({ peer: peer.peer, code }, `its archive is not gone through: ${(error as Error).message}`);
      return error instanceof Lie ? this.#bounds.leftFor : this.#bounds.after;
    }
  }

  /** What the peer has, the chain names and is not here; a page at a time. @throws Lie for more names of no use than there may be */
  async *#lacking(peer: AskablePeer): AsyncGenerator<NamedItem[]> {
    const { archive, network } = this.#options;
    let strangers = 0;
    let configs = 0;
    const versions = new Map<string, number>();
    const named = new Map<string, number>();
    for (let after = ''; ; ) {
      const names = await this.#names(peer, after);
      const last = names.at(-1);
      if (last === undefined) return;
      after = last;
      const items = names.filter((name) => !archive.has(name)).flatMap((name) => itemNamed(name) ?? []);
      strangers += names.filter((name) => !archive.has(name)).length - items.length;
      network.foresee(items.flatMap((item) => ('subject' in item ? [item.subject] : [])));
      const wanted: NamedItem[] = [];
      for (const item of items) {
        const nth = (named.get(versionsOf(item)) ?? 0) + 1;
        named.set(versionsOf(item), nth);
        const isUnread =
          nth > this.#bounds.versionsKept || (item.kind === 'config' && ++configs > this.#bounds.configs);
        if (isUnread || !(await isNamedByChain(item, network, (config) => this.#isConfigNamed(config))))
          strangers += 1;
        else if (this.#hasRoom(peer, item, versions)) wanted.push(item);
      }
      if (strangers > this.#bounds.strangers) {
        const message = `${peer.peer} names ${strangers} files that the chain does not: the rest is not gone through`;
        throw new Lie('ARCHIVE_STRANGERS', message);
      }
      yield wanted;
    }
  }

  #hasRoom({ peer }: AskablePeer, item: NamedItem, versions: Map<string, number>): boolean {
    const prefix = versionsOf(item);
    const taken = versions.get(prefix) ?? 0;
    const { versions: most, versionsKept } = this.#bounds;
    const kept = this.#options.archive.list(prefix, versionsKept).filter((name) => name.startsWith(prefix));
    if (taken >= most || kept.length + taken >= versionsKept) return false;
    if (item.kind === 'answer' && kept.length + taken > 0) {
      const key = `${prefix}${peer}`;
      const beside = this.#beside.get(key) ?? 0;
      if (beside >= most - 1) return false;
      this.#beside.set(key, beside + 1);
    }
    versions.set(prefix, taken + 1);
    return true;
  }

  async #takeAll(peer: AskablePeer, items: readonly NamedItem[]): Promise<number> {
    let taken = 0;
    for (let at = 0; at < items.length; at += AT_ONCE) {
      const some = await Promise.all(items.slice(at, at + AT_ONCE).map((item) => this.#take(peer, item)));
      taken += some.filter((isTaken) => isTaken).length;
    }
    return taken;
  }

  /** Whether the peer gave it. @throws Lie for something else */
  async #take(peer: AskablePeer, item: NamedItem): Promise<boolean> {
    const { archive, network, log } = this.#options;
    const bytes = await this.#file(peer, item.name);
    if (bytes === undefined) {
      this.#count('ARCHIVE_WITHHELD');
      const fields = { peer: peer.peer, code: 'ARCHIVE_WITHHELD', name: item.name };
      log.warn(fields, `the relay names ${item.name} and does not give it`);
      return false;
    }
    try {
      await keepItem(item, bytes, network, archive);
    } catch (cause) {
      if (!(cause instanceof DstackError) || cause.code.startsWith('RPC_')) throw cause;
      throw new Lie(cause.code, `${peer.peer} gave as ${item.name} what is none: ${cause.message}`, {
        cause,
      });
    }
    this.#count('taken');
    return true;
  }

  async #names(peer: AskablePeer, after: string): Promise<string[]> {
    const answer = await this.#ask(peer, encodeQuestion({ kind: 'names', after }));
    return judged(peer, () => decodeNames(answer, after));
  }

  async #file(peer: AskablePeer, name: string): Promise<Uint8Array | undefined> {
    return await wholeFile(name, ITEM_MAX_BYTES, (what) => this.#ask(peer, what)).catch((cause) => {
      if (codeOf(cause) !== 'RELAY_ANSWER') throw cause;
      throw new Lie('RELAY_ANSWER', `${peer.peer}: ${(cause as Error).message}`, { cause });
    });
  }

  async #ask(peer: AskablePeer, what: Uint8Array): Promise<Uint8Array> {
    const { inAll } = this.#bounds;
    if (performance.now() > this.#until)
      throw new DstackError(
        'ARCHIVE_SLOW',
        `${peer.peer} took ${inAll / 1000} s: others have their turn first`,
      );
    return await inTime(peer.ask(what), this.#bounds.within, this.#ending.signal);
  }

  async #isConfigNamed(config: string): Promise<boolean> {
    this.#configs ??= configsNamedIn(this.#options.archive);
    return (await this.#configs).has(config);
  }

  #count(outcome: string): void {
    const help = 'Files of the archive asked of relays by records.';
    this.#options.metrics.count('dstack_relay_archive_files_total', help, { outcome });
  }
}

/**
 * A file of an archive, in as many parts as it takes; undefined where the relay does not have it.
 * @throws RELAY_ANSWER for one that is larger, or whose parts are not of one file, or smaller than they may be
 */
export async function wholeFile(
  name: string,
  most: number,
  ask: (what: Uint8Array) => Promise<Uint8Array>,
): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (let at = 0; ; ) {
    const answer = await ask(encodeQuestion({ kind: 'archived', name, at }));
    if (answer.length === 0) return undefined;
    const part: ArchivedAnswer = decodeArchived(answer);
    if (at === 0) length = part.length;
    // As many as there are: or a relay would be asked as many questions as the file has bytes.
    const isWhole = part.bytes.length === Math.min(PART_BYTES, length - at);
    at += part.bytes.length;
    if (part.length !== length || length > most || !isWhole)
      throw new DstackError(
        'RELAY_ANSWER',
        `the relay gives another ${name.slice(0, 100)} than it said: ask another`,
      );
    parts.push(part.bytes);
    if (at === length) return new Uint8Array(Buffer.concat(parts));
  }
}

function judged<T>(peer: AskablePeer, judge: () => T): T {
  try {
    return judge();
  } catch (cause) {
    if (!(cause instanceof DstackError)) throw cause;
    throw new Lie(cause.code, `${peer.peer}: ${cause.message}`, { cause });
  }
}

/** Of all answers and bootstrap packages: each says by which network.json its node was measured. */
async function configsNamedIn(archive: Pick<Archive, 'list' | 'read'>): Promise<ReadonlySet<string>> {
  const configs = new Set<string>();
  for (let after = ''; ; ) {
    const names = archive.list(after);
    if (names.length === 0) return configs;
    after = names.at(-1)!;
    for (const name of names) {
      if (!/^(answer|bootstrap)-/.test(name)) continue;
      const config = /"config": "([0-9a-f]{64})"/.exec(archive.read(name) ?? '')?.[1];
      if (config !== undefined) configs.add(config);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}
