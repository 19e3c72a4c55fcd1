/** How an endpoint can misbehave towards a relay, for a while. */
import type { Lie } from '../support/lying-rpc.ts';
import type { Random } from './random.ts';

export interface Misbehaviour {
  lie: Lie;
  /** Calls that never reach the chain. */
  swallows?: (method: string) => boolean;
}

const when =
  (methods: readonly string[], instead: ReturnType<Lie>): Lie =>
  (method, reply) =>
    methods.includes(method) ? instead : reply;
const always =
  (instead: ReturnType<Lie>): Lie =>
  () =>
    instead;
const refusal = (code: number, message: string) => ({ error: { code, message } });
const shifted =
  (method: string, by: number): Lie =>
  (asked, reply) =>
    asked === method && typeof reply.result === 'string'
      ? { result: `0x${Math.max(0, Number(reply.result) + by).toString(16)}` }
      : reply;

/** Its newest block has another number. */
const shiftedHead =
  (by: number): Lie =>
  (asked, reply, [which]) => {
    if (asked !== 'eth_getBlockByNumber' || which !== 'latest' || reply.result == null) return reply;
    const header = reply.result as { number: string };
    return { result: { ...header, number: `0x${Math.max(0, Number(header.number) + by).toString(16)}` } };
  };

export const LIES: readonly ((random: Random) => Misbehaviour)[] = [
  // It stalls, hangs up, or answers something else.
  () => ({ lie: always('stall') }),
  () => ({ lie: always(undefined) }),
  () => ({ lie: always('<html>502 Bad Gateway</html>') }),
  () => ({ lie: always({ result: null }) }),
  () => ({ lie: always({ result: `0x${'ff'.repeat(40)}` }) }),
  // It limits the rate, in the ways of different providers.
  () => ({ lie: always(refusal(429, 'Too Many Requests')) }),
  () => ({ lie: always(refusal(-32005, 'daily request limit reached - rate limited')) }),
  () => ({
    lie: when(['eth_estimateGas'], refusal(-32000, 'your app has exceeded its compute units per second')),
  }),
  () => ({ lie: always(refusal(-32603, 'internal error')) }),
  // It forgets transactions that were sent or mined, and logs.
  () => ({
    lie: when(['eth_sendRawTransaction'], { result: `0x${'11'.repeat(32)}` }),
    swallows: (method) => method === 'eth_sendRawTransaction',
  }),
  () => ({ lie: when(['eth_getTransactionReceipt'], { result: null }) }),
  () => ({ lie: when(['eth_getLogs'], { result: [] }) }),
  // It lies about numbers.
  (random) => ({ lie: shifted('eth_getTransactionCount', random.pick([-5, -1, 1, 3, 500])) }),
  (random) => ({ lie: shiftedHead(random.pick([-300, -5, 5, 5_000])) }),
  () => ({ lie: when(['eth_getBalance'], { result: '0x0' }) }),
  () => ({ lie: when(['eth_maxPriorityFeePerGas'], { result: '0xffffffffffffffff' }) }),
  () => ({ lie: when(['eth_chainId'], { result: '0x1' }) }),
  // It says that a correct call would fail, or that it needs all gas there is.
  () => ({ lie: when(['eth_estimateGas'], refusal(3, 'execution reverted')) }),
  () => ({ lie: when(['eth_estimateGas'], { result: '0xffffffffff' }) }),
  () => ({ lie: when(['eth_call'], { result: '0x' }) }),
];
