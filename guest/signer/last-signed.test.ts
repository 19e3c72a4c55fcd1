import { expect, test } from 'vitest';
import { simulate } from '../../test/torture/signing.ts';

test.each([1, 2, 3])(
  'signers of one key under every fault never sign two things in one step: seed %d',
  async (seed) => {
    const outcome = await simulate(4_000, seed);
    expect(outcome.findings).toEqual([]);
    expect(outcome.signed).toBeGreaterThan(500);
    expect(outcome.crashes).toBeGreaterThan(50);
    expect(outcome.faults).toBeGreaterThan(200);
    expect(outcome.refused.SIGN_CONFLICT).toBeGreaterThan(100);
  },
);
