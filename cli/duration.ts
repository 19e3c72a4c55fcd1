/** How long something lasts, as people write it: `2d`, `12h`, `30m`, `90s`. */
import { UsageError } from './command.ts';

const UNITS: Readonly<Record<string, number>> = { d: 86_400, h: 3_600, m: 60, s: 1 };

/** Seconds: of values of records, ten years. */
export const LONGEST_AGE = 10 * 365 * 86_400;

/**
 * Seconds.
 * @param what what it is given for, such as `--delay`
 * @param most seconds; a longer one is refused
 * @param bare a number alone is seconds too, where it was in earlier releases; elsewhere nobody could tell of which unit it is
 * @throws USAGE
 */
export function parseDuration(what: string, text: string, most: number, bare?: 'seconds'): number {
  const [, count, unit = 's'] = /^([0-9]{1,11})([dhms])?$/.exec(text) ?? [];
  if (count === undefined || (bare === undefined && !text.endsWith(unit)))
    throw new UsageError(`${what} is like 2d, 12h, 30m or 90s, not ${text}`);
  const seconds = Number(count) * UNITS[unit]!;
  if (seconds > most) throw new UsageError(`${what} is ${showDuration(most)} at most, not ${text}`);
  return seconds;
}

/** The same in the largest unit that it is a whole number of. */
export function showDuration(seconds: number): string {
  const unit = ['d', 'h', 'm'].find((name) => seconds > 0 && seconds % UNITS[name]! === 0);
  return unit === undefined ? `${seconds}s` : `${seconds / UNITS[unit]!}${unit}`;
}
