/** What many want done, and for all of them once is enough, if it begins after they asked. */

/** As `task`: who asks while it runs shares, with all others who do, one run that begins when this one has ended. */
export function sharedRun<T>(task: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const begin = (): Promise<T> => {
    next = undefined;
    running = task();
    const ended = () => {
      if (next === undefined) running = undefined;
    };
    running.then(ended, ended);
    return running;
  };
  return () => {
    if (running === undefined) return begin();
    next ??= running.then(begin, begin);
    return next;
  };
}
