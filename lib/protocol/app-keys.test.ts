import fc from 'fast-check';
import { expect, test } from 'vitest';
import vectors from '../../testdata/protocol/app-keys.json' with { type: 'json' };
import {
  ecosystemAppId,
  networkLinkDigest,
  publicKeyOfApp,
  purposeLinkDigest,
  SIGNING_ALGORITHMS,
  signerOfKeyChain,
  signWith,
  verifySignature,
} from './app-keys.ts';
import { fromHex, sha256, toHex, utf8 } from './encoding.ts';
import { parseAddress } from './hex.ts';
import { appAuthorityKey, appIdentityKey, appKey, networkKey } from './keys.ts';
import { addressOf, publicKeyOf, recoverable, sign } from './secp256k1.ts';
import { p256PublicKey } from './site-evidence.ts';

const domainOf = ({ chainId, contract }: { chainId: number; contract: string }) => ({
  chainId,
  contract: parseAddress(contract),
});
const point = (key: Uint8Array) => toHex(p256PublicKey(key).subarray(-65));

test.each(vectors.vectors)("an app's keys match their vectors: $app $tag", (vector) => {
  const secret = fromHex(vector.secret);
  const { epoch, app, tag } = vector;
  expect(toHex(appKey(secret, epoch, app, tag))).toBe(vector.raw);
  const secp256k1 = appKey(secret, epoch, app, tag, 'secp256k1');
  expect(toHex(secp256k1)).toBe(vector.secp256k1.key);
  expect(toHex(publicKeyOfApp('secp256k1', secp256k1))).toBe(vector.secp256k1.publicKey);
  expect(addressOf(secp256k1)).toBe(vector.secp256k1.address);
  const ed25519 = appKey(secret, epoch, app, tag, 'ed25519');
  expect(toHex(ed25519)).toBe(vector.ed25519.key);
  expect(toHex(publicKeyOfApp('ed25519', ed25519))).toBe(vector.ed25519.publicKey);
  const p256 = appKey(secret, epoch, app, tag, 'p256');
  expect([toHex(p256), point(p256)]).toEqual([vector.p256.key, vector.p256.publicKey]);
  const identity = appIdentityKey(secret, epoch, app);
  expect([toHex(identity), toHex(publicKeyOf(identity))]).toEqual([
    vector.identity.key,
    vector.identity.publicKey,
  ]);
  const authority = appAuthorityKey(secret, epoch, app);
  expect([toHex(authority), point(authority)]).toEqual([vector.authority.key, vector.authority.publicKey]);
});

test.each(vectors.vectors)('links and signatures match their vectors: $app $tag', (vector) => {
  const domain = domainOf(vector);
  const { app, purpose } = vector;
  expect(toHex(ecosystemAppId(domain, app))).toBe(vector.appId);
  const network = networkKey(fromHex(vector.secret), vector.epoch);
  const identity = fromHex(vector.identity.publicKey);
  const networkLink = recoverable(sign(networkLinkDigest(domain, app, identity), network.privateKey));
  expect(toHex(networkLink)).toBe(vector.networkLink);
  for (const type of ['secp256k1', 'ed25519'] as const) {
    const publicKey = fromHex(vector[type].publicKey);
    const digest = purposeLinkDigest(purpose, publicKey);
    const link = recoverable(sign(digest, fromHex(vector.identity.key)));
    expect(toHex(link)).toBe(vector.purposeLinks[type]);
    const chain = [link, networkLink];
    expect(signerOfKeyChain(domain, { app, purpose, publicKey, chain })).toBe(vector.networkKey);
  }
  for (const algorithm of SIGNING_ALGORITHMS) {
    const type = algorithm === 'ed25519' ? 'ed25519' : 'secp256k1';
    const bytes = fromHex(vector.data);
    const data = algorithm === 'secp256k1_prehashed' ? sha256(bytes) : bytes;
    const signature = signWith(algorithm, fromHex(vector[type].key), data);
    expect(toHex(signature)).toBe(vector.signatures[algorithm]);
    expect(verifySignature(algorithm, data, signature, fromHex(vector[type].publicKey))).toBe(true);
  }
});

test('a chain leads to the network key for its own app, key, purpose, chain and contract only', () => {
  const [vector] = vectors.vectors;
  const { app, purpose, networkKey: expected } = vector!;
  const domain = domainOf(vector!);
  const publicKey = fromHex(vector!.secp256k1.publicKey);
  const chain = [fromHex(vector!.purposeLinks.secp256k1), fromHex(vector!.networkLink)];
  const right = { app, purpose, publicKey, chain };
  const signer = (change: object, of = domain) => {
    try {
      return signerOfKeyChain(of, { ...right, ...change });
    } catch {
      return 'refused';
    }
  };
  expect(signer({})).toBe(expected);
  expect(signer({ app: 'other' })).not.toBe(expected);
  expect(signer({ purpose: `${purpose}x` })).not.toBe(expected);
  expect(signer({ publicKey: fromHex(vector!.ed25519.publicKey) })).not.toBe(expected);
  expect(signer({}, { ...domain, chainId: 1 })).not.toBe(expected);
  expect(signer({}, { ...domain, contract: parseAddress(`0x${'c1'.repeat(20)}`) })).not.toBe(expected);
  expect(signer({ chain: [chain[1], chain[0]] })).not.toBe(expected);
  for (const wrong of [[], [chain[0]], [...chain, chain[0]], [chain[0], new Uint8Array(65)]])
    expect(signer({ chain: wrong })).toBe('refused');
});

test('one tag has a key for each type, and no two keys of an app are alike', () => {
  const secret = new Uint8Array(32).fill(7);
  const types = ['raw', 'secp256k1', 'ed25519', 'p256'] as const;
  const name = fc.stringMatching(/^[ -~]{0,24}$/);
  fc.assert(
    fc.property(name, name, (one, other) => {
      fc.pre(one !== other);
      const keys = [one, other].flatMap((tag) =>
        types.map((type) => toHex(appKey(secret, 1, 'app', tag, type))),
      );
      keys.push(toHex(appIdentityKey(secret, 1, 'app')), toHex(appAuthorityKey(secret, 1, 'app')));
      keys.push(toHex(networkKey(secret, 1).privateKey));
      expect(new Set(keys).size).toBe(keys.length);
    }),
    { numRuns: 100 },
  );
});

test('what is no signature is not valid, and is no error', () => {
  const key = appKey(new Uint8Array(32).fill(7), 1, 'app', 'x', 'secp256k1');
  const publicKey = publicKeyOfApp('secp256k1', key);
  const signature = signWith('secp256k1', key, utf8('data'));
  const bytes = fc.uint8Array({ maxLength: 70 });
  fc.assert(
    fc.property(bytes, bytes, bytes, fc.constantFrom(...SIGNING_ALGORITHMS), (a, b, c, algorithm) => {
      expect(verifySignature(algorithm, a, b, c)).toBe(false);
    }),
    { numRuns: 100 },
  );
  // A high s is another signature over the same data: not one that a node makes.
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const high = (order - BigInt(`0x${toHex(signature.subarray(32))}`)).toString(16).padStart(64, '0');
  const malleated = Uint8Array.from([...signature.subarray(0, 32), ...fromHex(high)]);
  expect(verifySignature('secp256k1', utf8('data'), malleated, publicKey)).toBe(false);
  expect(verifySignature('secp256k1', utf8('data'), signature, publicKey)).toBe(true);
  expect(() => signWith('secp256k1_prehashed', key, utf8('data'))).toThrowError(
    expect.objectContaining({ code: 'SIGN_DIGEST' }),
  );
});
