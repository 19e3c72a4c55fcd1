/** Turns for the rest of the process during work that never waits for anything: the store's calls and most handlers' are of that kind. */

/** Work without a turn for the rest of the process. Milliseconds. */
const TURN_MS = 20;

/** @returns to be awaited between two pieces of work; it waits once in a while */
export function turns(): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < TURN_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  };
}
