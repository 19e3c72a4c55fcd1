/**
 * A network on a chain of its own, built by its owner through `npx dstack`, and hosts that join it: each reason
 * for waiting, each refusal, and the way in. Daemons stand for the VMs.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JsonRpcProvider, Transaction } from 'ethers';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { networkInterface } from '../../contracts/interface.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { type Relay, runRelay } from '../../host/relay/main.ts';
import type { RelaySettings } from '../../host/relay/settings.ts';
import { to0x } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { addressOf, newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { dstackOk } from '../../test/support/cli.ts';
import { freePort } from '../../test/support/free-port.ts';
import { changeHeader, honest as honestRpc, type Lie, startLyingRpc } from '../../test/support/lying-rpc.ts';
import { eventually } from '../../test/support/network.ts';
import { startDaemonVm, writeTestImage } from '../../test/support/vm-process.ts';
import { writeHints } from '../host-hints.ts';
import { hostFacts } from './host.ts';
import { type JoinSettings, joinNetwork, type StartVm } from './join.ts';
import { nodeReport } from './status.ts';

const CHAIN = 11_155_112;
/** anvil's first account. */
const OWNER_KEY = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
/** Long enough for a request to be seen waiting, short enough to see one expire. */
const REQUEST_WINDOW = 40;

const scratch = mkdtempSync(join(tmpdir(), 'join-test-'));
const cleanups: (() => Promise<unknown>)[] = [];
let anvil: Anvil;
let rpc: JsonRpcProvider;
let owner: Record<string, string>;
let contract: string;
let networkJson: string;
let image: string;

