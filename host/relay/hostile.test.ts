/** The chain's endpoint and this host's own node, answering as badly as they can. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Type } from 'typebox';
import { afterEach, expect, test } from 'vitest';
import { type RpcEndpoint, RpcRateLimited, RpcRefusal, rpcEndpoint } from '../../lib/chain/json-rpc.ts';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { paced } from '../../lib/framework/endpoint/pace.ts';
import { Rpc } from '../../lib/framework/endpoint/rpc.ts';
import { Retryable } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { MESSAGE_MAX_BYTES } from '../../lib/protocol/onboarding-messages.ts';
import { NodeClient } from '../node-client.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** Answers every request with what `reply` makes of its body. */
async function serve(
  reply: (body: {
    method?: string;
  }) => { status?: number; headers?: Record<string, string>; text: string } | 'never',
): Promise<string> {
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const answer = reply(chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString()));
      if (answer === 'never') return;
      res.writeHead(answer.status ?? 200, answer.headers).end(answer.text);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const CONTRACT = parseAddress(`0x${'11'.repeat(20)}`);
const WORD = `0x${'22'.repeat(32)}`;
/** An endpoint on chain 1 that answers everything else with `result`. */
async function rpcWith(result: unknown): Promise<Rpc> {
  const url = await serve(({ method }) => ({
    text: JSON.stringify({ jsonrpc: '2.0', id: 1, result: method === 'eth_chainId' ? '0x1' : result }),
  }));
  return new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) });
}

test.each([
  ['a number', 5],
  ['no result', undefined],
  ['a huge quantity', `0x${'f'.repeat(14)}`],
  ['leading zeros', '0x05'],
  ['negative', '-0x1'],
])("an endpoint's head that is %s is refused", async (_what, result) => {
  await expect((await rpcWith(result)).head()).rejects.toMatchObject({ code: 'RPC_MALFORMED' });
});

test('logs of others, of other blocks or topics, and removed ones are left out', async () => {
  const good = {
    address: CONTRACT,
    topics: [WORD],
    data: '0x',
    blockNumber: '0x5',
    blockHash: WORD,
    transactionHash: WORD,
    logIndex: '0x0',
  };
  const bad = [
    { ...good, address: `0x${'33'.repeat(20)}` },
    { ...good, blockNumber: '0x9' },
    { ...good, topics: [`0x${'44'.repeat(32)}`] },
    { ...good, topics: [] },
    { ...good, removed: true },
  ];
  const logs = await (await rpcWith([...bad, good])).logs(1, 8, [WORD]);
  expect(logs).toEqual([
    { blockNumber: 5, blockHash: WORD, transactionHash: WORD, logIndex: 0, topics: [WORD], data: '0x' },
  ]);
  for (const wrong of [[{ ...good, data: '0xzz' }], [{ ...good, blockHash: '0x1' }], {}, [null]]) {
    await expect((await rpcWith(wrong)).logs(1, 8, [WORD])).rejects.toMatchObject({ code: 'RPC_MALFORMED' });
  }
});

test('an endpoint of another chain is refused, one that is silent or floods is given up in time', async () => {
  const other = await serve(() => ({ text: '{"jsonrpc":"2.0","id":1,"result":"0x2"}' }));
  await expect(
    new Rpc({ url: other, chainId: 1, contract: parseAddress(CONTRACT) }).head(),
  ).rejects.toMatchObject({
    code: 'RPC_WRONG_CHAIN',
  });
  const silent = await serve(() => 'never');
  await expect(
    new Rpc({ url: silent, chainId: 1, contract: parseAddress(CONTRACT), timeout: 100 }).head(),
  ).rejects.toMatchObject({
    code: 'RPC_UNREACHABLE',
  });
  const flood = await serve(() => ({ text: `"${'x'.repeat(5 * 1024 * 1024)}"` }));
  await expect(
    new Rpc({ url: flood, chainId: 1, contract: parseAddress(CONTRACT) }).head(),
  ).rejects.toMatchObject({
    code: 'RPC_TOO_LARGE',
  });
});

