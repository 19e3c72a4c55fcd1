/** What processes use, as the kernel counts it. */
import { readdirSync, readFileSync } from 'node:fs';

/** Microseconds of processors that these processes have used. */
export function cpuOf(pids: readonly number[]): number {
  const nanoseconds = pids
    .flatMap((pid) =>
      readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/schedstat`),
    )
    .map((path) => Number(readFileSync(path, 'utf8').split(' ')[0]));
  return nanoseconds.reduce((sum, one) => sum + one, 0) / 1000;
}

/** A process and what it started. */
export function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').map(Number))];
}
