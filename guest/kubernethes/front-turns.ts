/**
 * Whether the front has done what it was told. It asks where requests go, each answer has a turn, and with its next question it says
 * which turn it is like. Containers that it led to are stopped only after that, or the front would still send visitors to them.
 */
import { randomBytes } from 'node:crypto';

export class FrontTurns {
  /** Another run of this daemon has other turns. */
  readonly #run = randomBytes(8).toString('hex');
  #given = 0;
  #done = 0;

  /** The turn of the answer that is given now. */
  next(): string {
    this.#given += 1;
    return `${this.#run}-${this.#given}`;
  }

  /** The front is like the answer of this turn. One of an earlier run says nothing. */
  done(turn: string): void {
    const [run, number] = turn.split('-');
    if (run === this.#run) this.#done = Math.max(this.#done, Math.min(Number(number), this.#given));
  }

  /** Asks later whether the front is like an answer that was given after now. */
  mark(): () => boolean {
    const given = this.#given;
    return () => this.#done > given;
  }
}
