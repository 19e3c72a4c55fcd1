/** What a hostile client sends to the JSON gateway, over HTTP/1.1 by hand. */
import type { Random } from '../../torture/random.ts';
import type { Attack } from './attacks.ts';
import { pause, RawConnection } from './raw-http2.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');
const ALL = { key: base64('\0'), range_end: base64('\0') };

function request(path: string, body: string, more: readonly string[] = []): Buffer {
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  const head = [`POST ${path} HTTP/1.1`, 'Host: kv', 'Content-Type: application/json', length, ...more];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/** Each on a connection of its own. */
async function each(address: string, requests: readonly Uint8Array[], wait = 60): Promise<Buffer[]> {
  const connections = await Promise.all(
    requests.map(async (bytes) => {
      const connection = await RawConnection.open(address);
      await connection.write(bytes);
      return connection;
    }),
  );
  await pause(wait + 10 * requests.length);
  for (const connection of connections) connection.close();
  return connections.map((connection) => connection.received());
}

const PATHS = [
  '/v3/kv/range',
  '/v3/kv/put',
  '/v3/kv/txn',
  '/v3/kv/deleterange',
  '/v3/kv/delete_range',
  '/v3/watch',
  '/v3/lease/grant',
  '/v3/lease/keepalive',
  '/v3/auth/authenticate',
  '/v3/maintenance/snapshot',
  '/v3/receipt/get_receipt',
];

/** Bodies that are not JSON, or not that message. */
function wrongBodies(random: Random): string[] {
  const deep = (open: string, close: string, depth: number) => open.repeat(depth) + close.repeat(depth);
  return [
    '',
    '{',
    'null',
    '[]',
    '"x"',
    '{"key":',
    '{"key":"*** no base64 ***"}',
    '{"key":"YQ"}',
    '{"key":5}',
    '{"key":{"a":1}}',
    '{"limit":"99999999999999999999999"}',
    '{"limit":1e400}',
    '{"limit":-0.5}',
    '{"revision":"NaN","key":"YQ=="}',
    '{"sort_order":"UPWARDS","key":"YQ=="}',
    '{"sort_order":99,"key":"YQ=="}',
    '{"__proto__":{"key":"YQ=="},"constructor":1}',
    '{"key":"YQ==","key":"Yg=="}',
    '{"prefix":"YS9yaWdodC8=","caller":"a/right/","key":"AA==","range_end":"AA=="}',
    `{"key":"${base64('\u0000')}","unknown":${deep('[', ']', 20_000)}}`,
    deep('[', ']', 100_000),
    deep('{"a":', '1}', 1).repeat(1_000),
    `{"compare":${deep('[{"a":', '}]', 2_000)}}`,
    `{"success":${'[{"request_txn":{"success":'.repeat(3_000)}[]${'}}]'.repeat(3_000)}}`,
    `{"key":"${'A'.repeat(3_000_000)}"}`,
    JSON.stringify({ ...ALL, limit: '1' }).slice(0, random.between(1, 30)),
    '\ufeff{"key":"YQ=="}',
    '\x00\xff\xfe',
  ];
}

export const jsonAttacks: Readonly<Record<string, Attack>> = {
  'bodies that are wrong, at every path': async (address, random) => {
    const bodies = wrongBodies(random);
    const received: Buffer[] = [];
    for (const body of bodies) {
      const paths = body.length > 1_000_000 ? PATHS.slice(0, 2) : PATHS;
      received.push(
        ...(await each(
          address,
          paths.map((path) => request(path, body)),
        )),
      );
    }
    return received;
  },

  'right requests for all there is': (address) =>
    each(
      address,
      [
        request('/v3/kv/range', JSON.stringify(ALL)),
        request('/v3/kv/range', JSON.stringify({ key: base64('../right/'), range_end: base64('\0') })),
        request('/v3/kv/range', JSON.stringify({ ...ALL, revision: '2' })),
        request(
          '/v3/watch',
          JSON.stringify({ create_request: { ...ALL, start_revision: '1', prev_kv: true } }),
        ),
        request('/v3/lease/leases', '{}'),
        request('/v3/kv/lease/leases', '{}'),
        request('/v3/auth/user/list', '{}'),
        request('/v3/maintenance/snapshot', '{}'),
        request('/v3/cluster/member/list', '{}'),
        Buffer.from('GET /metrics HTTP/1.1\r\nHost: kv\r\n\r\n'),
        Buffer.from('GET /health HTTP/1.1\r\nHost: kv\r\n\r\n'),
        Buffer.from('GET /version HTTP/1.1\r\nHost: kv\r\n\r\n'),
        Buffer.from('GET /v3/../../../etc/passwd HTTP/1.1\r\nHost: kv\r\n\r\n'),
      ],
      600,
    ),

  'lengths that lie, two at once, and headers without end': (address) =>
    each(
      address,
      [
        request('/v3/kv/range', '{"key":', ['Content-Length: 5000000']),
        request('/v3/kv/range', JSON.stringify(ALL), ['Transfer-Encoding: chunked']),
        Buffer.from(
          'POST /v3/kv/range HTTP/1.1\r\nHost: kv\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{',
        ),
        Buffer.from(`POST /v3/kv/range HTTP/1.1\r\nHost: kv\r\n${`X: ${'y'.repeat(7_000)}\r\n`.repeat(50)}`),
        Buffer.from(
          'POST /v3/kv/range HTTP/1.1\r\nHost: kv\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n',
        ),
        Buffer.from('POST /v3/kv/range HTTP/1.1\r\nHost: kv\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'),
        Buffer.concat(Array.from({ length: 300 }, () => request('/v3/kv/range', JSON.stringify(ALL)))),
      ],
      500,
    ),

  'streams of requests that are half open': (address) =>
    each(
      address,
      Array.from({ length: 60 }, (_, n) => {
        const body = JSON.stringify({ create_request: { ...ALL, start_revision: '1' } });
        const chunk = n % 2 === 0 ? body : body.slice(0, 20);
        const head = 'POST /v3/watch HTTP/1.1\r\nHost: kv\r\nTransfer-Encoding: chunked\r\n\r\n';
        return Buffer.from(`${head}${chunk.length.toString(16)}\r\n${chunk}\r\n`);
      }),
      300,
    ),
};
