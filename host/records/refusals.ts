/** What was refused lately, by the hash of all of its bytes: peers that offer it again cost one hash. A bad copy's identity is the good one's, and is never held against it. */
import { sha256 } from '../../lib/protocol/encoding.ts';
import type { Verdict } from './types.ts';

/** Some 100 bytes each. */
const MOST = 10_000;

export type Refusal = Extract<Verdict, { kind: 'refused' }>;

export class Refusals {
  readonly #known = new Map<string, Refusal>();

  of(bytes: Uint8Array): Refusal | undefined {
    return this.#known.get(keyOf(bytes));
  }

  remember(bytes: Uint8Array, refusal: Refusal): void {
    this.#known.set(keyOf(bytes), refusal);
    if (this.#known.size > MOST) this.#known.delete(this.#known.keys().next().value!);
  }
}

const keyOf = (bytes: Uint8Array): string => Buffer.from(sha256(bytes)).toString('latin1');
