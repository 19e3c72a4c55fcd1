/** A node's API: who may ask it, what hostile requests get, and what programs ask. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { toHex, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord } from '../../../lib/protocol/records/codec.ts';
import { recordId, withoutValue } from '../../../lib/protocol/records/identity.ts';
import { nameKeys } from '../../../lib/protocol/records/names.ts';
import { ALICE, FOUNDER, rulesOf, write } from '../../../lib/protocol/records/network.fixture.ts';
import { makePulse, minuteOf } from '../../../lib/protocol/records/pulse.ts';
import { publicKeyOfSeed } from '../../../lib/protocol/records/strict-ed25519.ts';
import { apiServer } from './api.ts';
import { makeGenesis } from './genesis-file.ts';
import { RecordsService } from './service.ts';

const silent = { info: () => {}, warn: () => {}, error: () => {} };
const RUNS = 300;
let folder: string;
let service: RecordsService;
let token: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-records-api-'));
  const rules = rulesOf({ bytesPerSolution: 1 << 20, minLinks: 1 });
  service = await RecordsService.start({
    folder: join(folder, 'node'),
    http: { host: '127.0.0.1', port: 0 },
    listen: { host: '127.0.0.1', port: 0 },
    names: ['records.example'],
    genesis: makeGenesis(rules, FOUNDER, Date.now()),
    log: silent,
  });
  token = readFileSync(join(folder, 'node/authtoken'), 'utf8');
});
afterAll(async () => {
  await service?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly json: Record<string, unknown>;
}

function ask(
  method: string,
  path: string,
  { body, headers = {} }: { body?: string | Buffer | undefined; headers?: Record<string, string> } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const type =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': `${Buffer.byteLength(body)}` };
    const asked = request(service.url + path, { method, headers: { ...type, ...headers } }, async (reply) => {
      const parts: Buffer[] = [];
      for await (const part of reply) parts.push(part as Buffer);
      const text = Buffer.concat(parts).toString();
      let json = {};
      try {
        json = JSON.parse(text) as Record<string, unknown>;
      } catch {
        // Metrics and raw records are none.
      }
      resolve({ status: reply.statusCode!, body: text, json });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
  ask('POST', path, { body: JSON.stringify(body), headers });
const bearer = (): Record<string, string> => ({ authorization: `Bearer ${token}` });
/** The founder's: needs no permit. */
const founders = (value: string, links = service.node.linksFor(Date.now())) =>
  write(FOUNDER, {
    timestamp: Date.now(),
    links: links.map((id) => Buffer.from(id, 'hex')),
    value: utf8(value),
  });
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

test('a web page gets nothing: not from another place, not by another name', async () => {
  for (const path of ['/v1/status', '/metrics', `/v1/record/${service.node.network}`, '/nowhere']) {
    expect(await ask('GET', path, { headers: { origin: 'http://127.0.0.1:9980' } })).toMatchObject({
      status: 403,
      json: { code: 'ORIGIN_REFUSED' },
    });
    for (const host of [
      'evil.example',
      'records.example.evil.example',
      '127.0.0.1.evil.example',
      'localhost:99999x',
    ]) {
      expect((await ask('GET', path, { headers: { host } })).status, host).toBeGreaterThanOrEqual(400);
    }
  }
  for (const host of [
    'localhost',
    'localhost:9980',
    '127.0.0.1',
    '[::1]:9980',
    'records.example',
    'Records.Example:80',
  ]) {
    expect((await ask('GET', '/v1/status', { headers: { host } })).status, host).toBe(200);
  }
});

