import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { blake2b } from '@noble/hashes/blake2.js';
import { beforeAll, describe, expect, test } from 'vitest';
import vectors from '../../../testdata/protocol/records.json' with { type: 'json' };
import { fromHex, toHex, utf8 } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import { decodeRecord, encodeRecord } from './codec.ts';
import { isSolution, packIndices, unpackIndices } from './equihash.ts';
import { EquihashSolver } from './equihash-solver.ts';
import type { DagRecord } from './format.ts';
import { bodyHash, withoutValue, workSeed } from './identity.ts';
import { type Permitter, withCertificate } from './make.ts';
import { verifyAlone } from './membership.ts';
import { ALICE, networkOf, write } from './network.fixture.ts';
import { bytesOf, recordOf } from './records.fixture.ts';
import { billableBytes, priceOf, solveWork, verifyWork, type WorkPermit, type WorkProgress } from './work.ts';

const seed = bytesOf('seed');
const zeroNonce = new Uint8Array(16);

const outcome = (action: () => unknown): string => {
  try {
    action();
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};

test.each(vectors.work)('vector: difficulty $difficulty', (vector) => {
  const permit = solveWork(fromHex(vector.seed), vector.difficulty, { firstNonce: zeroNonce });
  expect(toHex(permit.nonce)).toBe(vector.nonce);
  expect(toHex(permit.solution)).toBe(vector.solution);
  expect(isSolution(fromHex(vector.seed), permit.nonce, permit.solution)).toBe(true);
});

describe('a solution', () => {
  let solutions: { nonce: Uint8Array; solution: Uint8Array }[];
  let indices: number[];
  const holds = (changed: readonly number[], at = 0) =>
    isSolution(seed, solutions[at]!.nonce, packIndices(changed));
  beforeAll(() => {
    const solver = new EquihashSolver();
    solutions = [0, 1, 2].flatMap((last) => {
      const nonce = zeroNonce.with(15, last);
      return solver.solutions(seed, nonce).map((solution) => ({ nonce, solution }));
    });
    indices = unpackIndices(solutions[0]!.solution);
  });

  test('is found for most nonces, and each that is found is one', () => {
    expect(solutions.length).toBeGreaterThan(2);
    for (const { nonce, solution } of solutions) {
      expect(isSolution(seed, nonce, solution)).toBe(true);
      expect(toHex(packIndices(unpackIndices(solution)))).toBe(toHex(solution));
    }
  });

  test('is 32 different indices whose hashes cancel out, by a plain reading of the description', () => {
    for (const { nonce, solution } of solutions) {
      const chosen = unpackIndices(solution);
      expect(new Set(chosen).size).toBe(32);
      const sum = new Uint8Array(12);
      for (const index of chosen) {
        const input = Buffer.concat([seed, nonce, Buffer.alloc(4)]);
        input.writeUInt32LE(Math.floor(index / 5), 48);
        const personalization = Buffer.from('44737461636b505760000000' + '05000000', 'hex');
        const hash = blake2b(input, { dkLen: 60, personalization }).subarray((index % 5) * 12);
        for (let i = 0; i < 12; i++) sum[i]! ^= hash[i]!;
      }
      expect(toHex(sum)).toBe('00'.repeat(12));
    }
  });

  test('has one spelling: no half of any subtree can change places with the other', () => {
    expect(holds(indices)).toBe(true);
    for (let width = 1; width < 32; width *= 2) {
      for (let at = 0; at < 32; at += 2 * width) {
        const turned = [
          ...indices.slice(0, at),
          ...indices.slice(at + width, at + 2 * width),
          ...indices.slice(at, at + width),
          ...indices.slice(at + 2 * width),
        ];
        expect(holds(turned)).toBe(false);
      }
    }
  });

  test('is found by rounds: the same hashes in another tree are none', () => {
    const sorted = indices.toSorted((a, b) => a - b);
    expect(sorted).not.toEqual(indices);
    expect(holds(sorted)).toBe(false);
  });

  test('has no index twice: what cancels out by itself is no work', () => {
    const pairs = Array.from({ length: 32 }, (_, i) => i >> 1);
    expect(holds(pairs)).toBe(false);
    const halves = [...indices.slice(0, 16), ...indices.slice(0, 16)];
    expect(holds(halves)).toBe(false);
    const again = Array.from({ length: 8 }, () => indices.slice(0, 4)).flat();
    expect(holds(again)).toBe(false);
  });

  test('is of one seed and one nonce, and changes in no bit', () => {
    const { nonce, solution } = solutions[0]!;
    expect(isSolution(bytesOf('other'), nonce, solution)).toBe(false);
    expect(isSolution(seed, nonce.with(0, 1), solution)).toBe(false);
    for (const at of [0, 20, 40, 67]) {
      expect(isSolution(seed, nonce, solution.with(at, solution[at]! ^ 1))).toBe(false);
    }
    expect(isSolution(seed, nonce, solution.subarray(1))).toBe(false);
    expect(isSolution(seed, nonce, Uint8Array.from([...solution, 0]))).toBe(false);
  });
});

describe('work for a record', () => {
  const links = [bytesOf('one'), bytesOf('two')];
  const worker =
    (difficulty: number): Permitter =>
    (seedFor) =>
      solveWork(seedFor(difficulty), difficulty, { firstNonce: zeroNonce });
  const genesis = networkOf();
  let record: DagRecord;
  let permit: WorkPermit;
  beforeAll(() => {
    record = write(ALICE, { links }, worker(1));
    permit = record.permit as WorkPermit;
  });

  test('lets it in, travelled and pruned too', () => {
    for (const form of [record, decodeRecord(encodeRecord(record)), withoutValue(record)]) {
      expect(outcome(() => verifyAlone(form, genesis))).toBe('accepted');
    }
  });

  test('is for this record: not for another value, owner, claim or difficulty', () => {
    expect(outcome(() => verifyWork(record, permit))).toBe('accepted');
    for (const change of [
      { value: { kind: 'whole', bytes: utf8('y') } },
      { owner: bytesOf('another') },
      { timestamp: record.timestamp + 1 },
      { claims: [new Uint8Array(64)] },
    ] as const) {
      expect(outcome(() => verifyWork({ ...record, ...change }, permit))).toBe('RECORD_WORK');
    }
    // Whatever its hash would be good for: the difficulty is part of what was solved.
    expect(outcome(() => verifyWork(record, { ...permit, difficulty: 2 }))).toBe('RECORD_WORK');
  });

  test('is harder by its difficulty: a solution alone is not enough', () => {
    const difficulty = 2 ** 32 - 1;
    const solver = new EquihashSolver();
    const easy = recordOf({}, (seedFor) => {
      for (let last = 0; ; last++) {
        const nonce = zeroNonce.with(15, last);
        const [solution] = solver.solutions(seedFor(difficulty), nonce);
        if (solution !== undefined) return { kind: 'work', difficulty, nonce, solution };
      }
    });
    const claimed = easy.permit as WorkPermit;
    const own = workSeed(bodyHash(easy, easy.value), easy.claims, difficulty);
    expect(isSolution(own, claimed.nonce, claimed.solution)).toBe(true);
    expect(outcome(() => verifyWork(easy, claimed))).toBe('RECORD_WORK');
  });

  test('is priced by the bytes that all nodes store, with the value or without', () => {
    const bytes = billableBytes(record);
    expect(billableBytes(withoutValue(record))).toBe(bytes);
    expect(billableBytes(write(ALICE, { links, value: new Uint8Array(101) }, worker(1)))).toBe(bytes + 100);
    expect(billableBytes(write(ALICE, { links }, withCertificate(bytesOf('x'))))).toBe(bytes);
    expect(priceOf(1, 512)).toBe(1);
    expect(priceOf(512, 512)).toBe(1);
    expect(priceOf(513, 512)).toBe(2);
    expect(outcome(() => verifyAlone(record, networkOf({ bytesPerSolution: bytes })))).toBe('accepted');
    expect(outcome(() => verifyAlone(record, networkOf({ bytesPerSolution: bytes - 1 })))).toBe(
      'RECORD_PRICE',
    );
  });
});

describe('the solver', () => {
  const impossible = 2 ** 32 - 1;

  test('says how far it is, counts its nonces up, and stops when it is told to', () => {
    const seen: WorkProgress[] = [];
    const action = () =>
      solveWork(seed, impossible, {
        firstNonce: zeroNonce,
        isCancelled: () => seen.length === 2,
        onProgress: (progress) => seen.push(progress),
      });
    expect(outcome(action)).toBe('RECORD_WORK_CANCELLED');
    expect(seen.map(({ nonces }) => nonces)).toEqual([1, 2]);
    const solver = new EquihashSolver();
    const each = [0, 1].map((last) => solver.solutions(seed, zeroNonce.with(15, last)).length);
    expect(seen.at(-1)!.solutions).toBe(each[0]! + each[1]!);
  });

  test('takes seeds and nonces of the right size only', () => {
    expect(outcome(() => solveWork(seed.subarray(1), 1))).toBe('RECORD_WORK_INPUT');
    expect(outcome(() => solveWork(seed, 1, { firstNonce: seed }))).toBe('RECORD_WORK_INPUT');
  });

  test('works in a worker thread, and is cancelled from outside', async () => {
    const start = (difficulty: number) => {
      const flag = new SharedArrayBuffer(4);
      const workerData = { seed, difficulty, flag };
      const worker = new Worker(new URL('./work.fixture.ts', import.meta.url), { workerData });
      return { worker, flag: new Int32Array(flag) };
    };
    const easy = start(1);
    const { permit } = (await lastOf(easy.worker)) as { permit: WorkPermit };
    expect(isSolution(seed, permit.nonce, permit.solution)).toBe(true);

    const hard = start(impossible);
    await once(hard.worker, 'message');
    Atomics.store(hard.flag, 0, 1);
    expect(await lastOf(hard.worker)).toEqual({ code: 'RECORD_WORK_CANCELLED' });
  });
});

/** The last message of a worker that ends by itself. */
async function lastOf(worker: Worker): Promise<unknown> {
  let last: unknown;
  worker.on('message', (message) => {
    last = message;
  });
  await once(worker, 'exit');
  return last;
}
