import { generateIdentity, identityToRecipient } from 'age-encryption';
import { expect, test } from 'vitest';
import { NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { authorize, awsKms } from './aws-kms.ts';
import { encryptBackup, openBackup, wrapBackup } from './backup.ts';
import { identityKey, networkSeed, seal, unseal } from './keys.ts';

const secret = { secret: new Uint8Array(32).fill(1), epoch: 0 };
const seed = new Uint8Array(32).fill(7);
const backup = { chainId: 'chain-1', seed, state: { ...NOTHING_SIGNED, height: 5n, step: 2 } };

test('keys are the same for ever: vectors', () => {
  expect(toHex(networkSeed(secret, 'chain-1'))).toBe(
    'd352f30f8b9a1a0824b3bd54c01d5371cc4b5f57d858ac02b7639cbfbf9cfd3c',
  );
  expect(toHex(identityKey(secret).publicKey)).toBe(
    'cf62ec25c5b91595ebc10ac11842b7d2ec9d7c7d2fbc1cb476dcf35f53d76955',
  );
});

test('each chain, epoch and use has a key of its own', () => {
  const seeds = [
    networkSeed(secret, 'chain-1'),
    networkSeed(secret, 'chain-2'),
    networkSeed({ ...secret, epoch: 1 }, 'chain-1'),
    identityKey(secret).publicKey,
  ].map(toHex);
  expect(new Set(seeds).size).toBe(4);
});

test('a sealed key is opened by this network for this chain, and by nothing else', () => {
  const sealed = seal(secret, 'chain-1', seed);
  expect(unseal(secret, 'chain-1', sealed)).toEqual(seed);
  const refused = expect.objectContaining({ code: 'KEY_SEALED' });
  expect(() => unseal(secret, 'chain-2', sealed)).toThrow(refused);
  expect(() => unseal({ ...secret, secret: seed }, 'chain-1', sealed)).toThrow(refused);
  expect(() => unseal(secret, 'chain-1', sealed.replace(/"sealed":"./, '"sealed":"x'))).toThrow(refused);
  expect(sealed).not.toContain(toHex(seed));
});

test('a backup is opened with its key only, and not when it was changed', async () => {
  const identity = await generateIdentity();
  const file = await encryptBackup(backup, [await identityToRecipient(identity)]);
  expect(await openBackup(file, { identity })).toEqual(backup);
  const refused = expect.objectContaining({ code: 'BACKUP_KEY' });
  await expect(openBackup(file, {})).rejects.toThrow(refused);
  await expect(openBackup(file, { identity: await generateIdentity() })).rejects.toThrow(refused);
  const changed = file.slice();
  changed[changed.length - 1]! ^= 1;
  await expect(openBackup(changed, { identity })).rejects.toThrow(refused);
  await expect(encryptBackup(backup, [])).rejects.toThrow(
    expect.objectContaining({ code: 'BACKUP_RECIPIENT' }),
  );
  await expect(encryptBackup(backup, ['age1nonsense'])).rejects.toThrow('no recipient of age');
});

test('a wrapped backup says whose key it needs', async () => {
  const service = {
    name: 'test-kms',
    wrap: async (plain: Uint8Array) => plain.map((byte) => byte ^ 1),
    unwrap: async (wrapped: Uint8Array) => wrapped.map((byte) => byte ^ 1),
  };
  const file = await wrapBackup(backup, service);
  expect(await openBackup(file, { service })).toEqual(backup);
  await expect(openBackup(file, {})).rejects.toThrow('wrapped by test-kms');
  const cannot = { ...service, wrap: () => Promise.reject(new Error('no permission')) };
  await expect(wrapBackup(backup, cannot)).rejects.toThrow('no permission');
});

test("AWS' signature: post-vanilla of its test suite", () => {
  const access = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
  const headers = { host: 'example.amazonaws.com', 'x-amz-date': '20150830T123600Z' };
  expect(authorize(access, { region: 'us-east-1', service: 'service', path: '/', headers, body: '' })).toBe(
    'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, ' +
      'Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  );
  expect(() => awsKms({ ...access, keyArn: 'alias/mine' })).toThrow(
    expect.objectContaining({ code: 'KMS_KEY' }),
  );
});
