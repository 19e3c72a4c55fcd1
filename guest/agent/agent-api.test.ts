/** The agent API over bridges and sockets, with the node's other daemons played: what is granted, what is refused, what an adversary gets. */
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { operations } from '../../lib/protocol/agent-api.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { AGENT_API, type AgentApi } from '../../lib/protocol/manifest.ts';
import { SIGN_MAX_BYTES } from '../../lib/protocol/sockets.ts';
import vectors from '../../testdata/protocol/app-keys.json' with { type: 'json' };
import { Callers } from '../callers.ts';
import { listenAt } from '../listen.ts';
import { AppSockets } from './app-sockets.ts';
import { Doors } from './door.ts';
import { ecosystemCalls } from './ecosystem.ts';
import { openApi } from './openapi.ts';
import { Refusals } from './refusals.ts';
import { agentServer } from './server.ts';
import type { Siblings } from './siblings.ts';

const [vector] = vectors.vectors as [(typeof vectors.vectors)[number]];
const hash = parseHex('aa'.repeat(32));
const contract = parseAddress(vector.contract);
const register = parseHex('55'.repeat(48));
const chain = [parseHex('01'.repeat(65)), parseHex('02'.repeat(65))];

const container = (app: string, address: string, gateway: string, api: readonly AgentApi[]) => ({
  ...{ app, address, gateway, container: 'web', manifestHash: hash, api: [...api] },
});
const ended = { code: 'APP_SUPERSEDED' as const, message: 'another one is in force' };
const containers = [
  container('greeting', '127.0.0.2', '127.0.0.1', AGENT_API),
  container('other', '127.0.0.6', '127.0.0.5', AGENT_API),
  container('quiet', '127.0.0.10', '127.0.0.9', []),
  ...AGENT_API.map((word, index) => container(`only-${word}`, `127.0.1.${index + 2}`, '127.0.1.1', [word])),
  { ...container('gone', '127.0.0.14', '127.0.0.13', AGENT_API), ended },
];
const gateways = ['127.0.0.1', '127.0.0.5', '127.0.0.9', '127.0.0.13', '127.0.1.1'];

/** What the agent asked of the other daemons: each time for which app. */
let asked: { what: string; app: string }[] = [];
/** Costly calls that have been asked for and not been answered yet. */
const held: { app: string; go: () => void }[] = [];
let isHolding = false;
let manifestText = '{"env":"grüß dich"}';

const answer = async <T>(what: string, app: string, reply: T): Promise<T> => {
  asked.push({ what, app });
  if (isHolding) await new Promise<void>((go) => held.push({ app, go }));
  return reply;
};
const siblings: Siblings = {
  containers: async () => ({ containers, manifests: [hash] }),
  manifest: async () => ({ text: manifestText }),
  appKey: (app, _tag, type) =>
    answer('key', app, {
      key: parseHex(vector.raw),
      ...(type !== undefined && type !== 'raw' && type !== 'p256'
        ? { publicKey: parseHex(vector[type].publicKey), chain }
        : {}),
    }),
  sign: (app) =>
    answer('sign', app, {
      signature: parseHex(vector.signatures.secp256k1),
      publicKey: parseHex(vector.secp256k1.publicKey),
      chain,
    }),
  attest: (app) => answer('attest', app, { signature: parseHex(`1b${'11'.repeat(64)}`) }),
  quote: (app) => answer('quote', app, { quote: parseHex('77'), reportData: parseHex('66'.repeat(64)) }),
  rawQuote: (app) =>
    answer('raw', app, undefined as never).then(() => {
      throw new DstackError('RAW_QUOTES_OFF', 'rawQuotes of network.json is left out');
    }),
  certificate: ({ app }) => answer('certificate', app, { chain: [parseHex('3000'), parseHex('3000')] }),
  authority: (app) => answer('authority', app, { certificate: parseHex('3000') }),
  chainHead: () => answer('head', '', { number: 7, hash: parseHex(hash), timestamp: 1, agreeing: 2, of: 3 }),
  chainCall: () => answer('call', '', { data: parseHex('77') }),
  info: async () => ({
    ...{ chainId: 31337, contract, networkKey: contract, epoch: 1, flavour: 'sim' },
    ...{ config: hash, measurement: hash, platform: hash },
  }),
  machine: async () => ({
    ...{ mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register, rtmr3: register },
    events: [{ register: 3, type: 1, digest: register, name: 'joined', payload: parseHex('') }],
  }),
  status: async () => ({ joined: true, epoch: 1, reached: { block: 5, timestamp: 7, now: 9 } }),
  disk: async () => ({ state: 'ready', diskId: parseHex('ab'.repeat(16)) }),
};

