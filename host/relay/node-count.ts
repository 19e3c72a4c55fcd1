/**
 * How many nodes a network has, as far as this relay has seen: each `Onboarded` event, and the first node, which has none. Kept across
 * restarts, with the events that were counted: they are looked at again until nothing is left to do about them. A relay that is
 * new has seen few, and takes its turn to answer earlier than it would have to: work, not harm.
 */
import { type Store, Table } from '../../lib/framework/store.ts';
import { Count, Strict } from '../../lib/protocol/schema.ts';

const CountSchema = Strict({ onboarded: Count });
const SeenSchema = Strict({ nth: Count });
/** Events that are told from new ones when they come again. */
const MAX_SEEN = 4096;

export class NodeCount {
  readonly #store: Store;
  readonly #table: Table<typeof CountSchema>;
  readonly #seenTable: Table<typeof SeenSchema>;
  /** In the order in which they were counted. */
  readonly #seen: Set<string>;

  constructor(store: Store) {
    this.#store = store;
    this.#table = new Table(store, 'nodes/', CountSchema);
    this.#seenTable = new Table(store, 'nodes/seen/', SeenSchema);
    const { sound } = this.#seenTable.sift({ limit: MAX_SEEN });
    this.#seen = new Set(sound.toSorted((a, b) => a.value.nth - b.value.nth).map(({ id }) => id));
  }

  get nodes(): number {
    return 1 + (this.#table.get('count')?.onboarded ?? 0);
  }

  /** Whether a request's node was seen to be onboarded, not long ago. */
  has(requestHash: string): boolean {
    return this.#seen.has(requestHash);
  }

  /** A node was onboarded; false when that is known. @param requestHash by which the event is known */
  saw(requestHash: string): boolean {
    if (this.#seen.has(requestHash)) return false;
    const { nodes } = this;
    const [oldest] = this.#seen.size >= MAX_SEEN ? this.#seen : [];
    this.#store.batch([
      this.#table.putting('count', { onboarded: nodes }),
      this.#seenTable.putting(requestHash, { nth: nodes }),
      ...(oldest === undefined ? [] : [this.#seenTable.deleting(oldest)]),
    ]);
    if (oldest !== undefined) this.#seen.delete(oldest);
    this.#seen.add(requestHash);
    return true;
  }
}
