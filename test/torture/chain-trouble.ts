/** What a chain may do to a relay's transactions: drop them, mine them elsewhere, raise their price, mine another's first. */
import { Transaction, Wallet } from 'ethers';
import { to0x } from '../../lib/protocol/encoding.ts';
import type { Arena, Host } from './arena.ts';

interface Listed {
  hash: string;
  from: string;
  nonce: string;
}

/**
 * Replaces the last blocks. Of the relays' transactions in them each is dropped, or mined again in another block, in an
 * order that nonces allow; some of the dropped come back later from somebody's pool.
 */
export async function reorg(arena: Arena, maxDepth: number): Promise<void> {
  const { random } = arena;
  await arena.withoutBlocks(async () => {
    const head = await arena.head();
    const depth = Math.min(random.between(1, maxDepth), head - arena.ground);
    if (depth < 1) return;
    const raws: string[] = [];
    for (let number = head - depth + 1; number <= head; number += 1) {
      type Block = { transactions: Listed[] };
      const { transactions } = await arena.rpc<Block>(
        'eth_getBlockByNumber',
        `0x${number.toString(16)}`,
        true,
      );
      for (const { hash } of transactions)
        raws.push(await arena.rpc<string>('eth_getRawTransactionByHash', hash));
    }
    const kept = random.chance(0.5) ? [] : keepSome(arena, raws);
    // Spread over the new blocks: never before a lower nonce of the same account.
    let at = 0;
    const pairs = kept.map((raw) => {
      at = random.between(at, depth - 1);
      return [raw, at];
    });
    await arena.rpc('anvil_reorg', depth, pairs);
    arena.counts.reorgs += 1;
    // Settings made outside of transactions are undone as well.
    await arena.fund();
    for (const raw of raws.filter((raw) => !kept.includes(raw))) {
      if (random.chance(0.3)) await arena.rpc('eth_sendRawTransaction', raw).catch(() => {});
    }
  });
}

/** A selection, with the accounts interleaved at random: each account's transactions stay in order and without a gap. */
function keepSome(arena: Arena, raws: readonly string[]): string[] {
  const byAccount = new Map<string, string[]>();
  for (const raw of raws) {
    const from = Transaction.from(raw).from!;
    byAccount.set(from, [...(byAccount.get(from) ?? []), raw]);
  }
  const queues = [...byAccount.values()].map((list) => list.slice(0, arena.random.between(0, list.length)));
  const kept: string[] = [];
  for (;;) {
    const left = queues.filter((queue) => queue.length > 0);
    if (left.length === 0) return kept;
    kept.push(arena.random.pick(left).shift()!);
  }
}

/** Every block costs more than any relay may pay, for a while. */
export async function spike(arena: Arena): Promise<void> {
  arena.counts.spikes += 1;
  const wei = BigInt(arena.random.between(20, 300)) * 1_000_000_000n;
  const until = Date.now() + arena.random.between(300, 2_500);
  while (Date.now() < until) {
    await arena.rpc('anvil_setNextBlockBaseFeePerGas', `0x${wei.toString(16)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await arena.rpc('anvil_setNextBlockBaseFeePerGas', '0x3b9aca00');
}

/** Pools evict what they like. */
export async function evict(arena: Arena): Promise<void> {
  type Pool = { pending: Record<string, Record<string, Listed>> };
  const { pending } = await arena.rpc<Pool>('txpool_content');
  for (const { hash } of Object.values(pending).flatMap((byNonce) => Object.values(byNonce))) {
    if (arena.random.chance(0.7)) await arena.rpc('anvil_dropTransaction', hash).catch(() => {});
  }
}

/** Someone else uses a relay's key: the next nonce, or one that is in flight. */
export async function outsider(arena: Arena, host: Host): Promise<void> {
  const wallet = new Wallet(to0x(host.relay.gasKey));
  const nonce = Number(await arena.rpc<string>('eth_getTransactionCount', wallet.address, 'latest'));
  const raw = await wallet.signTransaction({
    type: 2,
    chainId: arena.network.domain.chainId,
    nonce,
    to: wallet.address,
    gasLimit: 21_000,
    maxFeePerGas: 90_000_000_000n,
    maxPriorityFeePerGas: 20_000_000_000n,
  });
  await arena.rpc('eth_sendRawTransaction', raw).catch(() => {});
}

/** The gas money runs out, and comes back. */
export async function poverty(arena: Arena, host: Host): Promise<void> {
  await arena.rpc('anvil_setBalance', host.relay.gasAddress, '0x0');
  await new Promise((resolve) => setTimeout(resolve, arena.random.between(300, 2_000)));
  await arena.fund();
}
