import { describe, expect, test } from 'vitest';
import { divideNodes } from './division.fixture.ts';
import { whyNoDivision } from './namespaces.fixture.ts';

const missing = whyNoDivision();

describe.skipIf(missing !== undefined)(`five nodes${missing === undefined ? '' : ` (${missing})`}`, () => {
  test('that are divided while all write have the same records and the same winners when they are whole again, and so has one that comes late', async () => {
    const { problems, converged } = await divideNodes(1, 4_000);
    expect(problems).toEqual([]);
    expect(converged).toBe(true);
  }, 900_000);
});
