/** What is remembered of publications, and forgotten, however many anyone has paid for. */
import { expect, test } from 'vitest';
import { openStore } from '../../../lib/framework/store.ts';
import { Ledger } from './ledger.ts';

const DAY = 24 * 3_600_000;
const subject = (value: number) => value.toString(16).padStart(64, '0');

test('what is old is forgotten, also behind more that is not than is looked at in one go', () => {
  let now = 0;
  const ledger = new Ledger(openStore(':memory:'), () => now);
  ledger.putRead(subject(5_000), 'aa', 'answer');
  ledger.putRead(subject(5_001), 'bb', 'answer');
  now = 2 * DAY;
  for (let nth = 0; nth < 1_500; nth += 1) ledger.putRead(subject(nth), 'cc');
  ledger.prune((of) => of === subject(5_001));
  expect(ledger.hasRead(subject(5_000), 'aa')).toBe(false);
  expect(ledger.hasRead(subject(0), 'cc')).toBe(true);
  expect([...ledger.published().keys()]).toEqual([subject(5_001)]);
});
