/** Deposits, transfers, withdrawals and queries on the local chain of `dstack dev --test`. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import {
  abi,
  eventTopic,
  fromHex,
  functionCall,
  type Hex,
  open,
  parseAddress,
  seal,
  sealingPublicKey,
  toHex,
} from 'dstack/framework';
import { BALANCE, Balance, balanceText, boundTo, LEAST_WEI, TRANSFERS, Transfer } from '../messages.ts';

const { RPC_URL = '', APP_CONTRACT = '', CHAIN_ID = '', ENCLAVE_URL = '' } = process.env;
const contract = parseAddress(APP_CONTRACT);
const app = { chainId: Number(CHAIN_ID), contract };
/** What is moved, in the least that an account may have. */
const least = (count: number): bigint => BigInt(count) * LEAST_WEI;
const Nothing = abi.struct({});

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

async function events(signature: string, atLeast: number): Promise<{ topics: string[]; data: string }[]> {
  for (;;) {
    const filter = { address: contract, fromBlock: '0x0', topics: [eventTopic(signature)] };
    const logs = await rpc<{ topics: string[]; data: string }[]>('eth_getLogs', filter);
    if (logs.length >= atLeast) return logs;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const send = (from: string, data: string, wei = 0n) =>
  rpc('eth_sendTransaction', { from, to: contract, data, value: `0x${wei.toString(16)}` });

let changes = 0;
/** Waits for one more change of the balances. @returns them, sealed */
async function changed(): Promise<Hex> {
  changes += 1;
  const { data } = (await events('Updated(uint64,bytes)', changes)).at(-1)!;
  return abi.decodeStrictly(abi.struct({ state: abi.bytes }), data, 'state').state;
}

/** @param signer whose wallet signs. @param from when, seconds from now; for an hour. @returns the balance, or the enclave's code */
async function balanceOf(
  account: string,
  state: Hex,
  { signer = account, from = 0 } = {},
): Promise<bigint | string> {
  const key = randomBytes(32).toString('hex');
  const keys = { key: async () => ({ key }) };
  const answerTo = await sealingPublicKey(keys, BALANCE);
  const { timestamp } = await rpc<{ timestamp: string }>('eth_getBlockByNumber', 'latest', false);
  const until = Number(timestamp) + from + 3600;
  const text = balanceText(app, { account: parseAddress(account), answerTo, until });
  const signature = await rpc<Hex>('personal_sign', `0x${Buffer.from(text).toString('hex')}`, signer);
  const reply = await fetch(`${ENCLAVE_URL}/v1/balance`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ account, answerTo, state, until, signature }),
  });
  const answer = (await reply.json()) as { sealed: Hex; code: string };
  if (!reply.ok) return answer.code;
  const opened = await open(keys, BALANCE, answer.sealed, boundTo(BALANCE, app, parseAddress(account)));
  return abi.decodeStrictly(Balance, `0x${toHex(opened)}`, 'balance').wei;
}

test('money goes in, from one to another unseen, and out', { timeout: 120_000 }, async () => {
  const [opened] = await events('Opened(bytes)', 1);
  const { publicKey } = abi.decodeStrictly(abi.struct({ publicKey: abi.bytes }), opened!.data, 'key');
  const [ann, ben, eve] = (await rpc<string[]>('eth_accounts')) as [string, string, string];
  const sealed = (from: string, to: string, wei: bigint) =>
    seal(
      publicKey,
      fromHex(Transfer.encode({ to: parseAddress(to), wei })),
      boundTo(TRANSFERS, app, parseAddress(from)),
    );
  const transfer = (from: string, sealedTransfer: Hex) =>
    send(
      from,
      functionCall('transfer(bytes)', abi.struct({ sealedTransfer: abi.bytes }), { sealedTransfer }),
    );

  await send(ann, functionCall('deposit()', Nothing, {}), least(1000));
  const first = await changed();
  assert.equal(await balanceOf(ann, first), least(1000));
  const toBen = await sealed(ann, ben, least(300));
  await transfer(ann, toBen);
  const second = await changed();
  assert.deepEqual([await balanceOf(ann, second), await balanceOf(ben, second)], [least(700), least(300)]);
  // More than there is; a copy under another name: balances stay, and nobody sees that they do.
  await transfer(ben, await sealed(ben, eve, least(301)));
  await changed();
  await transfer(eve, toBen);
  const state = await changed();
  assert.notEqual(state, second);
  assert.equal(state.length, second.length);
  assert.deepEqual([await balanceOf(ben, state), await balanceOf(eve, state)], [least(300), 0n]);
  // Nobody else's, nothing old, and not for longer than was signed for.
  assert.equal(await balanceOf(ben, state, { signer: eve }), 'NOT_THE_ACCOUNT');
  for (const from of [-2 * 3600, 24 * 3600])
    assert.equal(await balanceOf(ben, state, { from }), 'QUERY_EXPIRED');
  assert.equal(await balanceOf(ben, second), 'STATE_UNKNOWN');

  await send(ben, functionCall('withdraw()', Nothing, {}));
  assert.equal(await balanceOf(ben, await changed()), 0n);
  const before = BigInt(await rpc<string>('eth_getBalance', contract, 'latest'));
  await rpc('eth_sendTransactionSync', {
    from: ben,
    to: contract,
    data: functionCall('collect()', Nothing, {}),
  });
  assert.equal(before - BigInt(await rpc<string>('eth_getBalance', contract, 'latest')), least(300));
});
