/** The payer against endpoints that refuse: a real chain, and in front of it the errors of real endpoints. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { startAnvil } from '../../../contracts/local-node.ts';
import { Chain } from '../../../test/support/guest.ts';
import { type LyingRpc, type RpcReply, startLyingRpc } from '../../../test/support/lying-rpc.ts';
import { Metrics } from '../../daemon/metrics.ts';
import { to0x } from '../../protocol/encoding.ts';
import { addressOf, newPrivateKey } from '../../protocol/secp256k1.ts';
import { Rpc } from '../endpoint/rpc.ts';
import { openStore, type Store } from '../store.ts';
import { Transactions, type TransactionsOptions } from './transactions.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface World {
  chain: Chain;
  endpoint: LyingRpc;
  store: Store;
  said: string[];
  address: string;
  pay(options?: Partial<TransactionsOptions>): Transactions;
  nonce(): Promise<number>;
}

async function newWorld(args: readonly string[] = []): Promise<World> {
  const anvil = await startAnvil({ args });
  cleanups.push(() => anvil.stop());
  const endpoint = await startLyingRpc(anvil.url);
  cleanups.push(() => endpoint.stop());
  const chain = new Chain(anvil.url);
  const key = newPrivateKey();
  const address = addressOf(key);
  await chain.rpc('anvil_setBalance', address, '0x8ac7230489e80000');
  const store = openStore(':memory:');
  const said: string[] = [];
  const tell = (_: object, msg: string) => void said.push(msg);
  const chainId = Number(await chain.rpc<string>('eth_chainId'));
  return {
    chain,
    endpoint,
    store,
    said,
    address,
    pay(options = {}) {
      const transactions = new Transactions({
        store,
        rpc: new Rpc({ url: endpoint.url, chainId, contract: address }),
        chainId,
        privateKey: to0x(key),
        log: { info: tell, warn: tell },
        metrics: new Metrics(),
        maxFee: 100_000_000_000n,
        bumpAfter: 60_000,
        confirmations: 0,
        lowBalance: 0n,
        pollInterval: 20,
        ...options,
      });
      cleanups.push(() => transactions.stop());
      transactions.start();
      return transactions;
    },
    nonce: async () => Number(await chain.rpc<string>('eth_getTransactionCount', address, 'latest')),
  };
}

/** To an account without code, which accepts any data. */
const request = (name: string) => ({
  purpose: `register:${name}`,
  to: `0x${'5a'.repeat(20)}`,
  data: `0x${Buffer.from(name).toString('hex')}`,
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await holds()); ) {
    if (Date.now() > deadline) throw new Error(`waited 60000 ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const refusal = (message: string, code = -32000): RpcReply => ({ error: { code, message } });
const SEND = 'eth_sendRawTransaction';

const said = (
  JSON.parse(readFileSync(join(import.meta.dirname, '../../../testdata/rpc/wordings.json'), 'utf8')) as {
    kind: string;
    method: string;
    error: { code: number; message: string };
  }[]
).filter(({ method }) => method === SEND);

test('what an endpoint says when it does not take a transaction is in the status until it takes it', async () => {
  const { endpoint, pay } = await newWorld();
  let ahead = 0;
  let now: RpcReply = {};
  endpoint.swallows = (method) => method === SEND;
  endpoint.lie = (method, reply) => (method === SEND ? now : reply);
  const refused = said.filter(
    ({ kind }) => !['already-known', 'rate-limited', 'type-unsupported'].includes(kind),
  );
  now = { error: refused[0]!.error };
  const transactions = pay({ now: () => Date.now() + ahead, bumpAfter: 10 ** 9 });
  const { purpose, ...rest } = request('a');
  transactions.submit({ purpose, ...rest });
  for (const { error } of refused) {
    now = { error };
    ahead += 20_000;
    await until(error.message, () => transactions.status(purpose)?.broadcastError?.message === error.message);
    expect(transactions.status(purpose)?.state).toBe('sent');
  }
  now = refusal('already known');
  ahead += 20_000;
  await until('no error', () => transactions.status(purpose)?.broadcastError === undefined);
  endpoint.swallows = () => false;
  endpoint.lie = (_, reply) => reply;
  ahead += 20_000;
  await until('final', () => transactions.status(purpose)?.state === 'final');
});

test('an entry whose estimate the endpoint refuses, in whatever words, keeps no other back', async () => {
  const { endpoint, pay, said: log } = await newWorld();
  const bad = request('bad');
  endpoint.lie = (method, reply, params) =>
    method === 'eth_estimateGas' && (params[0] as { data: string }).data === bad.data
      ? refusal('\u001b[31mthe moon is full')
      : reply;
  const transactions = pay();
  transactions.submit(bad);
  for (const name of ['a', 'b']) transactions.submit(request(name));
  await until('the others', () => transactions.status('register:b')?.state === 'final');
  expect(transactions.status(bad.purpose)).toMatchObject({
    state: 'queued',
    code: 'TX_ENDPOINT',
    message: expect.stringContaining('\\u001b[31mthe moon is full'),
  });
  expect(log).toContainEqual(expect.stringContaining('the moon is full'));
  endpoint.lie = (_, reply) => reply;
  await until('final', () => transactions.status(bad.purpose)?.state === 'final');
});

test('a receipt that the endpoint does not give keeps no other transaction back', async () => {
  const { endpoint, chain, pay, nonce } = await newWorld();
  const transactions = pay({ confirmations: 2 });
  transactions.submit(request('a'));
  await until('mined', () => transactions.status('register:a')?.state === 'mined');
  const { hash } = transactions.status('register:a')!;
  endpoint.lie = (method, reply, params) =>
    method === 'eth_getTransactionReceipt' && params[0] === hash ? { result: 'nonsense' } : reply;
  await chain.mine(5);
  transactions.submit(request('b'));
  await until('b', async () => (await nonce()) === 2);
  await until('said', () => transactions.status('register:a')?.code === 'TX_ENDPOINT');
  endpoint.lie = (_, reply) => reply;
  await until('final', () => transactions.status('register:a')?.state === 'final');
  expect(transactions.status('register:a')?.code).toBeUndefined();
});

test('on a chain without EIP-1559 transactions are legacy, under the same ceiling', async () => {
  const { chain, endpoint, pay } = await newWorld(['--hardfork', 'berlin']);
  expect(await chain.rpc('eth_getBlockByNumber', 'latest', false)).not.toHaveProperty('baseFeePerGas');
  let price = '0x174876e801';
  endpoint.lie = (method, reply) => (method === 'eth_gasPrice' ? { result: price } : reply);
  let ahead = 0;
  const transactions = pay({ now: () => Date.now() + ahead });
  transactions.submit(request('a'));
  await until('ceiling', () => transactions.status('register:a')?.code === 'TX_FEE_CEILING');
  price = '0x174876e800';
  ahead = 60_000;
  await until('final', () => transactions.status('register:a')?.state === 'final');
  const hash = transactions.status('register:a')!.hash!;
  const sent = await chain.rpc<{ type: string; gasPrice: string }>('eth_getTransactionByHash', hash);
  expect([sent.type, sent.gasPrice]).toEqual(['0x0', '0x174876e800']);
});

test('a legacy transaction that is not mined is replaced at a higher price', async () => {
  const { chain, pay } = await newWorld(['--hardfork', 'berlin', '--no-mining']);
  const transactions = pay({ bumpAfter: 100 });
  transactions.submit(request('a'));
  await until('sent', () => transactions.status('register:a')?.state === 'sent');
  const first = transactions.status('register:a')!.hash;
  await until('replaced', () => transactions.status('register:a')!.hash !== first);
  await chain.mine(1);
  await until('final', () => transactions.status('register:a')?.state === 'final');
});

test('an endpoint that takes no transaction of that type gets one of the other', async () => {
  const { chain, endpoint, pay } = await newWorld();
  const isTyped = (params: readonly unknown[]) => String(params[0]).startsWith('0x02');
  endpoint.swallows = (method, params) => method === SEND && isTyped(params);
  endpoint.lie = (method, reply, params) =>
    method === SEND && isTyped(params) ? refusal('transaction type not supported') : reply;
  const transactions = pay();
  for (const name of ['a', 'b']) transactions.submit(request(name));
  await until('final', () => transactions.status('register:b')?.state === 'final');
  const { hash } = transactions.status('register:a')!;
  expect(await chain.rpc('eth_getTransactionByHash', hash!)).toMatchObject({ type: '0x0', nonce: '0x0' });
});

test('what no endpoint takes lets others pass, and is mined once when it is taken', async () => {
  const { endpoint, pay, nonce } = await newWorld();
  const bad = request('bad');
  const isBad = (params: readonly unknown[]) => String(params[0]).includes(bad.data.slice(2));
  endpoint.swallows = (method, params) => method === SEND && isBad(params);
  endpoint.lie = (method, reply, params) =>
    method === SEND && isBad(params) ? refusal('tx fee (1.10 ether) exceeds the configured cap') : reply;
  let ahead = 0;
  const transactions = pay({ now: () => Date.now() + ahead, bumpAfter: 10 ** 9 });
  transactions.submit(bad);
  await until('refused', () => transactions.status(bad.purpose)?.broadcastError !== undefined);
  for (const name of ['a', 'b']) transactions.submit(request(name));
  await until('the others', () => {
    ahead += 1000;
    return transactions.status('register:b')?.state === 'final';
  });
  expect(transactions.status(bad.purpose)?.broadcastError?.message).toContain('exceeds the configured cap');
  endpoint.swallows = () => false;
  endpoint.lie = (_, reply) => reply;
  await until('final', () => {
    ahead += 1000;
    return transactions.status(bad.purpose)?.state === 'final';
  });
  expect(await nonce()).toBe(3);
});

test("a stored transaction that can't be read stops no other", async () => {
  const { store, address, chain, pay, said: log } = await newWorld();
  const chainId = Number(await chain.rpc<string>('eth_chainId'));
  const prefix = `tx/${chainId}/${address.toLowerCase()}`;
  store.put(`${prefix}/entry/register:spoiled`, '{');
  store.put(`${prefix}/open/register:spoiled`, '{}');
  const transactions = pay();
  transactions.submit(request('a'));
  await until('final', () => transactions.status('register:a')?.state === 'final');
  expect(log.filter((line) => line.startsWith('a transaction is set aside'))).toHaveLength(1);
  // Nobody knows what became of it: its purpose is not carried out a second time.
  expect(() => transactions.submit(request('spoiled'))).toThrowError(
    expect.objectContaining({ code: 'STORE_CORRUPT' }),
  );
});
