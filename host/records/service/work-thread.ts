/** A thread that does work for a record until it is done, or until the flag in shared memory is set. work.ts starts it. */
import { parentPort, workerData } from 'node:worker_threads';
import { codeOf } from '../../../lib/protocol/errors.ts';
import { solveWork } from '../../../lib/protocol/records/work.ts';
import type { WorkOrder, WorkReport } from './work.ts';

const { seed, difficulty, flag } = workerData as WorkOrder;
const ended = new Int32Array(flag);
const report = (said: WorkReport): void => parentPort!.postMessage(said);
let seen = 0;
try {
  const permit = solveWork(seed, difficulty, {
    isCancelled: () => Atomics.load(ended, 0) === 1,
    onProgress({ solutions }) {
      if (solutions > seen) report({ solutions: solutions - seen });
      seen = solutions;
    },
  });
  report({ permit });
} catch (error) {
  report({ code: codeOf(error), message: (error as Error).message });
}
