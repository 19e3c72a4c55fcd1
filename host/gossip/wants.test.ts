import { afterEach, expect, test, vi } from 'vitest';
import { Wants, type WantsOptions } from './wants.ts';

afterEach(() => vi.useRealTimers());

function newWants(options: Partial<WantsOptions> = {}) {
  const turns: string[] = [];
  const late: string[] = [];
  const wants = new Wants({
    askMs: 1000,
    perSource: 4,
    total: 6,
    isChosen: (source) => source.startsWith('peer'),
    onTurn: (source) => turns.push(source),
    onLate: (id, source) => late.push(`${id} ${source}`),
    ...options,
  });
  return { wants, turns, late };
}

test('one is asked at a time; who comes second has its turn when the first does not deliver', () => {
  const { wants, turns } = newWants();
  for (const source of ['a', 'b']) expect(wants.offer('x', source)).toBe(true);
  expect(wants.claim('a', 9)).toEqual(['x']);
  expect(wants.claim('b', 9)).toEqual([]);
  expect(wants.claimOne('x', 'b')).toBe(false);
  turns.length = 0;
  wants.fail('x', 'a');
  expect(turns).toEqual(['b']);
  expect(wants.isOffered('x', 'a')).toBe(false);
  expect(wants.claim('b', 9)).toEqual(['x']);
  wants.settle('x');
  expect([wants.size, wants.openOf('a'), wants.openOf('b')]).toEqual([0, 0, 0]);
});

test('who is late loses its turn, not its offer; from then on others go first, until it delivers', () => {
  vi.useFakeTimers();
  const { wants, late } = newWants();
  wants.offer('x', 'a');
  wants.claim('a', 9);
  wants.offer('x', 'b');
  vi.advanceTimersByTime(1300);
  expect(late).toEqual(['x a']);
  expect(wants.claim('a', 9)).toEqual([]);
  expect(wants.claim('b', 9)).toEqual(['x']);
  wants.release('x', 'b', true);
  // Both are doubtful now: better than none.
  expect(wants.claim('a', 9)).toEqual(['x']);
  wants.settle('x');
  for (const source of ['a', 'b']) wants.offer('y', source);
  expect(wants.claim('b', 9)).toEqual([]);
  expect(wants.claim('a', 9)).toEqual(['y']);
  wants.close();
});

test('who is asked and was late before gives way at once to one that was not: it holds nothing up twice', () => {
  vi.useFakeTimers();
  const { wants, turns, late } = newWants();
  wants.offer('x', 'a');
  wants.claim('a', 9);
  vi.advanceTimersByTime(1300);
  expect(late).toEqual(['x a']);
  // It is the first to speak of another one too.
  wants.offer('y', 'a');
  expect(wants.claim('a', 1)).toContain('x');
  expect(wants.claim('a', 9)).toEqual(['y']);
  turns.length = 0;
  wants.offer('y', 'b');
  expect(turns).toContain('b');
  expect(wants.claim('b', 9)).toEqual(['y']);
  // One that was not late keeps its turn, and so does one that can only be told to send.
  wants.offer('y', 'c');
  expect(wants.claim('c', 9)).toEqual([]);
  wants.offer('z', 'a');
  wants.claim('a', 9);
  wants.offer('z', 'stranger', false);
  expect(wants.isAskedOf('z', 'a')).toBe(true);
  wants.close();
});

test('a body that waits to be judged holds its place', () => {
  vi.useFakeTimers();
  const { wants, late } = newWants();
  wants.offer('x', 'a');
  wants.claim('a', 9);
  wants.renew('x', 'a', 5000);
  vi.advanceTimersByTime(5500);
  expect(late).toEqual([]);
  vi.advanceTimersByTime(1000);
  expect(late).toEqual(['x a']);
  wants.close();
});

test('what one source, and all together, may have open is bounded', () => {
  const { wants } = newWants();
  expect([1, 2, 3, 4, 5].map((n) => wants.offer(`a${n}`, 'a'))).toEqual([true, true, true, true, false]);
  expect([1, 2, 3].map((n) => wants.offer(`b${n}`, 'b'))).toEqual([true, true, false]);
  // What is open already costs no more room.
  expect(wants.offer('a1', 'b')).toBe(true);
  wants.drop('a');
  expect([wants.openOf('a'), wants.size]).toEqual([0, 3]);
  wants.close();
});

test('who can only be told to send has a turn when nobody is being asked, and leaves nothing behind', () => {
  const { wants, turns } = newWants();
  expect(wants.take('x', 'stranger', 500)).toBe(true);
  expect(wants.take('x', 'other', 500)).toBe(false);
  expect(turns).toEqual([]);
  expect(wants.isOffered('x', 'other')).toBe(false);
  wants.fail('x', 'stranger');
  expect(wants.size).toBe(0);
});

test('strangers, however many, take no room of those that the operator chose', () => {
  const { wants } = newWants();
  for (let n = 0; n < 20; n += 1) wants.offer(`stranger's ${n}`, `stranger ${n}`);
  expect(wants.size).toBe(6);
  for (const peer of ['peer 1', 'peer 2', 'peer 3']) {
    for (let n = 0; n < 4; n += 1) expect(wants.offer(`${peer}'s ${n}`, peer)).toBe(true);
    expect(wants.offer(`${peer}'s 5`, peer)).toBe(false);
  }
  // What is settled or failed makes room again.
  wants.settle("stranger's 0");
  wants.fail("stranger's 1", 'stranger 1');
  expect(['x', 'y', 'z'].map((id) => wants.offer(id, 'stranger 99'))).toEqual([true, true, false]);
});

test('nobody is late because this process stood still', () => {
  vi.useFakeTimers();
  let now = 0;
  const { wants, late } = newWants({ now: () => now });
  wants.offer('x', 'a');
  wants.claim('a', 9);
  // Timers come before what has arrived meanwhile.
  now = 60_000;
  vi.advanceTimersByTime(300);
  expect(late).toEqual([]);
  now += 250;
  vi.advanceTimersByTime(250);
  expect(late).toEqual([]);
  for (; late.length === 0 && now < 65_000; now += 250) vi.advanceTimersByTime(250);
  expect(late).toEqual(['x a']);
});