test('what the operator says needs the token, and where its peers are is for who has it', async () => {
  const peer = { host: '127.0.0.1', port: 9, key: 'ab'.repeat(32) };
  const make = { ownerSeed: toHex(ALICE), names: [{ name: 'x' }], value: '' };
  for (const headers of [
    {},
    { authorization: `Bearer ${'00'.repeat(32)}` },
    { authorization: token },
    { authorization: `Bearer ${token} x` },
  ]) {
    for (const [path, body] of [
      ['/v1/connect', peer],
      ['/v1/makerecord', make],
    ] as const) {
      expect(await post(path, body, headers as Record<string, string>), path).toMatchObject({
        status: 401,
        json: { code: 'TOKEN_REFUSED' },
      });
    }
    expect(
      (await ask('GET', '/v1/status', { headers: headers as Record<string, string> })).json,
    ).not.toHaveProperty('connections');
  }
  expect(await post('/v1/connect', peer, bearer())).toMatchObject({ status: 200 });
  expect((await ask('GET', '/v1/status', { headers: bearer() })).json).toMatchObject({
    connections: [],
    dialled: [peer],
  });
  expect(await post('/v1/connect', { ...peer, key: service.wire!.key }, bearer())).toMatchObject({
    status: 400,
    json: { code: 'RECORDS_PEERS' },
  });
  for (const host of ['a b', '-x', '$(id)', '../x', 'x\n', ''])
    expect(await post('/v1/connect', { ...peer, host }, bearer()), host).toMatchObject({ status: 400 });
  expect(JSON.parse(readFileSync(join(folder, 'node/peers.json'), 'utf8'))).toEqual({
    version: 1,
    peers: [peer],
  });
});

test('posted: a good record once, without its value and then with it; what waits takes no room', async () => {
  const record = founders('posted');
  const id = toHex(recordId(record));
  const pruned = base64(encodeRecord(withoutValue(record)));
  expect(await post('/v1/post', { record: pruned })).toMatchObject({
    status: 200,
    json: { id, isNew: true },
  });
  expect((await ask('GET', `/v1/record/${id}`)).json).toMatchObject({
    value: null,
    type: 'datum',
    permit: 'none',
    children: [],
  });
  const whole = base64(encodeRecord(record));
  expect(await post('/v1/post', { record: whole })).toMatchObject({ status: 200, json: { id, isNew: true } });
  expect(await post('/v1/post', { record: whole })).toMatchObject({
    status: 200,
    json: { id, isNew: false },
  });
  expect((await ask('GET', `/v1/record/${id}`)).json).toMatchObject({ value: base64(utf8('posted')) });
  expect((await ask('GET', `/v1/record/raw/${id}`)).status).toBe(200);

  const heir = founders('heir', ['cd'.repeat(32)]);
  expect(await post('/v1/post', { record: base64(encodeRecord(heir)) })).toMatchObject({
    status: 409,
    json: { code: 'RECORDS_WAITING' },
  });
  expect(service.node.waiting()).toEqual([]);
  const late = write(FOUNDER, {
    timestamp: Date.now() + 86_400_000,
    links: [recordId(record)],
    value: utf8('late'),
  });
  expect(await post('/v1/post', { record: base64(encodeRecord(late)) })).toMatchObject({
    status: 409,
    json: { code: 'RECORDS_EARLY' },
  });
  const unpaid = write(ALICE, { timestamp: Date.now(), links: [recordId(record)], value: utf8('free') });
  expect(await post('/v1/post', { record: base64(encodeRecord(unpaid)) })).toMatchObject({
    status: 400,
    json: { code: 'RECORD_PERMIT' },
  });
  expect(await post('/v1/post', { record: base64(encodeRecord(record)).slice(0, -8) })).toMatchObject({
    status: 400,
    json: { code: 'RECORD_TRUNCATED' },
  });
});

