/** The vectors of testdata/cometbft, for tests. */
import { readFileSync } from 'node:fs';
import { sha256, utf8 } from '../protocol/encoding.ts';
import { type BlockId, NO_PROPOSAL, NO_VOTE, type Proposal, type Vote } from './consensus.ts';

const folder = new URL('../../testdata/cometbft/', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, folder), 'utf8');

export const voteSignBytesVectors: readonly { i: number; chain_id: string; sign_bytes: string }[] =
  JSON.parse(read('vote_sign_bytes.json')).vectors;

export const privvalVectors: ReadonlyMap<string, string> = new Map(
  (JSON.parse(read('privval_vectors.json')).vectors as { name: string; hex: string }[]).map(
    ({ name, hex }) => [name, hex],
  ),
);

export const derivedKeys: readonly { secret: string; isLeast: boolean; receive: string; send: string }[] =
  read('secret_connection_derive.golden')
    .trim()
    .split('\n')
    .map((line) => {
      const [secret, isLeast, receive, send] = line.split(',') as [string, string, string, string];
      return { secret, isLeast: isLeast === 'true', receive, send };
    });

/** What the privval vectors were made from: cometbft's exampleVote and exampleProposal. */
export const BLOCK: BlockId = {
  hash: sha256(utf8('blockID_hash')),
  parts: { total: 1_000_000, hash: sha256(utf8('blockID_part_set_header_hash')) },
};
const TIME = { seconds: 1_570_983_284n, nanos: 0 };
export const EXAMPLE_VOTE: Vote = {
  ...NO_VOTE,
  type: 2,
  height: 3n,
  round: 2,
  blockId: BLOCK,
  timestamp: TIME,
  validatorAddress: sha256(utf8('validator_address')).subarray(0, 20),
  validatorIndex: 56_789,
  extension: utf8('extension'),
};
export const EXAMPLE_PROPOSAL: Proposal = {
  ...NO_PROPOSAL,
  type: 1,
  height: 3n,
  round: 2,
  polRound: 2,
  blockId: BLOCK,
  timestamp: TIME,
  signature: utf8("it's a signature"),
};
