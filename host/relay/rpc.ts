/**
 * The host's JSON-RPC endpoint. One is enough here: a lying one can make this host waste gas up to its ceilings or wait
 * in vain, but decides nothing, since every node reads the chain for itself. Its replies are bounded and checked.
 */
import { type Static, type TSchema, Type } from 'typebox';
import type { LogSource } from '../../lib/framework/event-loop.ts';
import { type ContractLog, Retryable } from '../../lib/framework/handler.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { check, Word0x } from '../../lib/protocol/schema.ts';
import { httpJson } from '../http-json.ts';

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,63})$', maxLength: 66 });
/** A quantity that JavaScript holds exactly. */
const Small = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,12})$', maxLength: 15 });
const Data = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 256 * 1024 });
const LowAddress = Type.String({ pattern: '^0x[0-9a-fA-F]{40}$', maxLength: 42 });

const ReplySchema = Type.Object({
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(
    Type.Object({ code: Type.Number(), message: Type.String(), data: Type.Optional(Type.Unknown()) }),
  ),
});
const BlockSchema = Type.Object({ number: Small, hash: Word0x, baseFeePerGas: Type.Optional(Quantity) });
const LogSchema = Type.Object({
  address: LowAddress,
  topics: Type.Array(Word0x, { maxItems: 4 }),
  data: Data,
  blockNumber: Small,
  blockHash: Word0x,
  transactionHash: Word0x,
  logIndex: Small,
  removed: Type.Optional(Type.Boolean()),
});
const ReceiptSchema = Type.Union([
  Type.Null(),
  Type.Object({
    blockNumber: Small,
    blockHash: Word0x,
    status: Small,
    gasUsed: Small,
    transactionHash: Word0x,
  }),
]);

const REPLY_MAX_BYTES = 4 * 1024 * 1024;
const MAX_LOGS = 10_000;

/** The endpoint understood the call and refused it. `data` is what a contract reverted with, if it did. */
export class RpcRefusal extends Retryable {
  readonly data: string | undefined;

  constructor(message: string, data: string | undefined) {
    super('RPC_REFUSED', message);
    this.data = data;
  }
}

export interface Block {
  number: number;
  hash: string;
  /** Wei; undefined on a chain without EIP-1559. */
  baseFee: bigint | undefined;
}

export interface Receipt {
  block: number;
  succeeded: boolean;
  gasUsed: number;
}

export interface RpcOptions {
  url: string;
  chainId: number;
  contract: string;
  /** Milliseconds for one call. */
  timeout?: number;
}

