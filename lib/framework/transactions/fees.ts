/**
 * What a transaction offers per gas, never above the operator's ceiling: as EIP-1559 has it, or as one gas price where
 * blocks have no base fee or such transactions are not accepted.
 */
import { RpcRefusal } from '../../chain/json-rpc.ts';
import type { Rpc } from '../endpoint/rpc.ts';

/** Wei per gas. */
export interface Fees {
  maxFee: bigint;
  tip: bigint;
  /** A legacy transaction: both fields then hold its gas price. */
  legacy?: true;
}

/** The usual default where the endpoint has no `eth_maxPriorityFeePerGas`. */
const DEFAULT_TIP = 1_000_000_000n;

/**
 * Fees for a first attempt; undefined when the market price leaves too little room below the ceiling.
 * @param legacy whether the chain is known to accept only legacy transactions
 */
export async function firstFees(rpc: Rpc, ceiling: bigint, legacy = false): Promise<Fees | undefined> {
  const { baseFee, ...market } = await marketFees(rpc, legacy);
  if (market.legacy) return market.maxFee > ceiling ? undefined : market;
  const capped = smaller(market.maxFee, ceiling);
  // The base fee can rise by an eighth per block: with less room than that, the transaction would be stuck at once.
  if (capped < baseFee + (baseFee >> 3n)) return undefined;
  return { maxFee: capped, tip: smaller(market.tip, capped) };
}

/** Fees that clients accept as a replacement of `previous`; undefined when the ceiling forbids it. */
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
  const { baseFee } = await rpc.head();
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
/** Clients accept a replacement only when both fees rise by a tenth (geth) or an eighth (others). */
const raised = (fee: bigint): bigint => (fee * 9n) / 8n + 1n;
