/** What signers that race are asked for, and what came of it. */
import type { ChainSigner } from '../../../guest/signer/chain-signer.ts';
import { NO_VOTE, type Vote } from '../../../lib/cometbft/consensus.ts';
import type { Reply } from '../../../lib/cometbft/messages.ts';
import { toHex } from '../../../lib/protocol/encoding.ts';

export function precommit(height: number, block: number, seconds = 1n): Vote {
  const hash = new Uint8Array(32).fill(block);
  return {
    ...NO_VOTE,
    type: 2,
    height: BigInt(height),
    blockId: { hash, parts: { total: 1, hash } },
    timestamp: { seconds, nanos: 0 },
  };
}

export const ask = (signer: ChainSigner, vote: Vote): Promise<Reply> =>
  signer.answer({ kind: 'vote', chainId: signer.options.id, vote, skipExtension: false }, 'r');

/** A signature, or why there is none. */
export function outcome(reply: Reply): string {
  if ('error' in reply) return reply.error.description.split(':')[0]!;
  return 'vote' in reply ? `signed ${toHex(reply.vote.signature)}` : '?';
}
