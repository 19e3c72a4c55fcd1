import { expect, test } from 'vitest';
import { toHex, utf8 } from '../protocol/encoding.ts';
import { NIL_BLOCK, NO_PROPOSAL, NO_VOTE, ZERO_TIME } from './consensus.ts';
import {
  extensionSignBytes,
  hasConsensusForm,
  proposalSignBytes,
  rawSignBytes,
  timestampIfSame,
  voteSignBytes,
} from './sign-bytes.ts';
import { BLOCK, EXAMPLE_VOTE, voteSignBytesVectors } from './vectors.fixture.ts';

const votes = [
  NO_VOTE,
  { ...NO_VOTE, height: 1n, round: 1, type: 2 },
  { ...NO_VOTE, height: 1n, round: 1, type: 1 },
  { ...NO_VOTE, height: 1n, round: 1 },
  { ...NO_VOTE, height: 1n, round: 1 },
  { ...NO_VOTE, height: 1n, round: 1, extension: utf8('extension') },
];

test.each(voteSignBytesVectors)('vector $i of votes', ({ i, chain_id, sign_bytes }) => {
  expect(toHex(voteSignBytes(chain_id, votes[i]!))).toBe(sign_bytes);
});

test('a proposal without a proof of lock has round -1 in ten bytes', () => {
  const bytes = proposalSignBytes('c', { ...NO_PROPOSAL, height: 5n, polRound: -1, blockId: NIL_BLOCK });
  expect(toHex(bytes)).toBe(
    '26' + // 38 bytes
      '0820' + // type 32
      '110500000000000000' + // height 5, little-endian
      '20ffffffffffffffffff01' + // pol_round
      '320b088092b8c398feffffff01' + // the zero time
      '3a0163',
  );
});

test('a proposal has its block between the round of the lock and the time', () => {
  const bytes = proposalSignBytes('c', {
    ...NO_PROPOSAL,
    height: 1n,
    polRound: 3,
    blockId: BLOCK,
    timestamp: { seconds: 1n, nanos: 2 },
  });
  const block = `0a20${toHex(BLOCK.hash)}122608c0843d1220${toHex(BLOCK.parts.hash)}`;
  expect(toHex(bytes)).toBe(`62082011010000000000000020032a4a${block}3204080110023a0163`);
});

test('an extension is signed with height, round and chain, and when it is empty too', () => {
  expect(toHex(extensionSignBytes('chain', { extension: utf8('ext'), height: 3n, round: 2 }))).toBe(
    `1e0a03657874${'110300000000000000'}${'190200000000000000'}2205636861696e`,
  );
  expect(toHex(extensionSignBytes('chain', { ...NO_VOTE, height: 3n, round: 0 }))).toBe(
    `101103000000000000002205636861696e`,
  );
});

test('raw bytes of Celestia are signed behind a prefix that no canonical message has', () => {
  const bytes = rawSignBytes('mocha-4', 'id', Uint8Array.of(1, 2));
  expect(Buffer.from(bytes).toString('latin1')).toBe(
    'COMET::RAW_BYTES::SIGN\x11\x0a\x07mocha-4\x12\x02\x01\x02\x1a\x02id',
  );
  expect(hasConsensusForm(bytes)).toBe(false);
  expect(hasConsensusForm(voteSignBytes('c', NO_VOTE))).toBe(true);
});

test('two votes are the same but for the time, or they are not', () => {
  const bytes = (vote: object) => voteSignBytes('c', { ...EXAMPLE_VOTE, ...vote });
  const later = bytes({ timestamp: { seconds: 1_570_983_285n, nanos: 7 } });
  expect(timestampIfSame(bytes({}), later)).toEqual(EXAMPLE_VOTE.timestamp);
  expect(timestampIfSame(bytes({ timestamp: ZERO_TIME }), later)).toEqual(ZERO_TIME);
  for (const other of [{ blockId: NIL_BLOCK }, { round: 3 }, { type: 1 }, { height: 4n }]) {
    expect(timestampIfSame(bytes({}), bytes(other))).toBeUndefined();
  }
  expect(timestampIfSame(bytes({}), voteSignBytes('d', EXAMPLE_VOTE))).toBeUndefined();
});
