import {
  createCipheriv,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
} from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromHex, toHex, utf8 } from '../protocol/encoding.ts';
import { codeOf } from '../protocol/errors.ts';
import { ed25519Key } from './ed25519.ts';
import { Transcript } from './merlin.ts';
import { directionKeys, SEALED_FRAME, SecretConnection } from './secret-connection.ts';
import { derivedKeys } from './vectors.fixture.ts';

const [ours, theirs] = [ed25519Key(new Uint8Array(32).fill(1)), ed25519Key(new Uint8Array(32).fill(2))];

test('the vector of Merlin', () => {
  const transcript = new Transcript('test protocol');
  transcript.append('some label', utf8('some data'));
  expect(toHex(transcript.challenge('challenge', 32))).toBe(
    'd5a21972d0d5fe320c0d263fac7fffb8145aa640af6e9bca177c03c7efcf0615',
  );
});

test('the vectors of derived keys', () => {
  expect(derivedKeys.length).toBeGreaterThan(20);
  for (const { secret, isLeast, receive, send } of derivedKeys) {
    const keys = directionKeys(fromHex(secret), isLeast);
    expect([toHex(keys.receive), toHex(keys.send)]).toEqual([receive, send]);
  }
});

/** Two ends with the handshake done. */
function connected(): [SecretConnection, SecretConnection] {
  const [a, b] = [new SecretConnection(ours), new SecretConnection(theirs)];
  const fromA = a.receive(b.hello()).send;
  const fromB = b.receive(a.hello()).send;
  a.receive(fromB);
  b.receive(fromA);
  return [a, b];
}

test('both sides know each other after the handshake, and what one says the other reads', () => {
  const [a, b] = connected();
  expect(a.peer?.publicKey).toEqual(theirs.publicKey);
  expect(b.peer?.publicKey).toEqual(ours.publicKey);
  for (const length of [0, 1, 1023, 1024, 1025, 5000]) {
    const data = new Uint8Array(length).map((_, n) => n);
    expect(b.receive(a.seal(data)).data).toEqual(data);
    expect(a.receive(b.seal(data)).data).toEqual(data);
  }
  expect(a.seal(new Uint8Array(1025))).toHaveLength(2 * SEALED_FRAME);
});

test('the handshake and data may come in any pieces, and data in the same piece as the proof', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 700 }), (piece) => {
      const [a, b] = [new SecretConnection(ours), new SecretConnection(theirs)];
      const proof = b.receive(a.hello()).send;
      b.receive(a.receive(b.hello()).send);
      const stream = Buffer.concat([proof, b.seal(utf8('hello'))]);
      let heard = '';
      for (let at = 0; at < stream.length; at += piece) {
        heard += Buffer.from(a.receive(stream.subarray(at, at + piece)).data).toString();
      }
      expect(heard).toBe('hello');
    }),
    { numRuns: 20 },
  );
});

/** RFC 7748's u coordinates of small order, and one that is not reduced. */
const lowOrder = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
];

test.each(lowOrder)('a point of low order is refused: %s', (point) => {
  const hello = fromHex(`220a20${point}`);
  expect(() => new SecretConnection(ours).receive(hello)).toThrow('low order');
});

test('a reflected key, a wrong proof and no handshake at all are refused', () => {
  const a = new SecretConnection(ours);
  expect(() => a.receive(a.hello())).toThrow('our own ephemeral key');
  expect(() => new SecretConnection(ours).receive(utf8('HTTP/1.1 400 Bad Request\r\n'))).toThrow(
    'no handshake',
  );
  // The proof of another connection: sealed with other keys.
  const [c, d] = [new SecretConnection(ours), new SecretConnection(theirs)];
  c.receive(d.hello());
  const other = new SecretConnection(theirs).receive(new SecretConnection(ours).hello()).send;
  expect(() => c.receive(other)).toThrow('changed on the way');
});

test('a key that the other side has not is refused', () => {
  const liar = { publicKey: ed25519Key(new Uint8Array(32).fill(9)).publicKey, sign: theirs.sign };
  const [a, b] = [new SecretConnection(ours), new SecretConnection(liar)];
  a.receive(b.hello());
  const proof = b.receive(a.hello()).send;
  expect(() => a.receive(proof)).toThrow('not the key that it shows');
});

test('a frame that was changed, repeated or left out ends it', () => {
  const frames = () => {
    const [a, b] = connected();
    return { b, first: a.seal(utf8('1')), second: a.seal(utf8('2')) };
  };
  const changed = frames();
  changed.first[500]! ^= 1;
  expect(() => changed.b.receive(changed.first)).toThrow('changed on the way');
  const repeated = frames();
  repeated.b.receive(repeated.first);
  expect(() => repeated.b.receive(repeated.first)).toThrow('changed on the way');
  const left = frames();
  expect(() => left.b.receive(left.second)).toThrow('changed on the way');
});

test('a frame that says more than it can hold is refused', () => {
  const [a, b] = [
    new SecretConnection(ours, new Uint8Array(32).fill(3)),
    new SecretConnection(theirs, new Uint8Array(32).fill(4)),
  ];
  expect(codeOf(thrownBy(() => a.seal(utf8('too early'))))).toBe('SECRET_CONNECTION');
  a.receive(b.hello());
  b.receive(a.hello());
  // A frame of the right key and number whose length lies.
  const secret = diffieHellman({ privateKey: rawKey(4), publicKey: createPublicKey(rawKey(3)) });
  const isLeast = Buffer.compare(b.hello(), a.hello()) < 0;
  const key = directionKeys(secret, isLeast).send;
  const nonce = new Uint8Array(12);
  const frame = Buffer.alloc(1028);
  frame.writeUInt32LE(1025);
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 });
  const sealed = Buffer.concat([cipher.update(frame), cipher.final(), cipher.getAuthTag()]);
  expect(() => a.receive(sealed)).toThrow('says that it holds 1025 bytes');
});

function rawKey(byte: number): KeyObject {
  const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.alloc(32, byte)]);
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

function thrownBy(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}
