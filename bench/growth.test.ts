import { expect, test } from 'vitest';
import { curvesOf, curveTable } from './growth.ts';

test('an exponent is that of the smallest and the largest size, and where there is none none is said', () => {
  const row = (what: string, size: number, figure: number) => ({ what, size, figure, unit: 'ms' });
  const curves = curvesOf([
    row('constant', 10, 5),
    row('square', 1_000, 1e6),
    row('square', 10, 100),
    row('constant', 1_000, 5),
    row('alone', 10, 7),
    row('from nothing', 0, 1),
    row('from nothing', 10, 1),
  ]);
  expect(curves.map(({ what, exponent }) => [what, exponent])).toEqual([
    ['constant', 0],
    ['square', 2],
    ['alone', undefined],
    ['from nothing', undefined],
  ]);
  expect(curveTable(curves)[3]).toBe('| square | 10 / 1,000 | 100 / 1,000,000 ms | 2.00 |');
});
