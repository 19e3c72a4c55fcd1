import { expect, test } from 'vitest';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import type { Manifest } from '../../lib/protocol/manifest.ts';
import type { SignerPart } from '../../lib/protocol/signer-part.ts';
import { SignerOrders } from './signer-orders.ts';

const [one, two, three] = ['1', '2', '3'].map((digit) => parseHex(digit.repeat(64))) as [Hex, Hex, Hex];
const envelope = parseHex('ab'.repeat(32));
const part = (fields: Partial<SignerPart> = {}): SignerPart => ({
  disk: parseHex('cd'.repeat(16)),
  chains: [{ id: 'chain-1', protocol: 'v0.38', key: 'derived', afterHeight: 0 }],
  ...fields,
});
const manifestOf = (app: string, signer?: SignerPart): Manifest => ({
  ...{ version: 2, app, containers: [] },
  secrets: [
    { name: 'validator', envelope },
    { name: 'other', envelope: parseHex('cd'.repeat(32)) },
  ],
  ...(signer !== undefined && { signer }),
});

function setUp() {
  const manifests = new Map<Hex, Manifest>();
  const counts = { first: 0 };
  let stale: DstackError | undefined;
  const orders = new SignerOrders({
    manifest: (hash) => manifests.get(hash),
    chainNow() {
      if (stale !== undefined) throw stale;
      return 1_800_000_000;
    },
    onFirst: () => {
      counts.first += 1;
    },
  });
  return {
    orders,
    manifests,
    counts,
    stopped: () => orders.reply().stopped?.code,
    /** The contract is read: these hashes are in force, by app. */
    read: (apps: Record<string, Hex>, onboarded = true) =>
      orders.follow({ apps: new Map(Object.entries(apps)), onboarded }),
    makeStale: (error: DstackError | undefined) => {
      stale = error;
    },
  };
}

test('nothing is signed before the contract was read, nor where it names no signer', () => {
  const { orders, manifests, read, stopped, counts } = setUp();
  expect(stopped()).toBe('CONTRACT_UNREAD');
  manifests.set(one, manifestOf('web'));
  read({ web: one });
  expect(orders.reply()).toEqual({ stopped: { code: 'SIGNER_NOT_NAMED', message: expect.any(String) } });
  expect(counts.first).toBe(0);
});

test('the manifest in force is the order, once it is here; withdrawn, there is none', () => {
  const { orders, manifests, read, stopped, counts } = setUp();
  read({ validator: one });
  expect(stopped()).toBe('SIGNER_NOT_NAMED');
  manifests.set(one, manifestOf('validator', part()));
  read({ validator: one });
  read({ validator: one });
  expect(orders.reply()).toEqual({ order: { app: 'validator', manifest: one, signer: part() } });
  expect(counts.first).toBe(1);
  // Another one is in force, which the host holds back: nothing is signed by the old one.
  read({ validator: two });
  expect(stopped()).toBe('SIGNER_NOT_NAMED');
  read({});
  expect(orders.reply().order).toBeUndefined();
});

test('what was tidied away while it is in force stays', () => {
  const { orders, manifests, read } = setUp();
  manifests.set(one, manifestOf('validator', part()));
  read({ validator: one });
  manifests.clear();
  read({ validator: one });
  expect(orders.reply().order?.manifest).toBe(one);
});

test("of several, the first in the contract's order is followed; a manifest of another app is nobody's", () => {
  const { orders, manifests, read } = setUp();
  manifests.set(one, manifestOf('other', part()));
  manifests.set(two, manifestOf('b', part()));
  manifests.set(three, manifestOf('c', part()));
  read({ a: one, b: two, c: three });
  expect(orders.reply().order).toMatchObject({ app: 'b', manifest: two });
  read({ c: three, b: two });
  expect(orders.reply().order).toMatchObject({ app: 'c', manifest: three });
});