beforeAll(async () => {
  anvil = await startAnvil({
    args: ['--chain-id', String(CHAIN), '--block-time', '1', '--slots-in-an-epoch', '1'],
  });
  rpc = new JsonRpcProvider(anvil.url, undefined, {
    staticNetwork: true,
    cacheTimeout: -1,
    pollingInterval: 100,
  });
  const ownerKeyFile = join(scratch, 'owner.key');
  writeFileSync(ownerKeyFile, OWNER_KEY, { mode: 0o600 });
  owner = {
    DSTACK_RPC_URL: anvil.url,
    DSTACK_OWNER_KEY_FILE: ownerKeyFile,
    DSTACK_CHAIN_ID: String(CHAIN),
  };
  image = writeTestImage(join(scratch, 'image-sim'));
  contract = await deploy();
  owner.DSTACK_CONTRACT = contract;
  networkJson = join(scratch, 'network.json');
  await dstackOk(
    [
      'network',
      'config',
      '--endpoint',
      anvil.url,
      '--depth',
      '0',
      '--minimum-nodes',
      '1',
      '--out',
      networkJson,
    ],
    owner,
  );
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await first?.stop();
  rpc?.destroy();
  await anvil?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

async function deploy(): Promise<string> {
  const printed = await dstackOk(
    ['network', 'deploy', '--delay', '0', '--request-window', String(REQUEST_WINDOW)],
    owner,
  );
  return /^contract (0x[0-9a-fA-F]{40})$/m.exec(printed)![1]!;
}

let hosts = 0;
/** A host's settings: everything of its own, network.json not there yet, ten ether for gas. */
async function host(
  changes: { relay?: Partial<RelaySettings>; balance?: bigint } = {},
): Promise<JoinSettings & { folder: string }> {
  const folder = join(scratch, `host-${hosts++}`);
  mkdirSync(join(folder, 'volume'), { recursive: true });
  const key = newPrivateKey();
  writeFileSync(join(folder, 'gas.key'), to0x(key), { mode: 0o600 });
  await rpc.send('anvil_setBalance', [addressOf(key), `0x${(changes.balance ?? 10n ** 19n).toString(16)}`]);
  return {
    folder,
    relay: {
      rpcUrl: anvil.url,
      chainId: CHAIN,
      contract: parseAddress(contract),
      confirmations: 0,
      pollMs: 100,
      gasKeyFile: join(folder, 'gas.key'),
      maxFeeGwei: 100,
      feeBumpSeconds: 45,
      lowBalanceEth: 0.01,
      nodeUrl: 'http://127.0.0.1:1',
      siteUrl: 'https://127.0.0.1:1',
      stateDir: join(folder, 'relay'),
      networkJson: join(folder, 'volume/network.json'),
      gossipListen: { host: '127.0.0.1', port: 0 },
      gossipPeers: [],
      adminListen: { host: '127.0.0.1', port: await freePort() },
      logLevel: 'info',
      ...changes.relay,
    },
    vm: {
      imageFolder: image,
      hostVolume: join(folder, 'volume'),
      stateFolder: join(folder, 'vm'),
      platformStateFile: join(scratch, 'platform.json'),
      ports: { tls: await freePort(), http: await freePort(), replicator: await freePort() },
    },
    createDisk: false,
    onceJoined: true,
  };
}

interface Attempt {
  /** All lines so far. */
  text(): string;
  /** Waits until it has said this. */
  said(what: string | RegExp): Promise<void>;
  /** How it ended: 'done' or the error's code. */
  readonly outcome: Promise<string>;
  interrupt(): Promise<string>;
}

function attempt(settings: JoinSettings, startVm: StartVm = startDaemonVm): Attempt {
  const lines: string[] = [];
  const stop = new AbortController();
  let message = '';
  const outcome = joinNetwork(settings, {
    startVm,
    stop: stop.signal,
    print: (line) => lines.push(line),
  }).then(
    () => 'done',
    (error: Error) => {
      message = [error.message, ...(error instanceof DstackError ? error.details : [])].join('\n');
      return codeOf(error);
    },
  );
  const text = () => `${lines.join('\n')}\n${message}`;
  const interrupt = () => {
    stop.abort();
    return outcome;
  };
  cleanups.push(interrupt);
  return {
    text,
    outcome,
    interrupt,
    async said(what) {
      await eventually(async () => {
        const now = text();
        return typeof what === 'string' ? now.includes(what) : what.test(now);
      }, `${what} in ${text()}`).catch((error) => {
        throw new Error(`never said ${what}:\n${text()}`, { cause: error });
      });
    },
  };
}

/** For what must be said before anything is powered on. */
const noVm: StartVm = () => Promise.reject(new Error('a VM was started'));

let first: { relay(): Promise<Relay>; stop(): Promise<void>; relayOptions: RelaySettings } | undefined;

/** The network's first node, bootstrapped by its owner through the CLI. Its relay is started and stopped by the tests. */
async function bootstrapFirst(): Promise<void> {
  const { relay, vm, folder } = await host();
  cpSync(networkJson, join(vm.hostVolume, 'network.json'));
  await writeHints(vm.hostVolume, 'bootstrap', false);
  const machine = await startDaemonVm(vm);
  const settings = {
    ...relay,
    nodeUrl: `http://127.0.0.1:${machine.ports.replicator}`,
    logLevel: 'silent' as const,
  };
  const running = await runRelay({
    ...settings,
    gossipListen: { host: '127.0.0.1', port: await freePort() },
  });
  const archive = join(folder, 'relay/archive');
  const find = () => readdirSync(archive).find((name) => /^bootstrap-0x[0-9a-f]{40}\.json$/.test(name));
  await eventually(async () => existsSync(archive) && find() !== undefined, 'the bootstrap package');
  await dstackOk(['network', 'bootstrap', join(archive, find()!), '--flavour', 'sim'], owner);
  await eventually(async () => running.status().node?.state === 'joined', 'the first node to join');
  await running.close();
  const gossipListen = { host: '127.0.0.1', port: await freePort() };
  first = {
    relayOptions: { ...settings, gossipListen },
    async relay() {
      const started = await runRelay({ ...settings, gossipListen });
      cleanups.push(() => started.close());
      return started;
    },
    stop: async () => void (await machine.stop()),
  };
}

const answer =
  (method: string, result: unknown): Lie =>
  (asked, reply) =>
    asked === method ? { result } : reply;

/** What the endpoint answers for a view of the contract, well formed. */
const view =
  (name: string, ...values: unknown[]): Lie =>
  (method, reply, [call]) =>
    method === 'eth_call' &&
    (call as { data: string }).data.startsWith(networkInterface.getFunction(name)!.selector)
      ? { result: networkInterface.encodeFunctionResult(name, values) }
      : reply;

const together =
  (...all: Lie[]): Lie =>
  async (method, reply, params) => {
    for (const lie of all) {
      const said = await lie(method, reply, params);
      if (said !== reply) return said;
    }
    return reply;
  };

/** Prices far above anybody's ceiling. */
const fees: Record<string, Lie> = {
  'the base fee': changeHeader({ baseFeePerGas: '0xffffffffffffff' }),
  'the tip': answer('eth_maxPriorityFeePerGas', '0xffffffffffffffff'),
  'the gas price, on a chain without a base fee': together(
    changeHeader({ baseFeePerGas: null }),
    answer('eth_gasPrice', '0xffffffffffffffff'),
  ),
};

const STRANGER = `0x${'5e'.repeat(20)}`;
const bootstrappedView: Lie = view('network', [STRANGER, 1, true, 0, REQUEST_WINDOW, true]);
const emptyView: Lie = view('network', [`0x${'00'.repeat(20)}`, 0, false, 0, REQUEST_WINDOW, false]);
const allowedView: Lie = view('isAllowed', true, true, true);
const refusedView: Lie = together(
  view('isAllowed', false, false, false),
  ...['measurement', 'config', 'platform'].map((kind) => view(`${kind}AllowedFrom`, 0n)),
);

/** A host behind an endpoint that lies, its network.json in place; everything that the endpoint was given to send. */
async function deceived(lie: Lie, balance?: bigint) {
  const liar = await startLyingRpc(anvil.url);
  cleanups.push(async () => liar.stop());
  const sent: Transaction[] = [];
  liar.lie = (method, reply, params) => {
    if (method === 'eth_sendRawTransaction') sent.push(Transaction.from(params[0] as string));
    return lie(method, reply, params);
  };
  const settings = await host({ relay: { rpcUrl: liar.url }, ...(balance === undefined ? {} : { balance }) });
  cpSync(networkJson, join(settings.vm.hostVolume, 'network.json'));
  return { settings, sent, liar };
}

describe('an endpoint that lies', () => {
  test.each<[string, Lie, string | RegExp]>([
    ["about the chain's id", answer('eth_chainId', '0x1'), 'RPC_WRONG_CHAIN'],
    ['about the contract: none', answer('eth_call', '0x'), 'NETWORK_MISSING'],
    ['about the contract: something else', answer('eth_call', '0x01'), 'NETWORK_MISSING'],
    ['about balances', answer('eth_getBalance', '0x0'), /Send it/],
    ['in its error', () => ({ error: { code: -32000, message: 'no\u001b[2J' } }), /can't be read/],
    ['in everything', () => ({ result: '0x1' }), 'RPC_WRONG_CHAIN'],
    ['about what is allowed: nothing', refusedView, /does not allow this image/],
    [
      'about the views, that all is well, and the balance',
      together(bootstrappedView, allowedView, answer('eth_getBalance', '0x0')),
      /Send it/,
    ],
    [
      "about the views and the chain's id",
      together(bootstrappedView, allowedView, answer('eth_chainId', '0x1')),
      'RPC_WRONG_CHAIN',
    ],
  ])('%s: nothing is powered on, and nothing signed', async (_, lie, expected) => {
    const { settings, sent } = await deceived(lie);
    const trying = attempt(settings, noVm);
    if (typeof expected === 'string') expect(await trying.outcome).toBe(expected);
    else {
      await trying.said(expected);
      expect(await trying.interrupt()).toBe('INTERRUPTED');
    }
    expect(sent).toEqual([]);
  });

  test.each(Object.entries(fees))(
    'about %s: it asks for no more than the ceiling is worth',
    async (_, lie) => {
      const { settings, sent } = await deceived(lie, 1n);
      const trying = attempt(settings, noVm);
      // 130,000 gas at 100 gwei.
      await trying.said('joining may take 0.013 ETH');
      expect(await trying.interrupt()).toBe('INTERRUPTED');
      expect(sent).toEqual([]);
    },
  );

  test('about the views, that all is well: a start in vain; the node reads for itself, and nothing is signed', async () => {
    const { settings, sent } = await deceived(
      together(bootstrappedView, allowedView, ...Object.values(fees)),
    );
    const trying = attempt(settings);
    await trying.said('The VM runs under');
    await trying.said('The node makes its request.');
    // Long enough for a relay that polls each 100 ms to send what it had to send.
    await rpc.send('anvil_mine', ['0x3']);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(await trying.interrupt()).toBe('INTERRUPTED');
    expect(sent).toEqual([]);
  });
});

describe('what the operator has to mend ends it at once, with a code', () => {
  test('no image: the command that builds it', async () => {
    const settings = await host();
    const missing = { ...settings, vm: { ...settings.vm, imageFolder: join(scratch, 'no/image-sim') } };
    const join_ = attempt(missing, noVm);
    expect(await join_.outcome).toBe('IMAGE_MISSING');
    expect(join_.text()).toContain('./build_vm.sh --flavour sim');
  });

  test('no gas key, one that others may read, one that is none', async () => {
    const settings = await host();
    for (const [content, mode] of [
      [undefined, 0o600],
      [to0x(newPrivateKey()), 0o644],
      ['not a key', 0o600],
      ['00'.repeat(32), 0o600],
    ] as const) {
      rmSync(settings.relay.gasKeyFile);
      if (content !== undefined) writeFileSync(settings.relay.gasKeyFile, content, { mode });
      const join_ = attempt(settings, noVm);
      expect(await join_.outcome).toBe('GAS_KEY');
      if (content !== undefined) expect(join_.text()).not.toContain(content);
      else writeFileSync(settings.relay.gasKeyFile, '', { mode });
    }
  });

  test('an address without a network, and an endpoint of another chain', async () => {
    const nowhere = await host({ relay: { contract: parseAddress(`0x${'11'.repeat(20)}`) } });
    expect(await attempt(nowhere, noVm).outcome).toBe('NETWORK_MISSING');
    expect(await attempt(await host({ relay: { chainId: 1 } }), noVm).outcome).toBe('RPC_WRONG_CHAIN');
  });

  test("network.json: none and nobody to ask, another network's, none at all", async () => {
    expect(await attempt(await host(), noVm).outcome).toBe('NETWORK_JSON_MISSING');

    const other = await host();
    const path = join(other.vm.hostVolume, 'network.json');
    writeFileSync(path, readFileSync(networkJson, 'utf8').replace(contract, `0x${'22'.repeat(20)}`));
    expect(await attempt(other, noVm).outcome).toBe('NETWORK_JSON_OTHER');
    writeFileSync(path, '{"version":1}');
    expect(await attempt(other, noVm).outcome).toBe('NETWORK_CONFIG');

    const given = await host();
    const asked = attempt({ ...given, networkJson: join(scratch, 'no.json') }, noVm);
    expect(await asked.outcome).toBe('NETWORK_JSON_MISSING');
  });
});

describe('what others or time can change is waited for, with the reason', () => {
  test('an endpoint that does not answer; its key is not shown', async () => {
    const settings = await host({ relay: { rpcUrl: 'http://127.0.0.1:1/v2/my-endpoint-key' } });
    const join_ = attempt(settings, noVm);
    await join_.said("The chain can't be read (DSTACK_RPC_URL): RPC_UNREACHABLE");
    expect(join_.text()).not.toContain('my-endpoint-key');
    expect(await join_.interrupt()).toBe('INTERRUPTED');
  });

  test('all at once, before anything is powered on: no bootstrap, nothing allowed, no money', async () => {
    const settings = await host({ balance: 1_000_000_000_000n });
    const join_ = attempt({ ...settings, networkJson }, noVm);
    const facts = await hostFacts({ ...settings.vm, gasKeyFile: settings.relay.gasKeyFile });
    await join_.said('The network has no secret yet');
    await join_.said(`npx dstack network allow measurement ${facts.measurement}`);
    await join_.said(/npx dstack network allow config 0x[0-9a-f]{64}/);
    await join_.said(`npx dstack network allow platform ${facts.platform}`);
    await join_.said(
      new RegExp(
        `balance of the gas account is too low: ${facts.gasAddress} has 0.000001 ETH, .* Send it 0.0[0-9]+ ETH`,
      ),
    );
    // The bytes are in place all the same, exactly as given.
    expect(readFileSync(join(settings.vm.hostVolume, 'network.json'))).toEqual(readFileSync(networkJson));
    expect(await join_.interrupt()).toBe('INTERRUPTED');
  });

  test('what the owner allows by the very command that was printed is no reason any more', async () => {
    const join_ = attempt({ ...(await host()), networkJson }, noVm);
    await join_.said('npx dstack network allow platform');
    const commands = [
      ...join_.text().matchAll(/npx dstack (network allow (?:measurement|config|platform) 0x[0-9a-f]{64})/g),
    ];
    expect(commands).toHaveLength(3);
    for (const [, command] of commands) await dstackOk(command!.split(' '), owner);

    const again = attempt({ ...(await host()), networkJson }, noVm);
    await again.said('The network has no secret yet');
    expect(again.text()).not.toContain('does not allow');
  });
});

describe('joining', () => {
  beforeAll(bootstrapFirst);

  test('from settings alone: network.json comes from the peer, and the node gets in', async () => {
    const relay = await first!.relay();
    const settings = await host({ relay: { gossipPeers: [relay.gossipUrl] } });
    const join_ = attempt(settings);
    expect(await join_.outcome, join_.text()).toBe('done');
    expect(join_.text()).toMatch(
      /network\.json is config 0x[0-9a-f]{64}, from http:\/\/127\.0\.0\.1:\d+\/v1\/records\/config-/,
    );
    expect(join_.text()).toMatch(/The node has joined: epoch 1, network key 0x[0-9a-fA-F]{40}/);
    expect(join_.text()).toContain('Stopping the VM.');
    expect(readFileSync(join(settings.vm.hostVolume, 'network.json'))).toEqual(readFileSync(networkJson));
    await expect(fetch(`http://127.0.0.1:${settings.vm.ports.replicator}/v1/status`)).rejects.toThrow();
    await expect(nodeReport(settings.relay)).rejects.toMatchObject({ code: 'RELAY_UNREACHABLE' });
  });

  test.each<[string, Lie, RegExp]>([
    ['the base fee', fees['the base fee']!, /register .*It waits: TX_FEE_CEILING/],
    [
      'the gas price',
      fees['the gas price, on a chain without a base fee']!,
      /register .*It waits: TX_FEE_CEILING/,
    ],
    ['what it takes', answer('eth_estimateGas', '0xffffffff'), /TX_GAS/],
    [
      'every one of these',
      together(...Object.values(fees), answer('eth_estimateGas', '0xffffffff')),
      /TX_GAS|TX_FEE_CEILING/,
    ],
  ])('an endpoint that lies about %s: nothing is signed, and why is said', async (_, lie, reason) => {
    const { settings, sent, liar } = await deceived(lie);
    const join_ = attempt(settings);
    // A transaction that was given up is out of the status soon; the relay's log keeps why.
    const log = join(settings.relay.stateDir, 'relay.log');
    const told = () => join_.text() + (existsSync(log) ? readFileSync(log, 'utf8') : '');
    await eventually(async () => reason.test(told()), `${reason} of the relay`);
    expect(sent).toEqual([]);
    liar.lie = honestRpc;
    await join_.interrupt();
  });

  test('an endpoint that lies about the tip: what is paid stays below the ceiling, and goes where it should', async () => {
    const relay = await first!.relay();
    const { settings, sent } = await deceived(fees['the tip']!);
    const join_ = attempt({ ...settings, relay: { ...settings.relay, gossipPeers: [relay.gossipUrl] } });
    expect(await join_.outcome, join_.text()).toBe('done');
    expect(sent.length).toBeGreaterThanOrEqual(2);
    for (const { to, chainId, value, maxFeePerGas, gasLimit, data } of sent) {
      expect([to?.toLowerCase(), chainId, value]).toEqual([contract.toLowerCase(), BigInt(CHAIN), 0n]);
      expect(maxFeePerGas).toBeLessThanOrEqual(100_000_000_000n);
      expect(gasLimit).toBeLessThan(200_000n);
      expect(['register', 'onboard']).toContain(networkInterface.parseTransaction({ data })?.name);
    }
  });

  test.each<[string, Lie, RegExp]>([
    ['that the network has no secret', emptyView, /The network has no secret yet/],
    ['that nothing is allowed', refusedView, /does not allow this image in this shape/],
    ['both', together(emptyView, refusedView), /The network has no secret yet/],
  ])(
    'an endpoint that says %s: waited for, with the reason; nothing is powered on or signed',
    async (_, lie, reason) => {
      const { settings, sent } = await deceived(lie);
      const join_ = attempt(settings, noVm);
      await join_.said(reason);
      expect(await join_.interrupt()).toBe('INTERRUPTED');
      expect(sent).toEqual([]);
    },
  );

  test('no onboarder online, no peer reachable, a revocation, an expiry: each said; then one comes, and it stays', async () => {
    const peer = `http://127.0.0.1:${first!.relayOptions.gossipListen.port}`;
    const settings = await host({ relay: { gossipPeers: [peer] } });
    const join_ = attempt({ ...settings, networkJson, onceJoined: false });
    await join_.said(
      /Registered: request 0x[0-9a-f]{8}… is on chain since block \d+\. No node that has the secret has answered yet; \d+ blocks are left/,
    );
    await join_.said(`No gossip peer can be reached (${peer})`);

    const { paragraph, object } = await nodeReport(settings.relay);
    expect(object).toMatchObject({
      chainId: settings.relay.chainId,
      gas: { wei: expect.stringMatching(/^\d+$/) },
    });
    expect(paragraph).toContain(`Network ${contract} on chain ${CHAIN}`);
    expect(paragraph).not.toContain('AT MOST ONE NODE HAS THE SECRET');
    expect(paragraph).toContain("This host's node (sim) is requesting.");
    expect(paragraph).toMatch(/No node that has the secret has answered yet; \d+ blocks/);
    expect(paragraph.split('\n')).toHaveLength(1);

    const { measurement } = await hostFacts({ ...settings.vm, gasKeyFile: settings.relay.gasKeyFile });
    await dstackOk(['network', 'revoke', 'measurement', measurement], owner);
    await join_.said(`does not allow this image in this shape, measurement ${measurement}`);
    await dstackOk(['network', 'allow', 'measurement', measurement], owner);

    const requests = () =>
      new Set([...join_.text().matchAll(/Registered: request (0x[0-9a-f]{8})/g)].map(([, hash]) => hash));
    expect(requests().size).toBe(1);
    await rpc.send('anvil_mine', [`0x${(REQUEST_WINDOW + 5).toString(16)}`]);
    await eventually(async () => requests().size === 2, 'a new request');

    await first!.relay();
    await join_.said('The node has joined');
    const { paragraph: joined } = await nodeReport(settings.relay);
    expect(joined).toContain("is joined, with the network's key.");
    expect(joined).toContain('1 of 1 gossip peers answer.');
    expect(await join_.interrupt()).toBe('done');
    await expect(fetch(`http://127.0.0.1:${settings.vm.ports.replicator}/v1/status`)).rejects.toThrow();
  });

  test('the money runs out after power-on: how much is missing is said, and it goes on once it is there', async () => {
    const relay = await first!.relay();
    const settings = await host({ relay: { gossipPeers: [relay.gossipUrl] } });
    const { gasAddress } = await hostFacts({ ...settings.vm, gasKeyFile: settings.relay.gasKeyFile });
    const join_ = attempt({ ...settings, networkJson }, async (options) => {
      await rpc.send('anvil_setBalance', [gasAddress, '0x1']);
      return startDaemonVm(options);
    });
    await join_.said(`The balance of the gas account is too low: ${gasAddress} has`);
    await rpc.send('anvil_setBalance', [gasAddress, '0x8ac7230489e80000']);
    expect(await join_.outcome, join_.text()).toBe('done');
  });

  test('a VM that powers off ends it, with the end of its console', async () => {
    const settings = await host();
    const join_ = attempt({ ...settings, networkJson }, async (options) => {
      const vm = await startDaemonVm(options);
      writeFileSync(vm.consoleLog, 'the last words\n', { flag: 'a' });
      void vm.kill();
      return vm;
    });
    expect(await join_.outcome).toBe('VM_ENDED');
    expect(join_.text()).toContain('the last words');
  });

  test("an image that another measures: nothing is paid, the owner's command is said", async () => {
    const settings = await host();
    const strange = writeTestImage(join(scratch, 'strange/image-sim'), 'another');
    const join_ = attempt({ ...settings, networkJson, vm: { ...settings.vm, imageFolder: strange } }, noVm);
    await join_.said('npx dstack network allow measurement');
    expect(join_.text()).not.toContain('The network has no secret yet');
    expect(await join_.interrupt()).toBe('INTERRUPTED');
  });

  test('a host whose platform was revoked is told so', async () => {
    const settings = await host();
    const vm = { ...settings.vm, platformStateFile: join(settings.folder, 'platform.json') };
    const { platform } = await hostFacts({ ...vm, gasKeyFile: settings.relay.gasKeyFile });
    await dstackOk(['network', 'revoke', 'platform', platform!], owner);
    const join_ = attempt({ ...settings, networkJson, vm }, noVm);
    await join_.said(`The contract keeps out this host, platform ${platform}`);
  });

  test('a state directory that another relay holds: no VM is started', async () => {
    const settings = await host();
    const holder = await runRelay({ ...settings.relay, logLevel: 'silent' });
    cleanups.push(() => holder.close());
    expect(await attempt({ ...settings, networkJson }, noVm).outcome).toBe('STORE_OPEN');
  });
});

describe('a peer that gives network.json', () => {
  async function peer(answer: RequestListener): Promise<string> {
    const server: Server = createServer(answer);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const hash = '5e'.repeat(32);
  const list = JSON.stringify({ records: [`config-${hash}.json`, '../../etc/passwd', 'request-1.json'] });

  test.each<[string, RequestListener, string]>([
    [
      'lies about its hash',
      (q, r) => r.end(q.url!.includes('?') ? list : readFileSync(networkJson)),
      'has another hash',
    ],
    [
      'sends too much',
      (q, r) => r.end(q.url!.includes('?') ? list : 'x'.repeat(100_000)),
      'more than 65536 bytes',
    ],
    ['lists no list', (_, r) => r.end('[]'), 'its list of records is malformed'],
    ['sends elsewhere', (_, r) => r.writeHead(302, { location: anvil.url }).end(), 'no reply from'],
    ['has none', (_, r) => r.end('{"records":[]}'), 'has none that the contract allows'],
    ['fails', (_, r) => r.writeHead(500).end(), 'answers HTTP 500'],
  ])('and %s is not believed', async (_, answer, reason) => {
    const settings = await host({ relay: { gossipPeers: [await peer(answer)] } });
    const join_ = attempt(settings, noVm);
    await join_.said(/There is no network\.json yet: no gossip peer gives one/);
    expect(join_.text()).toContain(reason);
    expect(existsSync(join(settings.vm.hostVolume, 'network.json'))).toBe(false);
  });

  test('and one that the contract does not allow is passed over', async () => {
    const bytes = readFileSync(networkJson, 'utf8').replace('"minimumNodes": 1', '"minimumNodes": 2');
    const { configHash } = await import('../../lib/protocol/network-config.ts');
    const name = `config-${Buffer.from(configHash(Buffer.from(bytes))).toString('hex')}.json`;
    const url = await peer((q, r) =>
      r.end(q.url!.includes('?') ? JSON.stringify({ records: [name] }) : bytes),
    );
    const join_ = attempt(await host({ relay: { gossipPeers: [url] } }), noVm);
    await join_.said('has none that the contract allows');
  });
});
