/** Where messages are left: by whom, how it is found, and that nobody fills a block with events for next to nothing. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { codeOf } from '../lib/protocol/errors.ts';
import { chainHex, parseHex } from '../lib/protocol/hex.ts';
import {
  decodePublish,
  encodePublish,
  publicationsAddress,
  publicationsDeployer,
  publicationsDeployment,
  publicationsRuntimeBytecode,
  publishedTopic,
} from '../lib/protocol/publications-contract.ts';
import { Chain, Refused } from './local-chain.ts';
import { type Anvil, startAnvil } from './local-node.ts';

let anvil: Anvil;
let chain: Chain;
let from: string;
beforeAll(async () => {
  anvil = await startAnvil({ args: ['--hardfork', 'prague'] });
  chain = new Chain(anvil.url);
  from = (await chain.accounts())[1]!;
  await chain.send(from, publicationsDeployer, publicationsDeployment);
});
afterAll(() => anvil.stop());

const subject = chainHex(parseHex('ab'.repeat(32)));
const message = chainHex(parseHex('0102ff'));
const data = encodePublish({ subject, message });

const logsNow = () =>
  chain.rpc<{ topics: string[]; data: string; transactionHash: string }[]>('eth_getLogs', {
    address: publicationsAddress,
    fromBlock: 'latest',
    toBlock: 'latest',
  });

test('whoever deploys it, it is at its address, with its code; a second time nothing happens', async () => {
  expect(await chain.rpc('eth_getCode', publicationsAddress, 'latest')).toBe(publicationsRuntimeBytecode);
  await expect(chain.send(from, publicationsDeployer, publicationsDeployment)).rejects.toThrow(Refused);
});

test('a message is found by its subject, and read from the calldata: the event has none of it', async () => {
  await chain.send(from, publicationsAddress, data);
  const [log] = await logsNow();
  expect(log).toMatchObject({
    topics: [publishedTopic, subject, `0x${'00'.repeat(12)}${from.slice(2).toLowerCase()}`],
    data: '0x',
  });
  const { input } = await chain.rpc<{ input: string }>('eth_getTransactionByHash', log!.transactionHash);
  expect(decodePublish(input)).toEqual({ subject, message });
});

test('other calldata, a byte more or less, is none', () => {
  const codes = [
    `${data}00`,
    data.slice(0, -2),
    `0x70a74533${data.slice(10)}`,
    '0x',
    data.replace('40', '60'),
  ].map((text) => {
    try {
      return decodePublish(text);
    } catch (error) {
      return codeOf(error);
    }
  });
  expect(new Set(codes)).toEqual(new Set(['CONTRACT_DATA_INVALID']));
});

test('no contract publishes, nor an account that has delegated to one', async () => {
  const [caller, other] = [`0x${'c0'.repeat(20)}`, `0x${'c1'.repeat(20)}`];
  await chain.rpc('anvil_setCode', caller, forwarding(publicationsAddress));
  // That a refusal is the contract's own.
  await chain.rpc('anvil_setCode', other, forwarding(from));
  const call = (to: string) => chain.rpc<string>('eth_call', { from, to, data }, 'latest');
  expect(BigInt(await call(other))).toBe(1n);
  expect(BigInt(await call(caller))).toBe(0n);
  expect(await call(publicationsAddress)).toBe('0x');
  // EIP-7702: the account's code names the contract, and runs as the account itself.
  await chain.rpc('anvil_setCode', from, `0xef0100${caller.slice(2)}`);
  expect(BigInt(await call(from))).toBe(0n);
  await chain.rpc('anvil_setCode', from, '0x');
});

/** Code that calls an address with its own calldata, and returns whether that was refused (0) or not (1). */
const forwarding = (to: string): string =>
  `0x365f5f375f5f365f5f73${to.slice(2).toLowerCase()}5af15f5260205ff3`;