test('two nodes that have the manifests of different apps do not both sign: what comes before has to be here', () => {
  const [x, y] = [setUp(), setUp()];
  const apps = { validator: one, 'validator-y': two };
  x.manifests.set(one, manifestOf('validator', part()));
  y.manifests.set(two, manifestOf('validator-y', part({ disk: parseHex('ef'.repeat(16)) })));
  for (const { read } of [x, y]) read(apps);
  expect(x.orders.reply()).toMatchObject({ order: { app: 'validator' } });
  expect(y.orders.reply()).toEqual({
    stopped: { code: 'SIGNER_UNSURE', message: expect.stringContaining('the manifest of validator that') },
  });
  expect(y.counts.first).toBe(1);
  // The secrets of one that is not followed are not given either.
  expect(() => y.orders.secret(two, 'validator')).toThrow('no signer with a key');
  y.read({ 'validator-y': two });
  expect(y.orders.reply()).toMatchObject({ order: { app: 'validator-y' } });
  expect(y.stopped()).toBeUndefined();
});

test('while the manifest of an app before it is awaited nothing is signed, and what was ordered stays', () => {
  const { orders, manifests, read, stopped } = setUp();
  manifests.set(one, manifestOf('web'));
  manifests.set(two, manifestOf('validator', part()));
  read({ web: one, validator: two });
  expect(stopped()).toBeUndefined();
  read({ web: three, validator: two });
  expect(orders.reply()).toMatchObject({ order: { manifest: two }, stopped: { code: 'SIGNER_UNSURE' } });
  // Another order is none before it is sure.
  manifests.set(one, manifestOf('validator', part({ minimumNodes: 1 })));
  read({ web: three, validator: one });
  expect(orders.reply()).toMatchObject({ stopped: { code: 'SIGNER_UNSURE' } });
  expect(orders.reply().order).toBeUndefined();
  manifests.set(three, manifestOf('web'));
  read({ web: three, validator: one });
  expect(orders.reply()).toMatchObject({ order: { manifest: one } });
  // What comes behind it is not asked about.
  read({ web: three, validator: one, later: two });
  manifests.delete(two);
  expect(stopped()).toBeUndefined();
});

test('a network of one node signs nothing, unless its owner says so', () => {
  const { manifests, read, stopped } = setUp();
  manifests.set(one, manifestOf('validator', part()));
  manifests.set(two, manifestOf('validator', part({ minimumNodes: 1 })));
  read({ validator: one }, false);
  expect(stopped()).toBe('NETWORK_TOO_SMALL');
  read({ validator: two }, false);
  expect(stopped()).toBeUndefined();
  read({ validator: one }, true);
  expect(stopped()).toBeUndefined();
});

test('a stale chain stops it, by the reader of this node, and the order stays', () => {
  const { orders, manifests, read, makeStale, stopped } = setUp();
  manifests.set(one, manifestOf('validator', part()));
  read({ validator: one });
  makeStale(new DstackError('CHAIN_STALE', 'no block for an hour'));
  expect(orders.reply()).toMatchObject({
    order: { manifest: one },
    stopped: { code: 'CHAIN_STALE', message: 'no block for an hour' },
  });
  makeStale(undefined);
  expect(stopped()).toBeUndefined();
});

test('it gets the secrets that its chains have as keys, of the manifest in force, and no others', () => {
  const { orders, manifests, read } = setUp();
  const [chain] = part().chains;
  const signer = part({ chains: [{ ...chain!, key: { secret: 'validator' } }] });
  manifests.set(one, manifestOf('validator', signer));
  read({ validator: one });
  expect(orders.secret(one, 'validator')).toEqual({
    app: 'validator',
    secret: { name: 'validator', envelope },
  });
  const refusal = (manifest: Hex, name: string) => {
    try {
      return orders.secret(manifest, name);
    } catch (error) {
      return codeOf(error);
    }
  };
  expect([refusal(one, 'other'), refusal(two, 'validator')]).toEqual(['SIGNER_SECRET', 'SIGNER_SECRET']);
});
