/**
 * Reads what publications say. Each costs whoever published it a transaction, and this host a call and at most one check of a message: so many in
 * each block, of one subject fewer, of every publisher one before anyone's second, the oldest first. A subject of which less was read comes first: who
 * has some requests and fills them with junk keeps none of another from being read. What is not read by the end of its subject's window never is.
 */
import { codeOf, DstackError, Retryable } from '../../../lib/protocol/errors.ts';
import { type Address, sameAddress } from '../../../lib/protocol/hex.ts';
import type { Exchange } from '../carrier.ts';
import type { Ledger } from './ledger.ts';
import { decodeMessage } from './message-bytes.ts';
import type { Publication, Publications } from './publications.ts';

export interface PublicationReaderOptions {
  exchange: Exchange;
  publications: Pick<Publications, 'bytesOf'>;
  ledger: Ledger;
  /** Who publishes for this host: that is known. */
  own: Address;
  /** A publication was read and is of no use: why, and whose. */
  onUseless(code: string, publisher: Address): void;
  limits?: Partial<ReaderLimits>;
}

export interface ReaderLimits {
  /** Publications that are read in one block: of all subjects, and of one. */
  perBlock: number;
  perSubject: number;
  /** That wait to be read. */
  waiting: number;
  /** Tries to read one that the endpoint withholds, or whose message can't be judged yet. One try a block. */
  tries: number;
}

const LIMITS: ReaderLimits = { perBlock: 32, perSubject: 8, waiting: 16_384, tries: 8 };

interface Waiting extends Publication {
  tries: number;
  /** The block at which it was tried last. */
  triedAt: number;
}

export class PublicationReader {
  readonly #options: PublicationReaderOptions;
  readonly #limits: ReaderLimits;
  /** By subject and transaction, in the order in which the chain has them. */
  readonly #waiting = new Map<string, Map<string, Waiting>>();
  /** By subject and publisher: how many were read. */
  readonly #reads = new Map<string, Map<Address, number>>();
  readonly #published: Map<string, Set<string>>;
  readonly counts = { read: 0, useless: 0, left: 0 };
  /** How many were read at this block: by subject, and '' for all. */
  #readAt = { block: -1, bySubject: new Map<string, number>() };

  constructor(options: PublicationReaderOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.#published = options.ledger.published();
  }

  /** How many wait to be read. */
  get waiting(): number {
    return [...this.#waiting.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** The types of messages about a subject that others have published; empty when nobody has. */
  published(subject: string): ReadonlySet<string> {
    return this.#published.get(subject) ?? new Set();
  }

  /** Subjects about which somebody has published something good. */
  subjects(): string[] {
    return [...this.#published.keys()];
  }

  /** Remembers those that are to be read, and forgets those about what is not open any more. */
  keep(found: readonly Publication[], isOpen: (subject: string) => boolean): void {
    for (const map of [this.#waiting, this.#reads, this.#published])
      for (const subject of map.keys()) if (!isOpen(subject)) map.delete(subject);
    let room = this.#limits.waiting - this.waiting;
    for (const publication of found) {
      const { subject, transaction, publisher } = publication;
      if (sameAddress(publisher, this.#options.own)) continue;
      const waiting = this.#waiting.get(subject) ?? new Map<string, Waiting>();
      if (waiting.has(transaction) || this.#options.ledger.hasRead(subject, transaction)) continue;
      if (room <= 0) {
        this.counts.left += 1;
        continue;
      }
      room -= 1;
      this.#waiting.set(subject, waiting.set(transaction, { ...publication, tries: 0, triedAt: -1 }));
    }
  }

  /** Reads as many as may be read at this block. @param first a subject that goes before all others */
  async read(head: number, first: string | undefined, stopped: () => boolean): Promise<void> {
    if (this.#readAt.block !== head) this.#readAt = { block: head, bySubject: new Map() };
    const had = (subject: string) =>
      [...(this.#reads.get(subject)?.values() ?? [])].reduce((sum, count) => sum + count, 0);
    const subjects = [...this.#waiting.keys()]
      .map((subject) => ({ subject, place: subject === first ? -1 : had(subject) }))
      .toSorted((a, b) => a.place - b.place)
      .map(({ subject }) => subject);
    // One of each, then another of each.
    for (let isMore = true; isMore; ) {
      isMore = false;
      for (const subject of subjects) {
        if (stopped()) return;
        const next = this.#next(subject, head);
        if (next === undefined || !this.#mayRead(subject)) continue;
        isMore = true;
        await this.#readOne(next, head);
      }
    }
  }

  #mayRead(subject: string): boolean {
    const { bySubject } = this.#readAt;
    const [all, one] = [bySubject.get('') ?? 0, bySubject.get(subject) ?? 0];
    if (all >= this.#limits.perBlock || one >= this.#limits.perSubject) return false;
    bySubject.set('', all + 1);
    bySubject.set(subject, one + 1);
    return true;
  }

  #next(subject: string, head: number): Waiting | undefined {
    const reads = this.#reads.get(subject);
    const had = ({ publisher }: Waiting) => reads?.get(publisher) ?? 0;
    return [...(this.#waiting.get(subject)?.values() ?? [])]
      .filter(({ triedAt }) => triedAt < head)
      .reduce<Waiting | undefined>(
        (best, one) => (best === undefined || had(one) < had(best) ? one : best),
        undefined,
      );
  }

  async #readOne(publication: Waiting, head: number): Promise<void> {
    const { subject, publisher } = publication;
    const reads = this.#reads.get(subject) ?? new Map<Address, number>();
    this.#reads.set(subject, reads.set(publisher, (reads.get(publisher) ?? 0) + 1));
    publication.tries += 1;
    publication.triedAt = head;
    try {
      const type = await this.#admit(publication);
      this.counts.read += 1;
      this.#published.set(subject, (this.#published.get(subject) ?? new Set()).add(type));
      this.#done(publication, type);
    } catch (error) {
      if (codeOf(error).startsWith('RPC_')) {
        // It says nothing about the publication.
        publication.tries -= 1;
        throw error;
      }
      if (error instanceof Retryable && publication.tries < this.#limits.tries) return;
      this.counts.useless += 1;
      this.#options.onUseless(codeOf(error), publisher);
      this.#done(publication);
    }
  }

  /** @returns the message's type. @throws why it is of no use; a Retryable when that is not known */
  async #admit(publication: Publication): Promise<string> {
    const { exchange, publications } = this.#options;
    const sent = decodeMessage(await publications.bytesOf(publication));
    const value = exchange.parts.atHand().whole(sent) ?? sent.message;
    if (exchange.subjectOf(value) !== publication.subject)
      throw new DstackError('CALLDATA_OTHER', 'a publication has a message about something else');
    try {
      const { entry } = await exchange.accept(value, `calldata/${publication.publisher.toLowerCase()}`);
      if (entry.sequence > 0) return entry.message.type;
    } catch (error) {
      if (!exchange.isEarly(value, codeOf(error))) throw error;
      throw new Retryable('CALLDATA_EARLY', `what it goes with is not here yet: ${codeOf(error)}`);
    }
    throw new DstackError(
      'CALLDATA_NO_PLACE',
      'a publication has a message that was refused, or for which there is no room',
    );
  }

  #done({ subject, transaction }: Publication, type?: string): void {
    this.#options.ledger.putRead(subject, transaction, type);
    this.#waiting.get(subject)?.delete(transaction);
  }
}
