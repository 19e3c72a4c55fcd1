import { Wallet } from 'ethers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../../contracts/local-node.ts';
import { Chain, TestNetwork } from '../../../test/support/guest.ts';
import { RpcRefusal } from '../../chain/json-rpc.ts';
import { Metrics } from '../../daemon/metrics.ts';
import { to0x } from '../../protocol/encoding.ts';
import { encodeOnboard, encodeRegister } from '../../protocol/network-contract.ts';
import { networkErrorInWords } from '../../protocol/network-error-words.ts';
import { addressOf, newPrivateKey } from '../../protocol/secp256k1.ts';
import { Rpc } from '../endpoint/rpc.ts';
import { openStore, type Store } from '../store.ts';
import { Transactions, type TransactionsOptions } from './transactions.ts';

interface Pooled {
  hash: string;
  nonce: string;
  maxFeePerGas: string;
}

let anvil: Anvil;
let chain: Chain;
let network: TestNetwork;
let key: Uint8Array;
let store: Store;
let said: string[];
const running: Transactions[] = [];

beforeEach(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  network = await TestNetwork.bootstrapped(chain);
  key = newPrivateKey();
  store = openStore(':memory:');
  said = [];
  await fund('0x8ac7230489e80000');
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((transactions) => transactions.stop()));
  await anvil.stop();
});

const fund = (wei: string) => chain.rpc('anvil_setBalance', addressOf(key), wei);
const pool = async (): Promise<Pooled[]> => {
  const content = await chain.rpc<{ pending: Record<string, Record<string, Pooled>> }>('txpool_content');
  return Object.values(content.pending).flatMap((byNonce) => Object.values(byNonce));
};
const nonceOf = async () =>
  Number(await chain.rpc<string>('eth_getTransactionCount', addressOf(key), 'latest'));

function start(options: Partial<TransactionsOptions> = {}, rpc?: Rpc): Transactions {
  const { chainId } = network.domain;
  const transactions = new Transactions({
    store,
    rpc: rpc ?? new Rpc({ url: anvil.url, chainId, contract: network.address }),
    chainId,
    privateKey: to0x(key),
    log: { info: (_, msg) => void said.push(msg), warn: (_, msg) => void said.push(msg) },
    metrics: new Metrics(),
    maxFee: 100_000_000_000n,
    bumpAfter: 60_000,
    confirmations: 0,
    lowBalance: 0n,
    pollInterval: 20,
    errorInWords: networkErrorInWords,
    ...options,
  });
  running.push(transactions);
  transactions.start();
  return transactions;
}