test('a receipt of another transaction is not taken', async () => {
  const receipt = {
    blockNumber: '0x1',
    blockHash: WORD,
    status: '0x1',
    gasUsed: '0x1',
    transactionHash: WORD,
  };
  expect(await (await rpcWith(receipt)).receipt(WORD)).toMatchObject({ block: 1, succeeded: true });
  expect(await (await rpcWith(receipt)).receipt(`0x${'55'.repeat(32)}`)).toBeUndefined();
});

test('a receipt of what is in no block yet is none', async () => {
  const pending = {
    blockNumber: null,
    blockHash: null,
    gasUsed: '0x1',
    cumulativeGasUsed: '0x1',
    logs: [],
    transactionHash: WORD,
  };
  expect(await (await rpcWith(pending)).receipt(WORD)).toBeUndefined();
});

test('"error": null beside a result is no error, and a block may have a base fee of null', async () => {
  const url = await serve(({ method }) => ({
    text: JSON.stringify({
      jsonrpc: '2.0',
      result: method === 'eth_chainId' ? '0x1' : { number: '0x5', hash: WORD, baseFeePerGas: null },
      error: null,
    }),
  }));
  const rpc = new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) });
  expect(await rpc.head()).toMatchObject({ number: 5, hash: WORD, baseFee: undefined });
});

test('revert data is found where clients put it, and nothing else is taken for it', async () => {
  const refusalOf = async (data: unknown): Promise<unknown> => {
    const url = await serve(({ method }) => ({
      text: JSON.stringify(
        method === 'eth_chainId'
          ? { jsonrpc: '2.0', result: '0x1' }
          : { jsonrpc: '2.0', error: { code: 3, message: 'execution reverted', data } },
      ),
    }));
    const rpc = new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) });
    return rpc.estimateGas({ from: CONTRACT, to: CONTRACT, data: '0x' }).catch((error) => error.data);
  };
  expect(await refusalOf('0x12345678')).toBe('0x12345678');
  expect(await refusalOf({ data: '0x12345678' })).toBe('0x12345678');
  expect(await refusalOf({ originalError: { code: 3, data: '0x12345678' } })).toBe('0x12345678');
  expect(await refusalOf('Reverted 0x12345678')).toBe('0x12345678');
  expect(await refusalOf('12345678')).toBe('0x12345678');
  for (const data of [undefined, 'reverted', { data: 5 }, `0x${'00'.repeat(5000)}`])
    expect(await refusalOf(data)).toBeUndefined();
});

test.each([
  [
    'a refusal, whatever its status',
    400,
    '{"jsonrpc":"2.0","error":{"code":1,"message":"no"}}',
    'RPC_REFUSED',
  ],
  ['a page of a proxy', 502, '<html>', 'RPC_STATUS'],
  ['a page that says too large', 413, '<html>', 'RPC_TOO_LARGE'],
  ['a refusal without an envelope', 403, '{"message":"no such key"}', 'RPC_REFUSED'],
  ['a refusal that is only text', 400, '{"jsonrpc":"2.0","error":"no such key"}', 'RPC_REFUSED'],
  ['a refusal without words', 200, '{"jsonrpc":"2.0","error":{"code":-1,"message":null}}', 'RPC_REFUSED'],
  ['no JSON', 200, 'hello', 'RPC_NOT_JSON'],
  ['no JSON-RPC', 200, '{"result":"0x1"}', 'RPC_MALFORMED'],
])('what an endpoint answers may be another thing later: %s', async (_, status, body, code) => {
  const url = await serve(() => ({ status, text: body }));
  const error = await new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) })
    .head()
    .catch((thrown) => thrown);
  expect(error).toBeInstanceOf(Retryable);
  expect(error.code).toBe(code);
});

