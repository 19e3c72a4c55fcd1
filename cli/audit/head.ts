/**
 * The block at which an audit is made. Each endpoint says how far the chain has come; the newest claim is taken, and every other
 * endpoint has to reach it. So an additional endpoint can stop an audit, but never make it see less.
 *
 * If all of them hide the newest blocks, that can't be seen directly. It shows in the block's age, which the report gives by the
 * auditor's own clock, and in its hash, which anyone can compare with a source of their own.
 */
import { Type } from 'typebox';
import { type ChainClient, chainClient, type Head } from '../../lib/chain/chain-client.ts';
import { type RpcEndpoint, rpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { NetworkConfig } from '../../lib/protocol/network-config.ts';
import { Word0x } from '../../lib/protocol/schema.ts';

/** Heads further apart than this are not waited for: no honest endpoint lags that much. */
export const HEADS_APART = { seconds: 900, blocks: 4_000 } as const;
/** With a head older than this, an audit is one of the past. Seconds. */
export const OLD_HEAD_SECONDS = 3_600;
/** How far honest clocks may differ. Seconds. */
export const CLOCK_SKEW_SECONDS = 1_200;

export interface AuditedHead extends Head {
  /** What the auditor's own clock said when the head was read, Unix seconds. */
  readonly seenAt: number;
  /** That clock minus the block's time, seconds. */
  readonly age: number;
  /** The auditor named the block: its age is intended. */
  readonly chosen: boolean;
}

export interface HeadOptions {
  /** JSON-RPC endpoints; each must serve the same chain, and all must get to the same block. */
  readonly endpoints: readonly string[];
  readonly confirmation: NetworkConfig['confirmation'];
  /** The block to audit at instead of the newest that is confirmed. */
  readonly at?: number | undefined;
  /** How long endpoints that lag are waited for, milliseconds. */
  readonly waitMs: number;
  /** Called with the endpoints that are waited for. */
  readonly onWait?: (who: string) => void;
  /** The auditor's clock, Unix seconds. */
  readonly clock?: () => number;
}

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,13})$', maxLength: 16 });
const HeaderSchema = Type.Object({ number: Quantity, hash: Word0x, timestamp: Quantity });
const TIMEOUT_MS = 30_000;
const POLL_MS = 1_000;

/**
 * The head, and a reader for which all of the endpoints have to say the same.
 * @throws AUDIT_HEADS_APART, AUDIT_AT, CHAIN_DISAGREES, RPC_*
 */
export async function auditedHead(options: HeadOptions): Promise<{ chain: ChainClient; head: AuditedHead }> {
  const { confirmation, at } = options;
  const endpoints = [...options.endpoints];
  const all = endpoints.map((url) => rpcEndpoint(url, { timeout: TIMEOUT_MS }));
  const chainId = await chainIdOf(all);
  const quorum = endpoints.length;
  const chain = chainClient({ config: { chainId, endpoints, quorum, confirmation }, timeout: TIMEOUT_MS });
  const reached = await reachedByAll(all, options);
  const confirmed = Math.max(0, reached - ('depth' in confirmation ? confirmation.depth : 0));
  if (at !== undefined && at > confirmed) {
    throw new DstackError(
      'AUDIT_AT',
      `block ${at} is not confirmed, the newest that is confirmed is ${confirmed}`,
    );
  }
  const head = await chain.block(at ?? confirmed);
  const seenAt = options.clock?.() ?? Math.floor(Date.now() / 1000);
  return {
    chain,
    head: { ...head, seenAt, age: seenAt - head.timestamp, chosen: at !== undefined },
  };
}

async function chainIdOf(all: readonly RpcEndpoint[]): Promise<number> {
  const ids = await Promise.all(all.map(async (rpc) => Number(await rpc.call(Quantity, 'eth_chainId', []))));
  const other = ids.findIndex((id) => id !== ids[0]);
  if (other > 0) {
    throw new DstackError(
      'CHAIN_DISAGREES',
      `${all[0]!.name} serves chain ${ids[0]}, ${all[other]!.name} chain ${ids[other]}`,
    );
  }
  return ids[0]!;
}

/** The newest head that any endpoint claims, once each has claimed as much. */
async function reachedByAll(all: readonly RpcEndpoint[], options: HeadOptions): Promise<number> {
  const tag = 'finalized' in options.confirmation ? 'finalized' : 'latest';
  const claimOf = async (rpc: RpcEndpoint) => {
    const header = await rpc.call(HeaderSchema, 'eth_getBlockByNumber', [tag, false]);
    return { rpc, number: Number(header.number), timestamp: Number(header.timestamp) };
  };
  const claims = await Promise.all(all.map(claimOf));
  const goal = claims.reduce((newest, claim) => (claim.number > newest.number ? claim : newest));
  const apart = (claim: typeof goal) =>
    new DstackError(
      'AUDIT_HEADS_APART',
      `${claim.rpc.name} says that the newest ${tag} block is ${claim.number}, ${goal.rpc.name} says ${goal.number}: one of them lies or lags: try again, or leave it out`,
    );
  for (const claim of claims) {
    const [blocks, seconds] = [goal.number - claim.number, goal.timestamp - claim.timestamp];
    if (blocks > HEADS_APART.blocks || seconds > HEADS_APART.seconds) throw apart(claim);
  }
  const begin = performance.now();
  let behind = claims.filter(({ number }) => number < goal.number);
  if (behind.length > 0) options.onWait?.(behind.map(({ rpc }) => rpc.name).join(', '));
  while (behind.length > 0) {
    if (performance.now() - begin >= options.waitMs) throw apart(behind[0]!);
    await new Promise((resolve) => setTimeout(resolve, Math.min(POLL_MS, options.waitMs)));
    const again: (typeof goal)[] = await Promise.all(behind.map(({ rpc }) => claimOf(rpc)));
    behind = again.filter(({ number }) => number < goal.number);
  }
  return goal.number;
}

/** A URL may contain the key to its endpoint. */
