/**
 * Cuts a failing sequence to the calls that matter. Playing one takes a tenth of a second, so this tries the cuts that
 * most often work and stops: what comes after the failure goes, then steps in ever smaller runs, then single calls, then
 * what is special about those that are left.
 */
import type { Choice, Sequence, Step } from './sequence.ts';

/** What a sequence failed with, and at which of its steps; -1 before the first. */
export interface SequenceFailure {
  readonly message: string;
  readonly step: number;
}

export interface Shrunk {
  readonly sequence: Sequence;
  readonly failure: SequenceFailure;
}

/**
 * @param play plays a sequence; undefined if it does not fail
 * @param deadline when to be content, as of `Date.now()`
 */
export async function shrink(
  found: Shrunk,
  play: (sequence: Sequence) => Promise<SequenceFailure | undefined>,
  deadline: number,
): Promise<Shrunk> {
  let best = upToFailure(found);
  const attempt = async (steps: readonly Step[]): Promise<boolean> => {
    if (Date.now() > deadline) return false;
    const sequence = { ...best.sequence, steps };
    const failure = await play(sequence);
    if (failure) best = upToFailure({ sequence, failure });
    return failure !== undefined;
  };
  for (
    let run = Math.ceil(best.sequence.steps.length / 2);
    run >= 1;
    run = run === 1 ? 0 : Math.ceil(run / 2)
  ) {
    for (let at = 0; at < best.sequence.steps.length; ) {
      const { steps } = best.sequence;
      if (!(await attempt([...steps.slice(0, at), ...steps.slice(at + run)]))) at += run;
    }
  }
  for (let at = 0; at < best.sequence.steps.length; at++) {
    for (let call = 0; call < best.sequence.steps[at]!.calls.length; ) {
      const calls = best.sequence.steps[at]!.calls.filter((_, i) => i !== call);
      if (!(await attempt(replaced(best.sequence.steps, at, { calls })))) call += 1;
      if (at >= best.sequence.steps.length) break;
    }
  }
  for (let at = 0; at < best.sequence.steps.length; at++) {
    const plain = (choice: Choice): Choice => ({ ...choice, flaw: 'none', frontRun: false });
    const { calls } = best.sequence.steps[at]!;
    await attempt(replaced(best.sequence.steps, at, { calls: calls.map(plain) }));
    await attempt(replaced(best.sequence.steps, at, { wait: { until: 'seconds', seconds: 12 } }));
  }
  return best;
}

function upToFailure({ sequence, failure }: Shrunk): Shrunk {
  return { failure, sequence: { ...sequence, steps: sequence.steps.slice(0, failure.step + 1) } };
}

function replaced(steps: readonly Step[], at: number, change: Partial<Step>): readonly Step[] {
  return steps.map((step, i) => (i === at ? { ...step, ...change } : step));
}