const root = mkdtempSync(join(tmpdir(), 'dstack-api-'));
let server: Server;
let appSockets: AppSockets;
let port = 0;
let now = 0;
/** Requests that the server has read, whatever becomes of them, and its connections. */
let read = 0;
const connections = new Set<unknown>();
const opened: Socket[] = [];

beforeAll(async () => {
  server = agentServer(new Callers(siblings.containers), siblings, { debug() {}, warn() {} }, (socket) =>
    appSockets.ownerOf(socket),
  );
  server.on('request', () => {
    read += 1;
  });
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  appSockets = new AppSockets(join(root, 'apps'), server, new Doors({ warn() {} }), () => now);
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  port = (free.address() as AddressInfo).port;
  await new Promise((resolve) => free.close(resolve));
  await listenAt(server, gateways, port);
});
/** For which apps something was refused. None rests for it here: there are hundreds. */
let refused: string[] = [];
const counting = vi.spyOn(Refusals.prototype, 'count').mockImplementation((app) => void refused.push(app));
beforeEach(() => {
  asked = [];
  refused = [];
});
afterEach(() => {
  isHolding = false;
  for (const { go } of held.splice(0)) go();
  for (const socket of opened.splice(0)) socket.destroy();
});
afterAll(() => {
  counting.mockRestore();
  server.close();
  rmSync(root, { recursive: true, force: true });
});

const folderOf = (app: string): Promise<string> => {
  const { container: name, manifestHash, gateway } = containers.find((one) => one.app === app)!;
  return appSockets.open({ app, container: name, manifestHash, gateway });
};

interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  body: string;
}

/** One request: by the bridge of an app's container, or by its socket. */
async function ask(
  app: string,
  method: string,
  path: string,
  body?: unknown,
  { by = 'bridge', headers = {} as Record<string, string> } = {},
): Promise<Reply> {
  const { address, gateway } = containers.find((one) => one.app === app)!;
  const sent = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const place =
    by === 'bridge'
      ? { host: gateway, port, localAddress: address }
      : { socketPath: join(await folderOf(app), 'dstack.sock') };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const type = sent === undefined ? {} : { 'content-type': 'application/json' };
    const all = { host: by === 'bridge' ? 'dstack-guest' : 'localhost', ...type, ...headers };
    const length = sent === undefined ? {} : { 'content-length': Buffer.byteLength(sent) };
    request({ ...place, method, path, agent: false, headers: { ...length, ...all } }, resolve)
      .on('error', reject)
      .end(sent);
  });
  return { status: response.statusCode!, headers: response.headers, body: await text(response) };
}
const codeOf = ({ status, body }: Reply): string =>
  status === 200 ? 'answered' : ((JSON.parse(body) as { code?: string }).code ?? 'none');

/** One request of each operation, and of each call of the ecosystem's. */
const examples: Record<string, unknown> = {
  '/v1/key': { tag: 'wallet/eth', type: 'secp256k1', purpose: 'eth' },
  '/v1/sign': { tag: 'x', algorithm: 'secp256k1', data: '00ff' },
  '/v1/verify': {
    algorithm: 'secp256k1',
    data: vector.data,
    signature: vector.signatures.secp256k1,
    publicKey: vector.secp256k1.publicKey,
  },
  '/v1/quote': { data: '00ff' },
  '/v1/attest': { tag: 'x', data: '00ff' },
  '/v1/chain/call': { to: contract, data: '00ff', block: { number: 7, hash } },
  '/GetKey': { path: 'wallet/eth', purpose: 'eth', algorithm: 'secp256k1' },
  '/GetTlsKey': { subject: 'a', usage_ra_tls: false, usage_server_auth: true, usage_client_auth: false },
  '/GetQuote': { report_data: '00ff' },
  '/Attest': { report_data: '00ff' },
  '/Sign': { algorithm: 'ed25519', data: '00ff' },
  '/Verify': { algorithm: 'ed25519', data: '00', signature: '00', public_key: '00' },
  '/Info': {},
  '/Version': {},
  '/EmitEvent': { event: 'a', payload: '00' },
  '/prpc/Tappd.DeriveKey': { path: '/', subject: 'a' },
  '/prpc/Tappd.TdxQuote': { report_data: '00', hash_algorithm: 'raw' },
  '/prpc/Tappd.Info': {},
};
/** What is there, and the words that let a container have it. */
const things: [method: string, path: string, words: readonly string[] | 'any'][] = [
  ...Object.values(operations).map(({ method, path, word }): [string, string, readonly string[] | 'any'] => [
    method,
    path,
    word === 'any' ? 'any' : [word],
  ]),
  ...ecosystemCalls.map(({ path, words }): [string, string, readonly string[] | 'any'] => [
    'POST',
    path,
    words,
  ]),
  ['GET', '/openapi.json', 'any'],
];

