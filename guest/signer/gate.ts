/** Whether anything may be signed now, as kubernethes said last by the chain's state: with every answer, and only for a moment. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { SignerProblem } from '../../lib/protocol/signer-status.ts';

/** An answer counts that long. It is asked for each second, and kubernethes may be started again. Milliseconds. */
export const ANSWER_COUNTS = 15_000;

export class Gate {
  readonly #now: () => number;
  #heardAt = Number.NEGATIVE_INFINITY;
  #stopped: SignerProblem | undefined;

  /** @param now milliseconds that only grow */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** @param stopped why nothing may be signed; undefined where it may */
  tell(stopped: SignerProblem | undefined): void {
    this.#heardAt = this.#now();
    this.#stopped = stopped;
  }

  stopped(): SignerProblem | undefined {
    if (this.#now() - this.#heardAt <= ANSWER_COUNTS) return this.#stopped;
    return {
      code: 'SIGNER_UNTOLD',
      message: `this node has not said for ${ANSWER_COUNTS / 1000} s that anything may be signed: the daemon that reads the contract does not answer`,
    };
  }

  /** For the chains' signers. @throws what `stopped` says */
  readonly check = (): void => {
    const stopped = this.stopped();
    if (stopped !== undefined) throw new DstackError(stopped.code, stopped.message);
  };
}
