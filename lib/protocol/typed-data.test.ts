import { randomBytes } from 'node:crypto';
import { recoverAddress, TypedDataEncoder, verifyTypedData, Wallet } from 'ethers';
import { expect, test } from 'vitest';
import { to0x, toHex } from './encoding.ts';
import { parseAddress } from './hex.ts';
import { addressOf, compact, newPrivateKey, recover, sign } from './secp256k1.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
  requestDigest,
  requestHash,
  sealingKeyDigest,
} from './typed-data.ts';

// ethers is the independent implementation of EIP-712 that ours is held against.
const domain: Domain = {
  chainId: 31337,
  contract: parseAddress('0x5FbDB2315678afecb367f032d93F642f64180aa3'),
};
const ethersDomain = {
  name: 'Dstack',
  version: '1',
  chainId: domain.chainId,
  verifyingContract: domain.contract,
};
const word = () => new Uint8Array(randomBytes(32));
const address = () => addressOf(newPrivateKey());
const field = (text: string) =>
  text.split(',').map((part) => ({ type: part.split(' ')[0]!, name: part.split(' ')[1]! }));
const shown = (value: object) =>
  Object.fromEntries(Object.entries(value).map(([k, v]) => [k, v instanceof Uint8Array ? to0x(v) : v]));

test('request', () => {
  const value = {
    node: address(),
    kemKeyHash: word(),
    quoteHash: word(),
    blockNumber: 17,
    blockHash: word(),
    config: word(),
    epoch: 3,
  };
  const types = {
    Request: field(
      'address node,bytes32 kemKeyHash,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,bytes32 config,uint64 epoch',
    ),
  };
  expect(to0x(requestHash(value))).toBe(TypedDataEncoder.hashStruct('Request', types, shown(value)));
  expect(to0x(requestDigest(domain, requestHash(value)))).toBe(
    TypedDataEncoder.hash(ethersDomain, types, shown(value)),
  );
});

test('onboard', () => {
  const value = {
    node: address(),
    requestHash: word(),
    measurement: word(),
    config: word(),
    platform: word(),
    answerHash: word(),
  };
  const types = {
    Onboard: field(
      'address node,bytes32 requestHash,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 answerHash',
    ),
  };
  expect(to0x(onboardDigest(domain, value))).toBe(TypedDataEncoder.hash(ethersDomain, types, shown(value)));
});

test('bootstrap', () => {
  const value = {
    networkKey: address(),
    measurement: word(),
    config: word(),
    platform: word(),
    quoteHash: word(),
    blockNumber: 9,
    blockHash: word(),
    epoch: 1,
  };
  const types = {
    Bootstrap: field(
      'address networkKey,bytes32 measurement,bytes32 config,bytes32 platform,bytes32 quoteHash,uint64 blockNumber,bytes32 blockHash,uint64 epoch',
    ),
  };
  expect(to0x(bootstrapDigest(domain, value))).toBe(TypedDataEncoder.hash(ethersDomain, types, shown(value)));
});

test('sealing key', () => {
  const value = { app: word(), publicKeyHash: word() };
  const types = { SealingKey: field('bytes32 app,bytes32 publicKeyHash') };
  expect(to0x(sealingKeyDigest(domain, value))).toBe(
    TypedDataEncoder.hash(ethersDomain, types, shown(value)),
  );
});

test('attestation, signed and recovered by ethers', () => {
  const key = newPrivateKey();
  const value = { app: word(), tag: 'session', data: new Uint8Array(randomBytes(100)) };
  const types = { Attestation: field('bytes32 app,string tag,bytes data') };
  const digest = attestationDigest(domain, value);
  expect(to0x(digest)).toBe(TypedDataEncoder.hash(ethersDomain, types, shown(value)));
  const { r, s, v } = sign(digest, key);
  const signature = { r: to0x(r), s: to0x(s), v };
  expect(verifyTypedData(ethersDomain, types, shown(value), signature)).toBe(new Wallet(to0x(key)).address);
});

test('a digest names its chain and its contract', () => {
  const hash = word();
  const digests = [domain, { ...domain, chainId: 1 }, { ...domain, contract: address() }].map((d) =>
    toHex(requestDigest(d, hash)),
  );
  expect(new Set(digests).size).toBe(3);
});

test('compact signatures recover as ethers recovers them; a high s is refused', () => {
  for (let i = 0; i < 20; i += 1) {
    const key = newPrivateKey();
    const digest = word();
    const { r, vs } = compact(sign(digest, key));
    expect(recoverAddress(to0x(digest), { r, yParityAndS: vs })).toBe(addressOf(key));
    expect(recover(digest, Buffer.from(r.slice(2), 'hex'), Buffer.from(vs.slice(2), 'hex'))).toBe(
      addressOf(key),
    );
  }
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const digest = word();
  const { r, s } = sign(digest, newPrivateKey());
  const high = (order - BigInt(to0x(s))).toString(16).padStart(64, '0');
  // A high s has its top bit clear as often as not; force one that EIP-2098 can carry at all.
  const top = Number.parseInt(high[0]!, 16) < 8 ? high : `7fffffffffffffffffffffffffffffff${'f'.repeat(32)}`;
  expect(() => recover(digest, r, Buffer.from(top, 'hex'))).toThrowError(
    expect.objectContaining({ code: 'SIGNATURE_INVALID' }),
  );
});