describe('what is granted', () => {
  test.each(things)('%s %s', async (method, path, words) => {
    for (const by of ['bridge', 'socket']) {
      for (const word of AGENT_API) {
        const reply = await ask(`only-${word}`, method, path, examples[path], { by });
        const has = words === 'any' || words.includes(word);
        expect([word, reply.body.includes('API_NOT_GRANTED')]).toEqual([word, !has]);
        if (!has) expect(reply.status).toBe(403);
      }
      asked = [];
      if (by === 'bridge')
        expect(codeOf(await ask('quiet', method, path, examples[path]))).toBe('API_NOT_GRANTED');
      expect((await ask('gone', method, path, examples[path], { by })).body).toContain('APP_SUPERSEDED');
      expect(asked).toEqual([]);
    }
  });

  test('every operation answers in its own form, in ASCII and with its length', async () => {
    for (const [name, { method, path, reply }] of Object.entries(operations)) {
      const { status, headers, body } = await ask('greeting', method, path, examples[path]);
      expect([name, status, body]).toEqual([name, 200, expect.any(String)]);
      expect([name, Value.Check(reply, JSON.parse(body))]).toEqual([name, true]);
      expect(headers['content-type']).toBe('application/json');
    }
    for (const [method, path] of things) {
      const { headers, body } = await ask('greeting', method, path, examples[path], { by: 'socket' });
      expect(body).toMatch(/^[\x20-\x7e\n]*$/);
      expect(Number(headers['content-length'])).toBe(body.length);
      expect(headers).not.toHaveProperty('transfer-encoding');
    }
    // What is beyond ASCII arrives as it was.
    const { body } = await ask('greeting', 'POST', '/Info', {}, { by: 'socket' });
    expect(JSON.parse(JSON.parse(body).tcb_info).app_compose).toBe('{"env":"grüß dich"}');
  });

  test('keys and signatures are passed on with who vouches for them', async () => {
    const key = JSON.parse((await ask('greeting', 'POST', '/v1/key', examples['/v1/key'])).body);
    expect(key).toEqual({
      ...{ key: vector.raw, publicKey: vector.secp256k1.publicKey, chain },
      address: vector.secp256k1.address,
    });
    const sdk = JSON.parse((await ask('greeting', 'POST', '/GetKey', {})).body);
    expect(sdk).toEqual({ key: vector.raw, signature_chain: chain });
    const valid = async (change: object) =>
      JSON.parse(
        (await ask('greeting', 'POST', '/v1/verify', { ...(examples['/v1/verify'] as object), ...change }))
          .body,
      ).valid;
    expect(await valid({})).toBe(true);
    expect(await valid({ data: '00' })).toBe(false);
    expect(await valid({ publicKey: '' })).toBe(false);
  });

  test('emitEvent has an answer that is no JSON, and an unknown algorithm none', async () => {
    const { status, body, headers } = await ask(
      'greeting',
      'POST',
      '/EmitEvent',
      { event: 'a' },
      { by: 'socket' },
    );
    expect([status, headers['content-type']]).toEqual([501, 'text/plain; charset=utf-8']);
    expect(body).toMatch(/^EVENTS_CLOSED: RTMR3 was closed/);
    expect(() => JSON.parse(body)).toThrow();
    for (const [path, body] of [
      ['/GetKey', { algorithm: 'rsa' }],
      ['/Sign', { algorithm: 'secp256k1 ', data: '00' }],
      ['/prpc/Tappd.TdxQuote', { report_data: '00', hash_algorithm: 'md5' }],
    ] as const)
      expect(JSON.parse((await ask('greeting', 'POST', path, body)).body).error).toMatch(/^BAD_ALGORITHM/);
  });

  test('a certificate with a quote needs the word for quotes, too', async () => {
    const quoted = { usage_ra_tls: true };
    for (const path of ['/GetTlsKey', '/prpc/Tappd.DeriveKey'])
      expect((await ask('only-key', 'POST', path, quoted)).body).toContain('API_NOT_GRANTED');
    expect(asked.filter(({ what }) => what === 'certificate')).toEqual([]);
    expect((await ask('greeting', 'POST', '/GetTlsKey', quoted)).status).toBe(200);
  });
});

