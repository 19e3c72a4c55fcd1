/**
 * An anvil that mines only when told to, at the times given, and goes back to its initial state for every sequence:
 * the same sequence gives the same blocks, hashes and addresses on every machine.
 */
import { type Anvil, startAnvil } from '../local-node.ts';

/**
 * A block number and time of a live network, so that calldata has the same length; Prague's rules; gas is free. Unoptimised code
 * is larger than EIP-170 lets a contract be; build.test.ts holds the committed one to that limit.
 */
const ANVIL_ARGS = ['--number', '21000000', '--timestamp', '1800000000', '--hardfork', 'prague']
  .concat(['--no-mining', '--order', 'fifo', '--auto-impersonate'])
  .concat(['--gas-price', '0', '--block-base-fee-per-gas', '0'])
  .concat(['--code-size-limit', String(2 * 24_576)]);
const CHAIN_ID = 31_337;
/** More than the 256 whose hashes the chain remembers. */
const FIRST_BLOCKS = 300;
const REMEMBERED = 256;

export interface Transaction {
  readonly from: string;
  /** Undefined deploys. */
  readonly to: string | undefined;
  readonly data: string;
  readonly value?: bigint;
  readonly gas: number;
}

export interface MinedTransaction {
  readonly hash: string;
  readonly ok: boolean;
  readonly gasUsed: number;
  /** What it returned or reverted with. */
  readonly output: string;
  readonly contractAddress: string | undefined;
  readonly logs: readonly {
    readonly address: string;
    readonly topics: readonly string[];
    readonly data: string;
  }[];
}

export interface MinedBlock {
  readonly number: number;
  readonly time: number;
  readonly transactions: readonly MinedTransaction[];
}

export type RpcCall = readonly [method: string, ...params: unknown[]];

interface RawBlock {
  readonly number: string;
  readonly hash: string;
  readonly timestamp: string;
  readonly transactions: readonly { readonly hash: string; readonly output?: string }[];
}

interface RawReceipt {
  readonly transactionHash: string;
  readonly status: string;
  readonly gasUsed: string;
  readonly contractAddress: string | null;
  readonly logs: MinedTransaction['logs'];
}

export class FuzzChain {
  readonly #anvil: Anvil;
  /** Whether anvil keeps the steps of transactions, for `debug_traceTransaction`. */
  readonly traces: boolean;
  readonly #hashes = new Map<number, string>();
  #snapshot = '';
  #first = { number: 0, time: 0 };
  #head = { number: 0, time: 0 };
  #chainId = CHAIN_ID;

  private constructor(anvil: Anvil, traces: boolean) {
    this.#anvil = anvil;
    this.traces = traces;
  }

  static async start(options: { readonly traces: boolean }): Promise<FuzzChain> {
    const args = options.traces ? [...ANVIL_ARGS, '--steps-tracing'] : ANVIL_ARGS;
    const chain = new FuzzChain(await startAnvil({ args }), options.traces);
    // Otherwise a block without a given time would take this machine's clock.
    await chain.rpc('anvil_setBlockTimestampInterval', 1);
    await chain.rpc('anvil_mine', `0x${FIRST_BLOCKS.toString(16)}`);
    const newest = await chain.rpc<RawBlock>('eth_getBlockByNumber', 'latest', false);
    const number = Number(newest.number);
    const blocks = await chain.batch(
      Array.from({ length: REMEMBERED }, (_, i): RpcCall => {
        return ['eth_getBlockByNumber', `0x${(number - i).toString(16)}`, false];
      }),
    );
    for (const block of blocks as RawBlock[]) chain.#hashes.set(Number(block.number), block.hash);
    chain.#first = { number, time: Number(newest.timestamp) };
    chain.#head = chain.#first;
    chain.#snapshot = await chain.rpc('evm_snapshot');
    return chain;
  }

  stop(): Promise<void> {
    return this.#anvil.stop();
  }

  get pid(): number {
    return this.#anvil.pid;
  }

  get chainId(): number {
    return this.#chainId;
  }

  /** Number and Unix time of the newest block. */
  get head(): { readonly number: number; readonly time: number } {
    return this.#head;
  }

