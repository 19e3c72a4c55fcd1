/**
 * The chain as this node reads it, for apps: by the same quorum that its own decisions rest on. How often an app asks, the agent bounds: after each
 * answer it rests four times as long as that took. What all apps ask at once costs the node's endpoints one head, and a few calls.
 */
import type { ChainClient, Head } from '../../lib/chain/chain-client.ts';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { bareHex, parseHex } from '../../lib/protocol/hex.ts';
import {
  CHAIN_REPLY_MAX_BYTES,
  type ChainCallReply,
  type ChainCallRequest,
  type ChainHeadReply,
} from '../../lib/protocol/sockets.ts';

/** Calls under way, of all apps: the agent lets one app have one at a time. */
const AT_ONCE = 8;
/**
 * Of each endpoint at once, for the replicator's reader: all that apps ask, and room for what the node asks for itself. Calls that an endpoint
 * takes its time for would hold up the latter until their time is over, and that may be all the time.
 */
export const CONNECTIONS = 16;

export interface ChainReads {
  head(): Promise<ChainHeadReply>;
  call(asked: ChainCallRequest): Promise<ChainCallReply>;
}

export function chainReads(chain: Pick<ChainClient, 'head' | 'call'>): ChainReads {
  let reading: Promise<Head> | undefined;
  let underWay = 0;

  function sharedHead(): Promise<Head> {
    reading ??= chain.head().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  return {
    async head() {
      const { number, hash, timestamp, proven } = await sharedHead();
      return { number, hash: bareHex(hash), timestamp, agreeing: proven.agreeing, of: proven.of };
    },
    async call({ to, data, block }) {
      if (underWay >= AT_ONCE)
        throw new DstackError('BUSY', 'the node has calls enough under way: ask again in a second');
      underWay += 1;
      try {
        // What is said of a block is the app's affair: state is read at the block with that hash, or not at all.
        const at = { ...block, hash: to0x(fromHex(block.hash, 32)), timestamp: 0, proven: NOBODYS };
        const answer = bareHex(parseHex(await chain.call(to, `0x${data}`, at)));
        if (answer.length > 2 * CHAIN_REPLY_MAX_BYTES)
          throw new DstackError(
            'CHAIN_REPLY_TOO_LARGE',
            `the contract answers with more than ${CHAIN_REPLY_MAX_BYTES} bytes: ask for less at a time`,
          );
        return { data: answer };
      } finally {
        underWay -= 1;
      }
    },
  };
}

const NOBODYS: Head['proven'] = { by: 'quorum', agreeing: 0, of: 0 };
