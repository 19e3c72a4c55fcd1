/** The chain through the agent: reads go to the node, which believes what a quorum of its network's measured endpoints says. The app needs no network of its own. */
import type { Head } from '../../chain/chain-client.ts';
import { DstackError } from '../../protocol/errors.ts';
import { bareHex, type Hex, parseHex } from '../../protocol/hex.ts';
import type { Chain } from './enclave.ts';

/** What of the agent's client (`dstack/agent`) it takes. */
export interface ChainAgent {
  chainHead(): Promise<{
    number: number;
    hash: string;
    timestamp: number;
    agreeing: number;
    of: number;
  }>;
  chainCall(asked: {
    to: string;
    data: string;
    block: { number: number; hash: string };
  }): Promise<{ data: string }>;
}

/** Needs `chain` in the manifest's `api`. Errors are the agent's, by their codes. */
export function nodeChain(agent: ChainAgent): Chain {
  return {
    async head(): Promise<Head> {
      const { number, hash, timestamp, agreeing, of } = await agent.chainHead();
      return { number, hash: with0x(hash), timestamp, proven: { by: 'quorum', agreeing, of } };
    },
    async call(to, data, { number, hash }) {
      if (!data.startsWith('0x')) throw new DstackError('CALL_DATA', 'data of a call begins with 0x');
      const asked = { to, data: data.slice(2).toLowerCase(), block: { number, hash: bareHex(hash) } };
      return with0x((await agent.chainCall(asked)).data);
    },
  };
}

const with0x = (digits: string): Hex => parseHex(`0x${digits}`);
