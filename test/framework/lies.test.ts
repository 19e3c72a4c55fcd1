/** A host that lies to the enclave and to the contract: events doubled, reordered, altered and made up; answers altered, repeated, for elsewhere. */

import { join } from 'node:path';
import { Interface } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileApp } from '../../cli/dev/compile.ts';
import { Refused } from '../../contracts/local-chain.ts';
import { chainClient } from '../../lib/chain/chain-client.ts';
import {
  type AppRequest,
  type Attested,
  AttestedSchema,
  decodeRequested,
  hashOf,
  hashOfRequest,
  kindWord,
  REQUESTED,
  settleCall,
} from '../../lib/framework/app/answer.ts';
import { verifyExistence } from '../../lib/framework/app/existence.ts';
import { EvmChain } from '../../lib/framework/host/chain-client.ts';
import { enclaveAt } from '../../lib/framework/host/enclave-client.ts';
import { openStore } from '../../lib/framework/store.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Hex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { check } from '../../lib/protocol/schema.ts';
import { keccak256, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { eventually } from '../support/network.ts';
import { type PingPong, startPingPong, TEMPLATE } from './support/app.ts';

let app: PingPong;
let abi: Interface;
beforeAll(async () => {
  app = await startPingPong();
  abi = new Interface(compileApp(join(TEMPLATE, 'contracts'), 'App.sol').abi as never);
  app.start('enclave');
  for (const text of ['one', 'two', 'three']) await app.ping(text);
  await eventually(
    async () => (await refusal(request(1))) !== 'ENCLAVE_UNREACHABLE',
    'the enclave to listen',
  );
  const logs = await app.chain.rpc<{ topics: string[]; data: string }[]>('eth_getLogs', {
    ...{ address: app.contract, fromBlock: '0x0', topics: [REQUESTED] },
  });
  requests.push(...logs.map((log) => decodeRequested(log as never)));
});
afterAll(async () => {
  await app?.stop();
});

const requests: AppRequest[] = [];
/** The answers by which requests were settled. */
const answers: Attested[] = [];

/** Each test runs by itself too. */
async function settledTo(count: number): Promise<void> {
  for (;;) {
    const { settled } = await app.progress();
    if (settled >= count) return;
    const answer = await ask(request(settled + 1));
    expect(await settle(answer)).toBe('settled');
    answers[settled + 1] = answer;
  }
}
const request = (sequence: number): AppRequest =>
  requests[sequence - 1] ?? {
    sequence,
    kind: kindWord('ping'),
    sender: parseAddress(app.network.owner),
    data: parseHex('0x'),
  };

async function ask(asked: AppRequest): Promise<Attested> {
  return check(
    AttestedSchema,
    await enclaveAt(app.enclaveUrl).request('/v1/answer', { request: asked }),
    'X',
    'x',
  );
}
const refusal = (asked: AppRequest): Promise<string> =>
  ask(asked).then(
    () => 'answered',
    (error) => codeOf(error),
  );

/** The contract's error; `settled` if there is none. */
async function settle(answer: Attested, contract = app.contract): Promise<string> {
  try {
    await app.chain.send(app.network.owner, contract, settleCall(answer));
    return 'settled';
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return abi.parseError(error.message.replace('refused with ', ''))?.name ?? error.message;
  }
}

const other = (text: string): Hex => to0x(keccak256(new TextEncoder().encode(text)));

test('the enclave answers the request that is next on chain, and no other', async () => {
  expect(await refusal(request(2))).toBe('REQUEST_AHEAD');
  expect(await refusal({ ...request(2), sequence: 1 })).toBe('REQUEST_NOT_ON_CHAIN');
  expect(await refusal({ ...request(1), data: request(2).data })).toBe('REQUEST_NOT_ON_CHAIN');
  expect(await refusal({ ...request(1), sender: parseAddress(app.contract) })).toBe('REQUEST_NOT_ON_CHAIN');
  expect(await refusal({ ...request(1), kind: kindWord('pong') })).toBe('REQUEST_NOT_ON_CHAIN');
  expect(await refusal({ ...request(1), sequence: 9 })).toBe('REQUEST_AHEAD');
  expect(await refusal({ ...request(1), sequence: -1 })).toBe('BAD_REQUEST');
});

test('asked twice at once, it says the same, and the contract takes one of them', async () => {
  const [one, again] = await Promise.all([ask(request(1)), ask(request(1))]);
  expect(again).toEqual(one);
  answers[1] = one;
  expect(await settle(one)).toBe('settled');
  expect(await settle(again)).toBe('OutOfOrder');
  expect(await refusal(request(1))).toBe('REQUEST_SETTLED');
});

test('the contract takes an answer as the enclave gave it, for the next request, and for itself', async () => {
  await settledTo(1);
  const answer = await ask(request(2));
  const third = { ...request(3), dataHash: hashOf(request(3).data) };
  for (const [change, error] of [
    [{ sequence: 3 }, 'OutOfOrder'],
    [{ sequence: 1 }, 'OutOfOrder'],
    [{ kind: kindWord('pong') }, 'AnotherRequest'],
    [{ sender: parseAddress(app.contract) }, 'AnotherRequest'],
    [{ dataHash: third.dataHash }, 'AnotherRequest'],
    [{ blockNumber: answer.blockNumber - 1 }, 'BlockUnknown'],
    [{ blockHash: other('block') }, 'BlockUnknown'],
    [{ code: 'TOO_LONG' }, 'NotAttested'],
    [{ response: parseHex('0x00') }, 'NotAttested'],
    [{ signature: `1b${'11'.repeat(64)}` }, 'NotAttested'],
  ] as const)
    expect(await settle({ ...answer, ...(change as Partial<Attested>) }), Object.keys(change)[0]).toBe(error);
  // Another contract of the same app and code, with the same request.
  const { bytecode } = compileApp(join(TEMPLATE, 'contracts'), 'App.sol');
  const network = app.network.contract.slice(2).toLowerCase().padStart(64, '0');
  const id = Buffer.from('ping-pong').toString('hex').padEnd(64, '0');
  const deployed = await app.chain.send(app.network.owner, undefined, `${bytecode}${network}${id}`);
  const twin = parseAddress(deployed.contractAddress);
  for (const text of ['one', 'two'])
    await app.chain.send(app.network.owner, twin, abi.encodeFunctionData('ping', [text]));
  expect(hashOfRequest(request(1))).toBe(await requestHash(twin, 1));
  expect(await settle(answers[1]!, twin)).toBe('NotAttested');
  expect(await settle(answer)).toBe('settled');
});

const requestHash = (contract: string, sequence: number): Promise<string> =>
  app.chain.call(contract, abi.encodeFunctionData('requestHash', [sequence]));

test('an answer is of no use once its block is older than the last 256', async () => {
  await settledTo(2);
  const answer = await ask(request(3));
  await app.chain.mine(257);
  expect(await settle(answer)).toBe('BlockUnknown');
  expect(await settle(await ask(request(3)))).toBe('settled');
});

test('a request with more data than is read is not made', async () => {
  const text = 'x'.repeat(17 * 1024);
  const asked = app.chain.send(app.network.owner, app.contract, abi.encodeFunctionData('ping', [text]));
  await expect(asked).rejects.toThrow(abi.getError('DataTooLong')!.selector);
});

test('what a host proves of storage holds for that block and contract, and nothing else', async () => {
  const { network, contract, anvil } = app;
  const chain = new EvmChain({
    url: anvil.url,
    chainId: network.chainId,
    privateKey: to0x(newPrivateKey()),
    store: openStore(':memory:'),
    log: { info: () => {}, warn: () => {} },
  });
  const { chainId } = network;
  const reader = chainClient({
    config: { chainId, endpoints: [anvil.url], quorum: 1, confirmation: { depth: 0 } },
  });
  let hasWaited = false;
  const waiting = chain.waitForBlocks(2).then(() => {
    hasWaited = true;
  });
  await eventually(async () => {
    await app.chain.mine(1);
    return hasWaited;
  }, 'two more blocks to be seen');
  await waiting;
  const head = await chain.head();
  const slot = parseHex(`0x${'00'.repeat(32)}`);
  const empty = parseHex(`0x${'00'.repeat(31)}77`);
  const proof = await chain.existenceProof(contract, [slot, empty], head.number);
  const { block, words } = await verifyExistence(proof, contract, reader);
  expect(block).toBe(head.number);
  expect(words.get(slot)).toBe(await app.chain.rpc('eth_getStorageAt', contract, slot, 'latest'));
  expect(words.get(slot)).not.toMatch(/^0x0*$/);
  expect(words.get(empty)).toMatch(/^0x0{64}$/);
  const code = (changed: typeof proof, of = contract): Promise<string> =>
    verifyExistence(changed, of, reader).then(() => 'proven', codeOf);
  expect(
    await code({ ...proof, header: parseHex(proof.header.replace(/.$/, (d) => (d === '0' ? '1' : '0'))) }),
  ).toBe('PROOF_INVALID');
  expect(await code({ ...proof, account: proof.account.slice(0, -1) })).toBe('PROOF_INVALID');
  const [first] = proof.storage;
  expect(
    await code({ ...proof, storage: [{ ...first!, slot: parseHex(`0x${'00'.repeat(31)}01`) }] }),
  ).not.toBe('INTERNAL');
  for (let at = 0; at < first!.proof.length; at += 1) {
    const nodes = first!.proof.map((node, index) =>
      index === at ? parseHex(node.replace(/..$/, '7f')) : node,
    );
    expect(await code({ ...proof, storage: [{ ...first!, proof: nodes }] })).toBe('PROOF_INVALID');
  }
});
