import { expect, test } from 'vitest';
import { appsStatusLimits } from '../../lib/protocol/app-status.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { History } from './history.ts';

const manifest = parseHex('a'.repeat(64));
const refused = (app: string, at: number, code = 'CODE') => ({
  app,
  manifest,
  at,
  outcome: 'refused' as const,
  code,
});

test('of one that fails for ever, the last few rollouts are kept, and those of the others', () => {
  const history = new History();
  history.add({ app: 'quiet', manifest, at: 1, outcome: 'deployed' });
  for (let n = 0; n < 500; n++) history.add(refused('loud', n, `CODE_${n % 20}`));
  expect(history.list()).toHaveLength(9);
  expect(history.list()[0]).toMatchObject({ app: 'quiet' });
});

test('the same outcome once more moves on, and takes no place of its own', () => {
  const history = new History();
  for (let n = 0; n < 10; n++) {
    history.add(refused('same', n));
    history.add(refused('other', n));
  }
  expect(history.list().map(({ app, at }) => [app, at])).toEqual([
    ['same', 9],
    ['other', 9],
  ]);
});

test('of many apps, the newest are kept', () => {
  const history = new History();
  for (let n = 0; n < 1000; n++) history.add(refused(`app-${n}`, n));
  expect(history.list()).toHaveLength(appsStatusLimits.rollouts);
  expect(history.list().at(-1)).toMatchObject({ at: 999 });
});
