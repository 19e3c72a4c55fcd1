import { expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Setback, setback } from './setback.ts';

test('pauses double, up to a minute, and never overflow', () => {
  let last: Setback | undefined;
  const pauses = Array.from({ length: 2000 }, () => {
    last = setback(last, new DstackError('CODE', 'why'), 1000);
    return (last.notBefore - 1000) / 1000;
  });
  expect(pauses.slice(0, 7)).toEqual([2, 4, 8, 16, 32, 60, 60]);
  expect(new Set(pauses.slice(7))).toEqual(new Set([60]));
  expect(last).toMatchObject({ code: 'CODE', message: 'why', attempts: 2000 });
  expect(setback(undefined, new TypeError('unforeseen'), 0)).toMatchObject({ code: 'INTERNAL', attempts: 1 });
});
