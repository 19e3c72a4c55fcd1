/**
 * Bids as the host has seen them: it keeps each, and shows the enclave all of them when the auction closes. If they are not what the contract
 * has, since an endpoint has once shown too little or too much, or the store has lost some, they are read from the chain anew.
 */
import {
  type Address,
  abi,
  type ChainClient,
  type ContractHandler,
  type ContractLog,
  eventTopic,
  functionCall,
  parseAddress,
  type Store,
  Strict,
  sameHex,
  Table,
  Type,
} from 'dstack/framework';
import { type Bid, BidSchema, hashOfBids } from '../bids.ts';

const Data = abi.struct({ deposit: abi.bigUint(256), sealedBid: abi.bytes });

const BID = eventTopic('Bid(address,uint256,bytes)');
/** Blocks per call, at most. */
const RANGE = 2000;

const Row = Strict({ at: Type.String({ maxLength: 40 }), bid: BidSchema });
const Bidder = abi.struct({ bidder: abi.address });
const Deposit = abi.struct({ deposit: abi.bigUint(256) });
const Nothing = abi.struct({});
const Word = abi.struct({ hash: abi.fixedBytes(32) });

interface Placed {
  /** In the chain's order. */
  at: string;
  bid: Bid;
}

export class BidBook {
  readonly #rows: Table<typeof Row>;
  readonly #contract: Address;
  readonly #startBlock: number;

  /** @param startBlock before which there are none */
  constructor(store: Store, contract: Address, startBlock: number) {
    this.#startBlock = startBlock;
    this.#rows = new Table(store, `bids/${contract.toLowerCase()}/`, Row);
    this.#contract = contract;
  }

  handler(): ContractHandler<Placed> {
    return {
      name: 'bids',
      contract: this.#contract,
      topic: BID,
      decode: bidIn,
      request: async ({ at, bid }) => {
        // A bidder has one bid; after a re-organisation it may be another.
        this.#rows.put(bid.bidder, { at, bid });
        return { kind: 'skip', reason: `a bid by ${bid.bidder}` };
      },
      settle: async () => [],
    };
  }

  /** Those that the contract has, in their order. */
  async all(chain: ChainClient): Promise<Bid[]> {
    const answer = await chain.query(this.#contract, functionCall('bidsHash()', Nothing, {}));
    const { hash } = abi.decodeStrictly(Word, answer, 'bidsHash');
    const kept = await this.#paid(
      this.#rows.sift().sound.map(({ value }) => value),
      chain,
    );
    return sameHex(hashOfBids(kept), hash) ? kept : this.#shown(chain);
  }

  /** Without those that a re-organisation has dropped. */
  async #paid(placed: Placed[], chain: ChainClient): Promise<Bid[]> {
    placed.sort((a, b) => (a.at < b.at ? -1 : 1));
    const bids: Bid[] = [];
    for (const { bid } of placed) {
      const call = functionCall('deposits(address)', Bidder, { bidder: bid.bidder });
      const { deposit } = abi.decodeStrictly(Deposit, await chain.query(this.#contract, call), 'deposit');
      if (deposit > 0n) bids.push(bid);
    }
    return bids;
  }

  async #shown(chain: ChainClient): Promise<Bid[]> {
    const { number: last } = await chain.head();
    const placed: Placed[] = [];
    for (let from = this.#startBlock; from <= last; from += RANGE)
      placed.push(...(await this.#logs(chain, from, Math.min(last, from + RANGE - 1))).map(bidIn));
    return this.#paid(placed, chain);
  }

  /** In parts, where an endpoint does not give as much at once. */
  async #logs(chain: ChainClient, from: number, to: number): Promise<ContractLog[]> {
    try {
      return await chain.logsOf(this.#contract).logs(from, to, [BID]);
    } catch (error) {
      if (from === to) throw error;
      const middle = Math.floor((from + to) / 2);
      return [...(await this.#logs(chain, from, middle)), ...(await this.#logs(chain, middle + 1, to))];
    }
  }
}

function bidIn({ topics, data, blockNumber, logIndex }: ContractLog): Placed {
  const { deposit, sealedBid } = abi.decodeStrictly(Data, data, 'bid');
  const bidder = parseAddress(`0x${topics[1]!.slice(-40)}`);
  const at = [blockNumber, logIndex].map((n) => String(n).padStart(16, '0')).join('/');
  return { at, bid: { bidder, deposit: String(deposit), sealedBid } };
}
