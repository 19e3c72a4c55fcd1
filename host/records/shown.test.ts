import { describe, expect, test } from 'vitest';
import { Shown } from './shown.fixture.ts';

const said = (id: string, owner: string, timestamp: number, trust = 1, weight = 1) => ({
  ...{ id, owner, timestamp, trust, weight },
});

describe('what is shown first', () => {
  const old = said('old', 'a', 1);
  test.each([
    ['an owner writes anew', [old], [said('new', 'a', 2)], { changes: 1, older: 0 }],
    [
      'another is trusted more',
      [said('b', 'b', 2, 1), old],
      [old, said('b', 'b', 2, 0)],
      { changes: 1, older: 1 },
    ],
    [
      'another weighs more',
      [said('b', 'b', 2, 1, 2), old],
      [said('old', 'a', 1, 1, 3), said('b', 'b', 2, 1, 2)],
      { changes: 1, older: 1 },
    ],
    [
      'one is seen for the first time',
      [said('b', 'b', 2)],
      [old, said('b', 'b', 2)],
      { changes: 1, older: 1 },
    ],
  ])('may change where %s', (_, before, now, counts) => {
    const shown = new Shown();
    for (const set of [before, now]) shown.lookAt('name', set);
    expect([shown.problems, shown.counts]).toEqual([[], counts]);
  });

  test.each([
    ['an owner’s older value again', [said('new', 'a', 2)], [old]],
    ['another with nothing that changed', [said('b', 'b', 2), old], [old, said('b', 'b', 2)]],
    ['another, of two of which one is gone', [said('b', 'b', 2), old], [old]],
  ])('is found out where it is %s', (_, before, now) => {
    const shown = new Shown();
    for (const set of [before, now]) shown.lookAt('name', set);
    expect(shown.problems).toHaveLength(1);
  });
});
