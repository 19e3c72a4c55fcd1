import { expect, test } from 'vitest';
import { fromHex, sha256, toHex, utf8 } from '../protocol/encoding.ts';
import { bech32 } from './bech32.ts';
import { addressOf, bech32Address, bech32PublicKey, cometJson, ed25519Key } from './ed25519.ts';
import { seedOf, stateOf } from './key-files.ts';
import { NOTHING_SIGNED } from './sign-state.ts';

const seed = sha256(utf8("it's a secret"));
const { publicKey } = ed25519Key(seed);
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const keyFile = (change: object = {}): string =>
  JSON.stringify({
    address: addressOf(publicKey),
    pub_key: cometJson(publicKey),
    priv_key: { type: 'tendermint/PrivKeyEd25519', value: base64(Buffer.concat([seed, publicKey])) },
    ...change,
  });

test('the key of the vectors', () => {
  expect(toHex(publicKey)).toBe('556a436f1218d30942efe798420f51dc9b6a311b929c578257457d05c5fcf230');
});

test('a signature of RFC 8032, test 2', () => {
  const key = ed25519Key(fromHex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb'));
  expect(toHex(key.sign(Uint8Array.of(0x72)))).toBe(
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  );
});

test('bech32: the vectors of BIP-173', () => {
  expect(bech32('a', new Uint8Array())).toBe('a12uel5l');
  expect(bech32('abcdef', fromHex('00443214c74254b635cf84653a56d7c675be77df'))).toBe(
    'abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw',
  );
  expect(() => bech32('Upper', new Uint8Array())).toThrow('no prefix');
});

test('a key is shown with any prefix', () => {
  // A key and its address as a chain's documentation shows them: the Amino prefix is the same in every `…pub1zcjduepq…`.
  expect(bech32PublicKey(publicKey, 'cosmosvalconspub')).toMatch(/^cosmosvalconspub1zcjduepq/);
  expect(bech32Address(publicKey, 'cosmosvalcons')).toMatch(/^cosmosvalcons1[a-z0-9]{38}$/);
});

test('seeds are read out of the files of CometBFT and tmkms', () => {
  expect(seedOf(keyFile())).toEqual(seed);
  expect(seedOf(`${base64(seed)}\n`)).toEqual(seed);
  expect(seedOf(base64(Buffer.concat([seed, publicKey])))).toEqual(seed);
});

test.each([
  [keyFile({ priv_key: { type: 'tendermint/PrivKeySecp256k1', value: base64(seed) } }), 'KEY_TYPE'],
  [keyFile({ pub_key: cometJson(seed) }), 'KEY_FILE'],
  [
    keyFile({ priv_key: { type: 'tendermint/PrivKeyEd25519', value: base64(Buffer.concat([seed, seed])) } }),
    'KEY_FILE',
  ],
  ['not base64!', 'KEY_FILE'],
  [base64(seed.subarray(1)), 'KEY_FILE'],
  ['{', 'KEY_FILE'],
])('a file that is not right is refused: %s', (text, code) => {
  expect(() => seedOf(text)).toThrow(expect.objectContaining({ code }));
});

test('what was signed last is read out of the state file', () => {
  expect(stateOf('{"height":"12","round":1,"step":3,"signature":"AA==","signbytes":"0A0B"}')).toEqual({
    height: 12n,
    round: 1,
    step: 3,
    signBytes: Uint8Array.of(10, 11),
  });
  expect(stateOf('{"height":"0","round":0,"step":0}').height).toBe(0n);
  expect(() => stateOf('{"height":"-1","round":0,"step":0}')).toThrow(
    expect.objectContaining({ code: 'STATE_FILE' }),
  );
  expect(() => stateOf('{"height":"9223372036854775808","round":0,"step":0}')).toThrow('64 bits');
  expect(() => stateOf('{"height":"5","round":0,"step":6}')).toThrow('0 to 3');
});

test.each([
  ["tmkms' precommit", '{"height":"4069468","round":"1","step":2,"block_id":null}', 4_069_468n, 1],
  ["tmkms' proposal", '{"height":"7","round":"0","step":0,"block_id":{"hash":"AB"}}', 7n, 0],
  ["an earlier tmkms' vote", '{"height":"7","round":"0","step":6,"block_id":null}', 7n, 0],
  ['a round as a number', '{"height":"7","round":2,"step":2,"block_id":null}', 7n, 2],
  ["Horcrux'", '{"height":"7","round":"3","step":1,"signbytes":"0A0B"}', 7n, 3],
])(
  'of another signer, whose steps count otherwise, the whole round was signed: %s',
  (_, text, height, round) => {
    expect(stateOf(text)).toEqual({ height, round, step: 3, signBytes: new Uint8Array() });
  },
);

test('the file of a tmkms that never signed says that nothing was', () => {
  expect(stateOf('{"height":"0","round":"0","step":0,"block_id":null}')).toEqual(NOTHING_SIGNED);
});
