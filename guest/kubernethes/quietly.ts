/** For what must not hide or undo what happened before: that it failed goes into the log, and nothing is thrown. */
import type { Log } from '../../lib/daemon/log.ts';
import { codeOf } from '../../lib/protocol/errors.ts';

/** @param what was tried, as the log calls it */
export async function quietly(
  { log, app }: { readonly log: Log; readonly app: string },
  action: () => Promise<unknown>,
  what = 'clean-up',
): Promise<void> {
  try {
    await action();
  } catch (error) {
    log.warn({ app, code: codeOf(error) }, `${what}: ${(error as Error).message}`);
  }
}
