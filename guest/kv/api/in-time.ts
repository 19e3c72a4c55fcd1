/** What a client sends, for as long as it keeps on sending: one that stops half way, or sends a byte now and then, holds memory of what all share. */
import type { Readable } from 'node:stream';
import { RpcError, status } from '../../../lib/etcd/errors.ts';

/**
 * The chunks of a request.
 * @param since when the message began that is not complete, by `performance.now`; undefined while there is none
 * @param within how long it may be waited for, milliseconds; what is done meanwhile with an earlier one does not count
 * @throws RpcError deadline exceeded
 */
export async function* inTime(
  from: Pick<Readable, 'iterator'>,
  since: () => number | undefined,
  within: number,
): AsyncGenerator<Buffer> {
  const chunks = from.iterator({ destroyOnReturn: false });
  let message: number | undefined;
  let left = within;
  try {
    for (;;) {
      const begun = since();
      if (begun !== message) left = within;
      message = begun;
      const asked = performance.now();
      const next = chunks.next();
      const { done, value } = await (begun === undefined ? next : before(left, next));
      left -= performance.now() - asked;
      if (done === true) return;
      yield value as Buffer;
    }
  } finally {
    // Not waited for: it ends when the chunk has come that it waits for, or the client has gone.
    chunks.return?.().catch(() => {});
  }
}

async function before<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const refuse = () => reject(new RpcError(status.deadlineExceeded, 'no message came'));
    timer = setTimeout(refuse, Math.max(0, milliseconds));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
