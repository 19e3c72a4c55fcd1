import { expect, test } from 'vitest';
import { NO_PROPOSAL, NO_VOTE, PROPOSAL, type ProtocolVersion } from '../../lib/cometbft/consensus.ts';
import { ed25519Key } from '../../lib/cometbft/ed25519.ts';
import type { Request } from '../../lib/cometbft/messages.ts';
import { encodeState, NOTHING_SIGNED } from '../../lib/cometbft/sign-state.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ChainSigner } from './chain-signer.ts';
import { Metrics } from './metrics.ts';
import type { Records, Stored } from './records.ts';

const CHAIN = 'chain-1';
const hash = new Uint8Array(32).fill(1);
const blockId = { hash, parts: { total: 1, hash } };
const place = { height: 7n, round: 0, blockId };
const requests: Record<string, Request> = {
  vote: { kind: 'vote', chainId: CHAIN, vote: { ...NO_VOTE, ...place, type: 2 }, skipExtension: false },
  proposal: {
    kind: 'proposal',
    chainId: CHAIN,
    proposal: { ...NO_PROPOSAL, ...place, type: PROPOSAL, polRound: -1 },
  },
  rawBytes: { kind: 'rawBytes', chainId: CHAIN, uniqueId: 'one', raw: Uint8Array.of(1, 2, 3) },
  bytes: { kind: 'bytes', value: Uint8Array.of(1, 2, 3) },
};
const signedBy: Record<string, ProtocolVersion> = {
  vote: 'v0.38',
  proposal: 'v0.38',
  rawBytes: 'celestia',
  bytes: 'v1',
};

/** @param during called while the store writes */
function setUp(protocol: ProtocolVersion, during: () => void = () => {}) {
  const world = { stopped: false, stored: { value: encodeState(NOTHING_SIGNED), revision: 1n } as Stored };
  const records: Records = {
    read: async () => world.stored,
    async swap(_, before, value) {
      world.stored = { value, revision: before!.revision + 1n };
      during();
      return { written: true, revision: world.stored.revision };
    },
  };
  const gate = () => {
    if (world.stopped) throw new DstackError('CHAIN_STALE', 'no block for an hour');
  };
  const metrics = new Metrics();
  const around = { records, metrics, gate, log: { info: () => {}, warn: () => {} } };
  const key = ed25519Key(new Uint8Array(32).fill(5));
  const signer = new ChainSigner({ id: CHAIN, protocol, signsBytes: true, key }, around);
  return { world, signer, metrics };
}

const stale = { error: { description: 'CHAIN_STALE: no block for an hour' } };

test.each(Object.keys(requests))(
  'while nothing may be signed, a request for %s is refused, and nothing is recorded',
  async (kind) => {
    const { world, signer, metrics } = setUp(signedBy[kind]!);
    const before = world.stored;
    world.stopped = true;
    expect(await signer.answer(requests[kind]!, 'r')).toMatchObject({ kind, ...stale });
    expect(world.stored).toBe(before);
    expect(metrics.text([])).toContain('refusals_total{chain="chain-1",reason="CHAIN_STALE"} 1');
    // What tells a node which key signs is no signature.
    expect(await signer.answer({ kind: 'pubKey', chainId: CHAIN }, 'r')).toMatchObject({
      ed25519: signer.options.key.publicKey,
    });
    world.stopped = false;
    expect(await signer.answer(requests[kind]!, 'r')).not.toHaveProperty('error');
  },
);

test('what stops it while the store answers stops the signature; the same request gets it when that has ended', async () => {
  const { world, signer, metrics } = setUp('v0.38', () => {
    world.stopped = true;
  });
  expect(await signer.answer(requests.vote!, 'r')).toMatchObject(stale);
  expect(metrics.totals(CHAIN)).toEqual({ signatures: 0, refusals: 1 });
  world.stopped = false;
  expect(await signer.answer(requests.vote!, 'r')).not.toHaveProperty('error');
});
