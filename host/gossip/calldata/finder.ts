/**
 * Finds publications about what is open on chain. Nothing is asked while nothing is open; then once about all blocks of the request window, which
 * may have publications from before this host knew of the subject, and further on only about blocks that say of themselves that they may have
 * some. So that an endpoint whose blocks say it wrongly can only delay one, the last blocks are read now and then all the same.
 */
import type { Publication, Publications } from './publications.ts';

/** Blocks that are read again with new ones: logs may be shown later than their block, and a re-organisation may have replaced it. */
const REREAD = 16;
/** Blocks that are read again after a re-organisation. */
const REWIND = 64;
/** After a block that says that it has some, so many heads are read whatever they say. */
const UNQUIET_HEADS = 2;

export class PublicationFinder {
  readonly #publications: Publications;
  #followed: ReadonlySet<string> = new Set();
  /** The last block that was looked at, and the last one that was asked about. */
  #lookedTo = 0;
  #askedAt = 0;
  #unquietUntil = 0;
  #breaks: number;

  constructor(publications: Publications) {
    this.#publications = publications;
    this.#breaks = publications.rpc.heads.breaks;
  }

  /**
   * Publications that may be new; some are given again.
   * @param subjects that are open. @param lookback blocks before `head` in which there may be any about a new one
   */
  async look(subjects: ReadonlySet<string>, head: number, lookback: number): Promise<Publication[]> {
    const known = [...subjects].filter((subject) => this.#followed.has(subject));
    const fresh = [...subjects].filter((subject) => !this.#followed.has(subject));
    const found: Publication[] = [];
    if (fresh.length > 0) found.push(...(await this.#about(fresh, head - lookback, head)));
    if (known.length > 0) found.push(...(await this.#aboutKnown(known, head)));
    // Only now: what was not answered is asked again.
    this.#followed = new Set(subjects);
    this.#lookedTo = head;
    return found;
  }

  async #aboutKnown(subjects: readonly string[], head: number): Promise<Publication[]> {
    const { breaks } = this.#publications.rpc.heads;
    const isOther = breaks !== this.#breaks || head < this.#lookedTo;
    if (!this.#publications.isQuiet(this.#lookedTo + 1, head)) this.#unquietUntil = head + UNQUIET_HEADS;
    else if (!isOther && head >= this.#unquietUntil && head - this.#askedAt < REREAD) return [];
    const again = isOther ? REWIND : REREAD;
    const found = await this.#about(subjects, Math.min(this.#lookedTo, head) + 1 - again, head);
    this.#breaks = breaks;
    this.#askedAt = head;
    return found;
  }

  #about(subjects: readonly string[], from: number, to: number): Promise<Publication[]> {
    return this.#publications.about(subjects, Math.max(0, from), to);
  }
}
