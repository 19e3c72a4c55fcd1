/** `network watch`: what happens, as it happens. */
import { Type } from 'typebox';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import { parseNetworkEvent } from '../../lib/protocol/network-contract.ts';
import { Address0x, Word0x } from '../../lib/protocol/schema.ts';
import { type Command, UsageError } from '../command.ts';
import { chainOptions, connectNetwork, contractOption, type NetworkConnection } from '../owner/connection.ts';
import { type Block, Follower, type Look, pause, type SeenEvent, type Source } from '../watch/follow.ts';
import { PendingEvents } from '../watch/pending.ts';
import { type Kind, lineOf, objectOf } from '../watch/words.ts';

const Quantity = Type.String({ pattern: '^0x(0|[1-9a-f][0-9a-f]{0,12})$', maxLength: 15 });
const LogsSchema = Type.Array(
  Type.Object({
    address: Address0x,
    topics: Type.Array(Word0x, { maxItems: 4 }),
    data: Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 64 * 1024 }),
    blockNumber: Quantity,
    blockHash: Word0x,
    transactionHash: Word0x,
    logIndex: Quantity,
  }),
  { maxItems: 10_000 },
);

export const networkWatch: Command = {
  name: 'network watch',
  summary:
    'says what happens to a network, as it happens: requests, onboardings, rollouts, what is allowed and from when on',
  options: {
    ...chainOptions,
    contract: contractOption,
    'from-block': {
      value: 'NUMBER',
      help: 'begin with the events from this block on; without it, with those to come',
    },
    'to-block': { value: 'NUMBER', help: 'end once the chain was read up to this block' },
    json: { help: 'one JSON object a line, as docs/cli.md has it' },
  },
  async run(args) {
    const [from, to] = ['from-block', 'to-block'].map((name) => blockOf(name, args.optional(name)));
    const stopped = stopSignal();
    const connection = await connectNetwork(args);
    const source = sourceOf(connection);
    const first = from ?? (await source.head()).number + 1;
    const tell = args.flag('json')
      ? (kind: Kind, seen: SeenEvent, time?: number) => printJson(objectOf(kind, seen, time))
      : (kind: Kind, seen: SeenEvent, time?: number) => print(lineOf(kind, seen, time));
    printError(
      `watching ${connection.contract} from block ${first} on, as ${connection.sources} says; Ctrl-C ends it`,
    );
    const timeOf = async ({ block }: SeenEvent) => (await connection.chain.block(block)).timestamp;
    await follow(new Follower(source, first), { tell, timeOf, to, stopped });
  },
};

interface Following {
  readonly tell: (kind: Kind, seen: SeenEvent, time?: number) => void;
  readonly timeOf: (seen: SeenEvent) => Promise<number>;
  readonly to: number | undefined;
  readonly stopped: Promise<unknown>;
}

/** Until it is told to end. An endpoint that does not answer is asked again, and it is said once. */
async function follow(follower: Follower, { tell, timeOf, to, stopped }: Following): Promise<void> {
  const pending = new PendingEvents();
  let hasEnded = false;
  void stopped.then(() => {
    hasEnded = true;
  });
  let before: Block | undefined;
  let last: Block | undefined;
  let trouble = '';
  while (!hasEnded) {
    try {
      const { head, news, gone }: Look = await follower.look();
      for (const seen of gone) {
        pending.drop(seen);
        tell('gone', seen);
      }
      for (const seen of news) {
        tell('event', seen, await timeOf(seen));
        pending.take(seen, head.timestamp);
      }
      for (const seen of pending.due(head.timestamp)) tell('in-force', seen, head.timestamp);
      if (trouble !== '') printError('the chain is read again');
      trouble = '';
      if (to !== undefined && head.number >= to) return;
      if (head.number !== last?.number) [before, last] = [last, head];
    } catch (error) {
      if (!(error instanceof DstackError)) throw error;
      if (trouble !== codeOf(error)) printError(`dstack: ${error.code}: ${error.message}; it is tried again`);
      trouble = codeOf(error);
    }
    const wait = last === undefined ? pause(undefined, NOWHERE, 0) : pause(before, last, Date.now());
    let timer: NodeJS.Timeout | undefined;
    const rested = new Promise((resolve) => {
      timer = setTimeout(resolve, wait);
    });
    await Promise.race([rested, stopped]);
    clearTimeout(timer);
  }
}

const NOWHERE: Block = { number: 0, hash: '', timestamp: 0 };

function sourceOf({ chain, contract, endpoints }: NetworkConnection): Source {
  const quantity = (block: number) => `0x${block.toString(16)}`;
  return {
    head: () => chain.head(),
    async events(from, to) {
      const filter = { address: contract, fromBlock: quantity(from), toBlock: quantity(to) };
      const logs = await endpoints.agree(`the events of blocks ${from} to ${to}`, async ({ raw }) =>
        (await raw.call(LogsSchema, 'eth_getLogs', [filter])).map(
          ({ topics, data, blockNumber, blockHash, transactionHash, logIndex, address }) => ({
            ...{ topics, data, blockNumber, blockHash, transactionHash, logIndex },
            isOurs: sameAddress(address, contract),
          }),
        ),
      );
      return logs.flatMap((log): SeenEvent[] => {
        const block = Number(log.blockNumber);
        const event = log.isOurs ? parseNetworkEvent(log) : undefined;
        if (event === undefined || block < from || block > to) return [];
        const { blockHash, transactionHash: transaction, logIndex } = log;
        return [{ block, blockHash, transaction, index: Number(logIndex), event }];
      });
    },
  };
}

/** @throws USAGE */
function blockOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(text)) throw new UsageError(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}
