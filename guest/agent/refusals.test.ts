import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Refusals } from './refusals.ts';

let clock = 0;
beforeEach(() => {
  clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
});
afterEach(() => void vi.restoreAllMocks());

test('who is refused once in a while notices nothing, and who goes on is read seldom; each by itself', () => {
  const rests: string[] = [];
  const refusals = new Refusals((app, milliseconds) => rests.push(`${app} ${milliseconds}`));
  const refused = (app: string, times: number): number => {
    rests.length = 0;
    for (let one = 0; one < times; one += 1) refusals.count(app);
    expect(rests.filter((rest) => rest !== `${app} 400`)).toEqual([]);
    return rests.length;
  };
  expect(refused('a', 64)).toBe(0);
  expect(refused('a', 100)).toBe(100);
  expect(refused('b', 64)).toBe(0);
  // Ten more for each second, and no more than at first.
  clock += 1_000;
  expect(refused('a', 30)).toBe(20);
  clock += 3_600_000;
  expect(refused('a', 100)).toBe(36);
  // So often it may go on.
  for (let tenth = 0; tenth < 100; tenth += 1) {
    clock += 101;
    expect(refused('b', 1)).toBe(0);
  }
});
