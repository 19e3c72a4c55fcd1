/** Something that did not work, why, and when it is tried again. */
import { codeOf } from '../../lib/protocol/errors.ts';

const FIRST_PAUSE = 2_000;
const LONGEST_PAUSE = 60_000;

export interface Setback {
  readonly code: string;
  readonly message: string;
  readonly attempts: number;
  /** By the monotonic clock, milliseconds. */
  readonly notBefore: number;
  /** The last lines of containers whose manifest makes their logs public, by the container's name. */
  readonly logs?: Readonly<Record<string, string[]>>;
}

/** The next one after `before`: pauses double, up to a minute. */
export function setback(before: Setback | undefined, error: unknown, now: number): Setback {
  const attempts = (before?.attempts ?? 0) + 1;
  const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(attempts - 1, 10));
  return { code: codeOf(error), message: (error as Error).message, attempts, notBefore: now + pause };
}
