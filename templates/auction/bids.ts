/** What enclave, host and bidders agree on: a bid, what it is sealed for, and the hash of all bids in their order. */
import {
  type Address,
  Address0x,
  type AppDomain,
  abi,
  bareHex,
  fromHex,
  type Hex,
  keccak256,
  lengthPrefixed,
  parseHex,
  Strict,
  Type,
  to0x,
  utf8,
} from 'dstack/framework';

/** One word: what is offered, in wei. */
export const Offer = abi.struct({ wei: abi.bigUint(256) });

export const BidSchema = Strict({
  bidder: Address0x,
  /** Wei, decimal. */
  deposit: Type.String({ pattern: '^[0-9]{1,78}$', maxLength: 78 }),
  sealedBid: Type.Unsafe<Hex>(Type.String({ pattern: '^0x([0-9a-f]{2})*$', maxLength: 2 + 2 * 1168 })),
});
export const BidsSchema = Type.Array(BidSchema, { maxItems: 100 });
export type Bid = Type.Static<typeof BidSchema>;

/**
 * A bid is sealed for one bidder in one auction: copied by another it does not open, nor on another chain, which may have another contract, and
 * another owner of an account, at the same address.
 */
export const boundTo = ({ chainId, contract }: AppDomain, bidder: Address): Uint8Array =>
  lengthPrefixed([utf8('bid'), utf8(String(chainId)), fromHex(contract, 20), fromHex(bidder, 20)]);

const word = abi.fixedBytes(32);
const link = abi.struct({ before: word, bidder: abi.address, deposit: abi.bigUint(256), hash: word });

/** As the contract has it: `bidsHash`. */
export function hashOfBids(bids: readonly Bid[]): Hex {
  let before = parseHex(`0x${'00'.repeat(32)}`);
  for (const { bidder, deposit, sealedBid } of bids) {
    const hash = to0x(keccak256(fromHex(bareHex(sealedBid))));
    before = to0x(keccak256(fromHex(link.encode({ before, bidder, deposit: BigInt(deposit), hash }))));
  }
  return before;
}
