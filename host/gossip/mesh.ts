/**
 * Which peers a relay listens to at once, and which it only looks at from time to time: the graph by which messages travel.
 *
 * Of the peers that the operator chose, a few at random are *eager*: their news are waited for, and they are told ours at once. The
 * rest are *lazy*: every few seconds they are asked what they have. If that brings a message of which no eager peer has
 * spoken, and that is good, the graph has a gap: that peer becomes eager (it is *grafted*). Few places are for such peers, and of those
 * in them the one that was of use the longest ago makes room: whoever has good messages of its own to show can have these, and none of
 * the places that went by lot. Those are lost only by peers that can't be reached. (The idea: Leitão, Pereira, Rodrigues,
 * "Epidemic Broadcast Trees", 2007.)
 */

export interface MeshPeer {
  readonly peer: string;
  /** Whether it could be reached when last tried; undefined before the first time. */
  readonly isReachable: boolean | undefined;
  /** When a message was last had from it, Unix milliseconds; 0 for never. */
  readonly usefulAt: number;
  /** It became eager: a pause of its is over. */
  hurry(): void;
}

/** Places that go by lot, and those of peers that were grafted. */
const EAGER = 6;
const GRAFTED = 2;

export class Mesh<Peer extends MeshPeer> {
  readonly #peers: readonly Peer[];
  readonly #eager: Set<Peer>;
  readonly #grafted = new Set<Peer>();
  readonly #random: () => number;

  /** @param random in [0, 1): nobody else may know the choice, or it could be had by whoever wants to be chosen */
  constructor(peers: readonly Peer[], random: () => number = Math.random) {
    this.#peers = peers;
    this.#random = random;
    this.#eager = new Set(shuffled(peers, random).slice(0, EAGER));
  }

  isEager(peer: Peer): boolean {
    return this.#eager.has(peer) || this.#grafted.has(peer);
  }

  get eager(): string[] {
    return [...this.#eager, ...this.#grafted].map(({ peer }) => peer);
  }

  /** A lazy peer has given what no eager one has spoken of. */
  graft(peer: Peer): void {
    if (this.isEager(peer)) return;
    if (this.#grafted.size >= GRAFTED) {
      this.#grafted.delete([...this.#grafted].reduce((a, b) => (b.usefulAt < a.usefulAt ? b : a)));
    }
    this.#grafted.add(peer);
    peer.hurry();
  }

  /** An eager peer can't be reached: one that may be takes its place, if there is one. */
  failed(peer: Peer): void {
    this.#grafted.delete(peer);
    if (!this.#eager.has(peer)) return;
    const others = shuffled(this.#peers, this.#random).filter((other) => !this.isEager(other));
    const next = others.find(({ isReachable }) => isReachable === true);
    if (next === undefined) return;
    this.#eager.delete(peer);
    this.#eager.add(next);
    next.hurry();
  }
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const mixed = [...items];
  for (let at = mixed.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [mixed[at], mixed[other]] = [mixed[other]!, mixed[at]!];
  }
  return mixed;
}
