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

/** What one peer may be asked for. */
interface Queue {
  /** In the order in which it was offered. */
  readonly ids: Set<string>;
  /** Of these, what the peer announced, in its order: each after what it stands on, if the peer is honest. */
  readonly announced: Set<string>;
  /** Of these, what is asked for before all others, the last one first. What is not in `ids` any more means nothing. */
  first: string[];
}

export class Fetcher {
  readonly #lacking = new Map<string, Lacking>();
  readonly #queues = new Map<string, Queue>();
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
    return this.#queues.get(peer)?.ids.size ?? 0;
  }

  /**
   * What is above the limit is left out; a later reconciliation finds it.
   * @param how `first` is what others of this peer's stand on: asked for before all else, the last one first, and with room of its own. Then follows
   *   what it announced, and last what only a comparison found, which is in the order of time alone
   */
  offer(peer: string, ids: Iterable<string>, how: 'first' | 'announced' | 'found' = 'found'): void {
    const queue = this.#queues.get(peer) ?? { ids: new Set(), announced: new Set(), first: [] };
    this.#queues.set(peer, queue);
    for (const id of ids) {
      if (how !== 'first' && !queue.ids.has(id) && queue.ids.size >= this.#limit) return;
      const lacking = this.#lacking.get(id) ?? { offers: new Set(), asked: undefined };
      if (lacking.asked === peer) continue;
      if (!lacking.offers.has(peer)) {
        if (lacking.offers.size >= MAX_OFFERS) continue;
        if (queue.ids.size >= 2 * this.#limit) this.#withdraw(peer, queue.ids.values().next().value!);
        this.#lacking.set(id, lacking);
        lacking.offers.add(peer);
        queue.ids.add(id);
      }
      if (how === 'first') queue.first.push(id);
      if (how === 'announced') queue.announced.add(id);
    }
    if (queue.first.length > 2 * this.#limit) queue.first = queue.first.slice(-this.#limit);
  }

  /** Up to so many that this peer is to be asked for now. */
  take(peer: string, count: number): string[] {
    const queue = this.#queues.get(peer);
    const taken: string[] = [];
    if (queue === undefined) return taken;
    const take = (id: string): void => {
      const lacking = this.#lacking.get(id);
      if (!queue.ids.has(id) || lacking === undefined || lacking.asked !== undefined) return;
      this.#unqueue(peer, id);
      lacking.offers.delete(peer);
      lacking.asked = peer;
      taken.push(id);
    };
    while (taken.length < count && queue.first.length > 0) take(queue.first.pop()!);
    for (const ids of [queue.announced, queue.ids]) {
      for (const id of ids) {
        if (taken.length >= count) break;
        take(id);
      }
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
    for (const id of this.#queues.get(peer)?.ids ?? []) this.#withdraw(peer, id);
    this.#queues.delete(peer);
    const others = new Set<string>();
    for (const [id, { asked }] of this.#lacking) {
      if (asked === peer) for (const other of this.failed(peer, id)) others.add(other);
    }
    return [...others];
  }

  /** The peer is not to be asked for it. */
  #withdraw(peer: string, id: string): void {
    this.#unqueue(peer, id);
    const lacking = this.#lacking.get(id)!;
    lacking.offers.delete(peer);
    if (lacking.asked === undefined && lacking.offers.size === 0) this.#lacking.delete(id);
  }

  #unqueue(peer: string, id: string): void {
    const queue = this.#queues.get(peer);
    queue?.ids.delete(id);
    queue?.announced.delete(id);
  }
}
