import { expect, test } from 'vitest';
import { FrontTurns } from './front-turns.ts';

test('only an answer that was given after the mark counts, and only of this run', () => {
  const turns = new FrontTurns();
  const before = turns.next();
  const isDone = turns.mark();
  expect(isDone()).toBe(false);
  turns.done(before);
  expect(isDone()).toBe(false);
  const after = turns.next();
  expect(isDone()).toBe(false);
  turns.done(new FrontTurns().next());
  turns.done(`${after.split('-')[0]}-999`.replace('999', '1'));
  expect(isDone()).toBe(false);
  turns.done(after);
  expect(isDone()).toBe(true);
  // An older word that comes late takes nothing back, and one of a turn that was never given says nothing of later ones.
  turns.done(before);
  expect(isDone()).toBe(true);
  turns.done(`${after.split('-')[0]}-999`);
  expect(turns.mark()()).toBe(false);
});
