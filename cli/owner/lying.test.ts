/**
 * Every owner's command in front of endpoints that lie, each lie alone and all of them together. What must come out: the truth
 * where honest ones have the quorum, a refusal by its code where they have not; and of everything that was signed, every part
 * had been shown.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatEther, getCreateAddress, Interface, Transaction } from 'ethers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { networkBytecode, networkRuntimeBytecode } from '../../contracts/bindings.ts';
import { appId, TestNetwork, value } from '../../contracts/fixture.ts';
import { networkInterface } from '../../contracts/interface.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { fromHex, to0x } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import {
  decodeFmspcDenied,
  decodeTcbPolicy,
  encodeAllowConfig,
  encodeAllowMeasurement,
  encodeAllowPlatform,
  encodeFmspcDenied,
  encodeRollout,
  encodeSetDeniedFmspc,
  encodeTcbPolicy,
} from '../../lib/protocol/network-contract.ts';
import { readArguments } from '../command.ts';
import { appCommands } from '../commands/app.ts';
import { networkCommands } from '../commands/network.ts';

const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const OWNER = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
const [ONE, TWO, THREE] = ['manifest 1', 'manifest 2', 'manifest 3'].map((name) => to0x(value(name)));
const LISTED = to0x(value('listed'));
const OTHER = to0x(value('other'));
const HOSTILE = '\u001b[2J\u001b]52;c;x\u0007\u009b1A\u202e\r\nok  read back at block 1';

interface Call {
  readonly method: string;
  readonly params: readonly unknown[];
}
type Reply = { result?: unknown; error?: unknown };
/** What an endpoint makes of the chain's answer; `undefined` in place of it when the call is not passed on. */
type Lie = (call: Call, honest: () => Promise<Reply>) => Promise<Reply>;

const honest: Lie = (_, ask) => ask();
const answering = (methods: Record<string, (call: Call, reply: Reply) => unknown>): Lie => {
  return async (call, ask) => {
    const reply = await ask();
    const lie = methods[call.method];
    return lie === undefined ? reply : { result: lie(call, reply) };
  };
};

/** The first question of this kind, after the one for the chain, is not answered; all others are, in truth. */
const failingOnce = (method: string): Lie => {
  let failed = false;
  return async (call, ask) => {
    if (call.method !== method || failed) return ask();
    failed = true;
    return { error: { code: -32000, message: 'try again' } };
  };
};

const header =
  (change: Record<string, string>) =>
  (_: Call, { result }: Reply) => ({ ...(result as object), ...change });
/** A receipt for whatever is asked about, in the first block. */
const receipt = ({ params: [hash] }: Call) => ({
  blockNumber: '0x1',
  blockHash: `0x${'11'.repeat(32)}`,
  status: '0x1',
  gasUsed: '0x5208',
  transactionHash: hash,
  contractAddress: `0x${'ee'.repeat(20)}`,
});

const lies: Record<string, Lie> = {
  fees: answering({
    eth_getBlockByNumber: header({ baseFeePerGas: '0xffffffffffffff' }),
    eth_maxPriorityFeePerGas: () => '0xffffffffffffffff',
    eth_estimateGas: () => '0xffffffff',
  }),
  nonce: answering({ eth_getTransactionCount: () => '0x2a' }),
  receipt: async (call, ask) => {
    if (call.method === 'eth_sendRawTransaction') return { result: `0x${'22'.repeat(32)}` };
    return call.method === 'eth_getTransactionReceipt' ? { result: receipt(call) } : ask();
  },
  code: answering({ eth_getCode: () => `0x${'00'.repeat((networkRuntimeBytecode.length - 2) / 2)}` }),
  views: answering({ eth_call: () => `0x${'00'.repeat(31)}01${'00'.repeat(31)}01`.padEnd(2 + 64 * 12, '0') }),
  clock: answering({ eth_getBlockByNumber: header({ timestamp: '0x10' }) }),
  'error text': async () => ({ error: { code: 3, message: HOSTILE, data: '0x' } }),
  refusals: answering({}),
};
/** A refusal that is the contract's own, in every question that could be one. */
lies.refusals = async (call, ask) => {
  if (call.method !== 'eth_estimateGas' && call.method !== 'eth_call') return ask();
  const data = networkInterface.encodeErrorResult('AlreadyAllowed', [LISTED, 5n]);
  return { error: { code: 3, message: 'execution reverted', data } };
};
const all: Lie = async (call, ask) => {
  for (const [name, lie] of Object.entries(lies)) {
    if (name === 'error text' || name === 'refusals') continue;
    const before = await ask();
    const after = await lie(call, () => Promise.resolve(before));
    if (JSON.stringify(after) !== JSON.stringify(before)) return after;
  }
  return ask();
};

