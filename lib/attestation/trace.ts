/** What a verifier writes down as it goes, so that a refusal can be shown together with what held before it. */
import type { TcbStatus } from './tcb/tcb-status.ts';

/** One check. A warning is something that Intel's rules allow and a policy should look at. */
export interface Step {
  readonly name: string;
  readonly outcome: 'passed' | 'warning';
  /** The evidence, for a person. */
  readonly detail: string;
}

export class Trace {
  readonly steps: Step[] = [];
  /** As soon as it is known, also when policy refuses it afterwards. */
  status: TcbStatus | null = null;
  advisories: readonly string[] = [];
  readonly #onStep: ((step: Step) => void) | undefined;

  constructor(onStep?: (step: Step) => void) {
    this.#onStep = onStep;
  }

  passed(name: string, detail: string): void {
    this.#add({ name, outcome: 'passed', detail });
  }

  warning(name: string, detail: string): void {
    this.#add({ name, outcome: 'warning', detail });
  }

  #add(step: Step): void {
    this.steps.push(step);
    this.#onStep?.(step);
  }
}