test('a pulse: by the record’s owner, of a record that is here, and not of the future', async () => {
  const record = founders('still here');
  expect((await post('/v1/post', { record: base64(encodeRecord(record)) })).status).toBe(200);
  const id = toHex(recordId(record));
  const minute = minuteOf(Date.now());
  const pulse = (of: string, at: number, seed = FOUNDER) =>
    post('/v1/pulse', { id: of, minute: at, signature: toHex(makePulse(of, at, seed).signature) });
  expect((await ask('GET', `/v1/record/${id}`)).json).toMatchObject({ pulse: null });
  expect(await pulse(id, minute)).toMatchObject({ status: 200, json: { isNew: true } });
  expect(await pulse(id, minute)).toMatchObject({ status: 200, json: { isNew: false } });
  expect((await ask('GET', `/v1/record/${id}`)).json).toMatchObject({ pulse: minute });
  expect(await pulse(id, minute + 1, ALICE)).toMatchObject({ status: 400, json: { code: 'RECORD_PULSE' } });
  expect(await pulse('ab'.repeat(32), minute)).toMatchObject({
    status: 404,
    json: { code: 'RECORDS_NO_RECORD' },
  });
  expect(await pulse(id, minute + 10_000)).toMatchObject({ status: 409, json: { code: 'RECORDS_EARLY' } });
  for (const body of [{}, { id, minute: -1, signature: 'ab'.repeat(64) }, { id, minute, signature: 'ab' }])
    expect(await post('/v1/pulse', body)).toMatchObject({ status: 400, json: { code: 'RECORDS_PULSE' } });
});

test('a program leaves the format to its own node: names, mask, work', async () => {
  const made = await post(
    '/v1/makerecord',
    { ownerSeed: toHex(ALICE), names: [{ name: 'made', ordinal: '3' }], value: base64(utf8('here')) },
    bearer(),
  );
  expect(made).toMatchObject({ status: 200 });
  const record = decodeRecord(service.node.get(made.json.id as string)!);
  const keys = nameKeys(utf8('made'), { network: service.node.genesis.id });
  expect(record).toMatchObject({
    owner: publicKeyOfSeed(ALICE),
    permit: { kind: 'work' },
    mask: { selector: 0 },
  });
  const tags = [{ from: '00'.repeat(8), to: 'ff'.repeat(8) }];
  const found = await post('/v1/query', { names: [{ claimKey: toHex(keys.claimKey), tags }] });
  expect(found.json).toMatchObject({
    sets: [[{ record: base64(encodeRecord(record)), trust: 1 }]],
    isCut: false,
  });
  const nowork = { ownerSeed: toHex(ALICE), names: [], value: '', noWork: true };
  expect(await post('/v1/makerecord', nowork, bearer())).toMatchObject({
    status: 400,
    json: { code: 'RECORDS_PERMIT' },
  });
  const over = { ...nowork, names: [{ name: 'x', ordinal: '18446744073709551616' }] };
  expect(await post('/v1/makerecord', over, bearer())).toMatchObject({
    status: 400,
    json: { code: 'RECORD_ORDINAL' },
  });
});

test('a node whose disk is full says so, to who posts and in its figures', async () => {
  const stopped = new DstackError('RECORDS_STOPPED', 'the disk is full: make room, and start the node again');
  const node = Object.assign(Object.create(service.node), {
    add: () => Promise.reject(stopped),
  }) as typeof service.node;
  const full = { ...service.status(false), stopped: { code: stopped.code, message: stopped.message } };
  const app = apiServer(
    { node, status: () => full, connect: () => {}, make: () => Promise.reject(stopped), secret: undefined },
    { token, names: [], log: silent },
  );
  const headers = { host: 'localhost' };
  const refused = await app.inject({
    method: 'POST',
    url: '/v1/post',
    headers,
    payload: { record: base64(encodeRecord(founders('x'))) },
  });
  expect([refused.statusCode, refused.json()]).toEqual([
    507,
    { code: 'RECORDS_STOPPED', message: stopped.message },
  ]);
  const metrics = (await app.inject({ url: '/metrics', headers })).body;
  expect(metrics).toContain('dstack_records_stopped 1\n');
  expect(metrics).toContain('dstack_records_requests_refused_total{code="RECORDS_STOPPED"} 1\n');
  await app.close();
});

