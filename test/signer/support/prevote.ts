/** What a validator asks most: its vote for a block, and again where no answer came. */
import { toHex } from '../../../lib/protocol/encoding.ts';
import type { TestNode } from './node.ts';

/** How long a machine that has much to do may take, milliseconds. */
export const PATIENCE = { timeout: 50_000, interval: 100 };

const block = (byte: number) => {
  const hash = new Uint8Array(32).fill(byte);
  return { hash, parts: { total: 1, hash } };
};

/**
 * A prevote's signature in hex, or why there is none. A node asks again where the store was too slow, or the connection new.
 * @param byte of the block
 */
export async function prevote(node: TestNode, chain: string, height: number, byte = 1): Promise<string> {
  for (const until = performance.now() + PATIENCE.timeout; ; ) {
    const said = await prevoteOnce(node, chain, height, byte).catch((error: Error) => {
      node.drop();
      return `STORE_UNAVAILABLE, or none here: ${error.message}`;
    });
    if (!said.startsWith('STORE_UNAVAILABLE') || performance.now() > until) return said;
  }
}

/** The same, asked once. @throws where the connection ends */
export async function prevoteOnce(node: TestNode, chain: string, height: number, byte = 1): Promise<string> {
  const vote = {
    ...{
      type: 1,
      height: BigInt(height),
      round: 0,
      block: block(byte),
      timestamp: { seconds: 1n, nanos: 0 },
    },
    ...{ address: new Uint8Array(20), index: 0 },
  };
  const answer = (await node.ask({ vote: { vote, chain } })).vote as {
    vote?: { signature: Uint8Array };
    error?: { description: string };
  };
  return answer.error?.description ?? toHex(answer.vote!.signature);
}
