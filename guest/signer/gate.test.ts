import { expect, test } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { ANSWER_COUNTS, Gate } from './gate.ts';

let now = 0;
const gate = () => new Gate(() => now);
const code = (of: Gate): string => {
  try {
    of.check();
    return 'may sign';
  } catch (error) {
    return codeOf(error);
  }
};

test('nothing is signed before it was told, and not long after it was told last', () => {
  const one = gate();
  expect(code(one)).toBe('SIGNER_UNTOLD');
  one.tell(undefined);
  expect(code(one)).toBe('may sign');
  now += ANSWER_COUNTS;
  expect(code(one)).toBe('may sign');
  now += 1;
  expect(code(one)).toBe('SIGNER_UNTOLD');
  one.tell(undefined);
  expect(code(one)).toBe('may sign');
});

test('it says why, in the words that it was told', () => {
  const one = gate();
  one.tell({ code: 'CHAIN_STALE', message: 'no block for an hour' });
  expect(code(one)).toBe('CHAIN_STALE');
  expect(one.stopped()).toEqual({ code: 'CHAIN_STALE', message: 'no block for an hour' });
  one.tell(undefined);
  expect(code(one)).toBe('may sign');
});
