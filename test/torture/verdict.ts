/** What must hold when a round is over, read from the chain and the nodes and not from the relays' own reports. */
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { type Arena, type Counts, type Host, tail } from './arena.ts';

export interface Verdict extends Counts {
  /** Whether every node joined, with the same key. */
  converged: boolean;
  /** Requests that were onboarded more than once. */
  doubleOnboards: number;
  /** Purposes with more than one transaction on the chain. */
  doublePurposes: number;
  /** Gas keys with a hole in their nonces, or with a transaction that waits for ever. */
  stuckNonces: number;
  /** What went wrong, in words. */
  problems: string[];
}

interface ChainTransaction {
  from: string;
  to: string | null;
  input: string;
  nonce: string;
}

/** Waits until the network is at rest, then judges. */
export async function judge(arena: Arena): Promise<Verdict> {
  const problems: string[] = [];
  const { hosts } = arena;
  const joined = await arena.until('every node to join', async () => {
    const states = await Promise.all(hosts.map((host) => arena.isJoined(host)));
    return states.every(Boolean);
  });
  const rested = await arena.until('no transaction to be under way', () => atRest(arena), 45_000);
  if (!joined) problems.push(...(await Promise.all(hosts.map((host) => described(arena, host)))));

  const keys = new Set<string>();
  for (const host of hosts) keys.add(`${(await host.node.status()).networkKey}`);
  if (joined && keys.size !== 1) problems.push(`nodes have different keys: ${[...keys].join(', ')}`);

  const transactions = await allTransactions(arena);
  const doubleOnboards = repeated(await onboardedRequests(arena));
  if (doubleOnboards.length > 0) problems.push(`onboarded twice: ${doubleOnboards.join(', ')}`);
  const relays = new Set(hosts.map(({ relay }) => relay.gasAddress.toLowerCase()));
  // Without data: a filled nonce, or what the round itself did with a relay's key.
  const done = transactions.filter(({ from, input }) => relays.has(from.toLowerCase()) && input !== '0x');
  const doublePurposes = repeated(done.map(({ to, input }) => `${to} ${input}`));
  if (doublePurposes.length > 0) problems.push(`two transactions for one purpose: ${doublePurposes.length}`);

  let stuckNonces = 0;
  for (const host of hosts) {
    const trouble = await nonceTrouble(arena, host, transactions);
    if (trouble === undefined && rested) continue;
    if (trouble !== undefined || !(await isIdle(host))) {
      stuckNonces += 1;
      problems.push(`${host.name}: ${trouble ?? 'transactions under way for ever'}; ${tail(host)}`);
    }
  }
  return {
    ...arena.counts,
    converged: joined && keys.size === 1,
    doubleOnboards: doubleOnboards.length,
    doublePurposes: doublePurposes.length,
    stuckNonces,
    problems,
  };
}

/** An idle relay notices work from a re-org only after a second, so the rest has to last. */
const REST_MS = 3_000;

async function atRest(arena: Arena): Promise<boolean> {
  for (const until = Date.now() + REST_MS; Date.now() < until; ) {
    const idle = await Promise.all(arena.hosts.map(isIdle));
    if (!idle.every(Boolean) || (await pooled(arena)).size > 0) return false;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return true;
}

async function isIdle({ relay }: Host): Promise<boolean> {
  const { transactions } = await relay.status();
  return transactions.every(({ state }) => state !== 'sent' && state !== 'mined');
}

/** Accounts with something in the pool. */
async function pooled(arena: Arena): Promise<Set<string>> {
  type Pool = Record<'pending' | 'queued', Record<string, object>>;
  const { pending, queued } = await arena.rpc<Pool>('txpool_content');
  return new Set([...Object.keys(pending), ...Object.keys(queued)].map((account) => account.toLowerCase()));
}

async function nonceTrouble(
  arena: Arena,
  { relay }: Host,
  transactions: readonly ChainTransaction[],
): Promise<string | undefined> {
  const account = relay.gasAddress.toLowerCase();
  const nonces = transactions
    .filter(({ from }) => from.toLowerCase() === account)
    .map(({ nonce }) => Number(nonce))
    .sort((a, b) => a - b);
  const next = Number(await arena.rpc<string>('eth_getTransactionCount', account, 'latest'));
  if (nonces.length !== next || nonces.some((nonce, index) => nonce !== index)) {
    return `nonces ${nonces.join(',')} on the chain, the next is ${next}`;
  }
  return (await pooled(arena)).has(account) ? 'a transaction waits in the pool for ever' : undefined;
}

async function allTransactions(arena: Arena): Promise<ChainTransaction[]> {
  const head = await arena.head();
  const blocks: ChainTransaction[][] = [];
  for (let number = 0; number <= head; number += 1) {
    type Block = { transactions: ChainTransaction[] };
    const block = await arena.rpc<Block>('eth_getBlockByNumber', `0x${number.toString(16)}`, true);
    blocks.push(block.transactions);
  }
  return blocks.flat();
}

async function onboardedRequests(arena: Arena): Promise<string[]> {
  const filter = { address: arena.network.contract, fromBlock: '0x0', topics: [networkTopics.Onboarded] };
  const logs = await arena.rpc<{ topics: string[] }[]>('eth_getLogs', filter);
  return logs.map(({ topics }) => topics.slice(1).join(' '));
}

function repeated(list: readonly string[]): string[] {
  return [...new Set(list.filter((item, index) => list.indexOf(item) !== index))];
}

async function described(arena: Arena, host: Host): Promise<string> {
  if (await arena.isJoined(host).catch(() => false)) return `${host.name} has joined`;
  const status = await host.node.status().catch((error) => error as Error);
  const relay = await host.relay.status().catch((error) => error as Error);
  return `${host.name} has not joined: ${JSON.stringify({ status, relay })}; ${tail(host)}`;
}
