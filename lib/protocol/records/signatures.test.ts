import { ED25519_TORSION_SUBGROUP, ed25519 } from '@noble/curves/ed25519.js';
import { describe, expect, test } from 'vitest';
import { fromHex, sha512, toHex, utf8 } from '../encoding.ts';
import { codeOf } from '../errors.ts';
import { decodeRecord, encodeRecord } from './codec.ts';
import type { DagRecord } from './format.ts';
import { bodyHash, claimMessage, idFrom, ownerMessage, recordId, withoutValue } from './identity.ts';
import { bytesOf, keysFor, OWNER, recordOf } from './records.fixture.ts';
import { verifySignatures } from './signatures.ts';
import { isSignedStrictly, requireCanonicalKey, signStrictly } from './strict-ed25519.ts';

const refusalOf = (record: DagRecord): string => {
  try {
    verifySignatures(record);
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  }
};

const ORDER = ed25519.Point.Fn.ORDER;

/** The same signature with S + L, which fits the same equation. */
function malleated(signature: Uint8Array): Uint8Array {
  const s = BigInt(`0x${toHex(signature.slice(32).reverse())}`) + ORDER;
  const bytes = fromHex(s.toString(16).padStart(64, '0')).reverse();
  return Uint8Array.from([...signature.subarray(0, 32), ...bytes]);
}

/** Signed again by its owner, after whatever was changed. */
function signedAgain(record: DagRecord): DagRecord {
  const id = recordId(record);
  return { ...record, signature: signStrictly(OWNER, ownerMessage(id)) };
}

describe('a record that was made', () => {
  const record = recordOf();

  test('is good, travelled or pruned, and says who it is', () => {
    const id = toHex(recordId(record));
    expect(toHex(verifySignatures(record))).toBe(id);
    expect(toHex(verifySignatures(decodeRecord(encodeRecord(record))))).toBe(id);
    expect(toHex(verifySignatures(withoutValue(record)))).toBe(id);
    expect(refusalOf(recordOf({ names: [] }))).toBe('accepted');
  });

  test.each<[string, Partial<DagRecord>]>([
    ['type', { type: 'commentary' }],
    ['mode', { shared: true }],
    ['mask', { mask: 'key' }],
    ['timestamp', { timestamp: record.timestamp + 1 }],
    ['links', { links: record.links.slice(1) }],
    ['ordinal', { selectors: record.selectors.map((it) => ({ ...it, ordinalTag: new Uint8Array(8) })) }],
    ['value', { value: { kind: 'whole', bytes: utf8('b value') } }],
    ['length of the value', { value: { kind: 'pruned', length: 6, hash: bytesOf('x') } }],
    ['permit', { permit: { kind: 'certificate', certificate: bytesOf('x') } }],
    ['claims', { claims: record.claims.toReversed() }],
  ])('has another identity with another %s, and is not signed any more', (_, change) => {
    const changed = { ...record, ...change };
    expect(toHex(recordId(changed))).not.toBe(toHex(recordId(record)));
    expect(refusalOf(changed)).toBe('RECORD_SIGNATURE');
  });
});

