/**
 * A chain in memory, behind the endpoint of a relay, that counts what it is asked: blocks of a pace, with filters that say what is in
 * them, and one network's contract, of which only requests are known. Its time is the caller's, so that a day of it takes seconds.
 */
import { Interface, Transaction } from 'ethers';
import type { RpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { type Address, parseAddress } from '../../lib/protocol/hex.ts';
import { networkTopics } from '../../lib/protocol/network-contract.ts';
import { check } from '../../lib/protocol/schema.ts';
import { keccak256 } from '../../lib/protocol/secp256k1.ts';

const contract = new Interface([
  'function network() view returns ((address networkKey, uint32 epoch, bool onboarded, uint32 delay, uint32 requestWindow, bool platformsOpen))',
  'function request(bytes32 hash) view returns ((uint8 state, address node, uint64 blockNumber, uint64 expiresAfter, uint32 epoch, bytes32 answerHash))',
  'function requestsByHash(bytes32[] hashes) view returns ((uint8 state, address node, uint64 blockNumber, uint64 expiresAfter, uint32 epoch, bytes32 answerHash)[])',
  'function appsAfter(uint256 skipped, uint256 most) view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[] list, uint256 next)',
  'function apps() view returns ((bytes32 app, bytes32 manifestHash, bytes32 latest, uint64 from)[] list)',
]);
const WINDOW = 256;
const ZERO_WORD = `0x${'00'.repeat(32)}`;
const NODE = `0x${'99'.repeat(20)}`;
/** The top 248 bits of an answer's hash. */
const SOME_ANSWER = `0x${'ab'.repeat(31)}00`;
const hex = (value: number): string => `0x${value.toString(16)}`;
export const word = (value: number): string => `0x${value.toString(16).padStart(64, '0')}`;

export interface ChainEvent {
  /** The last two change nothing here. */
  name: 'Registered' | 'Onboarded' | 'RolledOut' | 'Bootstrapped';
  requestHash: string;
  /** Of whom it is registered; some node by default. */
  node?: string;
  /** As the contract keeps it. */
  answerHash?: string;
}

export interface PacedChainOptions {
  /** Milliseconds. */
  now(): number;
  /** Seconds between blocks. */
  blockTime?: number;
  /** Whether this block comes, and how long after its time it is shown, milliseconds. */
  shownAfter?(slot: number): number | undefined;
  /** What happens to the contract in a block. */
  events?(block: number): readonly ChainEvent[];
  /** What a transaction with this data does; it is in the next block. */
  effectOf?(data: string): ChainEvent | undefined;
  /** The address of the network's key. */
  networkKey?: string;
}

export class PacedChain implements RpcEndpoint {
  readonly url = 'http://paced';
  readonly name = 'paced';
  readonly address: Address = parseAddress(`0x${'11'.repeat(20)}`);
  /** How often each method was called. */
  readonly asked = new Map<string, number>();
  readonly #options: Required<PacedChainOptions>;
  readonly #begun: number;
  readonly #slots: number[] = [];
  #slot = 0;
  readonly #requests = new Map<string, { block: number; node: string; answerHash: string | undefined }>();
  /** By block: what happened in it. */
  readonly #happened: (readonly ChainEvent[])[] = [];
  #pending: Transaction[] = [];
  /** The blocks of transactions, and what is the next nonce of an account. */
  readonly #minedIn = new Map<string, number>();
  readonly #nonces = new Map<string, number>();

  constructor(options: PacedChainOptions) {
    this.#options = {
      blockTime: 12,
      shownAfter: () => 500,
      events: () => [],
      effectOf: () => undefined,
      networkKey: NODE,
      ...options,
    };
    this.#begun = options.now() - 1000 * 400 * this.#options.blockTime;
    this.#grow();
  }

  get calls(): number {
    return [...this.asked.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The newest block that the endpoint shows. */
  get height(): number {
    this.#grow();
    return this.#slots.length - 1;
  }

  /** When a block was shown, milliseconds. */
  shownAt(block: number): number {
    const slot = this.#slots[block]!;
    return this.#begun + 1000 * slot * this.#options.blockTime + this.#options.shownAfter(slot)!;
  }

  async call(schema: Parameters<RpcEndpoint['call']>[0], method: string, params: readonly unknown[]) {
    return check(schema, this.answer(method, params), 'PACED', method) as never;
  }

  /** The result of a call, for whoever serves it. */
  answer(method: string, params: readonly unknown[]): unknown {
    this.asked.set(method, (this.asked.get(method) ?? 0) + 1);
    this.#grow();
    return this.#answer(method, params);
  }

  #grow(): void {
    const { now, blockTime, shownAfter, events } = this.#options;
    for (;;) {
      const after = shownAfter(this.#slot);
      if (this.#begun + 1000 * this.#slot * blockTime + (after ?? 0) > now()) return;
      if (after !== undefined) {
        const block = this.#slots.push(this.#slot) - 1;
        this.#happened[block] = [...events(block), ...this.#mine(block)];
        for (const event of this.#happened[block]) this.#happen(event, block);
      }
      this.#slot += 1;
    }
  }

  #happen({ name, requestHash, node = NODE, answerHash = SOME_ANSWER }: ChainEvent, block: number): void {
    if (name !== 'Registered' && name !== 'Onboarded') return;
    const before = this.#requests.get(requestHash);
    this.#requests.set(requestHash, {
      block: before?.block ?? block,
      node: before?.node ?? node,
      answerHash: name === 'Onboarded' ? answerHash : undefined,
    });
  }

  /** All that wait, in the order in which they came. */
  #mine(block: number): ChainEvent[] {
    const mined = this.#pending;
    this.#pending = [];
    return mined.flatMap(({ hash, from, nonce, data }) => {
      this.#minedIn.set(hash!, block);
      this.#nonces.set(from!.toLowerCase(), nonce + 1);
      return this.#options.effectOf(data) ?? [];
    });
  }

  #send(raw: string): string {
    const transaction = Transaction.from(raw);
    const isKnown = this.#minedIn.has(transaction.hash!);
    if (!isKnown && !this.#pending.some(({ hash }) => hash === transaction.hash))
      this.#pending.push(transaction);
    return transaction.hash!;
  }

  #receipt(hash: string): unknown {
    const block = this.#minedIn.get(hash);
    if (block === undefined) return null;
    const blockHash = word(block + 1_000_000);
    return {
      transactionHash: hash,
      blockNumber: hex(block),
      blockHash,
      status: '0x1',
      gasUsed: '0xc350',
    };
  }

  #answer(method: string, [first, second]: readonly unknown[]): unknown {
    if (method === 'eth_chainId') return '0x1';
    if (method === 'eth_blockNumber') return hex(this.height);
    if (method === 'eth_getBlockByNumber')
      return this.#header(first === 'latest' ? this.height : Number(first));
    if (method === 'eth_getLogs') return this.#logs(first as { fromBlock: string; toBlock: string });
    if (method === 'eth_getTransactionCount') return hex(this.#nonces.get(String(first).toLowerCase()) ?? 0);
    if (method === 'eth_estimateGas') return '0xc350';
    if (method === 'eth_maxPriorityFeePerGas') return '0x1';
    if (method === 'eth_sendRawTransaction') return this.#send(String(first));
    if (method === 'eth_getTransactionReceipt') return this.#receipt(String(first));
    if (method === 'eth_getBalance') return '0xde0b6b3a7640000';
    if (method === 'eth_call') return this.#call((first as { data: string }).data);
    throw new Error(`${method} ${second} is not known here`);
  }

  #header(number: number): unknown {
    if (number > this.height) return null;
    const events = this.#happened[number]!;
    // A busy chain's filter has other things in it; a contract that it has by chance would be read in vain.
    const items = [
      '0x01',
      ...events.flatMap(({ name, requestHash }) => [this.address, networkTopics[name], requestHash]),
    ];
    return {
      number: hex(number),
      hash: word(number + 1_000_000),
      parentHash: word(number + 999_999),
      timestamp: hex(Math.floor(this.#begun / 1000) + this.#slots[number]! * this.#options.blockTime),
      logsBloom: bloomOf(items),
      baseFeePerGas: '0x1',
    };
  }

  #logs({ fromBlock, toBlock }: { fromBlock: string; toBlock: string }): unknown[] {
    const logs: unknown[] = [];
    for (let block = Number(fromBlock); block <= Math.min(Number(toBlock), this.height); block += 1) {
      for (const [index, { name, requestHash }] of this.#happened[block]!.entries()) {
        logs.push({
          address: this.address,
          topics: [networkTopics[name], requestHash],
          data: name === 'Registered' ? word(0x99) : `0x${'77'.repeat(64)}`,
          blockNumber: hex(block),
          blockHash: word(block + 1_000_000),
          transactionHash: word(1_000_000 * block + index),
          logIndex: hex(index),
        });
      }
    }
    return logs;
  }

  #call(data: string): string {
    const called = contract.parseTransaction({ data });
    const [argument] = called?.args ?? [];
    const answers: Record<string, () => unknown[]> = {
      network: () => [[this.#options.networkKey, 1, true, 0, WINDOW, false]],
      request: () => [this.#request(String(argument))],
      requestsByHash: () => [[...(argument as string[])].map((hash) => this.#request(hash))],
      appsAfter: () => [[], 0],
      apps: () => [[]],
    };
    return contract.encodeFunctionResult(called!.name, answers[called!.name]!());
  }

  #request(hash: string): unknown[] {
    const found = this.#requests.get(hash);
    if (found === undefined) return [0, `0x${'00'.repeat(20)}`, 0, 0, 0, ZERO_WORD];
    if (found.answerHash !== undefined) return [2, `0x${'00'.repeat(20)}`, 0, 0, 0, found.answerHash];
    return [1, found.node, found.block, found.block + WINDOW, 1, ZERO_WORD];
  }
}

/** As the Yellow Paper has it, 4.3.1: three bits of each item's hash. */
function bloomOf(items: readonly string[]): string {
  const bloom = new Uint8Array(256);
  for (const item of items) {
    const hash = keccak256(Buffer.from(item.slice(2), 'hex'));
    for (const at of [0, 2, 4]) {
      const bit = (256 * hash[at]! + hash[at + 1]!) % 2048;
      bloom[255 - Math.floor(bit / 8)]! |= 1 << (bit % 8);
    }
  }
  return to0x(bloom);
}
