import { expect, test } from 'vitest';
import { toHex } from '../encoding.ts';
import { hasCode } from '../errors.ts';
import { ownerSeedOf } from './passphrase.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';

test('the same passphrase gives the same owner for ever, however its letters are composed', () => {
  const seed = ownerSeedOf('vier Wörter, gut gewählt');
  expect(toHex(publicKeyOfSeed(seed))).toBe(
    '5747f4a9f660eb8189385660ec1eb5efe5573d30bc367287a4aeb1cf7aa60228',
  );
  expect(ownerSeedOf('vier Wörter, gut gewählt'.normalize('NFD'))).toEqual(seed);
  expect(ownerSeedOf('vier Worter, gut gewählt')).not.toEqual(seed);
});

test.each(['', 'hunter2', 'ööööööööööö', 'x'.repeat(4_097)])('%j is no passphrase', (text) => {
  expect(() => ownerSeedOf(text)).toThrow(expect.toSatisfy((error) => hasCode(error, 'RECORD_PASSPHRASE')));
});