test('what is too large, of another type, or no JSON is refused before it is read', async () => {
  const big = JSON.stringify({ record: 'A'.repeat(1 << 20) });
  expect((await ask('POST', '/v1/post', { body: big })).status).toBe(413);
  expect((await ask('POST', '/v1/query', { body: Buffer.alloc((1 << 20) + 1, 32) })).status).toBe(413);
  expect(
    (
      await ask('POST', '/v1/connect', {
        body: JSON.stringify({ host: 'x'.repeat(5_000) }),
        headers: bearer(),
      })
    ).status,
  ).toBe(413);
  expect(
    (await ask('POST', '/v1/query', { body: '{}', headers: { 'content-type': 'text/plain' } })).status,
  ).toBe(415);
  expect((await ask('POST', '/v1/query', { body: '{"__proto__":{"x":1}}' })).status).toBe(400);
  expect(await ask('POST', '/v1/query', { body: '{' })).toMatchObject({
    status: 400,
    json: { code: 'HTTP_REQUEST' },
  });
  expect((await ask('GET', `/v1/record/${'a'.repeat(3_000)}`)).status).toBeGreaterThanOrEqual(400);
});

test('noise gets a refusal with a code, and the node goes on', async () => {
  const paths = [
    '/v1/query',
    '/v1/post',
    '/v1/connect',
    '/v1/makerecord',
    '/v1/status',
    '/v1/links',
    '/v1/owner/x',
    '/v1/record/../x',
    '/%00',
    '/v1/record/%ff',
  ];
  const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
  const tags = fc.array(
    fc.record({ from: fc.stringMatching(/^[0-9a-f]{16}$/), to: fc.stringMatching(/^[0-9a-f]{16}$/) }),
    { maxLength: 3 },
  );
  const almost = fc.record(
    {
      names: fc.array(
        fc.record({ claimKey: fc.oneof(hex, fc.string()), tags: fc.oneof(tags, fc.anything()) }),
        { maxLength: 3 },
      ),
      owners: fc.array(fc.oneof(hex, fc.string()), { maxLength: 3 }),
      limit: fc.oneof(fc.integer(), fc.double()),
      from: fc.oneof(fc.nat(), fc.double()),
      oracles: fc.array(hex, { maxLength: 2 }),
      record: fc.oneof(fc.base64String(), fc.string()),
      host: fc.string(),
      port: fc.integer(),
      key: hex,
      ownerSeed: hex,
      value: fc.base64String(),
    },
    { requiredKeys: [] },
  );
  const bodies = fc
    .oneof(almost, fc.json(), fc.anything())
    .map((value) => (typeof value === 'string' ? value : (JSON.stringify(value) ?? '')));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...paths),
      fc.constantFrom('GET', 'POST', 'PUT', 'DELETE'),
      bodies,
      fc.boolean(),
      async (path, method, text, withToken) => {
        const headers: Record<string, string> = {
          'content-type': 'application/json',
          host: 'localhost',
          ...(withToken && bearer()),
        };
        const app = await inject(method, path, text, headers);
        expect([500, 507], `${method} ${path} ${text}`).not.toContain(app.statusCode);
        if (app.statusCode >= 400)
          expect(app.json()).toEqual({
            code: expect.stringMatching(/^[A-Z][A-Z_]+$/),
            message: expect.any(String),
          });
      },
    ),
    { numRuns: RUNS },
  );
  expect((await ask('GET', '/v1/status')).status).toBe(200);
});

/** Past the limits of connections and of a source's rate, which are not what is tried here. */
async function inject(method: string, url: string, payload: string, headers: Record<string, string>) {
  const app = apiServer(service, {
    token,
    names: [],
    log: { warn: ({ ...fields }) => expect.unreachable(JSON.stringify(fields)) },
  });
  return await app.inject({ method: method as 'POST', url, payload, headers }).finally(() => app.close());
}

