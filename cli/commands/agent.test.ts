/** The agent on a laptop, as who writes an app uses it: by the ecosystem's client, by the typed one, by curl; and how it begins and ends. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { signerOfKeyChain, verifySignature } from '../../lib/protocol/app-keys.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { formatManifest } from '../../lib/protocol/manifest.ts';
import { appReportData } from '../../lib/protocol/report-data.ts';
import { agent } from '../../sdk/agent.ts';
import { dstack, type Running, startDstack } from '../../test/support/cli.ts';
import { eventually } from '../../test/support/network.ts';
import { callSdk, installSdk, type SdkResults } from '../../test/support/sdk.ts';
import { openFolder } from '../agent/folder.ts';
import { readArguments, UsageError } from '../command.ts';
import { agentCommands } from './agent.ts';

// Processes that load half of the repository, on a machine that may be busy.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const [command] = agentCommands as [(typeof agentCommands)[number]];
const root = mkdtempSync(join(tmpdir(), 'agent-dev-'));
const data = join(root, 'data');
const socket = join(data, 'run/dstack.sock');
let running: Running;
let url: string;

async function start(...args: string[]): Promise<Running> {
  const started = startDstack(['agent', 'dev', '--data', data, ...args]);
  let hasEnded = false;
  started.ended.then(() => {
    hasEnded = true;
  });
  await eventually(async () => started.text().includes('docker run') || hasEnded, 'the agent to start');
  if (hasEnded) throw new Error(started.text());
  return started;
}

beforeAll(async () => {
  await installSdk();
  running = await start('--app', 'greeting', '--raw-quotes', '--listen', '127.0.0.1:0');
  url = /http:\/\/127\.0\.0\.1:\d+/.exec(running.text())![0];
});
afterAll(async () => {
  running?.child.kill('SIGKILL');
  await running?.ended;
  rmSync(root, { recursive: true, force: true });
});

/** The status and the code of a request to the port. */
function ask(path: string, headers: Record<string, string>): Promise<[number | undefined, string]> {
  return new Promise((resolve, reject) => {
    request(new URL(path, url), { headers }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => {
        resolve([response.statusCode, (JSON.parse(text) as { code?: string }).code ?? '']);
      });
    })
      .on('error', reject)
      .end();
  });
}

test('it warns, and says where it is', () => {
  expect(running.text()).toMatch(/WARNING: this agent is not in a VM.*proves anything/s);
  expect(running.text()).toContain(`export DSTACK_SIMULATOR_ENDPOINT=${socket}`);
  expect(statSync(join(data, 'secret')).mode & 0o777).toBe(0o600);
  expect(statSync(data).mode & 0o777).toBe(0o700);
});

test("the ecosystem's client makes every call, as in a VM", async () => {
  const results: SdkResults = await callSdk(join(data, 'run'));
  const rejected = Object.keys(results).filter((name) => 'rejected' in results[name]!);
  expect(rejected).toEqual(['emitEvent']);
  expect(results.getQuote!.replayRtmrs).not.toContain('00'.repeat(48));
  expect(results.verify).toMatchObject({ right: true, wrong: false });
  const { key } = await agent({ url }).key({ tag: 'wallet/ethereum', type: 'secp256k1' });
  expect(results.getKey!.key).toBe(key);
});

test('the typed client gets keys, signatures, attestations and quotes that the verifiers take', async () => {
  vi.stubEnv('DSTACK_SIMULATOR_ENDPOINT', socket);
  const client = agent();
  const info = await client.info();
  expect(info).toMatchObject({ app: 'greeting', container: 'app', node: { flavour: 'sim' } });
  const { chainId, contract, networkKey, config } = info.network;
  expect(running.text()).toContain(networkKey);
  const data = toHex(utf8('hello'));

  const signed = await client.sign({ tag: 'greetings', algorithm: 'ed25519', data, purpose: 'test' });
  const publicKey = fromHex(signed.publicKey);
  expect(verifySignature('ed25519', fromHex(data), fromHex(signed.signature), publicKey)).toBe(true);
  const link = {
    app: 'greeting',
    purpose: 'test',
    publicKey,
    chain: signed.chain.map((one) => fromHex(one)),
  };
  expect(signerOfKeyChain({ chainId, contract: parseAddress(contract) }, link)).toBe(networkKey);

  const { quote, statement } = await client.quote({ data });
  expect(statement).toEqual({ app: 'greeting', manifestHash: info.manifestHash, data });
  const { evidence } = verify(fromHex(quote), {
    trustRoot: SIMULATED_ROOT,
    now: new Date(),
    depth: 'signatures',
    measurement: fromHex(info.node.measurement),
    rtmr3: replay(expectedJoinedLog('sim', fromHex(config))),
    reportData: appReportData('greeting', fromHex(info.manifestHash), fromHex(data)),
  });
  expect(toHex(evidence.platform)).toBe(info.node.platform);

  expect((await client.attest({ tag: 'score', data: '2a' })).call).toMatch(/^0x/);
  const { block, blockTime, now } = await client.status();
  expect(block * 12).toBe(blockTime);
  expect(now - blockTime).toBeLessThan(12);
});

