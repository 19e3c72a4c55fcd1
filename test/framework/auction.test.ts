/** The auction of the template: what its enclave makes of bids, and the whole of it on a local chain. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startDev } from '../../cli/dev/dev.ts';
import { seal, sealingPublicKey } from '../../lib/framework/app/sealing.ts';
import { eventTopic, functionCall } from '../../lib/framework/app/solidity.ts';
import { openStore } from '../../lib/framework/store.ts';
import * as abi from '../../lib/protocol/abi.ts';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { type Bid, boundTo, hashOfBids, Offer } from '../../templates/auction/bids.ts';
import { closing } from '../../templates/auction/enclave/auction.ts';
import { BidBook } from '../../templates/auction/host/bid-book.ts';
import { freePort } from '../support/free-port.ts';
import { startApp } from './support/app.ts';

/** Nobody stops it. */
const never = new AbortController().signal;
const folder = join(import.meta.dirname, '../../templates/auction');
const contract = parseAddress(`0x${'c0'.repeat(20)}`);
const account = (n: number): Address => parseAddress(`0x${String(n).padStart(40, '0')}`);
const app = { chainId: 1, contract };
const keys = { key: async () => ({ key: 'ab'.repeat(32) }) };

async function bidOf(bidder: Address, wei: bigint, deposit = 1000n): Promise<Bid> {
  const publicKey = await sealingPublicKey(keys, 'bids');
  const text = fromHex(Offer.encode({ wei }));
  return {
    bidder,
    deposit: String(deposit),
    sealedBid: await seal(publicKey, text, boundTo(app, bidder)),
  };
}

/** @param shown what the host shows, of what the contract has */
async function close(
  bids: readonly Bid[],
  shown: readonly Bid[] = bids,
  { domain = app, reserve = 1n } = {},
) {
  const request = { bidsHash: hashOfBids(bids), count: bids.length, reserve };
  return closing(domain).handle({ keys } as never, request, { evidence: shown } as never);
}

test('the second highest is the price; the first of two alike wins; what does not open or is not covered does not count', async () => {
  const [one, two, three] = await Promise.all([
    bidOf(account(1), 500n),
    bidOf(account(2), 700n),
    bidOf(account(3), 700n),
  ]);
  expect(await close([one, two, three])).toEqual({ winner: account(2), price: 700n });
  expect(await close([one, two])).toEqual({ winner: account(2), price: 500n });
  expect(await close([one])).toEqual({ winner: account(1), price: 1n });
  expect(await close([])).toEqual({ winner: account(0), price: 0n });
  // Copied under another name; above its deposit; no bid at all.
  const thief = { ...two, bidder: account(4) };
  const boaster = await bidOf(account(5), 1001n);
  const noise: Bid = {
    ...one,
    bidder: account(6),
    sealedBid: one.sealedBid.replace(/..$/, '00') as Bid['sealedBid'],
  };
  expect(await close([one, thief, boaster, noise])).toEqual({ winner: account(1), price: 1n });
  // Sealed for the contract at this address on another chain.
  const there = { domain: { chainId: 10, contract } };
  expect(await close([one, two], undefined, there)).toEqual({ winner: account(0), price: 0n });
});

test('bids that an endpoint made up or kept back, or that were lost, are read from the chain anew', async () => {
  const store = openStore(':memory:');
  const book = new BidBook(store, contract, 5);
  const bids = await Promise.all([1, 2, 3].map((n) => bidOf(account(n), BigInt(n))));
  const word = (hex: string) => parseHex(`0x${hex.padStart(64, '0')}`);
  const BidData = abi.struct({ deposit: abi.bigUint(256), sealedBid: abi.bytes });
  const logs = bids.map(({ bidder, deposit, sealedBid }, at) => ({
    blockNumber: 10 + 3000 * at,
    blockHash: word('1'),
    transactionHash: word('2'),
    logIndex: 0,
    topics: [eventTopic('Bid(address,uint256,bytes)'), word(bidder.slice(2))],
    data: `0x${BidData.encode({ deposit: BigInt(deposit), sealedBid })}`,
  }));
  const chain = {
    head: async () => ({ number: 9000, hash: word('3') }),
    query: async (_: Address, data: string) =>
      data === functionCall('bidsHash()', abi.struct({}), {}) ? hashOfBids(bids) : word('1'),
    logsOf: () => ({
      logs: async (from: number, to: number) => {
        if (to - from > 500) throw new Retryable('RPC_TOO_LARGE', 'fewer');
        return logs.filter(({ blockNumber }) => from <= blockNumber && blockNumber <= to);
      },
    }),
  } as never;
  const handler = book.handler();
  const show = (log: (typeof logs)[number]) => handler.request(handler.decode(log), {} as never);
  for (const log of logs) await show(log);
  expect(await book.all(chain)).toEqual(bids);
  await show({ ...logs[1]!, data: logs[0]!.data });
  expect(await book.all(chain), 'one was made up').toEqual(bids);
  expect(await new BidBook(openStore(':memory:'), contract, 5).all(chain), 'all were lost').toEqual(bids);
  store.close();
});

test('a bid below the reserve does not count, and the price is not below it', async () => {
  const [one, two] = await Promise.all([bidOf(account(1), 500n), bidOf(account(2), 700n)]);
  expect(await close([one, two], undefined, { reserve: 600n })).toEqual({ winner: account(2), price: 600n });
  expect(await close([one, two], undefined, { reserve: 701n })).toEqual({ winner: account(0), price: 0n });
});

test('deposits come back when the seller does not close, or no answer comes, and nobody takes up places for nothing', async () => {
  const auction = await startApp('auction');
  try {
    const [, bidder, other] = (await auction.chain.accounts()) as [string, string, string];
    const sealed = `0x${'00'.repeat(1168)}`;
    const bid = (from: string, wei: bigint) => auction.send('bid', [sealed], { from, wei });
    await expect(bid(other, 10n ** 15n - 1n)).rejects.toThrow();
    await bid(bidder, 10n ** 15n);
    await expect(auction.send('close', [], { from: other })).rejects.toThrow();
    await auction.chain.rpc('evm_increaseTime', 14 * 24 * 3600 - 60);
    await expect(auction.send('abandon', [], { from: other })).rejects.toThrow();
    await auction.chain.rpc('evm_increaseTime', 60);
    await auction.send('abandon', [], { from: other });
    await auction.send('withdraw', [], { from: bidder });
    expect(BigInt(await auction.chain.rpc('eth_getBalance', auction.contract, 'latest'))).toBe(0n);
    await expect(bid(other, 10n ** 15n)).rejects.toThrow();
  } finally {
    await auction.stop();
  }
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
