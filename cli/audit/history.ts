/**
 * The network's life as the chain has it: every event of the contract since its deployment, in order, each with its
 * block's time. Endpoints are not trusted one by one: all that are given must say the same, to the byte. What all of
 * them hide together can still show up where the replay is compared with the contract's state and with the records.
 */
import { getAddress, getCreateAddress } from 'ethers';
import { type Static, type TSchema, Type } from 'typebox';
import { networkBytecode } from '../../contracts/bindings.ts';
import type { Head } from '../../lib/chain/chain-client.ts';
import { type RpcEndpoint, rpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { LogReader } from '../../lib/chain/log-reader.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey, type Hex, sameAddress } from '../../lib/protocol/hex.ts';
import { type NetworkEvent, parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import { Address0x, Word0x } from '../../lib/protocol/schema.ts';
import { BlockTimes } from './block-times.ts';
import { sideBySide } from './side-by-side.ts';

/** One event. `time` is its block's timestamp in Unix seconds. */
export interface Entry {
  readonly block: number;
  readonly time: number;
  /** Its place in the block. */
  readonly index: number;
  /** The hash of the transaction that caused it. */
  readonly transaction: Hex;
  readonly event: NetworkEvent;
  /** The same as the chain has it, 0x-hex. */
  readonly topics: readonly Hex[];
  readonly data: string;
}

export interface History {
  readonly entries: readonly Entry[];
  /** What the contract was deployed with, as far as its creation transaction shows it. */
  readonly deployment: Deployment;
}

/** Whether the code behind the address is contracts/Network.sol as this tree compiles it. */
export type Deployment =
  | { readonly genuine: true; readonly transaction: string }
  | { readonly genuine: false; readonly reason: string };

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,13})$', maxLength: 16 });
const Data = Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 1024 * 1024 });
const LogSchema = Type.Object({
  address: Address0x,
  topics: Type.Array(Word0x, { maxItems: 4 }),
  data: Data,
  blockNumber: Quantity,
  blockHash: Word0x,
  transactionHash: Word0x,
  logIndex: Quantity,
  blockTimestamp: Type.Optional(Type.Unknown()),
});
const LogsSchema = Type.Array(LogSchema, { maxItems: 100_000 });
const HeaderSchema = Type.Object({ number: Quantity, hash: Word0x, timestamp: Quantity });
const TransactionSchema = Type.Object({
  from: Address0x,
  to: Type.Union([Address0x, Type.Null()]),
  nonce: Quantity,
  input: Data,
});
type Log = Static<typeof LogSchema>;

/** How many blocks are asked for at once: doubled while the endpoints accept it, halved when they refuse. */
const FIRST_RANGE = 10_000;
const LONGEST_RANGE = 100_000;
/** Blocks whose times are asked for at the same time. */
const AT_ONCE = 16;
const TIMEOUT_MS = 30_000;
const MAX_REPLY_BYTES = 32 * 1024 * 1024;

export interface HistoryOptions {
  /** JSON-RPC endpoints; all must agree. */
  readonly endpoints: readonly string[];
  readonly contract: Address;
  /** The first block to read; the deployment must not be before it. */
  readonly from: number;
  readonly head: Head;
  /** What is known already: every event up to a block that the chain still has. */
  readonly known?: { readonly block: number; readonly entries: readonly Entry[] } | undefined;
  /** Called with the last block read so far. */
  readonly onProgress?: (block: number) => void;
}

/** @throws CHAIN_DISAGREES, AUDIT_NO_HISTORY, CONTRACT_DATA_INVALID, RPC_* */
export async function readHistory(options: HistoryOptions): Promise<History> {
  const all = options.endpoints.map((url) =>
    rpcEndpoint(url, { timeout: TIMEOUT_MS, maxReplyBytes: MAX_REPLY_BYTES }),
  );
  const read = await readLogs(all, options);
  const known = options.known?.entries ?? [];
  const entries = [...known, ...(await entriesOf(all, read, options.contract))];
  const [first] = entries;
  if (first === undefined) {
    throw new DstackError(
      'AUDIT_NO_HISTORY',
      `${options.contract} has no event from block ${options.from} to ${options.head.number}: is the address right, and --from not after its deployment?`,
    );
  }
  return { entries, deployment: await deploymentOf(all, first, options.contract) };
}

interface ReadLogs {
  readonly logs: readonly Log[];
  readonly times: BlockTimes;
  /** Blocks whose headers are read in any case: of the first log, and of the last one of each page. */
  readonly checked: ReadonlySet<string>;
}

async function readLogs(all: readonly RpcEndpoint[], options: HistoryOptions): Promise<ReadLogs> {
  const times = new BlockTimes();
  const { contract, head } = options;
  const reader = new LogReader({
    first: FIRST_RANGE,
    longest: LONGEST_RANGE,
    read: (from, to) => {
      const filter = { address: contract, fromBlock: hex(from), toBlock: hex(to) };
      return unanimous(all, LogsSchema, 'eth_getLogs', [filter], (logs) => {
        times.hear(logs);
        return pickLogs(logs);
      });
    },
  });
  const logs: Log[] = [];
  const checked = new Set<string>();
  const first = options.known === undefined ? options.from : options.known.block + 1;
  for (let from = first; from <= head.number; ) {
    const { to, page } = await reader.next(from, head.number);
    for (const log of [logs.length === 0 ? page[0] : undefined, page.at(-1)])
      if (log !== undefined) checked.add(log.blockHash);
    logs.push(...page);
    from = to + 1;
    options.onProgress?.(to);
  }
  return { logs, times, checked };
}

