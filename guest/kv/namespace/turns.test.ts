import { expect, test } from 'vitest';
import { Turns } from './turns.ts';

/** Something that goes on until it is ended, and notes when it began. */
function work(turns: Turns, began: string[], name: string, things: string[]) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const done = turns.take(things, async () => {
    began.push(name);
    await promise;
  });
  return { done, end: resolve, fail: reject };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 10));

test('what names the same thing is done one after the other, in the order of coming; the rest at once', async () => {
  const turns = new Turns();
  const began: string[] = [];
  const first = work(turns, began, 'first', ['a']);
  const both = work(turns, began, 'both', ['a', 'b']);
  const other = work(turns, began, 'other', ['c']);
  const last = work(turns, began, 'last', ['b']);
  await settled();
  expect(began).toEqual(['first', 'other']);
  first.fail(new Error('it failed'));
  await expect(first.done).rejects.toThrow('it failed');
  await settled();
  expect(began).toEqual(['first', 'other', 'both']);
  both.end();
  await both.done;
  await settled();
  expect(began).toEqual(['first', 'other', 'both', 'last']);
  other.end();
  last.end();
  await Promise.all([other.done, last.done]);
});
