/** docs/agent.md and sdk/, against the real agent and replicator: each line of curl is run, and all ways lead to the same keys. */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest';
import { SIMULATED_ROOT } from '../lib/attestation/certificates/trust-roots.ts';
import { expectedJoinedLog, replay } from '../lib/attestation/registers/event-log.ts';
import { verify } from '../lib/attestation/verify.ts';
import { type Asked, type Given, type OperationName, operations } from '../lib/protocol/agent-api.ts';
import { signerOfKeyChain, verifySignature } from '../lib/protocol/app-keys.ts';
import { fromHex, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { manifestHash } from '../lib/protocol/manifest.ts';
import { appReportData } from '../lib/protocol/report-data.ts';
import { type Agent, AgentRefusal, agent as client } from '../sdk/agent.ts';
import { manifestOf, startAgent, type TestAgent, type TestApp } from './support/agent.ts';
import { freePort } from './support/free-port.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';

const root = join(import.meta.dirname, '..');
const run = promisify(execFile);
const greeting: TestApp = {
  app: 'greeting',
  address: '127.0.0.2',
  api: ['info', 'key', 'attest', 'sign', 'quote', 'chain'],
};
const signer: TestApp = { app: 'signer', address: '127.0.0.3', api: ['info', 'sign'] };

let network: TestNetwork;
let node: TestNode;
let agent: TestAgent;
let networkKey: string;
let socket: string;
const scratch = mkdtempSync(join(tmpdir(), 'dstack-page-'));

beforeAll(async () => {
  network = await startTestNetwork();
  node = await network.start({ role: 'bootstrap' });
  await network.allow(node);
  ({ networkKey } = await network.bootstrap(node));
  agent = await startAgent(node, [greeting, signer]);
  socket = join(await agent.folderOf('greeting'), 'dstack.sock');
});
afterAll(async () => {
  agent?.stop();
  await network?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

/** As in the container: the name leads to the agent, and the socket is where it is mounted. */
async function curl(line: string): Promise<string> {
  const args = [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
  const isSocket = args.includes('--unix-socket');
  const here = isSocket
    ? args.map((arg) => (arg === '/var/run/dstack/dstack.sock' ? socket : arg))
    : [...args, '--connect-to', `dstack-guest:80:127.0.0.1:${agent.port}`, '--interface', greeting.address];
  const { stdout } = await run('curl', [...here.slice(1), '--fail-with-body'], { cwd: scratch });
  return stdout;
}
const lines = [...readFileSync(join(root, 'docs/agent.md'), 'utf8').matchAll(/^curl .*$/gm)].map(
  ([line]) => line,
);
const answerOf = async (part: string) => curl(lines.find((line) => line.includes(part))!);

describe('docs/agent.md', () => {
  test('has a line for everything', () => {
    const all = lines.join('\n');
    for (const path of [
      ...Object.values(operations).map(({ path }) => path),
      '/openapi.json',
      '--unix-socket',
    ])
      expect(all).toContain(path);
    expect(lines.length).toBeGreaterThan(14);
  });

  test.each(lines)('%s', async (line) => {
    const { hash } = await client({ socket }).chainHead();
    const text = await curl(line.replace('BLOCK_HASH', hash));
    const path = /dstack-guest(\/\S*)/.exec(line)?.[1];
    const operation = Object.values(operations).find((one) => one.path === path);
    if (operation !== undefined) expect(Value.Check(operation.reply, JSON.parse(text))).toBe(true);
    if (line.includes('-o ')) expect(text).toBe('');
  });

  test('every code of a refusal in it is one', () => {
    const page = readFileSync(join(root, 'docs/agent.md'), 'utf8');
    const sources = ['agent/server.ts', 'agent/guards.ts', 'callers.ts', 'replicator/app-certificate.ts'];
    sources.push('replicator/chain-reads.ts', '../lib/chain/chain-client.ts');
    const code = sources.map((file) => readFileSync(join(root, 'guest', file), 'utf8')).join('\n');
    const [, table = ''] = page.split('| code | status |');
    const codes = [...table.matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, found]) => found!);
    expect(codes.length).toBeGreaterThan(15);
    for (const one of codes.filter((found) => !found.startsWith('APP_') && found !== 'CHAIN_STALE'))
      expect(code).toContain(one);
  });
});

describe('the same, whichever way it is asked', () => {
  test('keys', async () => {
    const byCurl = JSON.parse(await answerOf('/v1/key --json \'{"tag":"wallet'));
    const bySocket = JSON.parse(await answerOf('/GetKey'));
    const byClient = await client({ socket }).key({
      ...{ tag: 'wallet/ethereum', type: 'secp256k1', purpose: 'eth' },
    });
    expect(byClient).toEqual(byCurl);
    expect(bySocket).toEqual({ key: byCurl.key, signature_chain: byCurl.chain });
    const publicKey = fromHex(byCurl.publicKey);
    const chain = (byCurl.chain as string[]).map((link) => fromHex(link));
    const link = { app: 'greeting', purpose: 'eth', publicKey, chain };
    expect(signerOfKeyChain(network.domain, link)).toBe(networkKey);
    expect(
      JSON.parse(
        await curl(
          'curl -sS http://dstack-guest/GetKey --json \'{"path":"wallet/ethereum","purpose":"eth"}\'',
        ),
      ),
    ).toEqual(bySocket);
    // The prototype's path has the raw key of the tag.
    const raw = await client({ socket }).key({ tag: 'session', type: 'raw' });
    expect(await answerOf('/getkey/session')).toBe(raw.key);
    expect((await client({ socket }).key({ tag: 'session', type: 'secp256k1' })).key).not.toBe(raw.key);
  });

  test('a signature is by the key that /v1/key gives', async () => {
    const asked = { tag: 'greetings', algorithm: 'ed25519', data: toHex(utf8('hello')) } as const;
    const signed = await client({ socket }).sign(asked);
    const { publicKey } = await client({ socket }).key({ tag: 'greetings', type: 'ed25519' });
    expect(signed.publicKey).toBe(publicKey);
    expect(verifySignature('ed25519', utf8('hello'), fromHex(signed.signature), fromHex(publicKey!))).toBe(
      true,
    );
    expect(
      await client({ socket })
        .verify({ ...asked, ...signed, publicKey: publicKey! } as never)
        .catch((error: AgentRefusal) => error.code),
    ).toBe('BAD_BODY');
  });

  test('a quote is over the statement of the app', async () => {
    const { quote, reportData, statement, eventLog } = await client({ socket }).quote({ data: '00ff' });
    const hash = toHex(manifestHash(manifestOf(greeting)));
    expect(statement).toEqual({ app: 'greeting', manifestHash: hash, data: '00ff' });
    const expected = appReportData('greeting', fromHex(hash), fromHex('00ff'));
    expect(reportData).toBe(toHex(expected));
    verify(fromHex(quote), {
      trustRoot: SIMULATED_ROOT,
      now: new Date(),
      depth: 'signatures',
      measurement: node.measurement,
      rtmr3: replay(expectedJoinedLog('sim', node.config)),
      reportData: expected,
    });
    expect(new Set(eventLog.map(({ imr }) => imr))).toEqual(new Set([0, 1, 2, 3]));
  });

  test("an attestation is the contract's, by the call that comes with it", async () => {
    const { call, signature } = await client({ socket }).attest({ tag: 'score', data: '2a' });
    expect(BigInt(await network.rpc.call({ to: network.contract, data: call }))).toBe(1n);
    const bytes = readFileSync(join(scratch, 'attestation.bin'));
    expect(bytes.toString('hex')).toBe(signature);
    expect(readFileSync(join(scratch, 'digest.bin'))).toHaveLength(32);
  });

  test('info and status', async () => {
    const info = await client({ socket }).info();
    expect(info).toMatchObject({ app: 'greeting', network: { contract: network.contract, networkKey } });
    expect((await client({ socket }).status()).block).toBeGreaterThan(0);
  });
});

describe('sdk/', () => {
  test('its types are those of the schemas', () => {
    type Answers = { [N in OperationName]: Given<N> };
    type Questions = { [N in OperationName]: Asked<N> };
    // What the agent gives is what the client says; what the client takes is what the agent takes.
    expectTypeOf<Answers['key']>().toExtend<Awaited<ReturnType<Agent['key']>>>();
    expectTypeOf<Answers['sign']>().toExtend<Awaited<ReturnType<Agent['sign']>>>();
    expectTypeOf<Answers['verify']>().toExtend<Awaited<ReturnType<Agent['verify']>>>();
    expectTypeOf<Answers['quote']>().toExtend<Awaited<ReturnType<Agent['quote']>>>();
    expectTypeOf<Answers['attest']>().toExtend<Awaited<ReturnType<Agent['attest']>>>();
    expectTypeOf<Answers['info']>().toExtend<Awaited<ReturnType<Agent['info']>>>();
    expectTypeOf<Answers['status']>().toExtend<Awaited<ReturnType<Agent['status']>>>();
    expectTypeOf<Questions['key']>().toExtend<Parameters<Agent['key']>[0]>();
    expectTypeOf<Questions['sign']>().toExtend<Parameters<Agent['sign']>[0]>();
    expectTypeOf<Questions['verify']>().toExtend<Parameters<Agent['verify']>[0]>();
    expectTypeOf<Questions['quote']>().toExtend<Parameters<Agent['quote']>[0]>();
    expectTypeOf<Questions['attest']>().toExtend<Parameters<Agent['attest']>[0]>();
  });

  test('a refusal has its code, and comes by either way', async () => {
    const theirs = client({ socket: join(await agent.folderOf('signer'), 'dstack.sock') });
    const refused = await theirs.key({ tag: 'x', type: 'raw' }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(AgentRefusal);
    expect(refused).toMatchObject({ code: 'API_NOT_GRANTED', status: 403 });
    const byName = client({ url: `http://127.0.0.1:${agent.port}` });
    await expect(byName.info()).rejects.toMatchObject({ code: 'WRONG_HOST', status: 421 });
  });

  test('an answer that is no JSON is said to be none, with the place that gave it', async () => {
    const other = createServer((_, response) => response.writeHead(431).end('no'));
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    try {
      const refused = await client({ url })
        .info()
        .catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(AgentRefusal);
      expect(refused).toMatchObject({ code: 'NOT_JSON', status: 431, message: expect.stringContaining(url) });
    } finally {
      other.close();
    }
  });

  test('the example runs, as an app that may sign', async () => {
    const at = join(await agent.folderOf('signer'), 'dstack.sock');
    const port = await freePort();
    const app = spawn(process.execPath, [join(root, 'sdk/example.ts'), `${port}`, at], { stdio: 'ignore' });
    try {
      const visit = () => fetch(`http://127.0.0.1:${port}/you`).then((page) => page.json());
      await eventually(async () => (await visit()) !== undefined, 'the example to listen');
      const { page, signature, publicKey } = (await visit()) as Record<string, string>;
      expect(page).toBe(`signer of network ${network.contract} says hello to /you`);
      expect(verifySignature('ed25519', utf8(page!), fromHex(signature!), fromHex(publicKey!))).toBe(true);
    } finally {
      app.kill();
    }
  });
});
