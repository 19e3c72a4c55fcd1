import { expect, test } from 'vitest';
import { NO_VOTE } from '../../lib/cometbft/consensus.ts';
import { voteSignBytes } from '../../lib/cometbft/sign-bytes.ts';
import { encodeState, markRestored, NOTHING_SIGNED, type SignState } from '../../lib/cometbft/sign-state.ts';
import { simulate } from '../../test/torture/signing.ts';
import { LastSigned } from './last-signed.ts';
import type { Records, Stored } from './records.ts';

test.each([1, 2, 3])(
  'signers of one key under every fault never sign two things in one step: seed %d',
  async (seed) => {
    const outcome = await simulate(4_000, seed);
    expect(outcome.findings).toEqual([]);
    expect(outcome.signed).toBeGreaterThan(500);
    expect(outcome.crashes).toBeGreaterThan(50);
    expect(outcome.faults).toBeGreaterThan(200);
    expect(outcome.refused.SIGN_CONFLICT).toBeGreaterThan(100);
  },
);

const CHAIN = 'c';
const asked = (height: number, byte: number): SignState => {
  const hash = new Uint8Array(32).fill(byte);
  const place = { height: BigInt(height), round: 0 };
  const blockId = { hash, parts: { total: 1, hash } };
  return { ...place, step: 3, signBytes: voteSignBytes(CHAIN, { ...NO_VOTE, ...place, type: 2, blockId }) };
};
const refusal = (code: string) => expect.objectContaining({ code });

/** A store in memory that its operator can take away, and put back to what it was. */
function memory() {
  const store = { stored: { value: encodeState(NOTHING_SIGNED), revision: 4n } as Stored, isAway: false };
  const reach = (): void => {
    if (store.isAway) throw new Error('the store is away');
  };
  const records: Records = {
    async read() {
      reach();
      return store.stored;
    },
    async swap(_, before, value) {
      reach();
      const isStill = before?.revision === store.stored.revision && before.value === store.stored.value;
      if (!isStill) return { written: false, current: store.stored };
      store.stored = { value, revision: store.stored.revision + 1n };
      return { written: true, revision: store.stored.revision };
    },
  };
  return { store, signer: () => new LastSigned(records, 'key', () => Promise.resolve()) };
}
const patient = (): AbortSignal => new AbortController().signal;

test('a store that is put back to an old copy under a running signer is believed no more', async () => {
  const { store, signer } = memory();
  const one = signer();
  const old = store.stored;
  await one.permit(asked(100, 1), patient());
  store.isAway = true;
  await expect(one.permit(asked(101, 1), AbortSignal.abort())).rejects.toThrow(refusal('STORE_UNAVAILABLE'));
  store.isAway = false;
  store.stored = old;
  for (const request of [asked(100, 2), asked(100, 1), asked(101, 1)])
    await expect(one.permit(request, patient())).rejects.toThrow(refusal('STORE_WENT_BACK'));
  expect(one.state?.height).toBe(100n);
  // The same height with another block is no way forward either.
  store.stored = { ...old, value: encodeState(asked(100, 2)) };
  await expect(one.permit(asked(101, 1), patient())).rejects.toThrow(refusal('STORE_WENT_BACK'));
  // What its operator imports ends it.
  store.stored = { ...old, value: encodeState(asked(100, 1)) };
  expect((await one.permit(asked(101, 1), patient())).sign).toEqual(asked(101, 1).signBytes);
});

test('on a record of a backup nobody signs: not who starts on it, nor who ran and knows of less', async () => {
  const { store, signer } = memory();
  const [active, standby] = [signer(), signer()];
  await active.permit(asked(100, 1), patient());
  await standby.permit(asked(101, 1), patient());
  const backup = store.stored;
  await active.permit(asked(102, 1), patient());
  // The standby never saw height 102, at which another block would be signed here.
  store.stored = { value: markRestored(backup.value), revision: backup.revision + 1n };
  for (const one of [standby, signer()])
    for (const request of [asked(102, 2), asked(101, 1), asked(200, 1)])
      await expect(one.permit(request, patient())).rejects.toThrow(refusal('STORE_RESTORED'));
  for (const request of [asked(102, 1), asked(200, 1)])
    await expect(active.permit(request, patient())).rejects.toThrow(refusal('STORE_RESTORED'));
  store.stored = { value: encodeState(asked(102, 1)), revision: backup.revision + 2n };
  await expect(standby.permit(asked(102, 2), patient())).rejects.toThrow(refusal('SIGN_CONFLICT'));
  expect((await active.permit(asked(103, 1), patient())).sign).toEqual(asked(103, 1).signBytes);
});

test('a revision that an old copy gives out once more is not taken for the record that it was before', async () => {
  const { store, signer } = memory();
  const [one, other] = [signer(), signer()];
  const old = store.stored;
  await one.permit(asked(50, 1), patient());
  store.stored = old;
  await other.permit(asked(60, 2), patient());
  await expect(one.permit(asked(60, 1), patient())).rejects.toThrow(refusal('SIGN_CONFLICT'));
});
