/** Bids as the host has seen them: it keeps each, and shows the enclave all of them when the auction closes. */
import {
  type Address,
  abi,
  type ChainClient,
  type ContractHandler,
  eventTopic,
  functionCall,
  parseAddress,
  type Store,
  Strict,
  Table,
  Type,
} from 'dstack/framework';
import { type Bid, BidSchema } from '../bids.ts';

const Data = abi.struct({ deposit: abi.bigUint(256), sealedBid: abi.bytes });

const Row = Strict({ at: Type.String({ maxLength: 40 }), bid: BidSchema });
const Bidder = abi.struct({ bidder: abi.address });
const Deposit = abi.struct({ deposit: abi.bigUint(256) });

export class BidBook {
  readonly #rows: Table<typeof Row>;
  readonly #contract: Address;

  constructor(store: Store, contract: Address) {
    this.#rows = new Table(store, `bids/${contract.toLowerCase()}/`, Row);
    this.#contract = contract;
  }

  handler(): ContractHandler<{ at: string; bid: Bid }> {
    return {
      name: 'bids',
      contract: this.#contract,
      topic: eventTopic('Bid(address,uint256,bytes)'),
      decode({ topics, data, blockNumber, logIndex }) {
        const { deposit, sealedBid } = abi.decodeStrictly(Data, data, 'bid');
        const bidder = parseAddress(`0x${topics[1]!.slice(-40)}`);
        // In the chain's order.
        const at = [blockNumber, logIndex].map((n) => String(n).padStart(16, '0')).join('/');
        return { at, bid: { bidder, deposit: String(deposit), sealedBid } };
      },
      request: async ({ at, bid }) => {
        // A bidder has one bid; after a re-organisation it may be another.
        this.#rows.put(bid.bidder, { at, bid });
        return { kind: 'skip', reason: `a bid by ${bid.bidder}` };
      },
      settle: async () => [],
    };
  }

  /** Those that the contract has, in their order: a re-organisation may have dropped others. */
  async all(chain: ChainClient): Promise<Bid[]> {
    const rows = this.#rows.list().map(({ value }) => value);
    rows.sort((a, b) => (a.at < b.at ? -1 : 1));
    const bids: Bid[] = [];
    for (const { bid } of rows) {
      const call = functionCall('deposits(address)', Bidder, { bidder: bid.bidder });
      const { deposit } = abi.decodeStrictly(Deposit, await chain.query(this.#contract, call), 'deposit');
      if (deposit > 0n) bids.push(bid);
    }
    return bids;
  }
}
