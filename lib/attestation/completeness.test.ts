import { expect, test } from 'vitest';
import { assertComplete, MISSING_CHECKS } from './completeness.ts';

test('a production image may judge nothing while a check is missing; the others have no collateral to check', () => {
  const incomplete = expect.objectContaining({ code: 'ATTESTATION_INCOMPLETE' });
  for (const missing of MISSING_CHECKS)
    expect(() => assertComplete('production', [missing])).toThrow(incomplete);
  expect(() => assertComplete('production', [])).not.toThrow();
  expect(() => assertComplete('sim')).not.toThrow();
  expect(() => assertComplete('dev')).not.toThrow();
});

test('this version says that it cannot judge hardware quotes for a network', () => {
  expect(MISSING_CHECKS.map(({ name }) => name)).toEqual(['crl', 'qe-identity', 'tcb-info']);
  expect(() => assertComplete('production')).toThrow('crl, qe-identity, tcb-info');
});
