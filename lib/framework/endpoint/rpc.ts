/**
 * The host's JSON-RPC endpoint. One is enough here: an endpoint that lies can make this host waste gas up to its ceilings, or
 * wait in vain, but it decides nothing, since every node reads the chain for itself. Its replies are bounded and checked.
 */

import { encodeRlp, toBeArray } from 'ethers';
import { type Static, type TSchema, Type } from 'typebox';
import { type RpcEndpoint, rpcEndpoint } from '../../chain/json-rpc.ts';
import { fromHex, to0x } from '../../protocol/encoding.ts';
import { DstackError, Retryable } from '../../protocol/errors.ts';
import { type Address, addressKey, bareHex, type Hex, parseHex, sameAddress } from '../../protocol/hex.ts';
import { Address0x, check, Word0x } from '../../protocol/schema.ts';
import { keccak256 } from '../../protocol/secp256k1.ts';
import type { ExistenceProof } from '../app/existence.ts';
import type { LogSource } from '../event-reader.ts';
import type { ContractLog } from '../handler.ts';
import { LOG_DATA_MAX } from '../job.ts';
import { type Header, Heads } from './heads.ts';
import { paced } from './pace.ts';

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,63})$', maxLength: 66 });
/** A quantity that JavaScript holds exactly. */
const Small = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,12})$', maxLength: 15 });
/** Anyone may be able to cause an event with much data: what is too long to be stored is left out by who reads it, and holds up nothing here. */
const LogData = Type.Union([
  Type.String({ minLength: LOG_DATA_MAX + 1 }),
  Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: LOG_DATA_MAX }),
]);

/** Of a view of the contract: of two thousand requests it is three quarters of this. */
const Answer = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 1024 * 1024 });

const BlockSchema = Type.Object({
  number: Small,
  hash: Word0x,
  baseFeePerGas: Type.Optional(Type.Union([Quantity, Type.Null()])),
  parentHash: Type.Optional(Word0x),
  timestamp: Type.Optional(Small),
  logsBloom: Type.Optional(Type.Unknown()),
});
const Bloom = /^0x[0-9a-f]{512}$/;
const LogSchema = Type.Object({
  address: Address0x,
  topics: Type.Array(Word0x, { maxItems: 4 }),
  data: LogData,
  blockNumber: Small,
  blockHash: Word0x,
  transactionHash: Word0x,
  logIndex: Small,
});
/** Of no block yet, or not any more: some endpoints show these with the others, parts of them null. */
const isInBlock = (log: unknown): boolean => {
  const { blockNumber, removed } = (log ?? {}) as { blockNumber?: unknown; removed?: unknown };
  return blockNumber !== null && removed !== true;
};
/** Each is checked once it is known that they are not too many, since too many are asked for again in smaller parts. */
const LogsSchema = Type.Array(Type.Unknown());
const ReceiptSchema = Type.Union([
  Type.Null(),
  /** Some endpoints give receipts of transactions that are not in a block yet. */
  Type.Object({ blockNumber: Type.Null(), transactionHash: Word0x }),
  Type.Object({
    blockNumber: Small,
    blockHash: Word0x,
    status: Small,
    gasUsed: Small,
    effectiveGasPrice: Type.Optional(Quantity),
    transactionHash: Word0x,
  }),
]);

/** Characters of a transaction's data, with 0x: as much as nodes pass on, 128 KiB, and no more. */
export const TRANSACTION_INPUT_MAX = 2 + 2 * 128 * 1024;
/** Anyone may send one that is larger, through whoever builds a block. */
const Input = Type.Union([
  Type.String({ minLength: TRANSACTION_INPUT_MAX + 1 }),
  Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: TRANSACTION_INPUT_MAX }),
]);
const TransactionSchema = Type.Union([
  Type.Null(),
  Type.Object({
    hash: Word0x,
    to: Type.Optional(Type.Union([Type.Null(), Address0x])),
    input: Input,
  }),
]);

const Node0x = Type.Unsafe<Hex>(Type.String({ pattern: '^0x([0-9a-f]{2})+$', maxLength: 2 + 2 * 1024 }));
const ProofSchema = Type.Object({
  accountProof: Type.Array(Node0x, { maxItems: 64 }),
  storageProof: Type.Array(Type.Object({ proof: Type.Array(Node0x, { maxItems: 64 }) }), { maxItems: 64 }),
});