test('the port answers to its own names, to no name that a web page could have, and to no request of one', async () => {
  const { host } = new URL(url);
  expect(await ask('/v1/info', {})).toEqual([200, '']);
  expect(await ask('/v1/info', { host: 'dstack-guest' })).toEqual([200, '']);
  expect(await ask('/v1/info', { host: host.replace('127.0.0.1', 'localhost') })).toEqual([200, '']);
  expect(await ask('/v1/info', { host: 'evil.example' })).toEqual([421, 'WRONG_HOST']);
  expect(await ask('/v1/info', { origin: 'http://evil.example' })).toEqual([403, 'FORWARDED_REQUEST']);
});

test.each([
  [['--listen', '0.0.0.0:8090'], '127.0.0.1:PORT'],
  [['--listen', '127.0.0.1:65536'], '127.0.0.1:PORT'],
  [['--app', 'Not A Name'], '--app'],
  [['--container', 'web'], '--manifest'],
  [['--manifest', 'x', '--app', 'y'], 'leave out --app'],
  [['--network', 'x', '--raw-quotes'], 'leave out --raw-quotes'],
])('%j is a mistake in the command line', async (args, message) => {
  const mistake = await command.run(readArguments(command, args)).catch((error) => error);
  expect(mistake).toBeInstanceOf(UsageError);
  expect(mistake.message).toContain(message);
});

test.each([
  ['d'.repeat(90), 'AGENT_PATH_TOO_LONG'],
  ['.', 'AGENT_DATA'],
  ['data', 'AGENT_RUNNING'],
])('--data %s is refused', async (name, code) => {
  await expect(openFolder(join(root, name))).rejects.toThrowError(expect.objectContaining({ code }));
});

test("a folder that others may write to is closed to them; another user's is refused", async () => {
  const open = join(root, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  await openFolder(open);
  expect(statSync(open).mode & 0o777).toBe(0o700);
  // Only root can give a folder away.
  if (process.geteuid!() !== 0) return;
  const given = join(root, 'given');
  mkdirSync(given);
  chownSync(given, 12_345, 12_345);
  await expect(openFolder(given)).rejects.toThrowError(expect.objectContaining({ code: 'AGENT_DATA' }));
  expect(readdirSync(given)).toEqual([]);
});

test('Ctrl-C ends it while somebody is connected; keys stay, and a manifest says what may be asked', async () => {
  const before = await agent({ socket }).key({ tag: 'wallet', type: 'secp256k1' });
  const idle = connect(socket);
  const cut = new Promise((resolve) => idle.once('close', resolve));
  await new Promise((resolve) => idle.once('connect', resolve));
  running.child.kill('SIGINT');
  expect((await running.ended).code).toBe(0);
  await cut;
  expect(existsSync(socket)).toBe(false);

  const manifest = join(root, 'manifest.json');
  const image = `sha256:${'ab'.repeat(32)}`;
  const containers = [
    { name: 'web', image, api: ['key'] },
    { name: 'db', image },
    { name: 'cron', image, api: ['info'] },
  ];
  writeFileSync(manifest, formatManifest({ version: 2, app: 'greeting', containers }));
  const unnamed = await dstack(['agent', 'dev', '--data', data, '--manifest', manifest]);
  expect(unnamed).toMatchObject({ code: 2, stderr: expect.stringContaining('may ask something: web, cron') });
  running = await start('--manifest', manifest, '--container', 'web');
  expect(await agent({ socket }).key({ tag: 'wallet', type: 'secp256k1' })).toEqual(before);
  await expect(agent({ socket }).info()).rejects.toThrow(/its api needs "info"/);
  // Asked what may not be asked, it says so where the developer looks.
  await eventually(async () => running.text().includes('API_NOT_GRANTED'), 'the refusal to be said');
  expect(readFileSync(join(data, 'secret'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
  running.child.kill('SIGTERM');
  expect((await running.ended).code).toBe(0);
  expect(readdirSync(data).sort()).toEqual(['apps', 'run', 'secret']);
});
