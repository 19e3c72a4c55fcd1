/** JSON over HTTP/1.1 and HTTP/2, as curl and LSKV's clients speak it. */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { app, owner, startKv, type TestKv } from '../../../test/support/kv.ts';

let kv: TestKv;
let address: string;

beforeAll(async () => {
  kv = await startKv();
  address = await kv.open(owner);
});
afterAll(async () => {
  await kv?.stop();
});

const base64 = (text: string): string => Buffer.from(text).toString('base64');

/** Of any method: what a test looks at. */
interface Answer {
  header: { revision: string };
  kvs: { value: string }[];
  count: string;
  deleted: string;
  prev_kvs: { value: string }[];
  ID: string;
  TTL: string;
  grantedTTL: string;
  leases: { ID: string }[];
  succeeded: boolean;
  responses: { response_range: { kvs: { value: string }[] } }[];
}

async function post(path: string, body: unknown, at = address, headers: Record<string, string> = {}) {
  const response = await fetch(`http://${at}/v3${path}`, {
    method: 'POST',
    headers,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { code: response.status, body: (await response.json()) as Answer };
}

describe('one request, one answer', () => {
  test('names, numbers and bytes are as etcd writes them', async () => {
    const put = await post('/kv/put', { key: base64('foo'), value: base64('bar'), prev_kv: true });
    expect(put.code).toBe(200);
    expect(put.body.header.revision).toMatch(/^\d+$/);
    const { body } = await post('/kv/range', { key: base64('foo') });
    const { revision } = put.body.header;
    expect(body.kvs).toEqual([
      {
        key: base64('foo'),
        create_revision: revision,
        mod_revision: revision,
        version: '1',
        value: base64('bar'),
      },
    ]);
    expect(body.count).toBe('1');
  });

  test('both names of a deletion, of compaction, and of what leases have', async () => {
    for (const path of ['/kv/deleterange', '/kv/delete_range']) {
      await post('/kv/put', { key: base64('gone'), value: base64('x') });
      const { body } = await post(path, { key: base64('gone'), prev_kv: true });
      expect([body.deleted, body.prev_kvs[0]!.value]).toEqual(['1', base64('x')]);
    }
    const { body } = await post('/lease/grant', { TTL: 100, ID: 0 });
    expect(body.TTL).toBe('100');
    for (const path of ['/lease/timetolive', '/kv/lease/timetolive'])
      expect((await post(path, { ID: body.ID, keys: true })).body.grantedTTL).toBe('100');
    for (const path of ['/lease/leases', '/kv/lease/leases'])
      expect((await post(path, {})).body.leases).toContainEqual({ ID: body.ID });
    expect((await post('/kv/lease/revoke', { ID: body.ID })).code).toBe(200);
    expect((await post('/lease/revoke', { ID: body.ID })).code).toBe(404);
  });

  test('a number of 64 bits is what it is, as text and as a number', async () => {
    const id = '7587848390123456789';
    expect((await post('/lease/grant', `{"TTL":60,"ID":${id}}`)).body.ID).toBe(id);
    expect((await post('/lease/revoke', `{"ID":"${id}"}`)).code).toBe(200);
  });

  test('a transaction, with camel case as well', async () => {
    const { body } = await post('/kv/txn', {
      compare: [{ key: base64('none'), target: 'CREATE', createRevision: '0', result: 'EQUAL' }],
      success: [
        { requestPut: { key: base64('none'), value: base64('made') } },
        { request_range: { key: base64('none') } },
      ],
    });
    expect(body.succeeded).toBe(true);
    expect(body.responses[1]!.response_range.kvs[0]!.value).toBe(base64('made'));
  });

  test("refusals have gRPC's code and HTTP's", async () => {
    expect(await post('/kv/put', {})).toEqual({
      code: 400,
      body: { error: 'etcdserver: key is not provided', code: 3, message: 'etcdserver: key is not provided' },
    });
    expect((await post('/maintenance/defragment', {}, await kv.open(app('some')))).code).toBe(403);
  });

  test.each([
    ['not JSON', '{"key":'],
    ['not an object', '"key"'],
    ['two objects', '{"key":"YQ=="}{"key":"YQ=="}'],
    ['rubbish between', '{"key":"YQ=="} x'],
    ['a field that is not there', '{"key":"YQ==","kye":1}'],
    ['bytes that are no base64', '{"key":"%%%"}'],
    ['a number that is none', '{"key":"YQ==","revision":1.5}'],
    ['a number above 64 bits', '{"key":"YQ==","revision":99999999999999999999}'],
    ['a field that is there twice', '{"key":"YQ==","key":"Yg=="}'],
    ['a field that is there twice, once by an escape', '{"key":"YQ==","k\\u0065y":"Yg=="}'],
    ['bytes of five characters', '{"key":"smFsy"}'],
    ['a prototype', '{"__proto__":{"key":"YQ=="}}'],
  ])('%s is refused', async (_, body) => {
    expect((await post('/kv/range', body)).code).toBe(400);
  });

  test('a failed precondition is no matter of HTTP: 400', async () => {
    expect(await post('/auth/enable', {})).toMatchObject({ code: 400, body: { code: 9 } });
  });

  // CVE-2018-1098 of etcd: a form of any page is posted to the loopback, as text, without asking before.
  test.each([
    { origin: 'http://elsewhere.example', 'content-type': 'text/plain' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
  ])('a page in a browser is refused, and nothing is written: %j', async (headers) => {
    const key = base64('by-a-page');
    expect((await post('/kv/put', { key, value: base64('x') }, address, headers)).code).toBe(403);
    expect((await post('/kv/range', { key })).body.kvs).toBeUndefined();
  });

  test('as long as the client wants to wait', async () => {
    const within = (timeout: string) =>
      post('/lock/lock', { name: base64('held') }, address, { 'grpc-timeout': timeout });
    expect((await within('60S')).code).toBe(200);
    expect(await within('50m')).toMatchObject({ code: 504, body: { code: 4 } });
    expect((await within('soon')).code).toBe(400);
  });

  test('a nesting without end is refused', async () => {
    const deep = (levels: number): string =>
      `${'{"success":[{"request_txn":'.repeat(levels)}{}${'}]}'.repeat(levels)}`;
    for (const levels of [200, 50_000]) expect((await post('/kv/txn', deep(levels))).code).toBe(400);
  });

  test('what is too large, too slow to name itself, or elsewhere', async () => {
    expect((await post('/kv/put', { key: base64('x'), value: base64('x'.repeat(3_500_000)) })).code).toBe(
      429,
    );
    expect((await post('/kv/put', { key: base64('x'), value: base64('x'.repeat(1_600_000)) })).code).toBe(
      400,
    );
    expect((await fetch(`http://${address}/v3/kv/nothing`, { method: 'POST', body: '{}' })).status).toBe(404);
    expect((await fetch(`http://${address}/v3/kv/range`)).status).toBe(501);
  });
});

interface Line {
  result: { created?: boolean; events?: { kv: { value: string } }[]; ID?: string };
}

/** Sends objects as lines and collects lines, until `enough` of them came. */
async function lines(path: string, objects: readonly unknown[], enough: number): Promise<Line[]> {
  const [host, port] = address.split(':');
  const sent = request({ host, port, path: `/v3${path}`, method: 'POST' });
  for (const one of objects) sent.write(JSON.stringify(one));
  const [response] = await once(sent, 'response');
  let said = '';
  for await (const chunk of response) {
    said += chunk;
    if (said.split('\n').length > enough) break;
  }
  sent.destroy();
  return said
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

describe('streams', () => {
  test('a watch tells a line for each answer', async () => {
    const { body } = await post('/kv/put', { key: base64('seen'), value: base64('1') });
    await post('/kv/put', { key: base64('seen'), value: base64('2') });
    const create = { create_request: { key: base64('seen'), start_revision: body.header.revision } };
    const [created, told] = await lines('/watch', [create], 2);
    expect(created!.result.created).toBe(true);
    expect(told!.result.events!.map(({ kv }) => kv.value)).toEqual([base64('1'), base64('2')]);
  });

  test('a lease is kept alive, once for each object', async () => {
    const { body } = await post('/lease/grant', { TTL: 50 });
    const found = await lines('/lease/keepalive', [{ ID: body.ID }, { ID: body.ID }], 2);
    expect(found.map(({ result }) => result.ID)).toEqual([body.ID, body.ID]);
  });

  test('the last line says why it ended', async () => {
    const [last] = await lines('/watch', ['no request'], 1);
    expect(JSON.stringify(last)).toContain('a request is a JSON object');
  });
});

test('the same on HTTP/2', async () => {
  const session = connect(`http://${address}`);
  const stream = session.request({
    ':method': 'POST',
    ':path': '/v3/kv/range',
    'content-type': 'application/json',
  });
  stream.end(JSON.stringify({ key: base64('foo') }));
  let said = '';
  for await (const chunk of stream) said += chunk;
  expect(JSON.parse(said).kvs[0].value).toBe(base64('bar'));
  session.close();
});

describe('what monitors ask', () => {
  const get = async (path: string) => {
    const response = await fetch(`http://${address}${path}`);
    return [response.status, await response.text()];
  };

  test('while all is well', async () => {
    expect(await get('/health')).toEqual([200, '{"health":"true","reason":""}']);
    expect(await get('/livez')).toEqual([200, 'ok\n']);
    expect(await get('/readyz')).toEqual([200, 'ok\n']);
    expect(await get('/version')).toEqual([200, '{"etcdserver":"3.5.16","etcdcluster":"3.5.0"}']);
    expect((await fetch(`http://${address}/health`, { method: 'POST' })).status).toBe(405);
  });

  test('while etcd is away, and once it is back', async () => {
    await kv.etcd.kill();
    expect((await get('/health'))[0]).toBe(503);
    expect((await get('/readyz'))[0]).toBe(503);
    expect(await get('/livez')).toEqual([200, 'ok\n']);
    await kv.etcd.restart();
    expect(await get('/health')).toEqual([200, '{"health":"true","reason":""}']);
  });
});