describe('a signature has one form', () => {
  const record = recordOf();

  test('a second S that fits is no second signature', () => {
    // It does fit: a verifier that takes the equation modulo the group's order says yes to both.
    const twin = malleated(record.signature);
    const s = BigInt(`0x${toHex(twin.slice(32).reverse())}`);
    expect(s % ORDER).toBe(BigInt(`0x${toHex(record.signature.slice(32).reverse())}`));
    expect(refusalOf({ ...record, signature: twin })).toBe('RECORD_SIGNATURE_FORM');
    const claims = record.claims.with(0, malleated(record.claims[0]!));
    expect(refusalOf(signedAgain({ ...record, claims }))).toBe('RECORD_SIGNATURE_FORM');
  });

  test('keys of small order, under which anyone signs, and keys written otherwise are none', () => {
    for (const point of ED25519_TORSION_SUBGROUP) {
      expect(() => requireCanonicalKey(fromHex(point), 'it')).toThrowError(
        expect.objectContaining({ code: 'RECORD_KEY' }),
      );
      expect(refusalOf({ ...record, owner: fromHex(point) })).toBe('RECORD_KEY');
    }
    // The field's prime and its 18 successors, with and without the sign of x.
    for (let low = 0xed; low <= 0xff; low++) {
      for (const top of [0x7f, 0xff]) {
        const key = new Uint8Array(32).fill(0xff).with(0, low).with(31, top);
        expect(() => requireCanonicalKey(key, 'it')).toThrowError(
          expect.objectContaining({ code: 'RECORD_KEY' }),
        );
      }
    }
    expect(() => requireCanonicalKey(ed25519.getPublicKey(OWNER), 'it')).not.toThrow();
    const selectors = [{ claimKey: fromHex(ED25519_TORSION_SUBGROUP[0]!), ordinalTag: new Uint8Array(8) }];
    const claims = record.claims.slice(0, 1);
    expect(refusalOf(signedAgain({ ...record, selectors, claims }))).toBe('RECORD_KEY');
  });

  test('a signature that is good up to the cofactor only is refused, as every node has to', () => {
    const message = utf8('message');
    const publicKey = ed25519.getPublicKey(OWNER);
    const honest = signStrictly(OWNER, message);
    expect(isSignedStrictly(message, honest, publicKey)).toBe(true);
    // The same with a point of small order added to R: verifiers that multiply by the cofactor can take such a one.
    const { Point } = ed25519;
    const torsion = Point.fromHex(ED25519_TORSION_SUBGROUP[1]!);
    const r = bytesOf('nonce');
    const rScalar = BigInt(`0x${toHex(r)}`) % ORDER;
    const R = Point.BASE.multiply(rScalar).add(torsion).toBytes();
    const { scalar } = ed25519.utils.getExtendedPublicKey(OWNER);
    const k = challenge(R, publicKey, message);
    const s = (rScalar + k * scalar) % ORDER;
    const signature = Uint8Array.from([...R, ...fromHex(s.toString(16).padStart(64, '0')).reverse()]);
    expect(ed25519.verify(signature, message, publicKey, { zip215: true })).toBe(true);
    expect(isSignedStrictly(message, signature, publicKey)).toBe(false);
  });
});

describe('who does not know a name', () => {
  const record = recordOf();
  const stranger = bytesOf('stranger');

  test('cannot write under it, with a claim of another record neither', () => {
    const other = recordOf({ value: utf8('an impostor’s') });
    const copied = signedAgain({ ...other, claims: record.claims });
    expect(refusalOf(copied)).toBe('RECORD_CLAIM');
    const body = bodyHash(other, other.value);
    const forged = signedAgain({
      ...other,
      claims: other.claims.with(1, signStrictly(stranger, claimMessage(body))),
    });
    expect(refusalOf(forged)).toBe('RECORD_CLAIM');
  });

  test('cannot take over who wrote it, claims and all', () => {
    const owner = ed25519.getPublicKey(stranger);
    const body = bodyHash({ ...record, owner }, record.value);
    const id = idFrom(body, record);
    const stolen = { ...record, owner, signature: signStrictly(stranger, ownerMessage(id)) };
    expect(refusalOf(stolen)).toBe('RECORD_CLAIM');
  });

  test('who knows it can', () => {
    const names = [{ keys: keysFor('alpha'), ordinal: 9n }];
    expect(refusalOf(recordOf({ names }, undefined, stranger))).toBe('accepted');
  });
});

function challenge(r: Uint8Array, publicKey: Uint8Array, message: Uint8Array): bigint {
  const hash = sha512(Uint8Array.from([...r, ...publicKey, ...message]));
  return BigInt(`0x${toHex(hash.reverse())}`) % ORDER;
}
