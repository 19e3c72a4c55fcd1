import { expect, test } from 'vitest';
import { rowsPerAnswer } from './scale-answers.ts';

test('what a relay reads of its store for a request that it answers does not grow with how many are open', async () => {
  const [few, many] = [await rowsPerAnswer(10), await rowsPerAnswer(80)];
  expect(few).toBeGreaterThan(5);
  expect(many / few).toBeLessThanOrEqual(1.3);
});