test.each([
  ['HTTP 429 with a page', 429, 'slow down'],
  ['HTTP 429 with JSON-RPC', 429, '{"jsonrpc":"2.0","error":{"code":-32005,"message":"no"}}'],
  [
    'HTTP 200 in words',
    200,
    '{"jsonrpc":"2.0","error":{"code":-32005,"message":"daily Request limit reached"}}',
  ],
  ['HTTP 429 that never ends', 429, 'x'.repeat(1024 * 1024)],
  ['without an envelope', 200, '{"code":-32007,"message":"100/second request limit reached"}'],
  ['in one word', 200, '{"jsonrpc":"2.0","error":"Too Many Requests"}'],
  ['of credits', 200, '{"jsonrpc":"2.0","error":{"code":-32012,"message":"credits limited to 6000/sec"}}'],
  ['bare', 200, '{"jsonrpc":"2.0","error":{"code":-32005,"message":"limit exceeded"}}'],
  [
    'of compute units',
    200,
    '{"jsonrpc":"2.0","error":{"code":429,"message":"exceeded its compute units per second"}}',
  ],
])(
  'an endpoint that limits the rate refuses nothing, and is left alone for a while: %s',
  async (_, status, body) => {
    let calls = 0;
    const url = await serve(() => {
      calls += 1;
      return { status, text: body };
    });
    const rpc = new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) });
    for (let tries = 0; tries < 5; tries += 1) {
      const error = await rpc
        .estimateGas({ from: CONTRACT, to: CONTRACT, data: '0x' })
        .catch((thrown) => thrown);
      expect(error).toBeInstanceOf(Retryable);
      expect(error).not.toBeInstanceOf(RpcRefusal);
      expect(error.code).toBe('RPC_RATE_LIMITED');
    }
    expect(calls).toBe(1);
  },
);

test('the pause grows while the endpoint goes on limiting, up to a minute, and ends with its first answer', async () => {
  let now = 1;
  let asked = 0;
  let limits = true;
  const endpoint = paced(
    {
      url: 'x',
      name: 'a.test',
      call: async () => {
        asked += 1;
        if (limits) throw new RpcRateLimited('no');
        return '0x1' as never;
      },
    },
    () => now,
  );
  const call = () => endpoint.call(Type.String(), 'eth_x', []);
  for (const seconds of [0.5, 1, 2, 4, 8, 16, 32, 60, 60]) {
    const before = asked;
    await expect(call()).rejects.toMatchObject({ code: 'RPC_RATE_LIMITED' });
    now += seconds * 1000 - 1;
    await expect(call()).rejects.toMatchObject({ message: expect.stringContaining('left alone') });
    expect(asked).toBe(before + 1);
    now += 1;
  }
  limits = false;
  expect(await call()).toBe('0x1');
  expect(await call()).toBe('0x1');
});

