/** Members as intake sees them: those in the index, and those that are judged but not on the disk yet, which nobody else sees. */
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import type { Member, Members } from '../../lib/protocol/records/intake.ts';
import type { MemberFacts } from '../../lib/protocol/records/membership.ts';
import type { RecordIndex } from './index.ts';
import type { Marks } from './log-format.ts';

/** A record that is to be written. */
export interface Pending extends Marks {
  readonly id: string;
  readonly record: DagRecord;
  readonly bytes: Uint8Array;
  readonly facts: MemberFacts;
}

export class PendingMembers implements Members {
  readonly #index: RecordIndex;
  readonly #pending = new Map<string, Pending>();
  readonly #marks: () => Marks;
  readonly #write: (pending: Pending) => void;

  constructor(index: RecordIndex, marks: () => Marks, write: (pending: Pending) => void) {
    this.#index = index;
    this.#marks = marks;
    this.#write = write;
  }

  has(id: string): boolean {
    return this.#pending.has(id);
  }

  factsOf = (id: string): MemberFacts | undefined => this.#pending.get(id)?.facts ?? this.#index.factsOf(id);

  lacksValue(id: string): boolean {
    const pending = this.#pending.get(id);
    if (pending !== undefined) return pending.record.value.kind === 'pruned' && !pending.discarded;
    return this.#index.rowOf(id)?.lacksValue ?? false;
  }

  add({ id, record, bytes, facts }: Member): void {
    // Whoever offered the bytes may use theirs for something else.
    const pending = { id, record, bytes: bytes.slice(), facts, ...this.#marks() };
    this.#pending.set(id, pending);
    this.#write(pending);
  }

  restore(id: string, record: DagRecord, bytes: Uint8Array): void {
    this.add({ id, record, bytes, facts: this.factsOf(id)! });
  }

  /** It is in the index; a later copy of it, with its value, may still be to come. */
  settle(pending: Pending): void {
    if (this.#pending.get(pending.id) === pending) this.#pending.delete(pending.id);
  }
}