describe('the socket', () => {
  test('is who asks: nothing that a request says changes it', async () => {
    for (const app of ['greeting', 'other']) {
      const body = { path: 'x', app: 'greeting', app_id: 'greeting' };
      const headers = { host: 'greeting', 'x-app': 'greeting', cookie: 'app=greeting' };
      asked = [];
      expect((await ask(app, 'POST', '/GetKey', body, { by: 'socket', headers })).status).toBe(200);
      expect(asked).toEqual([{ what: 'key', app }]);
    }
    // Fields of ours that are not known are refused.
    const strict = { tag: 'x', type: 'raw', app: 'other' };
    expect(codeOf(await ask('greeting', 'POST', '/v1/key', strict, { by: 'socket' }))).toBe('BAD_BODY');
  });

  test.each([
    ['X-Forwarded-For', '1.2.3.4'],
    ['Via', '1.1 proxy'],
    ['Origin', 'http://localhost'],
    ['Sec-Fetch-Site', 'cross-site'],
  ])('lends nobody its identity: %s', async (name, value) => {
    const options = { by: 'socket', headers: { [name]: value } };
    expect(codeOf(await ask('greeting', 'POST', '/GetKey', {}, options))).toBe('FORWARDED_REQUEST');
  });

  test('is for the container alone: the folder of all is closed, its own is open to whoever has it mounted', async () => {
    const folder = await folderOf('greeting');
    const mode = (path: string) => statSync(path).mode & 0o777;
    expect(mode(join(folder, '..'))).toBe(0o700);
    expect(mode(folder)).toBe(0o755);
    expect(mode(join(folder, 'dstack.sock'))).toBe(0o666);
    expect(lstatSync(join(folder, 'dstack.sock')).isSocket()).toBe(true);
    expect(readlinkSync(join(folder, 'tappd.sock'))).toBe('dstack.sock');
    expect(await folderOf('greeting')).toBe(folder);
    expect(await folderOf('other')).not.toBe(folder);
    expect(join(folder, 'dstack.sock.new').length - root.length).toBeLessThan(60);
  });

  test('each container of an app, and each of its manifests, has its own', async () => {
    const of = { app: 'greeting', container: 'web', manifestHash: hash, gateway: '127.0.0.1' };
    const folders = await Promise.all([
      appSockets.open(of),
      appSockets.open({ ...of, container: 'db' }),
      appSockets.open({ ...of, manifestHash: parseHex('bb'.repeat(32)) }),
    ]);
    expect(new Set(folders).size).toBe(3);
    // Nobody runs behind the other two.
    for (const folder of folders.slice(1)) {
      const socket = connect({ path: join(folder, 'dstack.sock') });
      opened.push(socket);
      socket.write('GET /v1/info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      expect(await text(socket)).toContain('UNKNOWN_CALLER');
    }
  });

  test('is in the same folder after the agent was started again, and goes when no container needs it', async () => {
    const mine = { app: 'greeting', container: 'web', manifestHash: hash, gateway: '127.0.0.1' };
    const inOwn = () => new AppSockets(join(root, 'own'), server, new Doors({ warn() {} }), () => now);
    const before = inOwn();
    const folder = await before.open(mine);
    // Of a container that is gone, and of one that has nothing to ask.
    const left = await before.open({ ...mine, app: 'left' });
    const quiet = await before.open({ ...mine, app: 'quiet', gateway: '127.0.0.9' });
    const inode = statSync(folder).ino;
    const again = inOwn();
    await again.follow(await siblings.containers());
    expect(statSync(folder).ino).toBe(inode);
    const socket = connect({ path: join(folder, 'dstack.sock') });
    await once(socket, 'connect');
    socket.destroy();
    now += 599_000;
    await again.follow({ containers: [], manifests: [hash] });
    expect([folder, left, quiet].map((path) => existsSync(path))).toEqual([true, true, true]);
    now += 599_000;
    await again.follow({ containers: [], manifests: [] });
    expect([folder, left, quiet].map((path) => existsSync(path))).toEqual([true, false, false]);
    now += 2_000;
    await again.follow({ containers: [], manifests: [] });
    expect(existsSync(folder)).toBe(false);
    now = 0;
  });

  test('of an app that came back on another bridge counts there, and not towards who has its old one', async () => {
    const doors = new Doors({ warn() {} });
    const own = new AppSockets(join(root, 'moved'), server, doors, () => now);
    const mine = { app: 'greeting', container: 'web', manifestHash: hash, gateway: '127.0.0.1' };
    await own.open(mine);
    const folder = await own.open({ ...mine, gateway: '127.0.0.9' });
    const counted = vi.spyOn(doors, 'mayEnter');
    const socket = connect({ path: join(folder, 'dstack.sock') });
    opened.push(socket);
    socket.end('GET /v1/info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(await text(socket)).toContain('HTTP/1.1');
    expect(counted.mock.calls).toEqual([['127.0.0.9']]);
    await own.close();
  });

  test('that can not be opened keeps no other from it', async () => {
    const [first, second] = containers as [(typeof containers)[number], (typeof containers)[number]];
    const own = new AppSockets(join(root, 'blocked'), server, new Doors({ warn() {} }), () => now);
    // Folders have the same names below any root.
    const socketOf = async (app: string) =>
      join(root, 'blocked', basename(await folderOf(app)), 'dstack.sock');
    const blocked = dirname(await socketOf(first.app));
    writeFileSync(blocked, 'no folder');
    const all = { containers: [first, second], manifests: [hash] };
    await expect(own.follow(all)).rejects.toThrow('EEXIST');
    expect(existsSync(await socketOf(second.app))).toBe(true);
    rmSync(blocked);
    await own.follow(all);
    expect(existsSync(await socketOf(first.app))).toBe(true);
  });
});

describe('an adversary', () => {
  const mine = containers[0]!;

  test.each([
    ['no JSON', 'hello', 'BAD_BODY'],
    ['half of it', '{"tag":"a","type":', 'BAD_BODY'],
    ['a key twice', '{"tag":"a","tag":"b","type":"raw"}', 'BAD_BODY'],
    ['nothing', '', 'BAD_BODY'],
    ['an array', '[]', 'BAD_BODY'],
    ['null', 'null', 'BAD_BODY'],
    ['depth', `${'['.repeat(20_000)}`, 'BAD_BODY'],
    ['another type', { tag: 'a', type: 'p256' }, 'BAD_BODY'],
    ['a tag of control characters', { tag: 'a\n', type: 'raw' }, 'BAD_BODY'],
    ['a tag beyond ASCII', { tag: 'ключ', type: 'raw' }, 'BAD_BODY'],
    ['a long tag', { tag: 'a'.repeat(257), type: 'raw' }, 'BAD_BODY'],
    [
      'thousands of fields',
      Object.fromEntries(Array.from({ length: 4_000 }, (_, at) => [at, 1])),
      'BAD_BODY',
    ],
    ['__proto__', '{"__proto__":{"tag":"a"},"tag":"a","type":"raw"}', 'BAD_BODY'],
    ['a body of a megabyte', 'x'.repeat(2 ** 20), 'BODY_TOO_LARGE'],
  ])('sends %s', async (_, body, code) => {
    const reply = await ask('greeting', 'POST', '/v1/key', body);
    expect(codeOf(reply)).toBe(code);
    expect(asked).toEqual([]);
    const sdk = await ask('greeting', 'POST', '/GetKey', body, { by: 'socket' });
    if (sdk.status !== 200) expect(JSON.parse(sdk.body)).toHaveProperty('error');
  });

  test('sends more than may be signed, another type of content, a body without a length', async () => {
    const data = (bytes: number) => ({ tag: 'x', algorithm: 'ed25519', data: 'ab'.repeat(bytes) });
    expect(codeOf(await ask('greeting', 'POST', '/v1/sign', data(SIGN_MAX_BYTES)))).toBe('answered');
    expect(codeOf(await ask('greeting', 'POST', '/v1/sign', data(SIGN_MAX_BYTES + 1)))).toBe('BAD_BODY');
    const headers = { 'content-type': 'text/plain' };
    expect(codeOf(await ask('greeting', 'POST', '/v1/quote', { data: '' }, { headers }))).toBe('BODY_TYPE');
    const raw = connect({ host: mine.gateway, port, localAddress: mine.address });
    opened.push(raw);
    raw.write(
      'POST /v1/key HTTP/1.1\r\nHost: dstack-guest\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
    );
    const chunk = 'x'.repeat(16_384);
    for (let one = 0; one < 8; one += 1) raw.write(`4000\r\n${chunk}\r\n`);
    raw.write('0\r\n\r\n');
    expect(await text(raw)).toContain('BODY_TOO_LARGE');
  });

  test('sends more values than any call has: they are counted, and not looked at', async () => {
    // What is behind them is no JSON, which nobody finds out.
    const body = (values: number) => `{"tag":[${'0,'.repeat(values)}`;
    expect((await ask('greeting', 'POST', '/v1/key', body(125))).body).toContain('is not JSON');
    for (const path of ['/v1/key', '/GetKey'])
      expect((await ask('greeting', 'POST', path, body(127))).body).toContain('more than 128 values');
  });

  test('asks by other methods, and for what is not there', async () => {
    expect(codeOf(await ask('greeting', 'GET', '/v1/key'))).toBe('METHOD');
    expect(codeOf(await ask('greeting', 'POST', '/v1/info', {}))).toBe('METHOD');
    expect(codeOf(await ask('greeting', 'POST', '/getkey/x', {}))).toBe('METHOD');
    expect(codeOf(await ask('greeting', 'DELETE', '/GetKey'))).toBe('METHOD');
    // What was meant is said where that is plain; a query, or a path as long as may be, costs nothing.
    for (const [method, path, meant] of [
      ['POST', '/GETKEY', 'POST /GetKey'],
      ['POST', '/v1/key/', 'POST /v1/key'],
      ['GET', '/v1/status?x=1', 'GET /v1/status'],
      ['GET', `/v1/info${'/'.repeat(15_000)}`, 'openapi.json'],
    ] as const)
      expect((await ask('greeting', method, path, method === 'POST' ? {} : undefined)).body).toContain(meant);
    // Of what is nowhere nobody is told to try it by another method.
    for (const path of ['/v1/keys', '/v1/key/', '/GETKEY', '/prpc/tappd.DeriveKey'])
      expect(codeOf(await ask('greeting', 'POST', path, {})), path).toBe('NO_ROUTE');
    for (const path of ['/v1/app-key', '/v1/key/', '/v1/key?tag=a', '/v1/../GetKey', '/constructor'])
      expect(codeOf(await ask('greeting', 'GET', path))).toBe('NO_ROUTE');
    expect(asked).toEqual([]);
  });

  test('is counted for each refusal, and each connection without use; not for what it gets, nor for what others are not ready for', async () => {
    const path = join(await folderOf('greeting'), 'dstack.sock');
    const sends = async (...pieces: string[]) => {
      const socket = connect({ path });
      socket.on('error', () => {}).resume();
      for (const piece of pieces) socket.write(piece);
      socket.end();
      await once(socket, 'close');
    };
    const start = 'POST /v1/key HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n';
    const useless: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['nowhere', () => ask('greeting', 'GET', '/nowhere')],
      ['bad body', () => ask('greeting', 'POST', '/v1/key', {})],
      ['no JSON', () => ask('greeting', 'POST', '/GetKey', 'no JSON')],
      ['forwarded', () => ask('greeting', 'GET', '/v1/status', undefined, { headers: { via: 'a' } })],
      ['refused by the answer', () => ask('greeting', 'POST', '/EmitEvent', {})],
      ['no HTTP', () => sends('\r\n\r\nno HTTP\r\n')],
      ['headers too large', () => sends(`${start}A: ${'a'.repeat(20_000)}\r\n\r\n`)],
      ['half a request', () => sends(`${start}Content-Length: 100\r\n\r\n{"tag":`)],
      ['nothing', () => sends()],
      ['another protocol', () => sends('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')],
    ];
    for (const [what, act] of useless) {
      refused = [];
      await act();
      await expect.poll(() => [what, ...refused], { timeout: 15_000 }).toEqual([what, mine.gateway]);
    }
    refused = [];
    for (const [method, asking] of [
      ['GET', '/v1/status'],
      ['POST', '/v1/key'],
    ] as const)
      expect((await ask('greeting', method, asking, examples[asking])).status).toBe(200);
    const away = vi.spyOn(siblings, 'status').mockRejectedValue(new DstackError('SOCKET_TIMEOUT', 'later'));
    expect((await ask('greeting', 'GET', '/v1/status')).status).toBe(503);
    away.mockRestore();
    await expect.poll(() => connections.size).toBe(0);
    expect(refused).toEqual([]);
  });

  test('sends a body without end: it is answered, and the connection is closed, also where no body belongs', async () => {
    const path = join(await folderOf('greeting'), 'dstack.sock');
    const json = 'Content-Type: application/json\r\n';
    for (const [line, length, status] of [
      ['POST /v1/key', `${json}Transfer-Encoding: chunked\r\n`, 413],
      ['POST /v1/key', `${json}Content-Length: 1000000000\r\n`, 413],
      ['GET /v1/status', 'Transfer-Encoding: chunked\r\n', 200],
      ['POST /nowhere', 'Transfer-Encoding: chunked\r\n', 404],
    ] as const) {
      const socket = connect({ path });
      opened.push(socket);
      const answer = text(socket);
      socket.write(
        `${line} HTTP/1.1\r\nHost: a\r\n${length}\r\n${`4000\r\n${'x'.repeat(16_384)}\r\n`.repeat(8)}`,
      );
      expect(await answer).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*\r\nconnection: close\r\n`, 'i'));
    }
  });

  test('has 64 connections over its bridge and its socket together, and another is answered', async () => {
    const path = join(await folderOf('greeting'), 'dstack.sock');
    await folderOf('other');
    for (let one = 0; one < 200; one += 1) {
      const socket =
        one % 2 === 0 ? connect({ host: mine.gateway, port, localAddress: mine.address }) : connect({ path });
      socket.on('error', () => {}).resume();
      opened.push(socket);
    }
    await expect.poll(() => opened.filter(({ destroyed }) => !destroyed)).toHaveLength(64);
    for (const by of ['bridge', 'socket'])
      expect(codeOf(await ask('other', 'GET', '/v1/status', undefined, { by }))).toBe('answered');
  });

  test('sends the next requests before it is answered: they are read one by one, and answered in their order', async () => {
    // Until the connections of before are gone.
    const first = () => ask('greeting', 'GET', '/v1/status').then(codeOf, () => 'closed');
    await expect.poll(first).toBe('answered');
    const path = join(await folderOf('greeting'), 'dstack.sock');
    const start = (line: string) => `${line} HTTP/1.1\r\nHost: dstack-guest\r\n`;
    const json = `${start('POST /v1/key')}Content-Type: application/json\r\n`;
    const key = '{"tag":"a",\r\n\r\n"type":"raw"}';
    const requests = [
      `${start('GET /getkey/x')}\r\n`,
      `${json}Content-Length: ${key.length}\r\n\r\n${key}`,
      `${json}Transfer-Encoding: chunked\r\n\r\n${[...key].map((one) => `1\r\n${one}\r\n`).join('')}0\r\nA: b\r\n\r\n`,
      `${start('GET /nowhere')}\r\n`,
      // Refused before its body has come.
      `${start('POST /nowhere')}Content-Length: 5000\r\n\r\n${'\r\n'.repeat(2_500)}`,
      `${start('GET /getkey/y')}Expect: the unexpected\r\nContent-Length: 3\r\n\r\nabc`,
      `${start('GET /getkey/z')}Connection: close\r\n\r\n`,
      `${start('GET /getkey/unheard')}\r\n`,
    ];
    const statuses = [200, 200, 200, 404, 404, 200, 200];
    for (const way of [{ path }, { host: mine.gateway, port, localAddress: mine.address }]) {
      isHolding = true;
      asked = [];
      const before = read;
      const socket = connect(way);
      opened.push(socket);
      const answers = text(socket);
      socket.write(requests.join(''));
      for (const heard of [1, 2, 3, 6, 7]) {
        await expect.poll(() => held.length).toBe(1);
        expect(read - before).toBe(heard);
        held.shift()!.go();
      }
      isHolding = false;
      const answered = [...(await answers).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));
      expect(answered).toEqual(statuses);
      expect(asked).toHaveLength(5);
    }
  });

  test('has 64 requests under way, also those that it does not wait for; of these none is carried out', async () => {
    isHolding = true;
    const before = read;
    const path = join(await folderOf('greeting'), 'dstack.sock');
    const ways = [{ path }, { host: mine.gateway, port, localAddress: mine.address }];
    const left = Array.from({ length: 64 }, (_, one) => {
      const socket = connect(ways[one % 2]!);
      opened.push(socket);
      socket.on('error', () => {}).resume();
      socket.write('GET /getkey/x HTTP/1.1\r\nHost: dstack-guest\r\n\r\n');
      return socket;
    });
    await expect.poll(() => [held.length, read - before]).toEqual([1, 64]);
    for (const socket of left) socket.destroy();
    const again = async () => ask('greeting', 'GET', '/v1/status').catch(() => undefined);
    await expect.poll(async () => (await again())?.status).toBe(429);
    expect((await again())?.headers['retry-after']).toBe('1');
    expect(codeOf(await ask('other', 'GET', '/v1/status'))).toBe('answered');
    isHolding = false;
    held.pop()!.go();
    await expect.poll(async () => (await again())?.status).toBe(200);
    expect(asked).toEqual([{ what: 'key', app: 'greeting' }]);
  });

  test('waits for its turn until it is none of the apps any more, and gets nothing', async () => {
    isHolding = true;
    const first = ask('greeting', 'GET', '/getkey/x');
    await expect.poll(() => held.length).toBe(1);
    const waiting = [
      ask('greeting', 'GET', '/getkey/y'),
      ask('greeting', 'POST', '/v1/key', examples['/v1/key'], { by: 'socket' }),
    ];
    // They have been let in, and what is known of containers is asked for anew after two seconds.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    Object.assign(mine, { ended });
    isHolding = false;
    held.pop()!.go();
    await first;
    for (const reply of await Promise.all(waiting)) expect(codeOf(reply)).toBe('APP_SUPERSEDED');
    expect(asked).toEqual([{ what: 'key', app: 'greeting' }]);
    delete (mine as { ended?: unknown }).ended;
    await expect.poll(async () => codeOf(await ask('greeting', 'GET', '/v1/status'))).toBe('answered');
  });

  test('what costs a processor is done one after the other for an app, and at once for another', async () => {
    isHolding = true;
    const body = { tag: 'x', algorithm: 'ed25519', data: '00' };
    const sent = Array.from({ length: 20 }, (_, one) =>
      ask(
        'greeting',
        'POST',
        ['/v1/sign', '/v1/quote', '/GetKey'][one % 3]!,
        [body, { data: '' }, {}][one % 3],
        {
          by: one % 2 === 0 ? 'bridge' : 'socket',
        },
      ),
    );
    await expect.poll(() => held.length).toBeGreaterThan(0);
    const theirs = ask('other', 'POST', '/v1/sign', body);
    await expect.poll(() => held.map(({ app }) => app).sort()).toEqual(['greeting', 'other']);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(held.map(({ app }) => app).sort()).toEqual(['greeting', 'other']);
    isHolding = false;
    for (const { go } of held.splice(0)) go();
    expect(codeOf(await theirs)).toBe('answered');
    for (const reply of await Promise.all(sent)) expect(codeOf(reply)).toBe('answered');
  });

  test('leaves a request half sent: its headers, or its body, and the connection is closed', async () => {
    const path = join(await folderOf('greeting'), 'dstack.sock');
    const start = 'POST /GetKey HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
    const halves = [start, `${start}Content-Length: 100\r\n\r\n{"path":`];
    const closed = halves.flatMap((half) =>
      [connect({ path }), connect({ host: mine.gateway, port, localAddress: mine.address })].map(
        async (socket) => {
          opened.push(socket);
          socket.on('error', () => {}).resume();
          socket.write(half.replace('localhost', 'dstack-guest'));
          await once(socket, 'close');
        },
      ),
    );
    await Promise.all(closed);
    // One that ends its side without a body gets an answer, or nothing.
    const socket = connect({ path, allowHalfOpen: true });
    opened.push(socket);
    socket.end(halves[1]!);
    expect(await text(socket)).not.toContain('200 OK');
    expect(asked).toEqual([]);
  }, 300_000);
});

test('an answer that is not taken is not kept for long, nor is the connection', async () => {
  const before = manifestText;
  // Of the size that a manifest may have, and more than the kernel holds for a connection.
  manifestText = `{"env":"${'ü'.repeat(60_000)}"}`;
  const { gateway, address } = containers[0]!;
  const path = join(await folderOf('greeting'), 'dstack.sock');
  const [taken, left] = [connect({ host: gateway, port, localAddress: address }), connect({ path })];
  opened.push(taken, left);
  for (const socket of [taken, left])
    socket.write(
      'POST /Info HTTP/1.1\r\nHost: dstack-guest\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}',
    );
  expect((await text(taken)).endsWith('}')).toBe(true);
  // Both are closed: the server has no other.
  await expect.poll(() => connections.size).toBe(0);
  // What the kernel had is there, and then no more.
  expect((await text(left)).endsWith('}')).toBe(false);
  manifestText = before;
}, 300_000);

describe('the OpenAPI document', () => {
  const file = join(import.meta.dirname, '../../docs/agent.openapi.json');
  const documented = JSON.parse(readFileSync(file, 'utf8')) as { paths: object };

  test('is served, and docs/agent.openapi.json is a copy', async () => {
    const { status, body } = await ask('greeting', 'GET', '/openapi.json');
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual(JSON.parse(JSON.stringify(openApi())));
    // `npx vitest run guest/agent/agent-api.test.ts -u` writes the copy anew.
    await expect(`${JSON.stringify(openApi(), null, 2)}\n`).toMatchFileSnapshot(file);
  });

  test('has every path that is no call of the ecosystem', () => {
    const paths = Object.keys(documented.paths);
    expect(paths.sort()).toEqual(
      [
        ...Object.values(operations).map(({ path }) => path),
        ...['/getkey/{tag}', '/attest/{tag}/{hex}', '/appdata/{tag}/{hex}'],
      ].sort(),
    );
  });
});
