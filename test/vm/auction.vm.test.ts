/**
 * By hand, `npm run test:auction`: the auction template as an author has it, in a container of two VMs that the contract rolled out. Its host
 * asks the enclave by the node's port; a visitor asks it by the website; the contract on chain takes what the network attests, also after the VM
 * that had answered was killed.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileApp } from '../../cli/dev/compile.ts';
import { createApp } from '../../cli/dev/create.ts';
import { deployApp } from '../../cli/dev/local-network.ts';
import { decodeProgress, PROGRESS_CALL } from '../../lib/framework/app/answer.ts';
import { nodePaths } from '../../lib/protocol/onboarding-messages.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApp,
  deployNetwork,
  joinSecond,
  packAs,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, startDaemon, stopAll } from '../../scripts/demo/processes.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import { descendants, isQemu } from './host-view/processes.ts';
import { layNode } from './node-app.ts';

const APP = 'auction';
const folder = mkdtempSync(join(tmpdir(), 'dstack-auction-'));
const author = join(folder, 'my-auction');
let network: DemoNetwork;
let a: DemoHost;
let b: DemoHost;
let contract: string;
let startBlock: number;

beforeAll(async () => {
  await createApp(author, APP, 'auction', new AbortController().signal);
  const files = join(folder, 'files');
  layNode(files, 'exec /usr/bin/node /app/enclave/main.ts');
  mkdirSync(join(files, 'app'), { recursive: true });
  for (const name of ['package.json', 'bids.ts', 'enclave', 'node_modules'])
    cpSync(join(author, name), join(files, 'app', name), { recursive: true, dereference: true });
  const archive = await buildApp(APP, '--version', '1', '--files', files);
  network = await deployNetwork(join(repository, '.state/auction'));
  a = new DemoHost({ network, disk: true, name: 'a', gasKey: relayKeys[0], peers: [] });
  await prepareNetwork(network, a, []);
  await bootstrapFirst(network, a);
  b = new DemoHost({ network, disk: true, name: 'b', gasKey: relayKeys[1], peers: [a.gossipUrl] });
  // By an account that anvil has unlocked: the contract is the author's, and no owner of the network has a part in it.
  const [owner] = await rpc<string[]>('eth_accounts');
  const { bytecode } = compileApp(join(author, 'contracts'), 'App.sol');
  const of = { contract: network.contract as `0x${string}`, owner: owner! };
  const deployed = await deployApp(network.rpcUrl, of as never, APP, bytecode);
  contract = deployed.contract;
  startBlock = deployed.block;
  const environment = {
    CHAIN_ID: String(network.chainId),
    APP_CONTRACT: contract,
    ENCLAVE_PORT: '8080',
    VISITORS_PORT: '8081',
    ENCLAVE_DATA: '/mnt/encrypted_data',
  };
  const manifest = await packAs(
    APP,
    network,
    a,
    archive,
    ...['--requests', '8080', '--port', '8081', '--api', 'attest', '--api', 'key', '--api', 'chain'],
    ...['--set', 'data=rw', '--set', 'memoryMiB=256'],
    ...Object.entries(environment).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
  );
  await asOwner(network, 'app', 'rollout', APP, manifest);
  await joinSecond(network, a, b);
}, 1_800_000);

afterAll(async () => {
  await stopAll();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

async function rpc<T>(method: string, ...params: unknown[]): Promise<T> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const headers = { 'content-type': 'application/json' };
  const reply = await fetch(network.rpcUrl, { method: 'POST', headers, body });
  return ((await reply.json()) as { result: T }).result;
}

/** By the port that the host may dial. */
async function askNode(
  host: DemoHost,
  path: string,
  body: object = {},
): Promise<{ status: number; code?: string }> {
  const reply = await fetch(`${host.nodeUrl}${nodePaths.appRequest}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: reply.status, ...((await reply.json()) as object) };
}
const answering = (host: DemoHost) =>
  waitFor(
    `the enclave of ${host.name}`,
    async () => {
      const said = await askNode(host, `${APP}/request/v1/sealing-key`).catch(() => undefined);
      return said?.status === 200 ? said : undefined;
    },
    900,
    () => '',
    () => host.alive(),
  );

test('bids are sealed, the auction is settled by attested answers, and a host and visitors have each their own door', {
  timeout: 1_800_000,
}, async () => {
  const key = await answering(b);
  // What the manifest opens, and nothing beside it.
  expect(await askNode(b, `${APP}/request/v1/answer`)).toMatchObject({ status: 400, code: 'BAD_REQUEST' });
  expect(await askNode(b, `${APP}/request/v1/none`)).toMatchObject({ status: 404, code: 'NO_ROUTE' });
  expect(await askNode(b, 'nobody/request/v1/answer')).toMatchObject({ status: 404, code: 'APP_UNKNOWN' });
  const site = (path: string) => post(b.tlsPort, path, '{}');
  expect(JSON.parse(await site('/v1/sealing-key'))).toEqual({
    publicKey: (key as { publicKey?: string }).publicKey,
  });
  expect(JSON.parse(await site('/v1/answer'))).toMatchObject({ code: 'NO_ROUTE' });

  const began = performance.now();
  const host = startDaemon('auction-host', network.folder, [process.execPath, join(author, 'host/main.ts')], {
    CHAIN_ID: String(network.chainId),
    APP_CONTRACT: contract,
    RPC_URL: network.rpcUrl,
    GAS_KEY_FILE: gasKey(),
    ENCLAVE_URL: `${b.nodeUrl}${nodePaths.appRequest}${APP}/request`,
    HOST_DATA: join(folder, 'host'),
    START_BLOCK: String(startBlock),
    POLL_MS: '500',
  });
  const opened = await waitFor('the auction to open', () => settled(1), 600);
  say(
    `the first request was settled ${((performance.now() - began) / 1000).toFixed(1)} s after its host was started`,
  );
  expect(opened).toBe(true);

  // The machine that has answered is gone; another run of it goes on where the contract is.
  const qemu = descendants().find((one) => isQemu(one) && one.title.includes(b.disk))!;
  process.kill(qemu.pid, 'SIGKILL');
  await b.ended();
  const closing = execa(process.execPath, ['--test', 'test/**/*.test.ts'], {
    cwd: author,
    env: { RPC_URL: network.rpcUrl, APP_CONTRACT: contract, CHAIN_ID: String(network.chainId) },
    reject: false,
    all: true,
  });
  await b.powerOn('join');
  await b.joined();
  const { exitCode, all } = await closing;
  expect(all).toMatch(/ pass 1$/m);
  expect(exitCode).toBe(0);
  expect(await settled(2)).toBe(true);
  await host.stop();
});

function gasKey(): string {
  const file = join(folder, 'gas.key');
  writeFileSync(file, relayKeys[2]!, { mode: 0o600 });
  return file;
}

/** As a visitor of the website; its certificate is self-signed here. */
function post(port: number, path: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    const options = { host: '127.0.0.1', port, path, method: 'POST', headers, rejectUnauthorized: false };
    request({ ...options, agent: false, timeout: 120_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    })
      .on('error', reject)
      .end(body);
  });
}

/** True once the contract has so many requests settled. */
async function settled(count: number): Promise<true | undefined> {
  const progress = await rpc<string>('eth_call', { to: contract, data: PROGRESS_CALL }, 'latest');
  return decodeProgress(progress).settled >= count ? true : undefined;
}
