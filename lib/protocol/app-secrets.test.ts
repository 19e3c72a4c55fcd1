import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import vectors from '../../testdata/protocol/app-secrets.json' with { type: 'json' };
import {
  openSecret,
  parseEnvelope,
  requireSealingKey,
  type SealingKeyMessage,
  type SecretPlace,
  sealingKeyStatement,
  sealingPublicKey,
  sealSecret,
} from './app-secrets.ts';
import { fromHex, sha256, toHex, utf8 } from './encoding.ts';
import { codeOf } from './errors.ts';
import { parseAddress, ZERO_ADDRESS } from './hex.ts';
import { openedByNode } from './hpke.fixture.ts';
import { appSecretsKey, networkKey } from './keys.ts';
import { addressOf, compact, newPrivateKey, sign } from './secp256k1.ts';
import { ENVELOPE_MAX_BYTES, SECRET_MAX_BYTES } from './sockets.ts';
import { attestationDigest, sealingKeyDigest } from './typed-data.ts';

const refusal = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'accepted', codeOf);

describe.each(vectors.vectors)('vector of $app, $name (epoch $epoch)', (vector) => {
  const secret = fromHex(vector.secret);
  const domain = { chainId: vector.chainId, contract: parseAddress(vector.contract) };
  const { app, name } = vector;

  test('key, public key, digest and signature', async () => {
    const key = appSecretsKey(secret, vector.epoch, app);
    expect(toHex(key)).toBe(vector.key);
    const publicKey = await sealingPublicKey(key);
    expect(toHex(sha256(publicKey))).toBe(vector.publicKeyHash);
    const digest = sealingKeyStatement(domain, app, publicKey);
    expect(toHex(digest)).toBe(vector.digest);
    expect(compact(sign(digest, networkKey(secret, vector.epoch).privateKey))).toEqual(vector.signature);
    const said = {
      type: 'sealing-key',
      ...domain,
      app,
      publicKey: toHex(publicKey),
      signature: vector.signature,
    } as SealingKeyMessage;
    const networksKey = parseAddress(vector.networkKey);
    expect(toHex(requireSealingKey(said, { ...domain, app, networkKey: networksKey }))).toBe(
      toHex(publicKey),
    );
  });

  test('the envelope opens, also by other hands', async () => {
    const bytes = utf8(vector.envelope);
    expect(toHex(await openSecret(bytes, { ...domain, app, name }, fromHex(vector.key)))).toBe(vector.value);
    const { encapsulation, ciphertext } = parseEnvelope(bytes);
    const publicKey = await sealingPublicKey(fromHex(vector.key));
    const sealed = fromHex(`${encapsulation}${ciphertext}`);
    const label = utf8('dstack/v1/app-secret');
    const whole = openedByNode(fromHex(vector.key), publicKey, sealed, label, fromHex(vector.aad));
    const length = vector.value.length / 2;
    expect(Buffer.from(whole).readUInt32BE()).toBe(length);
    expect(toHex(whole.subarray(4, 4 + length))).toBe(vector.value);
    expect(whole.length % 256).toBe(0);
    expect(whole.subarray(4 + length).every((byte) => byte === 0)).toBe(true);
  });
});

const key = sha256(utf8('a key'));
const place: SecretPlace = {
  chainId: 31337,
  contract: parseAddress(`0x${'Ab'.repeat(20)}`),
  app: 'greeting',
  name: 'db-password',
};
let publicKey: Uint8Array;
let sealed: Uint8Array;
beforeAll(async () => {
  publicKey = await sealingPublicKey(key);
  sealed = await sealSecret(utf8('hunter2'), place, publicKey);
});

/** The envelope, saying something else of itself. */
const saying = (change: object): Uint8Array => utf8(JSON.stringify({ ...parseEnvelope(sealed), ...change }));

test.each<[string, object, string]>([
  ['another chain', { chainId: 1 }, 'SECRET_WRONG_NETWORK'],
  ['another contract', { contract: `0x${'cd'.repeat(20)}` }, 'SECRET_WRONG_NETWORK'],
  ['another app', { app: 'other' }, 'SECRET_WRONG_APP'],
  ['another name', { name: 'api-token' }, 'SECRET_WRONG_NAME'],
])('one of %s is refused, and so is one that only says that it is ours', async (_, change, code) => {
  const elsewhere = { ...place, ...change } as SecretPlace;
  const theirs = await sealSecret(utf8('theirs'), elsewhere, publicKey);
  expect(await refusal(openSecret(theirs, place, key))).toBe(code);
  const { chainId, contract, app, name } = place;
  const renamed = utf8(JSON.stringify({ ...parseEnvelope(theirs), chainId, contract, app, name }));
  expect(await refusal(openSecret(renamed, place, key))).toBe('SECRET_UNOPENABLE');
  // Nor does the node's own word for the place open it elsewhere.
  expect(await refusal(openSecret(saying(change), elsewhere, key))).toBe('SECRET_UNOPENABLE');
});

test('another key opens nothing, and no byte may change', async () => {
  expect(await refusal(openSecret(sealed, place, sha256(key)))).toBe('SECRET_UNOPENABLE');
  const { encapsulation, ciphertext } = parseEnvelope(sealed);
  const flip = (text: string, at: number) => {
    const bytes = fromHex(text);
    return toHex(bytes.with(at, bytes[at]! ^ 1));
  };
  for (const at of [0, 500, 1087, 1088, 1119])
    expect(await refusal(openSecret(saying({ encapsulation: flip(encapsulation, at) }), place, key))).toBe(
      'SECRET_UNOPENABLE',
    );
  for (const at of [0, 4, 255, 256, 271])
    expect(await refusal(openSecret(saying({ ciphertext: flip(ciphertext, at) }), place, key))).toBe(
      'SECRET_UNOPENABLE',
    );
  expect(await refusal(openSecret(saying({ ciphertext: '' }), place, key))).toBe('SECRET_UNOPENABLE');
});

