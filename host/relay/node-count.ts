/**
 * How many nodes a network has, as far as this relay has seen: each `Onboarded` event, and the first node, which has none. Kept across
 * restarts. A relay that is new has seen few, and takes its turn to answer earlier than it would have to: work, not harm.
 */
import { type Store, Table } from '../../lib/framework/store.ts';
import { Count, Strict } from '../../lib/protocol/schema.ts';

const CountSchema = Strict({ onboarded: Count });
/** Events that are told from new ones when they come again. */
const MAX_SEEN = 4096;

export class NodeCount {
  readonly #table: Table<typeof CountSchema>;
  readonly #seen = new Set<string>();

  constructor(store: Store) {
    this.#table = new Table(store, 'nodes/', CountSchema);
  }

  get nodes(): number {
    return 1 + (this.#table.get('count')?.onboarded ?? 0);
  }

  /** Whether a request's node was seen to be onboarded, not long ago and by this process. */
  has(requestHash: string): boolean {
    return this.#seen.has(requestHash);
  }

  /** A node was onboarded; false when that is known. @param requestHash by which the event is known */
  saw(requestHash: string): boolean {
    if (this.#seen.has(requestHash)) return false;
    this.#seen.add(requestHash);
    if (this.#seen.size > MAX_SEEN) this.#seen.delete(this.#seen.values().next().value!);
    this.#table.put('count', { onboarded: this.nodes });
    return true;
  }
}