/** A `register` that the contract takes. */
async function registration(): Promise<{ purpose: string; to: string; data: string }> {
  const { hash, args } = await network.requestArgs();
  return { purpose: `register:${hash}`, to: network.address, data: encodeRegister(args) };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await holds()); ) {
    if (Date.now() > deadline) throw new Error(`not within 60 s: ${what}; said ${said.join(' | ')}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('purposes are carried out in order, each once, however often they are submitted', async () => {
  const transactions = start();
  const [a, b] = [await registration(), await registration()];
  for (const request of [a, b, a, b, a]) transactions.submit(request);
  await until('both final', () => transactions.status(b.purpose)?.state === 'final');
  transactions.submit(a);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(transactions.status(a.purpose)).toMatchObject({ state: 'final' });
  expect(await nonceOf()).toBe(2);
  expect(transactions.open()).toEqual([]);
});

test('a process that died after signing sends the same transaction again', async () => {
  await chain.rpc('evm_setAutomine', false);
  // The endpoint loses what is sent through it, as if the process had died before sending.
  class Losing extends Rpc {
    override async send(): Promise<void> {}
  }
  const { chainId } = network.domain;
  const first = start({}, new Losing({ url: anvil.url, chainId, contract: network.address }));
  const request = await registration();
  first.submit(request);
  await until('signed', () => first.status(request.purpose)?.state === 'sent');
  const signed = first.status(request.purpose)?.hash;
  await first.stop();

  let ahead = 0;
  const second = start({ now: () => Date.now() + ahead });
  ahead = 20_000;
  await until('sent again', async () => (await pool()).length === 1);
  expect((await pool())[0]).toMatchObject({ hash: signed, nonce: '0x0' });
  await chain.mine(1);
  await until('final', () => second.status(request.purpose)?.state === 'final');
  expect(await nonceOf()).toBe(1);
});

test('a transaction that is not mined is replaced at a higher fee and the same nonce, up to the ceiling', async () => {
  await chain.rpc('evm_setAutomine', false);
  const transactions = start({ bumpAfter: 50, maxFee: 8_000_000_000n });
  const request = await registration();
  transactions.submit(request);
  await until('sent', async () => (await pool()).length === 1);
  const [first] = await pool();
  await until('replaced', async () => (await pool())[0]?.hash !== first!.hash);
  await until('at the ceiling', () => transactions.status(request.purpose)?.code === 'TX_FEE_CEILING');
  const [last, ...more] = await pool();
  expect(more).toEqual([]);
  expect(last!.nonce).toBe(first!.nonce);
  expect(BigInt(last!.maxFeePerGas)).toBeGreaterThan(BigInt(first!.maxFeePerGas));
  expect(BigInt(last!.maxFeePerGas)).toBeLessThanOrEqual(8_000_000_000n);
  await chain.mine(1);
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
  expect(transactions.status(request.purpose)?.hash).toBe(last!.hash);
  expect(await nonceOf()).toBe(1);
});

test("what would revert is not sent; the contract's own error is reported", async () => {
  const transactions = start();
  const request = await network.requestArgs();
  transactions.submit({
    purpose: `onboard:${request.hash}`,
    to: network.address,
    data: encodeOnboard(network.onboardArgs(request)),
  });
  await until('failed', () => transactions.status(`onboard:${request.hash}`)?.state === 'failed');
  const status = transactions.status(`onboard:${request.hash}`);
  expect(status).toMatchObject({ code: 'TX_WOULD_REVERT', hash: undefined });
  expect(status?.message).toContain(`RequestNotOpen(requestHash ${request.hash})`);
  expect(await nonceOf()).toBe(0);

  // It holds up nothing.
  const good = await registration();
  transactions.submit(good);
  await until('final', () => transactions.status(good.purpose)?.state === 'final');
});

test('an estimate that fails only because the endpoint is behind is asked again', async () => {
  const transactions = start();
  const request = await network.requestArgs();
  const purpose = `onboard:${request.hash}`;
  transactions.submit({ purpose, to: network.address, data: encodeOnboard(network.onboardArgs(request)) });
  await until('waits', () => transactions.status(purpose)?.code === 'TX_WOULD_REVERT');
  await network.asStranger(encodeRegister(request.args));
  await until('final', () => transactions.status(purpose)?.state === 'final');
  expect(transactions.status(purpose)?.code).toBeUndefined();
});

test('without money it waits and says so, and goes on once there is some', async () => {
  await fund('0x0');
  let ahead = 0;
  const transactions = start({ lowBalance: 1n, now: () => Date.now() + ahead });
  const request = await registration();
  transactions.submit(request);
  await until('no funds', () => transactions.status(request.purpose)?.code === 'TX_NO_FUNDS');
  expect(said).toContainEqual(
    expect.stringMatching(
      /^the gas key runs low: send 0x\w{40} some ether; it has 0.000000 ether, enough for 0 joins/,
    ),
  );
  expect(transactions.balance.warning).toContain('runs low');
  await fund('0x8ac7230489e80000');
  ahead = 60_000;
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
});

test('above the fee ceiling nothing is sent', async () => {
  const transactions = start({ maxFee: 1000n });
  const request = await registration();
  transactions.submit(request);
  await until('waits', () => transactions.status(request.purpose)?.code === 'TX_FEE_CEILING');
  expect(await nonceOf()).toBe(0);
});

test('a transaction that a re-org dropped is sent again, as it was', async () => {
  const snapshot = await chain.rpc<string>('evm_snapshot');
  let ahead = 0;
  const transactions = start({ confirmations: 3, now: () => Date.now() + ahead });
  const request = await registration();
  transactions.submit(request);
  await until('mined', () => transactions.status(request.purpose)?.state === 'mined');
  const { hash } = transactions.status(request.purpose)!;
  await chain.rpc('evm_revert', snapshot);
  await chain.rpc('evm_setAutomine', false);
  await fund('0x8ac7230489e80000');
  await chain.mine(10);
  await until('noticed', () => said.includes('the chain was re-organised: sending it again'));
  ahead = 20_000;
  await until('in the pool', async () => (await pool()).some((pooled) => pooled.hash === hash));
  await chain.mine(5);
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
  expect(await nonceOf()).toBe(1);
});

test('when someone else used the nonce, another is taken, but only after a while', async () => {
  class Losing extends Rpc {
    lose = true;
    override async send(raw: string): Promise<void> {
      if (!this.lose) await super.send(raw);
    }
  }
  const rpc = new Losing({ url: anvil.url, chainId: network.domain.chainId, contract: network.address });
  const transactions = start({}, rpc);
  const request = await registration();
  transactions.submit(request);
  await until('signed', () => transactions.status(request.purpose)?.state === 'sent');
  await chain.rpc('anvil_setNonce', addressOf(key), '0x1');
  rpc.lose = false;
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(transactions.status(request.purpose)?.state).toBe('sent');
  await chain.mine(10);
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
  expect(await nonceOf()).toBe(2);
});

/** Drops the last blocks with all that is in them, as a re-org to an empty fork does. */
async function dropBlocks(depth: number): Promise<void> {
  await chain.rpc('anvil_reorg', depth, []);
  // What anvil was told outside of transactions is undone as well.
  await fund('0x8ac7230489e80000');
}

test('a re-org far deeper than the confirmations: what was final long ago is sent again as it was, in its order', async () => {
  const transactions = start({ confirmations: 1, bumpAfter: 1_000 });
  const [a, b] = [await registration(), await registration()];
  const hashes: (string | undefined)[] = [];
  for (const request of [a, b]) {
    transactions.submit(request);
    // Its hash is known before it is sent: blocks until then confirm nothing.
    await until('mined', () => transactions.status(request.purpose)?.state === 'mined');
    await chain.mine(3);
    await until('final', () => transactions.status(request.purpose)?.state === 'final');
    hashes.push(transactions.status(request.purpose)?.hash);
  }
  await dropBlocks(9);
  expect(await nonceOf()).toBe(0);
  await until('mined again', async () => (await nonceOf()) === 2);
  await chain.mine(3);
  await until('final', () => transactions.open().length === 0);
  expect([a, b].map(({ purpose }) => transactions.status(purpose)?.hash)).toEqual(hashes);
});

test("a nonce whose transaction was someone else's and is gone is filled, so that ours can be mined", async () => {
  await chain.rpc('evm_setAutomine', false);
  // About a block that stays.
  const request = await registration();
  const outside = await new Wallet(to0x(key)).signTransaction({
    type: 2,
    chainId: network.domain.chainId,
    nonce: 0,
    to: addressOf(key),
    gasLimit: 21_000,
    maxFeePerGas: 10_000_000_000n,
    maxPriorityFeePerGas: 1_000_000_000n,
  });
  await chain.rpc('eth_sendRawTransaction', outside);
  await chain.mine(1);
  const transactions = start({ bumpAfter: 500 });
  transactions.submit(request);
  await until('signed', () => transactions.status(request.purpose)?.state === 'sent');
  await dropBlocks(1);
  await chain.mine(4);
  // It may yet come back: nothing is done at once.
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(transactions.open()).toHaveLength(1);
  await until('filled', async () => {
    await chain.mine(2);
    return (await nonceOf()) === 2;
  });
  await until('done', () => transactions.open().length === 0);
  expect(transactions.status(request.purpose)?.state).toBe('final');
  expect(transactions.status('fill:0')?.state).toBe('final');
});

test('an endpoint that said a nonce far too high costs nothing but time', async () => {
  class High extends Rpc {
    lie = 500;
    override async nonce(address: string): Promise<number> {
      return (await super.nonce(address)) + this.lie;
    }
  }
  const { chainId } = network.domain;
  const rpc = new High({ url: anvil.url, chainId, contract: network.address });
  const transactions = start({}, rpc);
  const request = await registration();
  transactions.submit(request);
  await until('signed', () => transactions.status(request.purpose)?.state === 'sent');
  rpc.lie = 0;
  await until('final', async () => {
    await chain.mine(2);
    return transactions.status(request.purpose)?.state === 'final';
  });
  expect(await nonceOf()).toBe(1);
  expect(said).toContainEqual(expect.stringContaining("a nonce far above the chain's"));
});

test('what the endpoint itself suffers from is not taken for a revert: nothing is given up', async () => {
  let broken = true;
  class Limited extends Rpc {
    override async estimateGas(transaction: { from: string; to: string; data: string }): Promise<bigint> {
      if (broken) throw new RpcRefusal('x', 'header not found', undefined);
      return super.estimateGas(transaction);
    }
  }
  const { chainId } = network.domain;
  let ahead = 0;
  const now = () => Date.now() + ahead;
  const transactions = start({ now }, new Limited({ url: anvil.url, chainId, contract: network.address }));
  const request = await registration();
  transactions.submit(request);
  for (let tries = 0; tries < 8; tries += 1) {
    ahead += 60_000;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  expect(transactions.status(request.purpose)?.state).toBe('queued');
  broken = false;
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
});

test('what was given up unsent is tried again when it is still wanted', async () => {
  let ahead = 0;
  const transactions = start({ now: () => 1_000_000 + ahead });
  const request = await network.requestArgs();
  const purpose = `onboard:${request.hash}`;
  const wanted = { purpose, to: network.address, data: encodeOnboard(network.onboardArgs(request)) };
  transactions.submit(wanted);
  await until('failed', () => {
    ahead += 1_000;
    return transactions.status(purpose)?.state === 'failed';
  });
  await network.asStranger(encodeRegister(request.args));
  // Not at once: whoever asks for it may do so many times a second.
  transactions.submit(wanted);
  expect(transactions.status(purpose)?.state).toBe('failed');
  ahead += 60_000;
  transactions.submit(wanted);
  await until('final', () => {
    // A chain that stands still is looked at again by the clock.
    ahead += 10;
    return transactions.status(purpose)?.state === 'final';
  });
  expect(await nonceOf()).toBe(1);
});

test('a base fee that rises above the ceiling after sending is said, and it goes through when the fee falls', async () => {
  await chain.rpc('evm_setAutomine', false);
  const transactions = start({ bumpAfter: 50, maxFee: 8_000_000_000n });
  const request = await registration();
  transactions.submit(request);
  await until('sent', async () => (await pool()).length === 1);
  await chain.rpc('anvil_setNextBlockBaseFeePerGas', '0x2540be400');
  await chain.mine(1);
  expect(await nonceOf()).toBe(0);
  await until('said', () => transactions.status(request.purpose)?.code === 'TX_FEE_CEILING');
  await chain.rpc('anvil_setNextBlockBaseFeePerGas', '0x3b9aca00');
  await until('final', async () => {
    await chain.mine(1);
    return transactions.status(request.purpose)?.state === 'final';
  });
  expect(await nonceOf()).toBe(1);
});

test('what the pool evicts is sent again, as it was', async () => {
  await chain.rpc('evm_setAutomine', false);
  let ahead = 0;
  const transactions = start({ bumpAfter: 60_000, now: () => Date.now() + ahead });
  const request = await registration();
  transactions.submit(request);
  await until('sent', async () => (await pool()).length === 1);
  const [{ hash }] = (await pool()) as [Pooled];
  await chain.rpc('anvil_dropTransaction', hash);
  expect(await pool()).toEqual([]);
  ahead = 20_000;
  await until('again', async () => (await pool())[0]?.hash === hash);
  await chain.mine(1);
  await until('final', () => transactions.status(request.purpose)?.state === 'final');
});

test('a key that is none is refused without being quoted', () => {
  const bad = `0x${'00'.repeat(32)}`;
  expect(() => start({ privateKey: bad })).toThrowError(
    expect.objectContaining({ code: 'GAS_KEY', message: expect.not.stringContaining(bad) }),
  );
});
