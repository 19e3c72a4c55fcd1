/**
 * A host's chain: what it reads there to put requests together, and how it sends what the enclave answers. One endpoint is enough, since
 * the enclave reads for itself; one that lies costs this host gas or time.
 */
import type { Log } from '../../daemon/log.ts';
import { Metrics } from '../../daemon/metrics.ts';
import { type Address, addressKey, type Hex, ZERO_ADDRESS } from '../../protocol/hex.ts';
import type { ExistenceProof } from '../app/existence.ts';
import { type HostEndpoint, Rpc, sharedEndpoint } from '../endpoint/rpc.ts';
import type { LogSource } from '../event-reader.ts';
import type { TransactionRequest } from '../handler.ts';
import type { Store } from '../store.ts';
import { type TransactionStatus, Transactions } from '../transactions/transactions.ts';

/** What any host needs of a chain. Handlers and `serve` use nothing else, so another chain, or one in memory, fits as well. */
export interface ChainClient {
  readonly chainId: number;
  /** The newest block. */
  head(): Promise<{ number: number; hash: Hex }>;
  /** A call of a contract. @param data 0x hex. @param block its number; the newest one by default. @returns 0x hex */
  query(contract: Address, data: string, block?: number): Promise<string>;
  /** What is provable about a contract's storage at a block. @param slots 0x and 64 digits each */
  existenceProof(contract: Address, slots: readonly Hex[], block: number): Promise<ExistenceProof>;
  /**
   * Durable when it returns; sent, sent again at a higher fee, and once more after a re-organisation, without anything further. A
   * purpose never gets a second transaction.
   * @throws TX_QUEUE_FULL, STORE_VALUE
   */
  sendTransaction(request: TransactionRequest): Promise<void>;
  /** Undefined for a purpose that was never sent. */
  transaction(purpose: string): Promise<TransactionStatus | undefined>;
  /** Resolves once there are so many more blocks than now. @throws what `signal` is aborted with */
  waitForBlocks(count: number, signal?: AbortSignal): Promise<void>;
  /** Where a contract's events come from. */
  logsOf(contract: Address): LogSource;
}

interface EvmEndpoint {
  /** JSON-RPC over http or https. */
  url: string;
  /** For that URL, when several chain clients share it and with it its pace and its newest block. */
  endpoint?: HostEndpoint;
  chainId: number;
  /** Milliseconds between looks at the chain; 2,000 by default. */
  pollInterval?: number;
}

interface OwnPayer {
  /** Of the account that pays for transactions: 32 bytes, 0x hex. Kept in memory only, never logged. */
  privateKey: string;
  /** Where the queue of transactions is. */
  store: Store;
  log: Log;
  /** Wei per gas; nothing is ever sent above it. 100 gwei by default. */
  maxFee?: bigint;
  /** The name of the setting that is `maxFee`, for the operator. */
  maxFeeSetting?: string;
  /** Of one transaction; 2,000,000 by default. */
  maxGas?: bigint;
  /** Milliseconds without being mined after which the fee is raised; a minute by default. */
  bumpAfter?: number;
  /** Blocks on top of a transaction's after which it is left alone; 12 by default. */
  confirmations?: number;
  /** Wei; below it the operator is warned. 0 by default. */
  lowBalance?: bigint;
  metrics?: Metrics;
  /** What a contract reverted with, in words; undefined for what is not known. */
  errorInWords?: (data: string) => string | undefined;
}

/** An account pays from one queue: whoever else sends from it takes the payer of the first. */
export type EvmChainOptions = EvmEndpoint & (OwnPayer | { payer: Transactions });

/** A chain with Ethereum's JSON-RPC. It sends from `start` to `stop`; what is queued meanwhile is kept. */
export class EvmChain implements ChainClient {
  readonly chainId: number;
  /** What sends its transactions: one account's queue. */
  readonly payer: Transactions;
  readonly #endpoint: HostEndpoint;
  readonly #rpc: Rpc;
  readonly #contracts = new Map<Address, Rpc>();
  readonly #pollInterval: number;
  readonly #url: string;

  /** @throws GAS_KEY when the key is not a private key */
  constructor(options: EvmChainOptions) {
    const { url, chainId, pollInterval = 2_000, endpoint = sharedEndpoint(url) } = options;
    this.chainId = chainId;
    this.#url = url;
    this.#pollInterval = pollInterval;
    this.#endpoint = endpoint;
    this.#rpc = this.logsOf(ZERO_ADDRESS);
    this.payer =
      'payer' in options
        ? options.payer
        : new Transactions({
            ...{ metrics: new Metrics(), maxFee: 100_000_000_000n, maxGas: 2_000_000n, bumpAfter: 60_000 },
            ...{ confirmations: 12, lowBalance: 0n },
            ...options,
            ...{ rpc: this.#rpc, pollInterval },
          });
  }

  /** The account that pays. */
  get address(): Address {
    return this.payer.address;
  }

  start(): void {
    this.payer.start();
  }

  async stop(): Promise<void> {
    await this.payer.stop();
  }

  /** Why no transaction is sent at present, if so. */
  problem(): string | undefined {
    return this.payer.problem();
  }

  async head(): Promise<{ number: number; hash: Hex }> {
    const { number, hash } = await this.#rpc.head('anew');
    return { number, hash: hash as Hex };
  }

  query(contract: Address, data: string, block?: number): Promise<string> {
    return this.#rpc.callAt(contract, data, block);
  }

  existenceProof(contract: Address, slots: readonly Hex[], block: number): Promise<ExistenceProof> {
    return this.#rpc.proof(contract, slots, block);
  }

  async sendTransaction(request: TransactionRequest): Promise<void> {
    this.payer.submit(request);
  }

  async transaction(purpose: string): Promise<TransactionStatus | undefined> {
    return this.payer.status(purpose);
  }

  async waitForBlocks(count: number, signal?: AbortSignal): Promise<void> {
    const { number: from } = await this.head();
    while ((await this.head()).number < from + count) {
      signal?.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, this.#pollInterval));
    }
  }

  /** One for each contract: what it has learnt of the endpoint is for all who ask. */
  logsOf(contract: Address): Rpc {
    const known = this.#contracts.get(addressKey(contract));
    if (known !== undefined) return known;
    const rpc = new Rpc({ url: this.#url, ...this.#endpoint, chainId: this.chainId, contract });
    this.#contracts.set(addressKey(contract), rpc);
    return rpc;
  }
}
