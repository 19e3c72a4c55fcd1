/** An app's contract among contracts that are not its author's: what it calls, who settles with too little gas, and what a network says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Interface } from 'ethers';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { compileApp } from '../../cli/dev/compile.ts';
import { Chain, Refused } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { type Attested, hashOf, kindWord, settleCall } from '../../lib/framework/app/answer.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';

/** A network that takes every answer, so that what is tried here needs no enclave. */
const SOURCE = `
pragma solidity ^0.8.24;
import {EnclaveApp, IAttestations} from "dstack/contracts/EnclaveApp.sol";

contract Network is IAttestations {
    function verifyAttestation(bytes32, string calldata, bytes calldata, uint8, bytes32, bytes32) external pure returns (bool) {
        return true;
    }
}

contract Callee {
    bytes public next;
    bool public refused;
    mapping(uint256 => uint256) public told;
    uint256 public times;

    function prepare(bytes calldata next_) external { next = next_; }

    function tell() external {
        if (next.length > 0) {
            (bool settled,) = msg.sender.call(next);
            refused = !settled;
        }
        for (uint256 i = 0; i < 20; i++) told[++times] = 1;
    }
}

contract Calling is EnclaveApp {
    event Begun(uint64 sequence);
    event Ended(uint64 sequence, bool reached);
    Callee public immutable callee = new Callee();

    constructor() EnclaveApp(new Network(), "app") {}
    function ask() external { _request("ask", ""); }
    function _gasFor(bytes32) internal pure override returns (uint256) { return 600000; }
    function _answered(uint64 sequence, bytes32, address, bytes calldata) internal override {
        emit Begun(sequence);
        try callee.tell() { emit Ended(sequence, true); } catch { emit Ended(sequence, false); }
    }
    function _refused(uint64, bytes32, address, bytes32) internal override {}
}
`;

const folder = mkdtempSync(join(tmpdir(), 'dstack-calling-'));
let anvil: Anvil;
let chain: Chain;
let owner: string;
let contract: string;
let abi: Interface;
let code: string;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  [owner = ''] = await chain.accounts();
  writeFileSync(join(folder, 'Calling.sol'), SOURCE);
  const { abi: interfaces, bytecode } = compileApp(folder, 'Calling.sol');
  abi = new Interface(interfaces as never);
  code = bytecode;
});
beforeEach(async () => {
  contract = (await chain.send(owner, undefined, code)).contractAddress;
});
afterAll(async () => {
  await anvil?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const ask = () => chain.send(owner, contract, abi.encodeFunctionData('ask'));

async function answerTo(sequence: number): Promise<string> {
  const { number, hash } = await chain.head();
  const answer: Attested = {
    sequence,
    kind: kindWord('ask'),
    sender: parseAddress(owner),
    dataHash: hashOf(parseHex('0x')),
    blockNumber: number,
    blockHash: parseHex(`0x${Buffer.from(hash).toString('hex')}`),
    code: '',
    response: parseHex('0x'),
    signature: `1b${'11'.repeat(64)}` as Attested['signature'],
  };
  return settleCall(answer);
}

/** What the app said, in its order. */
async function events(): Promise<string[]> {
  const logs = await chain.rpc<{ topics: string[]; data: string }[]>('eth_getLogs', {
    ...{ address: contract, fromBlock: '0x0', toBlock: 'latest' },
  });
  return logs.flatMap((log) => {
    const { name, args } = abi.parseLog(log)!;
    return name === 'Begun' || name === 'Ended' ? [`${name} ${args.join(' ')}`] : [];
  });
}

test('what an app calls can not settle the next request in the middle of the one before', async () => {
  await ask();
  await ask();
  const first = await answerTo(1);
  const callee = `0x${(await chain.call(contract, abi.encodeFunctionData('callee'))).slice(-40)}`;
  const its = new Interface(['function prepare(bytes)', 'function refused() view returns (bool)']);
  await chain.send(owner, callee, its.encodeFunctionData('prepare', [await answerTo(2)]));
  await chain.send(owner, contract, first);
  expect(Number(await chain.call(callee, its.encodeFunctionData('refused')))).toBe(1);
  expect(await events()).toEqual(['Begun 1', 'Ended 1 true']);
  await chain.send(owner, callee, its.encodeFunctionData('prepare', ['0x']));
  await chain.send(owner, contract, await answerTo(2));
  expect((await events()).slice(2)).toEqual(['Begun 2', 'Ended 2 true']);
});

test('whoever settles can not choose so little gas that a call of the app fails, nor does an estimate', async () => {
  await ask();
  const data = await answerTo(1);
  await chain.mine(1);
  const attempts: string[] = [];
  for (const gas of [200_000, 300_000, 400_000, 500_000]) {
    const call = { from: owner, to: contract, data, gas: `0x${gas.toString(16)}` };
    attempts.push(
      await chain.rpc('eth_call', call, 'latest').then(
        () => 'settled',
        (error: Error) => error.message,
      ),
    );
  }
  for (const attempt of attempts) expect(attempt).not.toBe('settled');
  const gas = await chain.rpc<string>('eth_estimateGas', { from: owner, to: contract, data });
  await chain.rpc('eth_sendTransactionSync', { from: owner, to: contract, data, gas });
  expect(await events()).toEqual(['Begun 1', 'Ended 1 true']);
});

test('a network without an answer settles nothing', async () => {
  const { bytecode } = compileApp(
    join(import.meta.dirname, '../../templates/ping-pong/contracts'),
    'App.sol',
  );
  const nobody = owner.slice(2).padStart(64, '0');
  const app = await chain.send(owner, undefined, `${bytecode}${nobody}${''.padEnd(64, '0')}`);
  const ping = new Interface(['function ping(string)']).encodeFunctionData('ping', ['x']);
  await chain.send(owner, app.contractAddress, ping);
  await expect(chain.send(owner, app.contractAddress, await answerTo(1))).rejects.toBeInstanceOf(Refused);
});