test('one source may ask so much, and then hears when to come again', async () => {
  const app = apiServer(service, { token, names: [], log: silent });
  let refused = 0;
  // As many as it takes: what may be asked comes back while a slow machine asks.
  for (let i = 0; i < 5_000 && refused < 20; i++) {
    const { statusCode, headers } = await app.inject({
      url: '/v1/links',
      headers: { host: 'localhost' },
      remoteAddress: '192.0.2.1',
    });
    if (statusCode !== 429) continue;
    refused += 1;
    expect(headers['retry-after']).toBe('1');
  }
  expect(refused).toBe(20);
  // Others are answered, and what is the operator's is answered on this machine only.
  const from = async (remoteAddress: string, url: string) =>
    (
      await app.inject({
        method: url === '/v1/status' ? 'GET' : 'POST',
        url,
        headers: { host: 'localhost', ...bearer() },
        remoteAddress,
        ...(url !== '/v1/status' && { payload: {} }),
      })
    ).statusCode;
  expect(await from('192.0.2.2', '/v1/status')).toBe(200);
  expect(await from('192.0.2.2', '/v1/makerecord')).toBe(401);
  expect(await from('127.0.0.1', '/v1/makerecord')).toBe(400);
  await app.close();
});

test('one source may ask what takes so long, and then waits, whatever it asks', async () => {
  const app = apiServer(service, { token, names: [], log: silent });
  // By the processor's clock: that of a machine with much else to do says nothing.
  const clock = vi
    .spyOn(process, 'threadCpuUsage')
    .mockImplementation((before) => ({ user: before === undefined ? 0 : 30_000_000, system: 0 }));
  const from = async (remoteAddress: string, url: string) => {
    const method = url === '/v1/query' ? 'POST' : 'GET';
    const payload = method === 'POST' ? { payload: { from: 0 } } : {};
    return await app.inject({ method, url, headers: { host: 'localhost' }, remoteAddress, ...payload });
  };
  try {
    expect((await from('192.0.2.1', '/v1/query')).statusCode).toBe(200);
    expect((await from('192.0.2.1', '/v1/links')).json()).toMatchObject({ code: 'RECORDS_RATE' });
    expect((await from('192.0.2.2', '/v1/links')).statusCode).toBe(200);
  } finally {
    clock.mockRestore();
    await app.close();
  }
});

test('who does not read its answers gets no more of them, until it has', async () => {
  const found = { ...{ id: '', owner: '', timestamp: 0, trust: 1 }, isCollider: false, isRevoked: false };
  const query = vi.spyOn(service.node, 'query').mockImplementation(() => {
    return { sets: [[{ ...found, bytes: new Uint8Array(9 << 20), suspectedBy: [] }]], isCut: false };
  });
  const { port } = new URL(service.url);
  const body = '{"from":0}';
  const idle = connect(Number(port), '127.0.0.1').pause();
  try {
    idle.write(
      `POST /v1/query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await vi.waitFor(() => expect(query).toHaveBeenCalledTimes(1));
    expect(await post('/v1/query', { from: 0 })).toMatchObject({
      status: 503,
      json: { code: 'RECORDS_BUSY' },
    });
    expect(query).toHaveBeenCalledTimes(1);
    idle.destroy();
    await vi.waitFor(async () => expect((await post('/v1/query', { from: 0 })).status).toBe(200), 20_000);
    expect((await post('/v1/query', { from: 0 })).status).toBe(200);
  } finally {
    idle.destroy();
    query.mockRestore();
  }
});

test('a record that is too long for the network is refused before the work', async () => {
  const most = service.node.genesis.rules.maxValue;
  const made = (bytes: number) =>
    post(
      '/v1/makerecord',
      { ownerSeed: toHex(ALICE), names: [], value: base64(new Uint8Array(bytes)), noWork: true },
      bearer(),
    );
  expect((await made(most)).json).toMatchObject({ code: 'RECORDS_PERMIT' });
  expect((await made(most + 1)).json).toMatchObject({ code: 'RECORD_VALUE' });
});