/** In the order of a header; those of later rules at the end, where a chain has them. */
const HEADER = [
  ...(['parentHash', 'sha3Uncles', 'miner', 'stateRoot', 'transactionsRoot', 'receiptsRoot'] as const),
  ...(['logsBloom', 'difficulty', 'number', 'gasLimit', 'gasUsed', 'timestamp', 'extraData'] as const),
  ...(['mixHash', 'nonce', 'baseFeePerGas', 'withdrawalsRoot', 'blobGasUsed', 'excessBlobGas'] as const),
  ...(['parentBeaconBlockRoot', 'requestsHash'] as const),
];
/** Numbers, which are written without leading zeros. */
const NUMBERS: readonly string[] = [
  ...['difficulty', 'number', 'gasLimit', 'gasUsed', 'timestamp', 'baseFeePerGas', 'blobGasUsed'],
  'excessBlobGas',
];
const FieldSchema = Type.Optional(Type.String({ pattern: '^0x[0-9a-f]*$', maxLength: 1024 }));
const FullHeaderSchema = Type.Object({
  ...(Object.fromEntries(HEADER.map((name) => [name, FieldSchema])) as Record<
    (typeof HEADER)[number],
    typeof FieldSchema
  >),
  hash: Word0x,
});

/** A block's header, RLP. */
function headerOf(block: Static<typeof FullHeaderSchema>): Hex {
  const fields = HEADER.map((name) => [name, block[name]] as const)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => (NUMBERS.includes(name) ? toBeArray(BigInt(value!)) : value!));
  return bareHex(parseHex(encodeRlp(fields)));
}

const REPLY_MAX_BYTES = 4 * 1024 * 1024;
const MAX_LOGS = 10_000;

export interface Receipt {
  block: number;
  succeeded: boolean;
  gasUsed: number;
  /** Wei per gas that was paid; undefined where the endpoint does not say it. */
  price: bigint | undefined;
}

export interface RpcOptions {
  url: string;
  /** For that URL, when several networks share it and with it its pace. */
  endpoint?: RpcEndpoint;
  /** Its newest block, if others ask for it too. */
  heads?: Heads;
  chainId: number;
  contract: Address;
  /** Milliseconds for one call. */
  timeout?: number;
}

/** An endpoint of the host, called at the pace that it allows. */
export function hostEndpoint(url: string, timeout?: number): RpcEndpoint {
  return paced(rpcEndpoint(url, { timeout, maxReplyBytes: REPLY_MAX_BYTES }));
}

/** What several networks and their payer share of an endpoint. */
export interface HostEndpoint {
  readonly endpoint: RpcEndpoint;
  readonly heads: Heads;
}

export function sharedEndpoint(url: string): HostEndpoint {
  const endpoint = hostEndpoint(url);
  return { endpoint, heads: headsOf(endpoint) };
}

/** The newest block of an endpoint, for all who ask it. */
export function headsOf(endpoint: RpcEndpoint, now?: () => number): Heads {
  return new Heads(async () => {
    const block = await endpoint.call(BlockSchema, 'eth_getBlockByNumber', ['latest', false]);
    const { logsBloom: bloom } = block;
    return {
      number: Number(block.number),
      hash: block.hash,
      baseFee: block.baseFeePerGas == null ? undefined : BigInt(block.baseFeePerGas),
      parentHash: block.parentHash,
      timestamp: block.timestamp === undefined ? undefined : Number(block.timestamp),
      logsBloom: typeof bloom === 'string' && Bloom.test(bloom) ? bloom : undefined,
    };
  }, now);
}

/** All errors are Retryable but RPC_WRONG_CHAIN: an endpoint may come back, its chain won't change. */
export class Rpc implements LogSource {
  readonly contract: Address;
  readonly heads: Heads;
  readonly #endpoint: RpcEndpoint;
  readonly #chainId: number;
  #chainChecked: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    this.contract = addressKey(options.contract);
    this.#endpoint = options.endpoint ?? hostEndpoint(options.url, options.timeout);
    this.#chainId = options.chainId;
    this.heads = options.heads ?? headsOf(this.#endpoint);
  }

  /** The newest block, asked for when it may be a newer one; see Heads. */
  async head(anew?: 'anew'): Promise<Header> {
    await this.#checkedChain();
    return this.heads.newest(anew);
  }

  get rest(): number {
    return this.heads.rest;
  }

  isQuiet(from: number, to: number, topics?: readonly string[]): boolean {
    return this.heads.isQuiet(from, to, this.contract, topics);
  }

  isLoud(block: number, topics: readonly string[]): boolean {
    return this.heads.isLoud(block, this.contract, topics);
  }

  names(block: number, topic: string, subject: string): boolean {
    return this.heads.names(block, this.contract, topic, subject);
  }

  async blockHash(number: number): Promise<string | undefined> {
    const known = this.heads.hashOf(number);
    if (known !== undefined) return known;
    const schema = Type.Union([Type.Null(), BlockSchema]);
    const block = await this.#call(schema, 'eth_getBlockByNumber', [hex(number), false]);
    return block?.hash;
  }

  logs(from: number, to: number, topics: readonly string[]): Promise<ContractLog[]> {
    return this.logsOf(this.contract, from, to, [topics]);
  }