/** All errors are Retryable but RPC_WRONG_CHAIN: an endpoint may come back, its chain won't change. */
export class Rpc implements LogSource {
  readonly contract: string;
  readonly #url: string;
  readonly #chainId: number;
  readonly #timeout: number;
  #id = 0;
  #chainChecked: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    this.contract = options.contract.toLowerCase();
    this.#url = options.url;
    this.#chainId = options.chainId;
    this.#timeout = options.timeout ?? 10_000;
  }

  async head(): Promise<number> {
    return Number(await this.#call(Small, 'eth_blockNumber', []));
  }

  async latest(): Promise<Block> {
    const block = await this.#call(BlockSchema, 'eth_getBlockByNumber', ['latest', false]);
    return {
      number: Number(block.number),
      hash: block.hash,
      baseFee: block.baseFeePerGas === undefined ? undefined : BigInt(block.baseFeePerGas),
    };
  }

  async blockHash(number: number): Promise<string | undefined> {
    const schema = Type.Union([Type.Null(), BlockSchema]);
    const block = await this.#call(schema, 'eth_getBlockByNumber', [hex(number), false]);
    return block?.hash;
  }

  async logs(from: number, to: number, topics: readonly string[]): Promise<ContractLog[]> {
    const filter = { address: this.contract, fromBlock: hex(from), toBlock: hex(to), topics: [topics] };
    const logs = await this.#call(Type.Array(LogSchema, { maxItems: MAX_LOGS }), 'eth_getLogs', [filter]);
    return logs
      .map((log) => ({ ...log, blockNumber: Number(log.blockNumber), logIndex: Number(log.logIndex) }))
      .filter(
        (log) =>
          log.removed !== true &&
          log.address.toLowerCase() === this.contract &&
          log.blockNumber >= from &&
          log.blockNumber <= to &&
          topics.includes(log.topics[0] ?? ''),
      )
      .map(({ blockNumber, blockHash, transactionHash, logIndex, topics: own, data }) => ({
        blockNumber,
        blockHash,
        transactionHash,
        logIndex,
        topics: own,
        data,
      }));
  }

  /** `eth_call` of the network's contract against the newest state. */
  call(data: string): Promise<string> {
    return this.#call(Data, 'eth_call', [{ to: this.contract, data }, 'latest']);
  }

  /** @throws RpcRefusal with the revert data when the transaction would fail */
  async estimateGas(transaction: { from: string; to: string; data: string }): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_estimateGas', [transaction]));
  }

  /** Wei that make a block's builder take a transaction, beyond the base fee. */
  async priorityFee(): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_maxPriorityFeePerGas', []));
  }

  /** The nonce after the last mined transaction. */
  async nonce(address: string): Promise<number> {
    return Number(await this.#call(Small, 'eth_getTransactionCount', [address, 'latest']));
  }

  async balance(address: string): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_getBalance', [address, 'latest']));
  }

  async send(raw: string): Promise<void> {
    await this.#call(Word0x, 'eth_sendRawTransaction', [raw]);
  }

  async receipt(hash: string): Promise<Receipt | undefined> {
    const receipt = await this.#call(ReceiptSchema, 'eth_getTransactionReceipt', [hash]);
    if (receipt === null || receipt.transactionHash !== hash) return undefined;
    return {
      block: Number(receipt.blockNumber),
      succeeded: Number(receipt.status) === 1,
      gasUsed: Number(receipt.gasUsed),
    };
  }

  async #call<T extends TSchema>(schema: T, method: string, params: readonly unknown[]): Promise<Static<T>> {
    this.#chainChecked ??= this.#checkChain().catch((error) => {
      this.#chainChecked = undefined;
      throw error;
    });
    await this.#chainChecked;
    return this.#ask(schema, method, params);
  }

  async #checkChain(): Promise<void> {
    const id = Number(await this.#ask(Small, 'eth_chainId', []));
    if (id !== this.#chainId) {
      throw new DstackError(
        'RPC_WRONG_CHAIN',
        `${this.#url} serves chain ${id}, not ${this.#chainId}: check DSTACK_RPC_URL`,
      );
    }
  }

  async #ask<T extends TSchema>(schema: T, method: string, params: readonly unknown[]): Promise<Static<T>> {
    this.#id += 1;
    let value: unknown;
    try {
      const body = { jsonrpc: '2.0', id: this.#id, method, params };
      ({ value } = await httpJson({
        url: this.#url,
        body,
        timeout: this.#timeout,
        maxBytes: REPLY_MAX_BYTES,
      }));
      const reply = check(ReplySchema, value, 'RPC_MALFORMED', `the reply to ${method}`);
      if (reply.error === undefined)
        return check(schema, reply.result, 'RPC_MALFORMED', `the result of ${method}`);
      throw new RpcRefusal(
        `${method} refused: ${reply.error.message.slice(0, 300)}`,
        revertData(reply.error.data),
      );
    } catch (cause) {
      if (cause instanceof Retryable || !(cause instanceof DstackError)) throw cause;
      throw new Retryable(cause.code.replace('HTTP_', 'RPC_'), `${this.#url}: ${cause.message}`, { cause });
    }
  }
}

/** Clients put revert data as the error's data, or one level deeper. */
function revertData(data: unknown): string | undefined {
  const candidate = typeof data === 'object' && data !== null && 'data' in data ? data.data : data;
  return typeof candidate === 'string' && /^0x([0-9a-f]{2}){0,4096}$/i.test(candidate)
    ? candidate
    : undefined;
}

const hex = (number: number): string => `0x${number.toString(16)}`;
