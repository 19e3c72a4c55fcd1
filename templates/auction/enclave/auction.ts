/** What the enclave answers: the key that bids are sealed to, and who has won at which price. */
import {
  type Address,
  type Answering,
  type AppDomain,
  abi,
  type Decoded,
  DstackError,
  type Enclave,
  open,
  parseAddress,
  Retryable,
  type RouteOptions,
  sameHex,
  sealingPublicKey,
  Type,
  toHex,
} from 'dstack/framework';
import { type Bid, BidsSchema, boundTo, hashOfBids, Offer } from '../bids.ts';

/** Of the app's key that bids are sealed to. */
const TAG = 'bids';
const NOBODY = parseAddress(`0x${'00'.repeat(20)}`);

const NoFields = Type.Object({}, { additionalProperties: false });
const KeyReply = Type.Object({ publicKey: Type.String() });
const Nothing = abi.struct({});
const Key = abi.struct({ publicKey: abi.bytes });
export const opening: Answering<Enclave, object, Decoded<typeof Key>> = {
  request: Nothing,
  response: Key,
  handle: async ({ keys }) => ({ publicKey: await sealingPublicKey(keys, TAG) }),
};

/** The same for whoever asks by the app's website, whose certificate the network vouches for. */
export const sealingKey: RouteOptions<Enclave, typeof NoFields, typeof KeyReply> = {
  request: NoFields,
  response: KeyReply,
  open: true,
  handle: async ({ keys }) => ({ publicKey: await sealingPublicKey(keys, TAG) }),
};

const Close = abi.struct({
  bidsHash: abi.fixedBytes(32),
  count: abi.smallUint(48),
  reserve: abi.bigUint(256),
});
const Result = abi.struct({ winner: abi.address, price: abi.bigUint(256) });

/** @param app for which bids are sealed */
export const closing = (
  app: AppDomain,
): Answering<Enclave, Decoded<typeof Close>, Decoded<typeof Result>> => ({
  request: Close,
  response: Result,
  evidence: BidsSchema,
  async handle({ keys }, { bidsHash, count, reserve }, { evidence }) {
    const bids = evidence as Bid[];
    // A host that leaves a bid out, or makes one up, gets no answer: the contract has the hash of all of them.
    if (bids.length !== count || !sameHex(hashOfBids(bids), bidsHash))
      throw new Retryable('BIDS_INCOMPLETE', 'these are not the bids that the contract has');
    const offers: { bidder: Address; wei: bigint }[] = [];
    for (const bid of bids) {
      const wei = await offerOf(bid);
      if (wei !== undefined && wei >= reserve) offers.push({ bidder: bid.bidder, wei });
    }
    // The first of two alike wins: sorting keeps their order.
    offers.sort((a, b) => (a.wei === b.wei ? 0 : a.wei > b.wei ? -1 : 1));
    const [best, second] = offers;
    return best === undefined
      ? { winner: NOBODY, price: 0n }
      : { winner: best.bidder, price: second?.wei ?? reserve };

    /** Undefined for a bid that does not open, or that its deposit does not cover: it does not count. */
    async function offerOf({ bidder, deposit, sealedBid }: Bid): Promise<bigint | undefined> {
      try {
        const text = await open(keys, TAG, sealedBid, boundTo(app, bidder));
        const { wei } = abi.decodeStrictly(Offer, `0x${toHex(text)}`, 'offer');
        return wei <= BigInt(deposit) ? wei : undefined;
      } catch (error) {
        if (error instanceof DstackError && !(error instanceof Retryable)) return undefined;
        throw error;
      }
    }
  },
});
