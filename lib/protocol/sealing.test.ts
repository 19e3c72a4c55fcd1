import { hkdfSync, randomBytes } from 'node:crypto';
import { XWing } from '@hpke/hybridkem-x-wing';
import { describe, expect, test } from 'vitest';
import vectors from '../../testdata/protocol/sealing.json' with { type: 'json' };
import { fromHex, sha256, toHex, utf8 } from './encoding.ts';
import { openedByNode, x25519Public } from './hpke.fixture.ts';
import { keyPurposes, sealingRandomness } from './keys.ts';
import {
  answerHash,
  isRecordedAnswer,
  KEM_PUBLIC_KEY_BYTES,
  newKemKeyPair,
  SEALED_BYTES,
  seal,
} from './sealing.ts';

const secret = new Uint8Array(randomBytes(32));
const request = new Uint8Array(randomBytes(32));

test('a sealed secret opens for its request only, by its key only', async () => {
  const [mine, other] = [await newKemKeyPair(), await newKemKeyPair()];
  expect(mine.publicKey.length).toBe(KEM_PUBLIC_KEY_BYTES);
  const sealed = await seal(secret, 1, mine.publicKey, request);
  expect(sealed.length).toBe(SEALED_BYTES);
  expect(toHex(await mine.open(sealed, request))).toBe(toHex(secret));
  const refused = { code: 'SEALED_UNOPENABLE' };
  await expect(mine.open(sealed, new Uint8Array(randomBytes(32)))).rejects.toMatchObject(refused);
  await expect(other.open(sealed, request)).rejects.toMatchObject(refused);
});

test('any changed byte is refused', async () => {
  const mine = await newKemKeyPair();
  const sealed = await seal(secret, 1, mine.publicKey, request);
  for (let at = 0; at < sealed.length; at += 37) {
    const changed = sealed.slice();
    changed[at] = changed[at]! ^ 1;
    await expect(mine.open(changed, request)).rejects.toMatchObject({ code: 'SEALED_UNOPENABLE' });
  }
  await expect(mine.open(sealed.subarray(1), request)).rejects.toMatchObject({ code: 'SEALED_LENGTH' });
});

test('a malformed KEM key is refused', async () => {
  await expect(seal(secret, 1, new Uint8Array(10), request)).rejects.toMatchObject({ code: 'KEM_KEY' });
  // ML-KEM's modulus check (FIPS 203, 7.2): coefficients beyond q.
  await expect(
    seal(secret, 1, new Uint8Array(KEM_PUBLIC_KEY_BYTES).fill(255), request),
  ).rejects.toMatchObject({ code: 'KEM_KEY' });
});

describe('sealing is deterministic', () => {
  test.each(vectors.sealing)('and its vectors hold (epoch $epoch)', async (vector) => {
    const { publicKey } = await pairOf(fromHex(vector.kemSeed));
    expect(toHex(sha256(publicKey))).toBe(vector.kemKeyHash);
    const [own, asked] = [fromHex(vector.secret), fromHex(vector.requestHash)];
    expect(toHex(sealingRandomness(own, vector.epoch, asked, publicKey))).toBe(vector.randomness);
    const sealed = await seal(own, vector.epoch, publicKey, asked);
    expect(toHex(sealed)).toBe(vector.sealed);
    expect(toHex(answerHash(sealed))).toBe(vector.answerHash);
    // By other hands: Node's own ML-KEM and X25519, and RFC 9180 spelled out.
    expect(toHex(openedByNode(fromHex(vector.kemSeed), publicKey, sealed, asked))).toBe(vector.secret);
    // The X25519 half of the encapsulation is the base point times the second half of the randomness.
    expect(toHex(x25519Public(fromHex(vector.randomness).subarray(32)))).toBe(
      toHex(sealed.subarray(1088, 1120)),
    );
  });

  test.each(vectors.xwing)("the library's ekm is the draft's eseed: $ss", async (vector) => {
    const kem = new XWing();
    const pair = await kem.generateKeyPairDerand(fromHex(vector.seed));
    const { sharedSecret, enc } = await kem.encap({
      recipientPublicKey: pair.publicKey,
      ekm: fromHex(vector.eseed),
    });
    expect(toHex(new Uint8Array(sharedSecret))).toBe(vector.ss);
    expect(toHex(new Uint8Array(enc)).slice(0, 72)).toBe(vector.ctStart);
    expect(toHex(new Uint8Array(enc)).slice(-8)).toBe(vector.ctEnd);
  });

  test('whatever two answers can differ in, they share no randomness; and no other key has it', async () => {
    const [one, other] = [(await newKemKeyPair()).publicKey, (await newKemKeyPair()).publicKey];
    const elsewhere = new Uint8Array(randomBytes(32));
    const all = [
      sealingRandomness(secret, 1, request, one),
      sealingRandomness(secret, 2, request, one),
      sealingRandomness(secret, 1, elsewhere, one),
      sealingRandomness(secret, 1, request, other),
      sealingRandomness(sha256(secret), 1, request, one),
      // As a longer output of any other purpose on the same path.
      ...Object.keys(keyPurposes)
        .filter((purpose) => purpose !== 'seal')
        .map((purpose) => derived([utf8(purpose), epochOne, request, sha256(one)])),
    ];
    const halves = all.flatMap((bytes) => [toHex(bytes.subarray(0, 32)), toHex(bytes.subarray(32))]);
    expect(new Set(halves).size).toBe(2 * all.length);
    expect(toHex(derived([utf8('seal'), epochOne, request, sha256(one)]))).toBe(toHex(all[0]!));
    expect(await seal(secret, 1, one, request)).toEqual(await seal(secret, 1, one, request));
  });
});

test("a recorded answer is one whose hash is the contract's but for the last byte", () => {
  const hash = answerHash(new Uint8Array(SEALED_BYTES));
  const recorded = Uint8Array.from([...hash.subarray(0, 31), 0]);
  expect(isRecordedAnswer(hash, recorded)).toBe(true);
  for (let at = 0; at < 31; at += 1) {
    expect(isRecordedAnswer(hash.with(at, hash[at]! ^ 0x80), recorded)).toBe(false);
  }
  expect(isRecordedAnswer(hash.subarray(0, 31), recorded)).toBe(false);
  expect(isRecordedAnswer(hash, new Uint8Array(32))).toBe(false);
});

const epochOne = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 1]);

/** RFC 5869 over the design's list, spelled out. */
function derived(list: readonly Uint8Array[]): Uint8Array {
  const info = Buffer.concat(list.flatMap((item) => [Uint8Array.from([0, 0, 0, item.length]), item]));
  return new Uint8Array(hkdfSync('sha256', secret, 'dstack/v1', info, 64));
}

async function pairOf(seed: Uint8Array): Promise<{ publicKey: Uint8Array }> {
  const kem = new XWing();
  const pair = await kem.generateKeyPairDerand(seed);
  return { publicKey: new Uint8Array(await kem.serializePublicKey(pair.publicKey)) };
}