/** By a block's hash. */
async function timesOf(
  all: readonly RpcEndpoint[],
  { logs, times, checked }: ReadLogs,
): Promise<Map<string, number>> {
  const blocks = [...new Map(logs.map((log) => [log.blockHash, log])).values()];
  const found = new Map<string, number>();
  const ask = async (some: readonly Log[]) => {
    const read = await sideBySide(some, AT_ONCE, (log) => timeOf(all, log));
    for (const [at, { blockHash }] of some.entries()) found.set(blockHash, read[at]!);
  };
  await ask(blocks.filter(({ blockHash }) => checked.has(blockHash)));
  times.order(blocks.map(({ blockHash }) => blockHash));
  for (const [blockHash, time] of found) times.check(blockHash, time);
  await ask(blocks.filter(({ blockHash }) => !found.has(blockHash) && times.of(blockHash) === undefined));
  return new Map(blocks.map(({ blockHash }) => [blockHash, found.get(blockHash) ?? times.of(blockHash)!]));
}

async function entriesOf(all: readonly RpcEndpoint[], read: ReadLogs, contract: Address): Promise<Entry[]> {
  const { logs } = read;
  const times = await timesOf(all, read);
  const entries: Entry[] = [];
  let [lastBlock, lastIndex] = [-1, -1];
  for (const log of logs) {
    const [block, index] = [Number(log.blockNumber), Number(log.logIndex)];
    const inOrder = block > lastBlock || (block === lastBlock && index > lastIndex);
    if (!inOrder || !sameAddress(log.address, contract)) {
      throw new DstackError('AUDIT_LOGS', `the endpoints' logs are out of order or not of ${contract}`);
    }
    [lastBlock, lastIndex] = [block, index];
    const time = times.get(log.blockHash)!;
    const event = parseNetworkEvent(log);
    if (event === undefined) {
      throw new DstackError(
        'AUDIT_UNKNOWN_EVENT',
        `block ${block} has an event ${log.topics[0] ?? 'without a name'} of ${contract} that contracts/Network.sol does not have: it is another contract`,
      );
    }
    const { transactionHash: transaction, topics, data } = log;
    entries.push({ block, time, index, transaction, event, topics, data });
  }
  return entries;
}

async function timeOf(all: readonly RpcEndpoint[], log: Log): Promise<number> {
  const header = await unanimous(
    all,
    HeaderSchema,
    'eth_getBlockByNumber',
    [log.blockNumber, false],
    pickHeader,
  );
  if (header.hash !== log.blockHash) {
    throw new DstackError(
      'AUDIT_LOGS',
      `a log claims to be in block ${log.blockHash}, the chain has ${header.hash} at that height: the chain may have reorganised, try again`,
    );
  }
  return Number(header.timestamp);
}

/** A creation transaction whose code is ours, and whose sender and nonce give this very address, can't have made other code. */
async function deploymentOf(
  all: readonly RpcEndpoint[],
  first: Entry,
  contract: Address,
): Promise<Deployment> {
  const { event, transaction } = first;
  if (event.name !== 'OwnershipTransferred' || BigInt(event.previousOwner) !== 0n) {
    return {
      genuine: false,
      reason: `the first event is ${event.name}, not the deployment's: --from is too late`,
    };
  }
  const made = await unanimous(
    all,
    TransactionSchema,
    'eth_getTransactionByHash',
    [transaction],
    pickTransaction,
  );
  if (made.to !== null) {
    return {
      genuine: false,
      reason: 'it was deployed by another contract, whose code this audit does not read',
    };
  }
  if (getCreateAddress({ from: made.from, nonce: BigInt(made.nonce) }) !== getAddress(contract)) {
    return { genuine: false, reason: `transaction ${transaction} created another address` };
  }
  if (!made.input.startsWith(networkBytecode)) {
    return {
      genuine: false,
      reason: 'its creation code is not what contracts/Network.sol compiles to in this tree',
    };
  }
  return { genuine: true, transaction };
}

const pickHeader = ({ number, hash, timestamp }: Static<typeof HeaderSchema>) => ({
  number,
  hash,
  timestamp,
});
const pickTransaction = ({ from, to, nonce, input }: Static<typeof TransactionSchema>) => ({
  from,
  to,
  nonce,
  input,
});
const pickLogs = (logs: Static<typeof LogsSchema>): Static<typeof LogsSchema> =>
  logs.map(({ address, topics, data, blockNumber, blockHash, transactionHash, logIndex }) => ({
    address: addressKey(address),
    topics,
    data,
    blockNumber,
    blockHash,
    transactionHash,
    logIndex,
  }));

/**
 * Asks every endpoint; what it says beyond the schema's fields is left out before comparing.
 * @throws CHAIN_DISAGREES naming the first endpoint that says something else
 */
async function unanimous<T extends TSchema>(
  all: readonly RpcEndpoint[],
  schema: T,
  method: string,
  params: readonly unknown[],
  pick: (answer: Static<T>) => Static<T>,
): Promise<Static<T>> {
  const answers = await Promise.all(all.map(async (rpc) => pick(await rpc.call(schema, method, params))));
  const texts = answers.map((answer) => JSON.stringify(answer));
  const other = texts.findIndex((text) => text !== texts[0]);
  if (other > 0) {
    throw new DstackError(
      'CHAIN_DISAGREES',
      `${new URL(all[0]!.url).host} and ${new URL(all[other]!.url).host} answer ${method} ${JSON.stringify(params)} differently: one of them lies or lags`,
    );
  }
  return answers[0]!;
}

const hex = (value: number): string => `0x${value.toString(16)}`;
