/** A worker thread that does work until it is done, or until the flag in shared memory is set; answers with the permit, or the code of what it was refused for. */
import { parentPort, workerData } from 'node:worker_threads';
import { codeOf } from '../errors.ts';
import { solveWork } from './work.ts';

const { seed, difficulty, flag } = workerData as {
  seed: Uint8Array;
  difficulty: number;
  flag: SharedArrayBuffer;
};
const cancelled = new Int32Array(flag);
try {
  const permit = solveWork(seed, difficulty, {
    isCancelled: () => Atomics.load(cancelled, 0) === 1,
    onProgress: (progress) => parentPort!.postMessage({ progress }),
  });
  parentPort!.postMessage({ permit });
} catch (error) {
  parentPort!.postMessage({ code: codeOf(error) });
}
