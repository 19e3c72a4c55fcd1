import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { decodeState, encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseHex } from '../../lib/protocol/hex.ts';
import { signerKeys } from '../../lib/protocol/keys.ts';
import type { SignedChain } from '../../lib/protocol/signer-part.ts';
import { recordKey } from './chain-signer.ts';
import type { Records, Stored } from './records.ts';
import { keysInVm, raiseRecord } from './vm-keys.ts';

const secret = new Uint8Array(32).fill(3);
const chain: SignedChain = { id: 'chain-1', protocol: 'v0.38', key: 'derived', afterHeight: 0 };
const order = {
  app: 'validator',
  manifest: parseHex('11'.repeat(32)),
  signer: { disk: parseHex('22'.repeat(16)), chains: [chain] },
};
const configured = { id: 'chain-1', key: 'network' } as const;

/** A store in memory. @param race called before each swap */
function memory(race: (values: Map<string, Stored>) => void = () => {}) {
  const values = new Map<string, Stored>();
  const records: Records = {
    read: async (key) => values.get(key),
    async swap(key, before, value) {
      race(values);
      const current = values.get(key);
      if (current?.revision !== before?.revision) return { written: false, current };
      const revision = (before?.revision ?? 0n) + 1n;
      values.set(key, { value, revision });
      return { written: true, revision };
    },
  };
  return { records, values };
}

/** The replicator of a node that has these epochs. */
const siblings = (newest: number) => ({
  async keys(id: string, epoch = newest) {
    const { seed, identity } = signerKeys(secret, epoch, id);
    return { epoch, seed: toHex(seed), identity: toHex(identity) };
  },
  secret: () => Promise.reject(new Error('nobody may ask')),
});
const publicKey = (epoch: number) => ed25519Key(signerKeys(secret, epoch, 'chain-1').seed).publicKey;

test("a chain's key stays that of the epoch in which it was first used", async () => {
  const { records, values } = memory();
  const first = await keysInVm(order, siblings(2), records)(configured);
  expect(first.key.publicKey).toEqual(publicKey(2));
  const later = await keysInVm(order, siblings(5), records)(configured);
  expect(later.key.publicKey).toEqual(publicKey(2));
  expect(later.identity.publicKey).toEqual(first.identity.publicKey);
  expect([...values.keys()]).toEqual(['born/chain-1']);
});

test('of two that use it for the first time, in different epochs, the one that was first is followed', async () => {
  const { records } = memory((values) => {
    if (!values.has('born/chain-1'))
      values.set('born/chain-1', { value: '{"version":1,"epoch":4}', revision: 9n });
  });
  const { key } = await keysInVm(order, siblings(5), records)(configured);
  expect(key.publicKey).toEqual(publicKey(4));
});

test('a record of the epoch that this version did not write is no reason to take another key', async () => {
  const { records, values } = memory();
  values.set('born/chain-1', { value: '{"version":2,"epoch":4}', revision: 1n });
  await expect(keysInVm(order, siblings(5), records)(configured)).rejects.toMatchObject({
    code: 'SIGNER_BORN',
  });
});

const recordOf = (values: Map<string, Stored>) => {
  const stored = values.get(recordKey('chain-1', publicKey(2)));
  return stored && decodeState(stored.value);
};

test("a key's record begins after the manifest's height, is raised with it, and never goes back", async () => {
  const { records, values } = memory();
  const raise = (afterHeight: number) => raiseRecord(records, { ...chain, afterHeight }, publicKey(2));
  await raise(0);
  expect(recordOf(values)).toEqual(NOTHING_SIGNED);
  await raise(7);
  expect(recordOf(values)).toMatchObject({ height: 7n, round: 2 ** 31 - 1, step: 3 });
  await raise(3);
  await raise(7);
  expect(recordOf(values)).toMatchObject({ height: 7n });
  const signed = { height: 9n, round: 1, step: 2, signBytes: Uint8Array.of(1) };
  values.set(recordKey('chain-1', publicKey(2)), { value: encodeState(signed), revision: 5n });
  await raise(8);
  expect(recordOf(values)).toEqual(signed);
  await raise(9);
  expect(recordOf(values)).toMatchObject({ height: 9n, round: 2 ** 31 - 1 });
});

test('a record that is not understood, or changes meanwhile, is left as it is', async () => {
  const key = recordKey('chain-1', publicKey(2));
  const odd = memory();
  odd.values.set(key, { value: '{"version":2}', revision: 1n });
  await expect(raiseRecord(odd.records, chain, publicKey(2))).rejects.toMatchObject({ code: 'SIGN_STATE' });
  const raced = memory((values) => values.set(key, { value: encodeState(NOTHING_SIGNED), revision: 8n }));
  await expect(raiseRecord(raced.records, chain, publicKey(2))).rejects.toMatchObject({
    code: 'STATE_CHANGED',
  });
});

test('a secret that is no key is refused, and nothing of it is said', async () => {
  const { records } = memory();
  const imported = {
    ...order,
    signer: { ...order.signer, chains: [{ ...chain, key: { secret: 'validator' } }] },
  };
  for (const text of [
    '{"priv_key": "hush-hush"',
    '{"priv_key":{"type":"hush-hush","value":"x"}}',
    'hush-hush',
  ]) {
    const holder = { ...siblings(2), secret: async () => utf8(text) };
    const error = await keysInVm(imported, holder, records)(configured).catch((error: unknown) => error);
    expect(['KEY_FILE', 'KEY_TYPE']).toContain(codeOf(error));
    expect(inspect(error, { depth: 9 })).not.toContain('hush');
  }
});
