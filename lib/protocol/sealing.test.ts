import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { toHex } from './encoding.ts';
import { KEM_PUBLIC_KEY_BYTES, newKemKeyPair, SEALED_BYTES, seal } from './sealing.ts';

const secret = new Uint8Array(randomBytes(32));
const request = new Uint8Array(randomBytes(32));

test('a sealed secret opens for its request only, by its key only', async () => {
  const [mine, other] = [await newKemKeyPair(), await newKemKeyPair()];
  expect(mine.publicKey.length).toBe(KEM_PUBLIC_KEY_BYTES);
  const sealed = await seal(secret, mine.publicKey, request);
  expect(sealed.length).toBe(SEALED_BYTES);
  expect(toHex(await mine.open(sealed, request))).toBe(toHex(secret));
  const refused = { code: 'SEALED_UNOPENABLE' };
  await expect(mine.open(sealed, new Uint8Array(randomBytes(32)))).rejects.toMatchObject(refused);
  await expect(other.open(sealed, request)).rejects.toMatchObject(refused);
});

test('any changed byte is refused', async () => {
  const mine = await newKemKeyPair();
  const sealed = await seal(secret, mine.publicKey, request);
  for (let at = 0; at < sealed.length; at += 37) {
    const changed = sealed.slice();
    changed[at] = changed[at]! ^ 1;
    await expect(mine.open(changed, request)).rejects.toMatchObject({ code: 'SEALED_UNOPENABLE' });
  }
  await expect(mine.open(sealed.subarray(1), request)).rejects.toMatchObject({ code: 'SEALED_LENGTH' });
});

test('a malformed KEM key is refused', async () => {
  await expect(seal(secret, new Uint8Array(10), request)).rejects.toMatchObject({ code: 'KEM_KEY' });
  // ML-KEM's modulus check (FIPS 203, 7.2): coefficients beyond q.
  await expect(seal(secret, new Uint8Array(KEM_PUBLIC_KEY_BYTES).fill(255), request)).rejects.toMatchObject({
    code: 'KEM_KEY',
  });
});
