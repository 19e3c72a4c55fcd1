/**
 * The one truth about what a key signed last: a record in the store, replaced by compare-and-swap before anything is signed. No lease,
 * no lock and no clock is relied on: of two that sign with one key, one replaces the record, and the other one sees what is there now.
 *
 * What the last answer of the store said is kept, so that one round trip is enough; it is only ever compared with, and every signature
 * has an answer of the store of its own. The furthest state that the store ever showed is kept too: a store that says less than that was
 * put back to an old copy, and on its word nothing is signed.
 */
import {
  compare,
  type Decision,
  decide,
  decodeState,
  encodeState,
  requireForward,
  type SignState,
} from '../../lib/cometbft/sign-state.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Records, Stored } from './records.ts';

/** Between two tries of a store that does not answer. Milliseconds. */
const PAUSE_MS = 40;

interface Known {
  readonly state: SignState;
  readonly stored: Stored;
}

export class LastSigned {
  readonly #records: Records;
  /** Of the record. */
  readonly key: string;
  readonly #pause: () => Promise<void>;
  #known: Known | undefined;
  #furthest: SignState | undefined;

  /** @param key of the record */
  constructor(
    records: Records,
    key: string,
    pause = () => new Promise<void>((resolve) => setTimeout(resolve, PAUSE_MS)),
  ) {
    this.#records = records;
    this.key = key;
    this.#pause = pause;
  }

  /** For the status: as the store last said. */
  get state(): SignState | undefined {
    return this.#furthest;
  }

  /** The record by a quorum. @throws SIGN_STATE_MISSING, SIGN_STATE, STORE_RESTORED, STORE_WENT_BACK, and the store's errors */
  async read(signal?: AbortSignal): Promise<SignState> {
    return (await this.#read(signal)).state;
  }

  /**
   * What may be signed for a request, once the record says so.
   * @throws SIGN_REGRESSION, SIGN_CONFLICT, SIGN_STATE_MISSING, SIGN_STATE, STORE_RESTORED, STORE_WENT_BACK; STORE_UNAVAILABLE when the signal aborts
   * before the store has answered. Then it is unknown whether the record says so, and nothing may be signed.
   */
  async permit(asked: SignState, signal: AbortSignal): Promise<Decision> {
    // What was heard before serves as a guess of the revision. A refusal by it is as good as by the record: that only goes forward.
    let known = this.#known;
    let isFresh = false;
    for (;;) {
      try {
        if (known === undefined) {
          known = await this.#read(signal);
          isFresh = true;
        }
        const decision = decide(known.state, asked);
        if (decision.write !== undefined) {
          const swapped = await this.#swap(known.stored, decision.write, signal);
          if (swapped === undefined) return decision;
          known = swapped;
          isFresh = true;
        } else if (isFresh) return decision;
        else known = undefined;
      } catch (error) {
        if (isFinal(error)) throw error;
        // The swap may have taken place, or may still: the record says which.
        this.#known = undefined;
        known = undefined;
        if (signal.aborted) throw unavailable(error);
        await this.#pause();
        if (signal.aborted) throw unavailable(error);
      }
    }
  }

  /** Undefined when it is written; else what is there. */
  async #swap(before: Stored, state: SignState, signal: AbortSignal): Promise<Known | undefined> {
    const value = encodeState(state);
    const seen = this.#furthest;
    const swapped = await this.#records.swap(this.key, before, value, signal);
    if (!swapped.written) return this.#learn(swapped.current, seen);
    this.#know({ state, stored: { value, revision: swapped.revision } });
    return undefined;
  }

  async #read(signal?: AbortSignal): Promise<Known> {
    const seen = this.#furthest;
    return this.#learn(await this.#records.read(this.key, signal), seen);
  }

  /** @param seen what was known before the store was asked: its answer is no older */
  #learn(stored: Stored | undefined, seen: SignState | undefined): Known {
    this.#known = undefined;
    if (stored === undefined) {
      throw new DstackError(
        'SIGN_STATE_MISSING',
        'the store has no record of what this key signed: `dstack signer state import` makes one',
      );
    }
    const state = decodeState(stored.value);
    if (seen !== undefined) requireForward(seen, state);
    return this.#know({ state, stored });
  }

  /** Answers may come in another order than that in which the store gave them. */
  #know(known: Known): Known {
    if (this.#furthest !== undefined && compare(known.state, this.#furthest) < 0) return known;
    this.#known = known;
    this.#furthest = known.state;
    return known;
  }
}

const FINAL = [
  'SIGN_REGRESSION',
  'SIGN_CONFLICT',
  'SIGN_STATE_MISSING',
  'SIGN_STATE',
  'STORE_RESTORED',
  'STORE_WENT_BACK',
];

function isFinal(error: unknown): boolean {
  return error instanceof DstackError && FINAL.includes(error.code);
}

function unavailable(cause: unknown): DstackError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DstackError(
    'STORE_UNAVAILABLE',
    `the store did not answer in time, and nothing is signed without it: ${why}`,
    {
      cause,
    },
  );
}
