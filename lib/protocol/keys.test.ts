import fc from 'fast-check';
import { expect, test } from 'vitest';
import vectors from '../../testdata/protocol/keys.json' with { type: 'json' };
import { fromHex, toHex } from './encoding.ts';
import {
  acmeAccountKey,
  appKey,
  deriveKey,
  diskKey,
  type KeyPurpose,
  keyPurposes,
  ledgerKey,
  ledgerSaltKey,
  networkKey,
  signerKeys,
  tlsKey,
} from './keys.ts';

test.each(vectors.vectors)('every derivation matches its vector (epoch $epoch)', (vector) => {
  const secret = fromHex(vector.secret);
  expect(toHex(networkKey(secret, vector.epoch).privateKey)).toBe(vector.networkKey);
  expect(toHex(tlsKey(secret, vector.epoch))).toBe(vector.tls);
  expect(toHex(acmeAccountKey(secret, vector.epoch))).toBe(vector.acmeAccount);
  expect(toHex(diskKey(secret, vector.epoch, fromHex(vector.diskId)))).toBe(vector.disk);
  expect(toHex(appKey(secret, vector.epoch, vector.app, vector.tag))).toBe(vector.appKey);
  expect(toHex(ledgerKey(secret, vector.epoch, fromHex(vector.diskId)))).toBe(vector.ledgerKey);
  expect(toHex(ledgerSaltKey(secret, vector.epoch, fromHex(vector.diskId)))).toBe(vector.ledgerSaltKey);
  const signer = signerKeys(secret, vector.epoch, vector.chain);
  expect([signer.seed, signer.identity].map(toHex)).toEqual([vector.signerSeed, vector.signerIdentity]);
});

test('app and tag cannot be shifted into each other', () => {
  const secret = new Uint8Array(32).fill(1);
  const name = fc.string({ minLength: 0, maxLength: 12 });
  fc.assert(
    fc.property(name, name, name, name, (app, tag, otherApp, otherTag) => {
      fc.pre(app !== otherApp || tag !== otherTag);
      expect(toHex(appKey(secret, 1, app, tag))).not.toBe(toHex(appKey(secret, 1, otherApp, otherTag)));
    }),
    { numRuns: 300 },
  );
});

test('purposes and epochs separate keys', () => {
  const secret = new Uint8Array(32).fill(1);
  const all = [1, 2].flatMap((epoch) =>
    (Object.keys(keyPurposes) as KeyPurpose[]).map((purpose) => toHex(deriveKey(secret, epoch, purpose))),
  );
  expect(new Set(all).size).toBe(all.length);
});

test('a secret of another length is refused', () => {
  expect(() => deriveKey(new Uint8Array(31), 1, 'tls')).toThrowError(
    expect.objectContaining({ code: 'KEY_SECRET' }),
  );
});
