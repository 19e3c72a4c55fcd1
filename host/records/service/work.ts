/** Work for a record, by threads of their own: whoever waits for it goes on with everything else, and can end it. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { DstackError } from '../../../lib/protocol/errors.ts';
import type { WorkPermit } from '../../../lib/protocol/records/work.ts';

/** Each has tables of 20 MiB. */
const MOST_THREADS = 8;

export interface WorkOrder {
  readonly seed: Uint8Array;
  readonly difficulty: number;
  /** Four bytes: 1 once nobody wants it any more. */
  readonly flag: SharedArrayBuffer;
}

export type WorkReport =
  | { readonly permit: WorkPermit }
  | { readonly solutions: number }
  | { readonly code: string; readonly message: string };

export interface WorkOptions {
  /** Absent: as many as there are processors, up to 8. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
  /** @param solutions that were looked at so far by all threads; as many as the difficulty are needed on average */
  readonly onProgress?: (solutions: number) => void;
}

/**
 * @param seed of `seedOf` with this difficulty
 * @throws RECORD_WORK_CANCELLED once the signal says so, and what a thread failed with
 */
export async function doWork(
  seed: Uint8Array,
  difficulty: number,
  options: WorkOptions = {},
): Promise<WorkPermit> {
  const { signal, onProgress } = options;
  const flag = new SharedArrayBuffer(4);
  const order: WorkOrder = { seed, difficulty, flag };
  const count = options.threads ?? Math.min(MOST_THREADS, availableParallelism());
  const threads = signal?.aborted
    ? []
    : Array.from(
        { length: count },
        () => new Worker(new URL('./work-thread.ts', import.meta.url), { workerData: order }),
      );
  const done = Promise.withResolvers<WorkPermit>();
  const cancel = (): void =>
    done.reject(new DstackError('RECORD_WORK_CANCELLED', 'the work was cancelled; nothing was written'));
  let solutions = 0;
  for (const thread of threads) {
    thread.on('message', (said: WorkReport) => {
      if ('permit' in said) done.resolve(said.permit);
      else if ('code' in said) done.reject(new DstackError(said.code, said.message));
      else {
        solutions += said.solutions;
        onProgress?.(solutions);
      }
    });
    thread.once('error', (error) => done.reject(error));
  }
  if (signal?.aborted) cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await done.promise;
  } finally {
    signal?.removeEventListener('abort', cancel);
    Atomics.store(new Int32Array(flag), 0, 1);
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}