  /** Logs of any contract. @param topics by their place: those of which each has one */
  async logsOf(
    contract: Address,
    from: number,
    to: number,
    topics: readonly (readonly string[])[],
  ): Promise<ContractLog[]> {
    const filter = { address: contract, fromBlock: hex(from), toBlock: hex(to), topics };
    const reply = await this.#call(LogsSchema, 'eth_getLogs', [filter]);
    if (reply.length > MAX_LOGS) {
      const what = `${this.#endpoint.name} has ${reply.length} logs in blocks ${from} to ${to}, more than ${MAX_LOGS}`;
      throw new Retryable('RPC_TOO_LARGE', what);
    }
    const logs = check(
      Type.Array(LogSchema),
      reply.filter(isInBlock),
      'RPC_MALFORMED',
      'what the endpoint says of eth_getLogs',
    );
    return logs
      .map((log) => ({ ...log, blockNumber: Number(log.blockNumber), logIndex: Number(log.logIndex) }))
      .filter(
        (log) =>
          sameAddress(log.address, contract) &&
          log.blockNumber >= from &&
          log.blockNumber <= to &&
          topics.every((wanted, at) => wanted.includes(log.topics[at] ?? '')),
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

  /**
   * What a transaction said to whom, mined or not; undefined where the endpoint has none of that hash. Data of more than TRANSACTION_INPUT_MAX
   * characters is given as none: `0x`.
   */
  async transaction(hash: string): Promise<{ to: Address | undefined; input: string } | undefined> {
    const found = await this.#call(TransactionSchema, 'eth_getTransactionByHash', [hash]);
    if (found === null || found.hash !== hash) return undefined;
    const input = found.input.length > TRANSACTION_INPUT_MAX ? '0x' : found.input;
    return { to: found.to === null || found.to === undefined ? undefined : addressKey(found.to), input };
  }

  /** The code at an address now; `0x` where there is none. */
  code(address: Address): Promise<string> {
    return this.#call(Answer, 'eth_getCode', [address, 'latest']);
  }

  /** `eth_call` of the network's contract against the newest state. */
  call(data: string): Promise<string> {
    return this.#call(Answer, 'eth_call', [{ to: this.contract, data }, 'latest']);
  }

  /** `eth_call` of any contract. @param block its number; the newest state without it */
  callAt(to: Address, data: string, block?: number): Promise<string> {
    return this.#call(Answer, 'eth_call', [{ to, data }, block === undefined ? 'latest' : hex(block)]);
  }

  /** What is provable of a contract's storage at a block (EIP-1186). @throws HEADER_UNKNOWN for a block with fields that this does not know */
  async proof(contract: Address, slots: readonly Hex[], number: number): Promise<ExistenceProof> {
    const block = await this.#call(FullHeaderSchema, 'eth_getBlockByNumber', [hex(number), false]);
    const header = headerOf(block);
    if (to0x(keccak256(fromHex(header))) !== block.hash) {
      const why = 'its fields are not those whose hash it has: this chain has headers of another form';
      throw new DstackError('HEADER_UNKNOWN', `block ${number} can't be proven: ${why}`);
    }
    const params = [contract, slots, hex(number)];
    const { accountProof, storageProof } = await this.#call(ProofSchema, 'eth_getProof', params);
    return {
      header,
      account: accountProof.map(bareHex),
      storage: slots.map((slot, at) => ({ slot, proof: (storageProof[at]?.proof ?? []).map(bareHex) })),
    };
  }

  /** @throws RpcRefusal with the revert data when the transaction would fail */
  async estimateGas(transaction: { from: string; to: string; data: string }): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_estimateGas', [transaction]));
  }

  /** Wei per gas beyond the base fee for which a block builder includes a transaction. */
  async priorityFee(): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_maxPriorityFeePerGas', []));
  }

  /** Wei per gas for which a block builder includes a legacy transaction. */
  async gasPrice(): Promise<bigint> {
    return BigInt(await this.#call(Quantity, 'eth_gasPrice', []));
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
    if (receipt === null || receipt.blockNumber === null || receipt.transactionHash !== hash)
      return undefined;
    return {
      block: Number(receipt.blockNumber),
      succeeded: Number(receipt.status) === 1,
      gasUsed: Number(receipt.gasUsed),
      price: receipt.effectiveGasPrice === undefined ? undefined : BigInt(receipt.effectiveGasPrice),
    };
  }

  async #call<T extends TSchema>(schema: T, method: string, params: readonly unknown[]): Promise<Static<T>> {
    await this.#checkedChain();
    return this.#endpoint.call(schema, method, params);
  }

  async #checkedChain(): Promise<void> {
    this.#chainChecked ??= this.#checkChain().catch((error) => {
      this.#chainChecked = undefined;
      throw error;
    });
    await this.#chainChecked;
  }

  async #checkChain(): Promise<void> {
    const id = Number(await this.#endpoint.call(Small, 'eth_chainId', []));
    if (id !== this.#chainId) {
      throw new DstackError(
        'RPC_WRONG_CHAIN',
        `the endpoint serves chain ${id}, not ${this.#chainId}: check DSTACK_RPC_URL`,
      );
    }
  }
}

const hex = (number: number): string => `0x${number.toString(16)}`;
