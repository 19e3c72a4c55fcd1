import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { codeOf } from './errors.ts';
import { ACCEPTABLE_STATUSES, statusesOf, statusMask, TCB_STATUSES } from './tcb-policy.ts';

/** Deployed contracts hold these masks: a change of the order would change what they accept. */
const VECTORS = [
  [0x001, ['UpToDate']],
  [0x003, ['UpToDate', 'SWHardeningNeeded']],
  [0x005, ['UpToDate', 'ConfigurationNeeded']],
  [0x009, ['UpToDate', 'ConfigurationAndSWHardeningNeeded']],
  [0x011, ['UpToDate', 'OutOfDate']],
  [0x021, ['UpToDate', 'OutOfDateConfigurationNeeded']],
  [0x081, ['UpToDate', 'TDRelaunchAdvised']],
  [0x101, ['UpToDate', 'TDRelaunchAdvisedConfigurationNeeded']],
  [0x1bf, ACCEPTABLE_STATUSES],
] as const;

test.each(VECTORS)('mask %i', (mask, statuses) => {
  expect(statusMask(statuses)).toBe(mask);
  expect(statusesOf(mask)).toEqual(statuses);
});

test('every other mask of 16 bits is refused', () => {
  const sound = Array.from({ length: 2 ** 16 }, (_, mask) => mask).filter((mask) => {
    try {
      return statusMask(statusesOf(mask)) === mask;
    } catch (error) {
      expect(codeOf(error)).toBe('TCB_POLICY_INVALID');
      return false;
    }
  });
  // UpToDate and any of the seven others.
  expect(sound.length).toBe(2 ** 7);
  expect(sound.every((mask) => (mask & 0x41) === 0x01 && mask <= 0x1bf)).toBe(true);
});

test("the order is the one in INetwork.sol's words", () => {
  const words = readFileSync(new URL('../../contracts/INetwork.sol', import.meta.url), 'utf8');
  const paragraph = /Statuses are bits, in this order[^:]*:([^.]*)\./.exec(words)![1]!;
  const names = paragraph
    .replace(/\/\/\//g, '')
    .replace(/\([^)]*\)/g, '')
    .split(',')
    .map((name) => name.trim());
  expect(names).toEqual(TCB_STATUSES);
});
