import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request, type Server } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer, text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { attestationDigest } from '../../lib/protocol/typed-data.ts';
import { Callers } from './callers.ts';
import { parseQuestion } from './guards.ts';

const contract = `0x${'c0'.repeat(20)}`;
const hash = 'aa'.repeat(32);
const info = {
  chainId: 31337,
  contract,
  networkKey: contract,
  epoch: 1,
  config: hash,
  measurement: hash,
  platform: hash,
  flavour: 'sim',
};
const keyOf = (app: string, tag: string): string => toHex(sha256(utf8(`${app}/${tag}`)));

/** Two apps on loopback addresses; 127.0.0.9 belongs to none, 127.0.0.3 arrives on the wrong bridge. */
const containers = [
  { app: 'greeting', manifestHash: parseHex(hash), address: '127.0.0.2', gateway: '127.0.0.1' },
  { app: 'other', manifestHash: parseHex(hash), address: '127.0.0.4', gateway: '127.0.0.1' },
  { app: 'greeting', manifestHash: parseHex(hash), address: '127.0.0.3', gateway: '10.90.0.1' },
];

const root = mkdtempSync(join(tmpdir(), 'dstack-agent-'));
const servers: Server[] = [];
const asked: unknown[] = [];
let agent: ChildProcess;
let port = 0;

beforeAll(async () => {
  const run = join(root, 'run/dstack');
  for (const folder of ['replicator', 'kubernethes', 'disk'])
    mkdirSync(join(run, folder), { recursive: true });
  const serve = async (socket: string, routes: Parameters<typeof serveUnix>[0]['routes']) =>
    servers.push(await serveUnix({ path: join(run, socket), routes }));
  await serve('kubernethes/agent.sock', { 'GET /v1/containers': () => ({ containers }) });
  await serve('disk/status.sock', {
    'GET /v1/status': () => ({ state: 'ready', diskId: 'ab'.repeat(16), seconds: 1 }),
  });
  await serve('replicator/agent.sock', {
    'GET /v1/info': () => info,
    'POST /v1/app-key': (body) => {
      asked.push(body);
      const { app, tag } = body as { app: string; tag: string };
      return { key: keyOf(app, tag) };
    },
    'POST /v1/attest': (body) => {
      asked.push(body);
      return { signature: `1b${'11'.repeat(64)}` };
    },
  });
  agent = spawn(process.execPath, [
    join(import.meta.dirname, 'main.ts'),
    '--root',
    root,
    '--listen',
    '127.0.0.1:0',
  ]);
  for await (const line of createInterface(agent.stdout!)) {
    port = (JSON.parse(line) as { address: { port: number } }).address.port;
    break;
  }
  agent.stdout!.resume();
});

afterAll(async () => {
  agent.kill();
  for (const server of servers) server.close();
  rmSync(root, { recursive: true });
});

async function ask(path: string, from = '127.0.0.2', headers: Record<string, string> = {}, method = 'GET') {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const options = { host: '127.0.0.1', port, localAddress: from, path, method, agent: false };
    request({ ...options, headers: { host: 'dstack-guest', ...headers } }, resolve)
      .on('error', reject)
      .end();
  });
  return {
    status: response.statusCode,
    type: response.headers['content-type'],
    body: await buffer(response),
  };
}

const codeFrom = async (...args: Parameters<typeof ask>): Promise<string> => {
  const { status, body } = await ask(...args);
  return status === 200 ? 'answered' : (JSON.parse(body.toString()) as { code: string }).code;
};

