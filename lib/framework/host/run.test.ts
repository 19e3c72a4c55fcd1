/** The process of a host, whose handlers, contract and start block are settings. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readText } from '../../daemon/http-body.ts';
import { runHost } from './run.ts';

const CONTRACT = `0x${'c0'.repeat(20)}`;
const TOPIC = `0x${'07'.repeat(32)}`;
const word = (n: number) => `0x${n.toString(16).padStart(64, '0')}`;
const HEAD = 50;

let folder: string;
let endpoint: Server;
/** First blocks whose logs were asked for. */
let from: number[];
let env: Record<string, string>;
let running: ChildProcess | undefined;

/** A chain with one event, in block 45. */
function answer(method: string, params: readonly unknown[]): unknown {
  const block = (n: number) => ({ number: `0x${n.toString(16)}`, hash: word(n), parentHash: word(n - 1) });
  if (method === 'eth_chainId') return '0x7';
  if (method === 'eth_getBlockByNumber') return block(params[0] === 'latest' ? HEAD : Number(params[0]));
  if (method !== 'eth_getLogs') return '0x0';
  const { fromBlock, toBlock } = params[0] as Record<string, string>;
  from.push(Number(fromBlock));
  if (Number(fromBlock) > 45 || Number(toBlock) < 45) return [];
  const at = { blockNumber: '0x2d', blockHash: word(45), transactionHash: word(1), logIndex: '0x0' };
  return [{ ...at, address: CONTRACT, topics: [TOPIC], data: '0x' }];
}

const write = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

beforeEach(async () => {
  [folder, from, running] = [mkdtempSync(join(tmpdir(), 'run-host-')), [], undefined];
  endpoint = createServer(async (request, response) => {
    const { id, method, params } = JSON.parse(await readText(request, 65_536));
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: answer(method, params) }));
  }).listen(0, '127.0.0.1');
  await once(endpoint, 'listening');
  env = {
    ...{ CHAIN_ID: '7', APP_CONTRACT: CONTRACT, START_BLOCK: '40', POLL_MS: '50' },
    RPC_URL: `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}`,
    ENCLAVE_URL: 'http://127.0.0.1:1',
    GAS_KEY_FILE: write('gas.key', word(1)),
    HOST_DATA: join(folder, 'data'),
  };
});
afterEach(async () => {
  if (running !== undefined && running.exitCode === null && running.kill('SIGKILL'))
    await once(running, 'exit');
  endpoint.closeAllConnections();
  await new Promise((resolve) => endpoint.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

/** Writes down the block of each event. */
const module = (out: string) => `
  import { appendFileSync } from 'node:fs';
  export default ({ app: { contract } }) => ({
    handlers: [{
      contract, name: ${JSON.stringify(out)}, topic: '${TOPIC}',
      decode: ({ blockNumber }) => blockNumber,
      request: async (block) => {
        appendFileSync(${JSON.stringify(join(folder, out))}, block + ' ');
        return { kind: 'skip', reason: 'noted' };
      },
      settle: async () => [],
    }],
  });`;

test('handlers of all modules that the settings name run, from their start block on, until it is told to end', async () => {
  const modules = [write('one.mjs', module('one')), write('two.mjs', module('two'))];
  const framework = join(import.meta.dirname, '../../../sdk/framework.ts');
  const script = `import { runHost } from ${JSON.stringify(framework)}; await runHost();`;
  running = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, ...env, HOST_MODULES: modules.join(', ') },
    stdio: 'ignore',
  });
  const noted = (out: string) => existsSync(join(folder, out)) && readFileSync(join(folder, out), 'utf8');
  await expect.poll(() => [noted('one'), noted('two')]).toEqual(['45 ', '45 ']);
  expect(Math.min(...from)).toBe(40);
  running.kill('SIGTERM');
  expect((await once(running, 'exit'))[0]).toBe(0);
});

test.each([
  ['none', () => '', 'HOST_MODULES is missing'],
  ['one that is not there', () => join(folder, 'gone.mjs'), "can't be loaded"],
  ['one that is none', () => write('none.mjs', 'export default 1'), 'is no function'],
])('settings that name %s are refused before the store is opened', async (_what, modules, words) => {
  await expect(runHost(undefined, { ...env, HOST_MODULES: modules() })).rejects.toMatchObject({
    code: 'SETTINGS',
    message: expect.stringContaining(words),
  });
  expect(existsSync(join(folder, 'data'))).toBe(false);
});
