/** When a process that runs until it is told otherwise is told so. */
import { constants } from 'node:os';

/**
 * Ctrl-C comes twice to what `npx dstack` starts: from the terminal, to all of its group, and from the launcher, which passes it
 * on. So does systemd's SIGTERM, which goes to every process of a unit. Milliseconds within which two are one.
 */
const SAME = 500;

/** Resolves at the first SIGINT or SIGTERM. One that comes later, while things are put in order, ends the process at once. */
export function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let first: number | undefined;
    const told = (signal: NodeJS.Signals): void => {
      const now = performance.now();
      first ??= now;
      if (now - first > SAME) process.exit(128 + constants.signals[signal]);
      resolve(signal);
    };
    process.on('SIGINT', told);
    process.on('SIGTERM', told);
  });
}