  accounts(): Promise<readonly string[]> {
    return this.rpc('eth_accounts');
  }

  /** Goes back to the initial state. */
  async reset(): Promise<void> {
    await this.fork(CHAIN_ID);
    // Reverting to a snapshot consumes it.
    if (!(await this.rpc<boolean>('evm_revert', this.#snapshot))) throw new Error('anvil lost its snapshot');
    this.#snapshot = await this.rpc('evm_snapshot');
    this.#head = this.#first;
    for (const number of this.#hashes.keys()) if (number > this.#first.number) this.#hashes.delete(number);
  }

  async fork(chainId: number): Promise<void> {
    if (chainId !== this.#chainId) await this.rpc('anvil_setChainId', chainId);
    this.#chainId = chainId;
  }

  /** The hash of a block as code in block `inside` can learn it. */
  hashOf(number: bigint, inside: number): string | undefined {
    const isRemembered = number < BigInt(inside) && number >= BigInt(inside - REMEMBERED);
    return isRemembered ? this.#hashes.get(Number(number)) : undefined;
  }

  /** Queues a transaction; blocks include transactions in the order in which they were sent. */
  send({ from, to, data, value = 0n, gas }: Transaction): Promise<string> {
    const amounts = { value: `0x${value.toString(16)}`, gas: `0x${gas.toString(16)}`, gasPrice: '0x0' };
    return this.rpc('eth_sendTransaction', { from, ...(to === undefined ? {} : { to }), data, ...amounts });
  }

  /** `count` empty blocks, a second each. */
  async mineEmpty(count: number): Promise<void> {
    if (count > 0) await this.#mine({ timestamp: this.#head.time + 1, blocks: count });
  }

  /** A block at `time` with all that was sent, and the answers to `calls` as of that block. */
  async mine(
    time: number,
    calls: readonly RpcCall[],
  ): Promise<{ readonly block: MinedBlock; readonly answers: readonly unknown[] }> {
    const mined = await this.#mine({ timestamp: time });
    const [receipts, ...answers] = await this.batch([['eth_getBlockReceipts', mined.number], ...calls]);
    const byHash = new Map((receipts as RawReceipt[]).map((receipt) => [receipt.transactionHash, receipt]));
    const transactions = mined.transactions.map(({ hash, output }): MinedTransaction => {
      const receipt = byHash.get(hash)!;
      return {
        hash,
        ok: receipt.status === '0x1',
        gasUsed: Number(receipt.gasUsed),
        output: output ?? '0x',
        contractAddress: receipt.contractAddress ?? undefined,
        logs: receipt.logs,
      };
    });
    return { block: { ...this.#head, transactions }, answers };
  }

  async #mine(options: { readonly timestamp: number; readonly blocks?: number }): Promise<RawBlock> {
    const mined = await this.rpc<readonly RawBlock[]>('evm_mine_detailed', options);
    for (const block of mined) this.#hashes.set(Number(block.number), block.hash);
    const newest = mined.at(-1);
    if (newest === undefined || mined.length !== (options.blocks ?? 1)) throw new Error('anvil did not mine');
    this.#head = { number: Number(newest.number), time: Number(newest.timestamp) };
    return newest;
  }

  async rpc<T>(method: string, ...params: readonly unknown[]): Promise<T> {
    const [answer] = await this.batch([[method, ...params]]);
    return answer as T;
  }

  /** One round trip. Anvil may answer them in any order, so they must not depend on each other. */
  async batch(calls: readonly RpcCall[]): Promise<readonly unknown[]> {
    const body = calls.map(([method, ...params], id) => ({ jsonrpc: '2.0', id, method, params }));
    const response = await fetch(this.#anvil.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const answers = (await response.json()) as {
      id: number;
      result?: unknown;
      error?: { message: string };
    }[];
    const byId = new Map(answers.map((answer) => [answer.id, answer]));
    return calls.map(([method], id) => {
      const answer = byId.get(id);
      if (!answer || answer.error) throw new Error(`${method}: ${answer?.error?.message ?? 'no answer'}`);
      return answer.result;
    });
  }
}
