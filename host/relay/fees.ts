/**
 * What a transaction offers per gas, never above the operator's ceiling: by EIP-1559, or, where blocks have no base fee or
 * such transactions are not taken, as one gas price.
 */
import { RpcRefusal } from '../../lib/chain/json-rpc.ts';
import type { Rpc } from './rpc.ts';

/** Wei per gas. */
export interface Fees {
  maxFee: bigint;
  tip: bigint;
  /** One gas price, which is then both. */
  legacy?: true;
}

/** What clients agree on where the endpoint has no `eth_maxPriorityFeePerGas`. */
const DEFAULT_TIP = 1_000_000_000n;

/**
 * Fees for a first attempt; undefined when what the market takes leaves too little room below the ceiling.
 * @param legacy the chain is known to take nothing else
 */
export async function firstFees(rpc: Rpc, ceiling: bigint, legacy = false): Promise<Fees | undefined> {
  const { baseFee, ...market } = await marketFees(rpc, legacy);
  if (market.legacy) return market.maxFee > ceiling ? undefined : market;
  const capped = smaller(market.maxFee, ceiling);
  // A base fee rises by an eighth a block: less room than that would be stuck at once.
  if (capped < baseFee + (baseFee >> 3n)) return undefined;
  return { maxFee: capped, tip: smaller(market.tip, capped) };
}

/** Fees that clients take as a replacement of `previous`; undefined when the ceiling forbids it. */
export async function replacementFees(
  rpc: Rpc,
  ceiling: bigint,
  previous: Fees,
  legacy = false,
): Promise<Fees | undefined> {
  const market = await marketFees(rpc, legacy);
  const maxFee = smaller(larger(market.maxFee, raised(previous.maxFee)), ceiling);
  const tip = market.legacy ? maxFee : smaller(larger(market.tip, raised(previous.tip)), maxFee);
  const rises = maxFee >= raised(previous.maxFee) && tip >= raised(previous.tip);
  return rises ? { maxFee, tip, ...(market.legacy && { legacy: true }) } : undefined;
}

async function marketFees(rpc: Rpc, legacy: boolean): Promise<Fees & { baseFee: bigint }> {
  const { baseFee } = await rpc.latest();
  if (legacy || baseFee === undefined) {
    const price = await rpc.gasPrice();
    return { baseFee: 0n, maxFee: price, tip: price, legacy: true };
  }
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
