/** What a transaction offers per gas (EIP-1559), never above the operator's ceiling. */
import { RpcRefusal } from '../../lib/framework/json-rpc.ts';
import type { Rpc } from './rpc.ts';

/** Wei per gas. */
export interface Fees {
  maxFee: bigint;
  tip: bigint;
}

/** What clients agree on where the endpoint has no `eth_maxPriorityFeePerGas`. */
const DEFAULT_TIP = 1_000_000_000n;

/** Fees for a first attempt; undefined when the base fee leaves too little room below the ceiling. */
export async function firstFees(rpc: Rpc, ceiling: bigint): Promise<Fees | undefined> {
  const { baseFee, maxFee, tip } = await marketFees(rpc);
  const capped = smaller(maxFee, ceiling);
  // A base fee rises by an eighth a block: less room than that would be stuck at once.
  if (capped < baseFee + (baseFee >> 3n)) return undefined;
  return { maxFee: capped, tip: smaller(tip, capped) };
}

/** Fees that clients take as a replacement of `previous`; undefined when the ceiling forbids it. */
export async function replacementFees(rpc: Rpc, ceiling: bigint, previous: Fees): Promise<Fees | undefined> {
  const market = await marketFees(rpc);
  const maxFee = smaller(larger(market.maxFee, raised(previous.maxFee)), ceiling);
  const tip = smaller(larger(market.tip, raised(previous.tip)), maxFee);
  const rises = maxFee >= raised(previous.maxFee) && tip >= raised(previous.tip);
  return rises ? { maxFee, tip } : undefined;
}

async function marketFees(rpc: Rpc): Promise<Fees & { baseFee: bigint }> {
  const baseFee = (await rpc.latest()).baseFee ?? 0n;
  const tip = await rpc.priorityFee().catch((error) => {
    if (error instanceof RpcRefusal) return DEFAULT_TIP;
    throw error;
  });
  return { baseFee, tip, maxFee: 2n * baseFee + tip };
}

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);
/** Clients take a replacement only when both fees rise by a tenth (geth) or an eighth (others). */
const raised = (fee: bigint): bigint => (fee * 9n) / 8n + 1n;
