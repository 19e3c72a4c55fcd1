/** The auction of the template: what its enclave makes of bids, and the whole of it on a local chain. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startDev } from '../../cli/dev/dev.ts';
import { seal, sealingPublicKey } from '../../lib/framework/app/sealing.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress } from '../../lib/protocol/hex.ts';
import { type Bid, boundTo, hashOfBids, Offer } from '../../templates/auction/bids.ts';
import { closing } from '../../templates/auction/enclave/auction.ts';
import { freePort } from '../support/free-port.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const folder = join(import.meta.dirname, '../../templates/auction');
const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const account = (n: number): Address => parseAddress(`0x${String(n).padStart(40, '0')}`);
const keys = { key: async () => ({ key: 'ab'.repeat(32) }) };

async function bidOf(bidder: Address, wei: bigint, deposit = 1000n): Promise<Bid> {
  const publicKey = await sealingPublicKey(keys, 'bids');
  const text = fromHex(Offer.encode({ wei }));
  return {
    bidder,
    deposit: String(deposit),
    sealedBid: await seal(publicKey, text, boundTo(contract, bidder)),
  };
}

/** @param shown what the host shows, of what the contract has */
async function close(bids: readonly Bid[], shown: readonly Bid[] = bids) {
  const request = { bidsHash: hashOfBids(bids), count: bids.length };
  return closing(contract).handle({ keys } as never, request, { evidence: shown } as never);
}

test('the second highest is the price; the first of two alike wins; what does not open or is not covered does not count', async () => {
  const [one, two, three] = await Promise.all([
    bidOf(account(1), 500n),
    bidOf(account(2), 700n),
    bidOf(account(3), 700n),
  ]);
  expect(await close([one, two, three])).toEqual({ winner: account(2), price: 700n });
  expect(await close([one, two])).toEqual({ winner: account(2), price: 500n });
  expect(await close([one])).toEqual({ winner: account(1), price: 0n });
  expect(await close([])).toEqual({ winner: account(0), price: 0n });
  // Copied under another name; above its deposit; no bid at all.
  const thief = { ...two, bidder: account(4) };
  const boaster = await bidOf(account(5), 1001n);
  const noise: Bid = {
    ...one,
    bidder: account(6),
    sealedBid: one.sealedBid.replace(/..$/, '00') as Bid['sealedBid'],
  };
  expect(await close([one, thief, boaster, noise])).toEqual({ winner: account(1), price: 0n });
});

test('a host that leaves a bid out, swaps two or makes one up gets no answer', async () => {
  const bids = await Promise.all([1, 2, 3].map((n) => bidOf(account(n), BigInt(n))));
  const [one, two, three] = bids as [Bid, Bid, Bid];
  for (const shown of [
    [one, two],
    [one, three, two],
    [one, two, two],
    [{ ...one, deposit: '9' }, two, three],
    [],
  ])
    await expect(close(bids, shown)).rejects.toBeInstanceOf(Retryable);
});

test('an auction from its first answer to the last withdrawal', async () => {
  const dev = await startDev({ folder, app: 'auction', port: await freePort() });
  try {
    expect(await dev.test(never)).toBe(0);
  } finally {
    await dev.stop();
  }
});
