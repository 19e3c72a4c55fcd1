/** A bound on how long an author's code may take: what never ends would hold up all that is behind it. */
import { Retryable } from '../protocol/errors.ts';

/**
 * @param task whose signal is aborted once nobody waits for it any more; what it does after that has no effect here
 * @param what for the message: `the handler of ping`
 * @throws Retryable OVERDUE after so many milliseconds; what `stopped` is aborted with; what the task throws
 */
export async function within<T>(
  milliseconds: number,
  what: string,
  task: (signal: AbortSignal) => Promise<T> | T,
  stopped?: AbortSignal,
): Promise<T> {
  const ended = new AbortController();
  const overdue = new Retryable(
    'OVERDUE',
    `${what} has not come to an end within ${milliseconds / 1000} s: bound what it waits for`,
  );
  const timer = setTimeout(() => ended.abort(overdue), milliseconds);
  const stop = () => ended.abort(stopped?.reason);
  stopped?.addEventListener('abort', stop);
  if (stopped?.aborted) stop();
  const gaveUp = new Promise<never>((_, reject) => {
    if (ended.signal.aborted) reject(ended.signal.reason);
    ended.signal.addEventListener('abort', () => reject(ended.signal.reason));
  });
  // Only one of the two is listened to.
  gaveUp.catch(() => {});
  try {
    return await Promise.race([(async () => task(ended.signal))(), gaveUp]);
  } finally {
    clearTimeout(timer);
    stopped?.removeEventListener('abort', stop);
  }
}
