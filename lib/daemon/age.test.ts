import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { expect, test } from 'vitest';
import { codeOf } from '../protocol/errors.ts';
import { decrypterWith, encrypterTo, withBoundedHeader } from './age.ts';

const KIB = 1024;

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

test('whatever the pieces it comes in, a file is what it was', async () => {
  const identity = await generateX25519Identity();
  const recipients = Array.from({ length: 16 }, () => identityToRecipient(identity));
  const plain = new Uint8Array(200 * KIB).fill(7);
  const file = await encrypterTo(await Promise.all(recipients)).encrypt(plain);
  for (const size of [97, KIB, file.length]) {
    const encrypted = ReadableStream.from(withBoundedHeader(inPieces(file, size)));
    const opened = await decrypterWith(identity).decrypt(encrypted as ReadableStream<Uint8Array>);
    expect(Buffer.concat(await Array.fromAsync(opened)).equals(plain)).toBe(true);
  }
});

test('a header without end is given up, wherever it goes on', async () => {
  const begin = 'age-encryption.org/v1\n';
  for (const [first, more] of [
    [begin, '-> x y\n\n'],
    [`${begin}-> x `, 'y'],
    [`${begin}-> x y\n\n--- `, 'A'],
    ['', 'A'],
  ] as const) {
    let taken = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(first);
      while (taken < 256 * KIB) {
        taken += 8 * KIB;
        yield Buffer.from(more.repeat(8 * KIB).slice(0, 8 * KIB));
      }
    }
    expect(await Array.fromAsync(withBoundedHeader(endless())).catch(codeOf)).toBe('BACKUP_HEADER');
    expect(taken).toBeLessThanOrEqual(72 * KIB);
  }
  // Shorter ones are age's to refuse.
  expect(
    Buffer.concat(await Array.fromAsync(withBoundedHeader(inPieces(Buffer.from(begin), 5)))).toString(),
  ).toBe(begin);
});

test('nothing is encrypted to more keys than can be read back', async () => {
  const recipient = await identityToRecipient(await generateX25519Identity());
  expect(() => encrypterTo(Array.from({ length: 17 }, () => recipient))).toThrow(/16 keys at most, not 17/);
});
