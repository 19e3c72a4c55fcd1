import { expect, test } from 'vitest';
import { assertComplete, MISSING_CHECKS } from './completeness.ts';

test('a production image may judge nothing while a check is missing; the others have their collateral published', () => {
  const incomplete = expect.objectContaining({ code: 'ATTESTATION_INCOMPLETE' });
  for (const missing of MISSING_CHECKS)
    expect(() => assertComplete('production', [missing])).toThrow(incomplete);
  expect(() => assertComplete('production', [])).not.toThrow();
  expect(() => assertComplete('sim')).not.toThrow();
  expect(() => assertComplete('dev')).not.toThrow();
});

test('this version says why a production node can not judge hardware quotes yet', () => {
  expect(MISSING_CHECKS.map(({ name }) => name)).toEqual(['collateral']);
  expect(() => assertComplete('production')).toThrow('onboarding messages carry none');
});
