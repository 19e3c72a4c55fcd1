/** A whole auction on the local chain of `dstack dev --test`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abi, eventTopic, fromHex, functionCall, type Hex, parseAddress, seal } from 'dstack/framework';
import { boundTo, Offer } from '../bids.ts';

const { RPC_URL = '', APP_CONTRACT = '', CHAIN_ID = '' } = process.env;
const contract = parseAddress(APP_CONTRACT);
/** Wei: as the contract has it. */
const RESERVE = 10n ** 15n;

async function rpc<T>(method: string, ...params: unknown[]): Promise<T> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  const reply = (await (await fetch(RPC_URL, { method: 'POST', headers, body })).json()) as {
    result: T;
    error?: { message: string };
  };
  if (reply.error !== undefined) throw new Error(reply.error.message);
  return reply.result;
}

async function eventOf(signature: string): Promise<{ topics: string[]; data: string }> {
  for (;;) {
    const filter = { address: contract, fromBlock: '0x0', topics: [eventTopic(signature)] };
    const [log] = await rpc<{ topics: string[]; data: string }[]>('eth_getLogs', filter);
    if (log !== undefined) return log;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test('the highest bid wins at the second price; copies and uncovered bids do not count', {
  timeout: 900_000,
}, async () => {
  const { data } = await eventOf('Opened(bytes)');
  const { publicKey } = abi.decodeStrictly(abi.struct({ publicKey: abi.bytes }), data, 'key');
  const [seller, ...bidders] = await rpc<string[]>('eth_accounts');
  const Sealed = abi.struct({ sealedBid: abi.bytes });
  const sealed = (bidder: string, wei: bigint): Promise<Hex> =>
    seal(
      publicKey,
      fromHex(Offer.encode({ wei: wei * RESERVE })),
      boundTo({ chainId: Number(CHAIN_ID), contract }, parseAddress(bidder)),
    );
  const bid = async (from: string, deposit: bigint, sealedBid: Hex) =>
    rpc('eth_sendTransaction', {
      ...{ from, to: contract, value: `0x${(deposit * RESERVE).toString(16)}` },
      data: functionCall('bid(bytes)', Sealed, { sealedBid }),
    });
  const [first, second, third, thief, boaster] = bidders as [string, string, string, string, string];
  const best = await sealed(second, 700n);
  await bid(first, 1000n, await sealed(first, 500n));
  await bid(second, 1000n, best);
  await bid(third, 1000n, await sealed(third, 600n));
  await bid(thief, 1000n, best);
  await bid(boaster, 800n, await sealed(boaster, 900n));
  await rpc('eth_sendTransaction', {
    from: seller,
    to: contract,
    data: functionCall('close()', abi.struct({}), {}),
  });
  const sold = await eventOf('Sold(address,uint256)');
  assert.equal(sold.topics[1]!.slice(-40), second.slice(2).toLowerCase());
  assert.equal(BigInt(sold.data), 600n * RESERVE);
  const balance = async () => BigInt(await rpc<string>('eth_getBalance', contract, 'latest'));
  for (const [from, amount] of [
    [second, 400n],
    [thief, 1000n],
    [thief, 0n],
    [seller, 600n],
  ] as const) {
    const before = await balance();
    const data = functionCall('withdraw()', abi.struct({}), {});
    await rpc('eth_sendTransactionSync', { from, to: contract, data });
    assert.equal(before - (await balance()), amount * RESERVE);
  }
});
