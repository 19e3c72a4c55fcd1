/** What an operator says of a record that is of a backup. The rest of what operators do: test/signer. */
import { beforeEach, expect, test } from 'vitest';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import { encodeState, markRestored, NOTHING_SIGNED, type SignState } from '../../lib/cometbft/sign-state.ts';
import { testSecret } from '../../test/signer/support/signer.ts';
import { recordKey } from './chain-signer.ts';
import { importState, makeBackup, publicKeyOf, recover, showState } from './operator.ts';
import type { Records } from './records.ts';

const chain = { id: 'testchain-1', key: 'network' as const };
const stored = new Map<string, string>();
const records: Records = {
  read: async (key) => (stored.has(key) ? { value: stored.get(key)!, revision: 1n } : undefined),
  swap: async (key, _, value) => {
    stored.set(key, value);
    return { written: true, revision: 2n };
  },
};
const desk = { records, secret: testSecret() };
const state = (height: bigint, step = 3): SignState => ({
  height,
  round: 0,
  step,
  signBytes: Uint8Array.of(1, 2, 3),
});
const refusal = (code: string) => expect.objectContaining({ code });
let key: string;
beforeEach(async () => {
  key = recordKey(chain.id, await publicKeyOf(desk, chain));
  stored.set(key, markRestored(encodeState(state(10n))));
});

test.each([
  ['more than the backup has', state(11n)],
  ['the same as the backup has', state(10n)],
])("the node's own state unlocks it: %s", async (_, said) => {
  await expect(showState(desk, chain)).rejects.toThrow(refusal('STORE_RESTORED'));
  await importState(desk, chain, said);
  expect(await showState(desk, chain)).toEqual(said);
});

test.each<[string, SignState | 'fresh', string]>([
  ['less than the backup has', state(9n), 'STATE_NEWER'],
  ['another thing in the same step', { ...state(10n), signBytes: Uint8Array.of(9) }, 'STATE_NEWER'],
  ['that nothing was ever signed', 'fresh', 'STORE_RESTORED'],
])('nothing else does: %s', async (_, said, code) => {
  await expect(importState(desk, chain, said)).rejects.toThrow(refusal(code));
  await expect(showState(desk, chain)).rejects.toThrow(refusal('STORE_RESTORED'));
});

test('a key that never signed is unlocked by a state that says so, and no backup is made of what is locked', async () => {
  stored.set(key, markRestored(encodeState(NOTHING_SIGNED)));
  await expect(makeBackup(desk, chain)).rejects.toThrow(refusal('STORE_RESTORED'));
  await importState(desk, chain, NOTHING_SIGNED);
  expect(await showState(desk, chain)).toEqual(NOTHING_SIGNED);
});

test('a backup of the key unlocks nothing, whatever it says was signed', async () => {
  const imported = { id: chain.id, key: 'imported' as const };
  const seed = new Uint8Array(32).fill(7);
  const own = recordKey(chain.id, ed25519Key(seed).publicKey);
  const locked = markRestored(encodeState(state(10n)));
  stored.set(own, locked);
  for (const height of [10n, 11n])
    await expect(recover(desk, imported, { chainId: chain.id, seed, state: state(height) })).rejects.toThrow(
      refusal('STORE_RESTORED'),
    );
  expect(stored.get(own)).toBe(locked);
});
