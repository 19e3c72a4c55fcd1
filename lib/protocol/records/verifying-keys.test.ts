import { expect, test } from 'vitest';
import { sha256, uint64 } from '../encoding.ts';
import { publicKeyOfSeed } from './strict-ed25519.ts';
import { MOST_KEYS, verifyingKey } from './verifying-keys.ts';

const keyOf = (n: number) => publicKeyOfSeed(sha256(uint64(n)));

test('a key is made once while it is used, whatever memory it comes in; of many the one used least lately goes', () => {
  const first = verifyingKey(keyOf(0));
  expect(first.export({ format: 'jwk' }).x).toBe(Buffer.from(keyOf(0)).toString('base64url'));
  const within = Buffer.concat([new Uint8Array(7), keyOf(0), new Uint8Array(9)]).subarray(7, 39);
  expect(verifyingKey(within)).toBe(first);
  const second = verifyingKey(keyOf(1));
  for (let n = 2; n <= MOST_KEYS; n += 1) {
    verifyingKey(keyOf(n));
    expect(verifyingKey(keyOf(0)) === first).toBe(true);
  }
  expect(verifyingKey(keyOf(1)) === second).toBe(false);
});
