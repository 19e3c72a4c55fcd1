import { describe, expect, test } from 'vitest';
import { codeOf } from '../errors.ts';
import { ALICE, idOf, MALLORY, networkOf, SECOND, write } from './network.fixture.ts';
import { decodePulse, encodePulse, makePulse, minuteOf, PULSE_BYTES, verifyPulse } from './pulse.ts';
import { NOON } from './records.fixture.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';

const record = write(ALICE, { links: [networkOf().id], timestamp: NOON + 90 * SECOND });
const id = idOf(record);
const minute = minuteOf(NOON + 3600 * SECOND);
const pulse = makePulse(id, minute, ALICE);
const verdict = (change: Partial<typeof pulse>): string => {
  try {
    verifyPulse({ ...pulse, ...change }, record);
    return 'good';
  } catch (error) {
    return codeOf(error);
  }
};

describe('a pulse', () => {
  test('is 100 bytes, which are decoded as they were', () => {
    const bytes = encodePulse(pulse);
    expect(bytes).toHaveLength(PULSE_BYTES);
    expect(PULSE_BYTES).toBe(100);
    expect(decodePulse(bytes)).toEqual(pulse);
  });

  test('is good by the owner of its record alone, for its record and its minute', () => {
    expect(verdict({})).toBe('good');
    expect(verdict(makePulse(id, minute, MALLORY))).toBe('RECORD_PULSE');
    expect(verdict({ minute: minute + 1 })).toBe('RECORD_PULSE');
    expect(verdict({ signature: makePulse(idOf(write(ALICE, {})), minute, ALICE).signature })).toBe(
      'RECORD_PULSE',
    );
    expect(verdict({ signature: record.signature })).toBe('RECORD_PULSE');
    expect(verdict({ signature: pulse.signature.with(63, 0xff) })).toBe('RECORD_PULSE');
    expect(publicKeyOfSeed(ALICE)).toEqual(record.owner);
  });

  test('is not from before its record, but from its very minute on', () => {
    const own = minuteOf(record.timestamp);
    expect(verdict(makePulse(id, own, ALICE))).toBe('good');
    expect(verdict(makePulse(id, own - 1, ALICE))).toBe('RECORD_PULSE');
  });
});