describe('the agent, as a process', () => {
  test("gives an app its own keys and nobody else's", async () => {
    const mine = await ask('/getkey/greeting');
    expect(mine.type).toContain('text/plain');
    expect(mine.body.toString()).toBe(keyOf('greeting', 'greeting'));
    expect((await ask('/getkey/greeting', '127.0.0.4')).body.toString()).toBe(keyOf('other', 'greeting'));
  });

  test('whatever a request says, the app that is asked for is the one that asks', async () => {
    asked.length = 0;
    const tries = [
      '/getkey/x?app=other',
      '/getkey/other%2Fx',
      '/getkey/../other/x',
      '/getkey/other/x',
      '/getkey//x',
      '/getkey/x/',
    ];
    for (const path of tries) expect(await codeFrom(path)).toMatch(/^(NO_ROUTE|BAD_TAG)$/);
    await ask('/getkey/x', '127.0.0.2', { 'x-app': 'other', cookie: 'app=other' });
    expect(asked).toEqual([{ app: 'greeting', tag: 'x' }]);
  });

  test('attests: 65 raw bytes, over the digest that /appdata shows', async () => {
    const attested = await ask('/attest/my.tag/00ff');
    expect(attested.body).toHaveLength(65);
    expect(attested.body[0]).toBe(27);
    const digest = await ask('/appdata/my.tag/00FF');
    const attestation = { app: appId('greeting'), tag: 'my.tag', data: fromHex('00ff') };
    expect(toHex(digest.body)).toBe(
      toHex(attestationDigest({ chainId: 31337, contract: parseAddress(contract) }, attestation)),
    );
    expect((await ask(`/attest/t/${'ab'.repeat(4096)}`)).status).toBe(200);
    expect(await codeFrom(`/attest/t/${'ab'.repeat(4097)}`)).toBe('BAD_DATA');
  });

  test('tells an app about its node', async () => {
    const { body } = await ask('/info');
    expect(JSON.parse(body.toString())).toEqual({
      app: 'greeting',
      manifestHash: parseHex(hash),
      ...info,
      disk: { state: 'ready', diskId: 'ab'.repeat(16) },
    });
  });

  test('strangers, and addresses that arrive on a foreign bridge, get nothing', async () => {
    expect(await codeFrom('/getkey/x', '127.0.0.9')).toBe('UNKNOWN_CALLER');
    expect(await codeFrom('/getkey/x', '127.0.0.3')).toBe('UNKNOWN_CALLER');
    expect(await codeFrom('/getkey/x', '127.0.0.1')).toBe('UNKNOWN_CALLER');
  });

  test.each([
    ['host', 'dstack-guest:80'],
    ['host', 'dstack-guest.'],
    ['host', '127.0.0.1'],
    ['host', 'DSTACK-GUEST'],
  ])('another %s: %s', async (name, value) => {
    expect(await codeFrom('/getkey/x', '127.0.0.2', { [name]: value })).toBe('WRONG_HOST');
  });

  test.each([
    ['X-Forwarded-For', '1.2.3.4'],
    ['x-forwarded-anything', ''],
    ['Forwarded', 'for=1.2.3.4'],
    ['Via', '1.1 proxy'],
    ['X-Real-IP', '1.2.3.4'],
    ['Origin', 'http://dstack-guest'],
    ['Sec-Fetch-Site', 'cross-site'],
    ['Sec-Fetch-Site', 'same-site'],
  ])("a forwarded request is not the app's: %s", async (name, value) => {
    expect(await codeFrom('/getkey/x', '127.0.0.2', { [name]: value })).toBe('FORWARDED_REQUEST');
  });

  test('GET only', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      expect(await codeFrom('/getkey/x', '127.0.0.2', {}, method)).toBe('METHOD');
    }
  });

  test('two Hosts, an absolute URL, and no HTTP at all', async () => {
    const raw = async (lines: string) => {
      const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
      socket.end(lines);
      return text(socket);
    };
    const close = 'Connection: close\r\n\r\n';
    expect(await raw(`GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\nHost: evil\r\n${close}`)).toMatch(
      /WRONG_HOST| 400 /,
    );
    expect(
      await raw(`GET http://dstack-guest/getkey/x HTTP/1.1\r\nHost: dstack-guest\r\n${close}`),
    ).toContain('WRONG_HOST');
    expect(
      await raw(`GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\nX: ${'x'.repeat(20_000)}\r\n${close}`),
    ).toContain(' 431 ');
    expect(await raw('\x16\x03\x01 hello\r\n\r\n')).toContain(' 400 ');
  });
});

test('no path is parsed into anything but its own parts', () => {
  const outcome = (path: string) => {
    try {
      return parseQuestion(path);
    } catch (error) {
      return codeOf(error);
    }
  };
  fc.assert(
    fc.property(fc.webPath(), (path) => {
      const question = outcome(`/getkey${path}`);
      if (typeof question === 'string') expect(question).toMatch(/^(NO_ROUTE|BAD_TAG)$/);
      else expect(question).toEqual({ kind: 'getkey', tag: path.slice(1) });
    }),
  );
});

test('a container that asks before kubernethes knows it waits a little', async () => {
  let calls = 0;
  const callers = new Callers(async () => {
    calls += 1;
    return { containers: calls < 3 ? [] : [containers[0]!] };
  });
  expect((await callers.identify('127.0.0.2', '127.0.0.1')).app).toBe('greeting');
});

test('an address that now belongs to another app is not answered for the old one for long', async () => {
  let app = 'greeting';
  const callers = new Callers(async () => ({ containers: [{ ...containers[0]!, app }] }));
  expect((await callers.identify('127.0.0.2', '127.0.0.1')).app).toBe('greeting');
  app = 'other';
  await new Promise((resolve) => setTimeout(resolve, 2100));
  expect((await callers.identify('127.0.0.2', '127.0.0.1')).app).toBe('other');
});
