/**
 * Which records this node lacks, who said to have them, and who is asked: each record travels once, however many peers offer it, and if
 * the one that was asked does not give it, the next is.
 */

/** Of one record, so many peers are remembered. */
const MAX_OFFERS = 8;

interface Lacking {
  /** Who offered it, and was not asked yet. */
  readonly offers: Set<string>;
  asked: string | undefined;
}

export class Fetcher {
  readonly #lacking = new Map<string, Lacking>();
  /** Of each peer, what it may be asked for, in the order in which it was offered. */
  readonly #queues = new Map<string, Set<string>>();
  readonly #limit: number;

  /** @param limit how many records one peer can offer before this node has them */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many records this node lacks and somebody offers. */
  get size(): number {
    return this.#lacking.size;
  }

  /** How many of a peer's are left to ask for. */
  queued(peer: string): number {
    return this.#queues.get(peer)?.size ?? 0;
  }

  /** What is above the limit is left out; a later reconciliation finds it. */
  offer(peer: string, ids: Iterable<string>): void {
    const queue = this.#queues.get(peer) ?? new Set();
    this.#queues.set(peer, queue);
    for (const id of ids) {
      if (queue.size >= this.#limit) return;
      const lacking = this.#lacking.get(id) ?? { offers: new Set(), asked: undefined };
      if (lacking.asked === peer || lacking.offers.size >= MAX_OFFERS) continue;
      this.#lacking.set(id, lacking);
      lacking.offers.add(peer);
      queue.add(id);
    }
  }

  /** Up to so many that this peer is to be asked for now. */
  take(peer: string, count: number): string[] {
    const taken: string[] = [];
    for (const id of this.#queues.get(peer) ?? []) {
      if (taken.length >= count) break;
      const lacking = this.#lacking.get(id)!;
      if (lacking.asked !== undefined) continue;
      this.#unqueue(peer, id);
      lacking.offers.delete(peer);
      lacking.asked = peer;
      taken.push(id);
    }
    return taken;
  }

  /** It is here, or is not to be asked for any more. */
  done(id: string): void {
    for (const peer of this.#lacking.get(id)?.offers ?? []) this.#unqueue(peer, id);
    this.#lacking.delete(id);
  }

  /** The peer that was asked does not have it. @returns who offered it as well */
  failed(peer: string, id: string): string[] {
    const lacking = this.#lacking.get(id);
    if (lacking === undefined) return [];
    if (lacking.asked === peer) lacking.asked = undefined;
    if (lacking.asked === undefined && lacking.offers.size === 0) this.#lacking.delete(id);
    return [...lacking.offers];
  }

  /** The peer is gone. @returns who offered what it was asked for */
  gone(peer: string): string[] {
    for (const id of this.#queues.get(peer) ?? []) {
      const lacking = this.#lacking.get(id)!;
      lacking.offers.delete(peer);
      if (lacking.asked === undefined && lacking.offers.size === 0) this.#lacking.delete(id);
    }
    this.#queues.delete(peer);
    const others = new Set<string>();
    for (const [id, { asked }] of this.#lacking) {
      if (asked === peer) for (const other of this.failed(peer, id)) others.add(other);
    }
    return [...others];
  }

  #unqueue(peer: string, id: string): void {
    this.#queues.get(peer)?.delete(id);
  }
}