test.each([
  ['seconds', { 'retry-after': '20' }, '', 20],
  ['a date', 'in 31 s', '', 29],
  ['a year', { 'retry-after': '31536000' }, '', 300],
  ['a date that is past', { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, '', 0.5],
  ['nonsense', { 'retry-after': 'soon' }, '', 0.5],
  [
    "Infura's own field",
    {},
    '{"jsonrpc":"2.0","error":{"code":-32005,"message":"no","data":{"rate":{"backoff_seconds":30}}}}',
    30,
  ],
])('an endpoint is left alone as long as it says, within bounds: %s', async (_, headers, text, seconds) => {
  const inHalfAMinute = () => ({ 'retry-after': new Date(Date.now() + 30_999).toUTCString() });
  const said = () => (typeof headers === 'string' ? inHalfAMinute() : headers);
  const url = await serve(() => ({ status: 429, headers: said() as Record<string, string>, text }));
  let now = 1_000_000;
  let calls = 0;
  const asked = rpcEndpoint(url);
  const counting: RpcEndpoint = {
    url,
    name: 'a.test',
    call: (...args) => {
      calls += 1;
      return asked.call(...args);
    },
  };
  const endpoint = paced(counting, () => now);
  const call = () => endpoint.call(Type.String(), 'eth_x', []);
  await expect(call()).rejects.toMatchObject({ code: 'RPC_RATE_LIMITED' });
  now += seconds * 1000 - 100;
  await expect(call()).rejects.toMatchObject({ message: expect.stringContaining('left alone') });
  expect(calls).toBe(1);
  now += 2500;
  await expect(call()).rejects.toMatchObject({ code: 'RPC_RATE_LIMITED' });
  expect(calls).toBe(2);
});

test('what an endpoint says is shown as it is, but printable, short, and without the key in its URL', async () => {
  const words = `\u001b[2Jno more today ${'x'.repeat(10_000)}`;
  for (const [status, text] of [
    [200, JSON.stringify({ jsonrpc: '2.0', error: { code: -1, message: words } })],
    [502, words],
  ] as const) {
    const url = `${await serve(() => ({ status, text }))}/v3/secretkey`;
    const { message } = await new Rpc({ url, chainId: 1, contract: parseAddress(CONTRACT) })
      .head()
      .catch((error) => error);
    expect(message).toContain('\\u001b[2Jno more today xxx');
    expect(message).not.toContain('secretkey');
    expect(message.length).toBeLessThan(500);
  }
});

test("a node's refusal keeps its code, and says whether it may pass", async () => {
  const refusal = async (status: number, text: string) => {
    const url = await serve(() => ({ status, text }));
    return new NodeClient(url).newRequest().catch((error) => [error.code, error instanceof Retryable]);
  };
  expect(await refusal(422, '{"code":"QUOTE_SIGNATURE","message":"no"}')).toEqual(['QUOTE_SIGNATURE', false]);
  expect(await refusal(422, '{"code":"CHAIN_STALE","message":"no"}')).toEqual(['CHAIN_STALE', true]);
  expect(await refusal(422, '{"code":"REQUEST_NOT_OPEN","message":"no"}')).toEqual([
    'REQUEST_NOT_OPEN',
    true,
  ]);
  expect(await refusal(503, '{"code":"BUSY","message":"no"}')).toEqual(['BUSY', true]);
  expect(await refusal(400, '{"oops":1}')).toEqual(['NODE_REPLY', false]);
  expect(await refusal(200, '{"type":"request"}')).toEqual(['NODE_REPLY', false]);
  expect(await refusal(200, 'not json')).toEqual(['NODE_UNREACHABLE', true]);
  expect(await refusal(200, `"${'x'.repeat(MESSAGE_MAX_BYTES)}"`)).toEqual(['NODE_UNREACHABLE', true]);
});

test('a node that is not there is unreachable, which may pass', async () => {
  const error = await new NodeClient('http://127.0.0.1:9').status().catch((thrown) => thrown);
  expect(error).toBeInstanceOf(Retryable);
  expect(error.code).toBe('NODE_UNREACHABLE');
});

test("metrics are Prometheus text; labels can't break out of it, nor grow without bound", () => {
  const metrics = new Metrics();
  metrics.count('a_total', 'Things.', { code: 'x"}\n evil 1\\' });
  metrics.count('a_total', 'Things.', { code: 'y' }, 2);
  metrics.gauge('b', 'One.', 1.5);
  expect(metrics.text()).toBe(
    '# HELP a_total Things.\n# TYPE a_total counter\na_total{code="x_}_ evil 1_"} 1\na_total{code="y"} 2\n# HELP b One.\n# TYPE b gauge\nb 1.5\n',
  );
  metrics.of({ contract: parseAddress(`0x${'11'.repeat(20)}`) }).gauge('b', 'One.', 2);
  expect(metrics.text()).toContain(`b 1.5\nb{contract="0x${'11'.repeat(20)}"} 2\n`);
  for (let n = 0; n < 500; n += 1) metrics.count('c_total', 'Many.', { code: String(n) });
  expect(metrics.text().match(/^c_total/gm)).toHaveLength(101);
  expect(metrics.text()).toContain('c_total{code="other"} 400');
});