test.each<[string, () => Uint8Array]>([
  ['no text', () => Uint8Array.of(0xff, 0xfe)],
  ['no JSON', () => utf8('secret')],
  ['a field too many', () => saying({ note: 'x' })],
  ['another version', () => saying({ version: 2 })],
  ['a name that is a path', () => saying({ name: '../x' })],
  ['half an encapsulated key', () => saying({ encapsulation: 'ab' })],
  ['a key twice', () => utf8(new TextDecoder().decode(sealed).replace('{', '{"app":"other",'))],
  ['more than an envelope has', () => new Uint8Array(ENVELOPE_MAX_BYTES + 1).fill(32)],
])('%s is no envelope', async (_, bytes) => {
  expect(await refusal(openSecret(bytes(), place, key))).toBe('SECRET_MALFORMED');
});

test('a value of any bytes comes back as it was, and how long it is shows in steps only', async () => {
  for (const length of [0, 1, 252, 253, SECRET_MAX_BYTES]) {
    const value = new Uint8Array(randomBytes(length));
    const envelope = await sealSecret(value, place, publicKey);
    expect(envelope.length).toBeLessThanOrEqual(ENVELOPE_MAX_BYTES);
    expect(toHex(await openSecret(envelope, place, key)) === toHex(value)).toBe(true);
  }
  const lengths = await Promise.all(
    [1, 20, 252].map(async (length) => (await sealSecret(randomBytes(length), place, publicKey)).length),
  );
  expect(new Set(lengths).size).toBe(1);
  // The same value is another envelope each time: a hash in a manifest confirms no guess.
  const again = await sealSecret(utf8('hunter2'), place, publicKey);
  expect(toHex(again)).not.toBe(toHex(sealed));
});

test('what could not be taken is not sealed', async () => {
  const tooLarge = new Uint8Array(SECRET_MAX_BYTES + 1);
  expect(await refusal(sealSecret(tooLarge, place, publicKey))).toBe('SECRET_TOO_LARGE');
  for (const name of ['', '.', '..', 'a/b', '.hidden', 'x'.repeat(65)])
    expect(await refusal(sealSecret(utf8('x'), { ...place, name }, publicKey))).toBe('SECRET_NAME');
  expect(await refusal(sealSecret(utf8('x'), place, new Uint8Array(10)))).toBe('KEM_KEY');
});

describe('the key to seal to', () => {
  const ours = newPrivateKey();
  const expected = { ...place, networkKey: addressOf(ours) };
  const said = (by: Uint8Array, digest: Uint8Array, bytes = publicKey): SealingKeyMessage => ({
    type: 'sealing-key',
    chainId: place.chainId,
    contract: place.contract,
    app: place.app,
    publicKey: toHex(bytes),
    signature: compact(sign(digest, by)),
  });
  const taken = (message: SealingKeyMessage, of: object = {}): string => {
    try {
      requireSealingKey(message, { ...expected, ...of });
      return 'accepted';
    } catch (error) {
      return codeOf(error);
    }
  };
  const statement = () => sealingKeyStatement(place, place.app, publicKey);

  test("is taken by the network key's word", () => {
    expect(taken(said(ours, statement()))).toBe('accepted');
  });

  test("is never one of a host's, of another app or network, or of another statement", async () => {
    const hosts = newPrivateKey();
    const hostsKem = await sealingPublicKey(sha256(utf8("the host's")));
    expect(taken(said(hosts, sealingKeyStatement(place, place.app, hostsKem), hostsKem))).toBe('SEALING_KEY');
    // The network's word for one key, with another key put in.
    expect(taken(said(ours, statement(), hostsKem))).toBe('SEALING_KEY');
    expect(taken(said(ours, sealingKeyStatement(place, 'other', publicKey)))).toBe('SEALING_KEY');
    expect(taken(said(ours, sealingKeyStatement({ ...place, chainId: 1 }, place.app, publicKey)))).toBe(
      'SEALING_KEY',
    );
    for (const elsewhere of [{ chainId: 1 }, { contract: ZERO_ADDRESS }, { app: 'other' }])
      expect(taken(said(ours, statement()), elsewhere)).toBe('SEALING_KEY');
    // Any app gets the network key's signature over what it likes, but as an attestation.
    const app = fromHex('67726565'.padEnd(64, '0'));
    const data = sha256(publicKey);
    expect(taken(said(ours, attestationDigest(place, { app, tag: 'x', data })))).toBe('SEALING_KEY');
    expect(taken(said(ours, sealingKeyDigest(place, { app, publicKeyHash: data })))).toBe('SEALING_KEY');
  });

  test('a signature that nothing can have made, and a contract without a key', () => {
    const zero = `0x${'00'.repeat(32)}`;
    const message = { ...said(ours, statement()), signature: { r: zero, vs: zero } } as SealingKeyMessage;
    expect(taken(message)).toBe('SEALING_KEY');
    expect(taken(message, { networkKey: ZERO_ADDRESS })).toBe('SEALING_KEY');
  });
});