let anvil: Anvil;
let chain: Chain;
let network: TestNetwork;
let folder: string;
let snapshot: string;
const servers: Server[] = [];
/** Everything that any endpoint was given to send. */
let sent: Transaction[] = [];

beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  folder = mkdtempSync(join(tmpdir(), 'lying-test-'));
  writeFileSync(join(folder, 'owner.key'), OWNER_KEY, { mode: 0o600 });
  network = await TestNetwork.deploy(chain);
  await network.asOwner(encodeAllowMeasurement({ measurement: LISTED }));
  await network.asOwner(encodeAllowConfig({ config: LISTED }));
  await network.asOwner(encodeAllowPlatform({ platform: LISTED }));
  await network.asOwner(encodeSetDeniedFmspc({ fmspc: '0x00906ed50000', denied: true }));
  for (const manifestHash of [ONE!, TWO!]) {
    await network.asOwner(encodeRollout({ app: appId('web'), manifestHash }));
  }
});
afterAll(async () => {
  await anvil?.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  snapshot = await chain.rpc('evm_snapshot');
  sent = [];
});
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  vi.restoreAllMocks();
  await chain.rpc('evm_revert', snapshot);
});

async function endpoint(lie: Lie): Promise<string> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method, params, id } = JSON.parse(Buffer.concat(chunks).toString()) as Call & { id: number };
    if (method === 'eth_sendRawTransaction') sent.push(Transaction.from(params[0] as string));
    const ask = async () => {
      const body = JSON.stringify({ jsonrpc: '2.0', id, method, params });
      const answer = await fetch(anvil.url, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json' },
      });
      const { result, error } = (await answer.json()) as Reply;
      return error === undefined ? { result } : { error };
    };
    response.end(JSON.stringify({ jsonrpc: '2.0', id, ...(await lie({ method, params }, ask)) }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Outcome {
  readonly code: string;
  readonly printed: string;
  readonly message: string;
}

/** Runs one command; its code is `done` when it succeeded. */
async function run(words: readonly string[], urls: readonly string[], ...more: string[]): Promise<Outcome> {
  const name = words.slice(0, 2).join(' ');
  const command = [...networkCommands, ...appCommands].find((it) => it.name === name)!;
  const options = [
    ...urls.flatMap((url) => ['--rpc', url]),
    ...(more.includes('--chain-id') ? [] : ['--chain-id', '31337']),
    ...(name === 'network deploy' || more.includes('--contract') ? [] : ['--contract', network.address]),
    ...(name === 'network status' ? [] : ['--owner-key', join(folder, 'owner.key'), '--yes']),
    ...more,
  ];
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    await command.run(readArguments(command, [...options, ...words.slice(2)]));
    return { code: 'done', printed: textOf(write.mock.calls), message: '' };
  } catch (error) {
    return { code: codeOf(error), printed: textOf(write.mock.calls), message: (error as Error).message };
  } finally {
    write.mockRestore();
  }
}
const textOf = (calls: readonly (readonly unknown[])[]): string =>
  calls.map(([text]) => String(text)).join('');

/** Of each transaction that left this machine every part was shown, in characters that can be seen. */
function everythingWasShown({ printed }: Outcome): void {
  expect(printed.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  for (const { chainId, nonce, to, data, value: wei, gasLimit, maxFeePerGas, type, accessList } of sent) {
    expect([chainId, wei, type, accessList]).toEqual([31337n, 0n, 2, []]);
    expect(printed).toContain('(chain id 31337)');
    expect(printed).toContain(`${OWNER}, nonce ${nonce}`);
    expect(printed).toContain(`at most ${formatEther(gasLimit * maxFeePerGas!)} ETH`);
    expect(maxFeePerGas!).toBeLessThanOrEqual(100_000_000_000n);
    if (to === null) {
      expect(data.startsWith(networkBytecode)).toBe(true);
      const args = new Interface(['constructor(address,uint32,uint32)']).deploy;
      for (const part of args.inputs.length === 3
        ? data.slice(networkBytecode.length).match(/.{64}/g)!
        : []) {
        const number = BigInt(`0x${part}`);
        expect(printed).toMatch(
          number > 2n ** 64n ? new RegExp(part.slice(24), 'i') : new RegExp(`= ${number} `),
        );
      }
      continue;
    }
    expect(to.toLowerCase()).toBe(network.address.toLowerCase());
    const parsed = networkInterface.parseTransaction({ data })!;
    expect(printed).toContain(parsed.signature);
    for (const argument of parsed.args) expect(printed).toContain(`= ${argument}`);
  }
}

async function isAllowed(of: string, kind: 'measurement' | 'config' | 'platform'): Promise<boolean> {
  return (await network.allowed({ [kind]: fromHex(of) }))[`${kind}Allowed`];
}

/** What is done, and what the chain must show when it was: none of it is told by an endpoint that lies. */
const commands: [string[], (printed: string) => Promise<unknown>, unknown][] = [
  [
    ['network', 'deploy', '--delay', '60'],
    async (printed) => {
      const nonce = Number(await chain.rpc('eth_getTransactionCount', OWNER, 'latest')) - 1;
      const at = getCreateAddress({ from: OWNER, nonce });
      return [
        printed.includes(`\ncontract ${at}\n`),
        ((await chain.rpc('eth_getCode', at, 'latest')) as string).length,
      ];
    },
    [true, networkRuntimeBytecode.length],
  ],
  [['network', 'allow', 'measurement', OTHER], () => isAllowed(OTHER, 'measurement'), true],
  [['network', 'allow', 'config', OTHER], () => isAllowed(OTHER, 'config'), true],
  [['network', 'allow', 'platform', OTHER], () => isAllowed(OTHER, 'platform'), true],
  [['network', 'allow', 'platform', 'any'], () => isAllowed(OTHER, 'platform'), true],
  [['network', 'revoke', 'measurement', LISTED], () => isAllowed(LISTED, 'measurement'), false],
  [['network', 'revoke', 'config', LISTED], () => isAllowed(LISTED, 'config'), false],
  [['network', 'revoke', 'platform', LISTED], () => isAllowed(LISTED, 'platform'), false],
  [
    ['network', 'tcb', 'minimum', '17'],
    async () => (await network.read(encodeTcbPolicy(), decodeTcbPolicy)).minimumTcbEvaluationDataNumber,
    17,
  ],
  [
    ['network', 'tcb', 'allow', '00906ed50000'],
    () => network.read(encodeFmspcDenied({ fmspc: '0x00906ed50000' }), decodeFmspcDenied),
    false,
  ],
  [['app', 'rollout', 'web', THREE!], async () => (await network.app('web')).latest, THREE],
  [['app', 'rollback', 'web'], async () => (await network.app('web')).manifestHash, ONE],
  [['app', 'withdraw', 'web'], async () => (await network.app('web')).manifestHash, `0x${'00'.repeat(32)}`],
];

describe.each([...Object.entries(lies), ['all of these together', all] as [string, Lie]])(
  'one of three lies: %s',
  (_, lie) => {
    test.each(commands)('%j is done in truth, as it was shown', async (words, look, expected) => {
      const urls = [await endpoint(lie), await endpoint(honest), await endpoint(honest)];
      const outcome = await run(words, urls);
      expect([outcome.code, outcome.message]).toEqual(['done', '']);
      expect(await look(outcome.printed)).toEqual(expected);
      expect(sent.length).toBeGreaterThan(0);
      everythingWasShown(outcome);
    });
  },
);

describe('endpoints that lie have the quorum', () => {
  const everywhere = async (lie: Lie) => Promise.all([lie, lie, honest].map(endpoint));

  test.each(commands)("%j: by another chain's id, even one of three: nothing is signed", async (words) => {
    const other = answering({ eth_chainId: () => '0x1' });
    for (const set of [[other, honest, honest], [honest, other, other], [other]]) {
      const outcome = await run(words, await Promise.all(set.map(endpoint)));
      expect([outcome.code, sent]).toEqual(['RPC_WRONG_CHAIN', []]);
    }
  });

  test.each<[string, string | RegExp]>([
    ['fees', 'TX_GAS'],
    ['code', /^(NOT_READ_BACK|done)$/],
    ['views', 'NETWORK_MISSING'],
    ['error text', 'CHAIN_UNREACHABLE'],
    ['refusals', /^(CONTRACT_REFUSED|NETWORK_MISSING|CHAIN_UNREACHABLE)$/],
  ])('%s: refused, and what was signed was shown', async (name, code) => {
    const outcome = await run(['network', 'revoke', 'measurement', LISTED], await everywhere(lies[name]!));
    expect(outcome.code).toMatch(code);
    if (outcome.code === 'done') expect(outcome.printed).toContain("WITH OTHER CODE THAN THIS RELEASE'S");
    else expect(sent).toEqual([]);
    everythingWasShown(outcome);
  });

  test("the fee alone: above the owner's ceiling nothing is signed", async () => {
    const urls = await Promise.all(
      [1, 2, 3].map(() =>
        endpoint(answering({ eth_getBlockByNumber: header({ baseFeePerGas: '0xffffffffffffff' }) })),
      ),
    );
    const outcome = await run(['network', 'deploy'], urls);
    expect([outcome.code, sent]).toEqual(['TX_FEE_CEILING', []]);
  });

  test('a receipt for a revocation that never was: the state tells', async () => {
    const urls = await Promise.all([lies.receipt!, lies.receipt!, lies.receipt!].map(endpoint));
    const outcome = await run(['network', 'revoke', 'measurement', LISTED], urls);
    expect(outcome.code).toBe('NOT_READ_BACK');
    expect(outcome.printed).not.toContain('is not allowed');
    expect(await isAllowed(LISTED, 'measurement')).toBe(true);
    everythingWasShown(outcome);
  });

  test('a receipt that names a look-alike contract: the address is computed, and there is nothing', async () => {
    const urls = await Promise.all([lies.receipt!, lies.receipt!].map(endpoint));
    const outcome = await run(['network', 'deploy'], urls);
    expect(outcome.code).toBe('NOT_READ_BACK');
    expect(outcome.printed).not.toContain('ee'.repeat(20));
    expect(outcome.printed).not.toMatch(/^contract /m);
  });
});

describe('a deployment', () => {
  test('a deployment whose code a quorum says is another is not taken for ours', async () => {
    const other = answering({ eth_getCode: () => networkRuntimeBytecode.replace('6080', '6081') });
    const outcome = await run(['network', 'deploy'], await Promise.all([other, other, honest].map(endpoint)));
    expect(outcome.code).toBe('NOT_READ_BACK');
    expect(outcome.message).toContain("other code than this release's");
    expect(outcome.printed).not.toMatch(/^contract /m);
  });
});

describe('what one endpoint says of the state', () => {
  const refusing: Lie = (call, ask) =>
    call.method === 'eth_estimateGas' ? lies.refusals!(call, ask) : ask();
  test.each<[string, Lie]>([
    // Lower than the chain's: what is signed with it is refused at once, by every endpoint.
    ['nonce', answering({ eth_getTransactionCount: () => '0x0' })],
    ['balance', answering({ eth_getBalance: () => '0x1' })],
    ['code', lies.code!],
    ['refusal', refusing],
  ])('what one endpoint says of its %s, against one other, is no ground to sign', async (_, lie) => {
    const urls = [await endpoint(lie), await endpoint(honest)];
    const outcome = await run(['network', 'revoke', 'measurement', LISTED], urls);
    expect([outcome.code, sent]).toEqual(['CHAIN_DISAGREES', []]);
  });

  test('a false ALREADY_ROLLED_OUT is outvoted, and of two that differ neither counts', async () => {
    const claims = answering({
      eth_call: ({ params: [call] }, { result }) =>
        (call as { data: string }).data.startsWith(networkInterface.getFunction('appOf')!.selector)
          ? (result as string).replaceAll(TWO!.slice(2), THREE!.slice(2))
          : result,
    });
    const rollout = ['app', 'rollout', 'web', THREE!];
    const two = await run(rollout, [await endpoint(claims), await endpoint(honest)]);
    expect([two.code, sent]).toEqual(['CHAIN_DISAGREES', []]);
    const three = await run(rollout, [
      await endpoint(claims),
      await endpoint(honest),
      await endpoint(honest),
    ]);
    expect(three.code).toBe('done');
    expect((await network.app('web')).latest).toBe(THREE);
  });

  test("the status too is a quorum's", async () => {
    const honestly = await run(['network', 'status'], [await endpoint(honest)]);
    const urls = [await endpoint(lies.views!), await endpoint(honest), await endpoint(honest)];
    const outcome = await run(['network', 'status'], urls);
    const withoutSources = ({ printed }: Outcome) => printed.replace(/, by .*/, '');
    expect(withoutSources(outcome)).toBe(withoutSources(honestly));
    const outnumbered = await run(
      ['network', 'status'],
      [await endpoint(lies.views!), await endpoint(honest)],
    );
    expect(outnumbered.code).toMatch(/^(CHAIN_DISAGREES|NETWORK_MISSING)$/);
  });
});

describe('before anything is asked', () => {
  const words = ['network', 'revoke', 'measurement', LISTED];

  test('a single endpoint elsewhere is not believed; one on this machine is', async () => {
    const alone = await run(words, ['http://192.0.2.1:8545']);
    expect([alone.code, alone.message]).toEqual(['ONE_ENDPOINT', expect.stringContaining('--network-json')]);
    expect((await run(words, [await endpoint(honest)])).code).toBe('done');
  });

  test('one endpoint under two spellings is refused: it would be its own quorum', async () => {
    const claims = answering({
      eth_call: ({ params: [call] }, { result }) =>
        (call as { data: string }).data.startsWith(networkInterface.getFunction('appOf')!.selector)
          ? (result as string).replaceAll(TWO!.slice(2), THREE!.slice(2))
          : result,
    });
    const liar = await endpoint(claims);
    const other = await endpoint(honest);
    const file = join(folder, 'twice.json');
    for (const again of [
      `${liar}/`,
      `${liar}/v2?key=1`,
      liar.replace('http:', 'HTTP:'),
      liar.replace('127.0.0.1', 'localhost'),
      liar.replace('http://', 'http://key@'),
    ]) {
      const outcome = await run(['app', 'rollout', 'web', THREE!], [liar, again, other]);
      expect([again, outcome.code, sent]).toEqual([again, 'USAGE', []]);
      if (again.includes('@') || again.startsWith('HTTP')) continue;
      const config = {
        version: 1,
        chainId: 31337,
        contract: network.address,
        confirmation: { depth: 0 },
        endpoints: [liar, again, other],
        quorum: 2,
      };
      writeFileSync(file, JSON.stringify(config));
      for (const command of [
        ['app', 'rollout', 'web', THREE!],
        ['network', 'allow', 'config', file],
      ]) {
        const by = command[0] === 'app' ? ['--network-json', file] : [];
        const asked = command[0] === 'app' ? [] : [other];
        const fromFile = await run(command, asked, ...by);
        expect([again, command, fromFile.code, sent]).toEqual([again, command, 'NETWORK_CONFIG', []]);
      }
    }
    // Default ports, upper case and the dot of a full name: found before anything is asked.
    const spelt = [
      'http://a.example',
      'https://a.example',
      'https://A.EXAMPLE:443/x',
      'http://a.example.:80',
    ];
    for (const again of spelt.slice(1)) {
      expect((await run(words, [spelt[0]!, again])).code).toBe('USAGE');
    }
  });

  test('a chain that calls itself Sepolia and begins otherwise is refused: its transactions would hold there', async () => {
    const renamed = answering({ eth_chainId: () => '0xaa36a7' });
    const outcome = await run(words, [await endpoint(renamed)], '--chain-id', '11155111');
    expect([outcome.code, sent]).toEqual(['CHAIN_OTHER_GENESIS', []]);
  });

  test.each<[string, Lie]>([
    [
      'has none',
      answering({ eth_getBlockByNumber: ({ params: [at] }, { result }) => (at === '0x0' ? null : result) }),
    ],
    ['fails at first', failingOnce('eth_getBlockByNumber')],
  ])('a first block that the endpoint %s is no way round it: nothing is signed', async (_, lie) => {
    const renamed: Lie = (call, ask) =>
      call.method === 'eth_chainId' ? Promise.resolve({ result: '0xaa36a7' }) : lie(call, ask);
    const outcome = await run(['network', 'deploy'], [await endpoint(renamed)], '--chain-id', '11155111');
    expect([outcome.code, sent]).toEqual(['CHAIN_OTHER_GENESIS', []]);
  });

  test('a rehearsal under the id of any public chain that is known here is refused, by every command that signs', async () => {
    for (const id of [1, 10, 56, 97, 100, 137, 8453, 17000, 42161, 84532, 560048, 11155111, 11155420]) {
      const renamed = await endpoint(answering({ eth_chainId: () => `0x${id.toString(16)}` }));
      for (const [command] of id === 1 ? commands : commands.slice(0, 2)) {
        const outcome = await run(command, [renamed], '--chain-id', String(id));
        expect([id, command, outcome.code, sent]).toEqual([id, command, 'CHAIN_OTHER_GENESIS', []]);
      }
    }
  });

  test('under an id of which nothing is known here, the first block is shown before anything is signed', async () => {
    const renamed = await endpoint(answering({ eth_chainId: () => '0x7e4' }));
    const { hash } = await chain.rpc<{ hash: string }>('eth_getBlockByNumber', '0x0', false);
    const outcome = await run(['network', 'deploy'], [renamed], '--chain-id', '2020');
    expect(outcome.printed).toContain('a chain without a name here (chain id 2020)');
    expect(outcome.printed).toContain(
      `begins with block ${hash}; what is signed holds on every chain of this id`,
    );
  });

  test('a mistyped address is refused by its checksum', async () => {
    const typed = `${OWNER.slice(0, -1)}7`;
    const deploy = await run(['network', 'deploy'], [await endpoint(honest)], '--owner', typed);
    const revoke = await run(words, [await endpoint(honest)], '--contract', typed);
    expect([deploy.code, revoke.code, sent]).toEqual(['USAGE', 'USAGE', []]);
  });

  test('an address with no code, or with another contract, is sent nothing', async () => {
    for (const contract of [OWNER, `0x${'00'.repeat(19)}04`]) {
      const outcome = await run(words, [await endpoint(honest)], '--contract', contract);
      expect([outcome.code, sent]).toEqual(['NETWORK_MISSING', []]);
    }
  });

  test('a contract that answers as the network, from another address, is sent nothing', async () => {
    // Passes every call on to the network and gives its answer back: all views are the true ones.
    const passesOn = `0x366000600037600060003660006000${'73'}${network.address.slice(2)}5af13d600060003e156034573d6000f35b3d6000fd`;
    const contract = `0x${'cc'.repeat(20)}`;
    await chain.rpc('anvil_setCode', contract, passesOn);
    expect(await chain.call(contract, encodeTcbPolicy())).toBe(
      await chain.call(network.address, encodeTcbPolicy()),
    );
    const outcome = await run(words, [await endpoint(honest)], '--contract', contract);
    expect([outcome.code, sent]).toEqual(['NETWORK_MISSING', []]);
    expect(outcome.message.toLowerCase()).toContain(`it signs as dstack 1 of ${network.address}`);
  });

  test('without a yes nothing is signed, and what would be was shown', async () => {
    const command = networkCommands.find(({ name }) => name === 'network revoke')!;
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    const key = ['--owner-key', join(folder, 'owner.key'), '--contract', network.address];
    const options = ['--rpc', await endpoint(honest), '--chain-id', '31337', ...key];
    const code = await command.run(readArguments(command, [...options, 'measurement', LISTED])).catch(codeOf);
    const printed = textOf(write.mock.calls);
    write.mockRestore();
    expect([code, sent]).toEqual(['NOT_CONFIRMED', []]);
    expect(printed).toContain(`measurement = ${LISTED}`);
    expect(printed).toContain('no node with this measurement joins any more, at once');
  });

  test('network.json says which chain, which contract, who is asked, and how many must agree', async () => {
    const file = join(folder, 'network.json');
    const config = {
      version: 1,
      chainId: 31337,
      contract: network.address,
      confirmation: { finalized: true },
      endpoints: [await endpoint(lies.views!), await endpoint(honest), await endpoint(honest)],
      quorum: 2,
    };
    writeFileSync(file, JSON.stringify(config));
    const send = [await endpoint(honest)];
    // One that is only given the transaction is asked for its chain too.
    const elsewhere = await endpoint(answering({ eth_chainId: () => '0x1' }));
    for (const others of [[elsewhere], [send[0]!, elsewhere]]) {
      sent = [];
      const outcome = await run(words, others, '--network-json', file);
      expect([outcome.code, sent]).toEqual(['RPC_WRONG_CHAIN', []]);
    }
    expect((await run(words, send, '--network-json', file)).code).toBe('done');
    expect((await run(words, send, '--network-json', file, '--contract', OWNER)).code).toBe(
      'NETWORK_JSON_OTHER',
    );
    writeFileSync(file, JSON.stringify(config).replace('"quorum":2', '"quorum":2,"quorum":3'));
    expect((await run(words, send, '--network-json', file)).code).toBe('NETWORK_CONFIG');
  });
});
