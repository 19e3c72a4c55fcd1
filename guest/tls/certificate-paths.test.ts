import { createServer } from 'node:http';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { beforeEach, describe, expect, test } from 'vitest';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sitePaths } from '../../lib/protocol/site-evidence.ts';
import type { AcmeSite } from '../../lib/protocol/sockets.ts';
import { listenOn, TestFront } from '../../test/support/front.ts';
import { certificatePaths } from './certificate-paths.ts';
import { nodePaths } from './node-paths.ts';

const CHAIN = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
const BODY = new Uint8Array(Buffer.from(CHAIN));
const status = { state: 'current', hostImpersonable: true } as const;
const alpn: AcmeSite['alpn'] = [];

let clock: number;
let site: AcmeSite | undefined;
let given: string[];
let judge: () => Promise<void>;
let bounds: number[];
let handle: ReturnType<typeof nodePaths>;
beforeEach(() => {
  clock = 1_000;
  site = { chain: CHAIN, csr: Buffer.from('a request').toString('base64'), alpn, status };
  given = [];
  bounds = [];
  judge = async () => {};
  handle = nodePaths(
    certificatePaths({
      site: () => site,
      give: (chain) => {
        given.push(chain);
        return judge();
      },
      monotonic: () => clock,
    }),
  );
});

const ask = async (method: string, target: string, body: Uint8Array = BODY) => {
  const answer = await handle({
    method,
    target,
    read: async (maxBytes) => {
      bounds.push(maxBytes);
      if (body.length > maxBytes) throw new DstackError('BODY_TOO_LARGE', 'too much');
      return body;
    },
  });
  const isJson = answer.headers['content-type'] === 'application/json';
  return { ...answer, body: isJson ? (JSON.parse(answer.body) as Record<string, unknown>) : answer.body };
};

test('shows the chain in force, the request, and how it stands', async () => {
  expect(await ask('GET', sitePaths.certificate)).toMatchObject({
    status: 200,
    headers: { 'content-type': 'application/pem-certificate-chain', 'cache-control': 'no-store' },
    body: CHAIN,
  });
  expect((await ask('GET', sitePaths.request)).body).toBe(
    '-----BEGIN CERTIFICATE REQUEST-----\nYSByZXF1ZXN0\n-----END CERTIFICATE REQUEST-----\n',
  );
  expect((await ask('GET', sitePaths.status)).body).toEqual(status);
  expect((await ask('HEAD', sitePaths.request)).status).toBe(200);
});

test('says what there is not', async () => {
  site = { alpn, status };
  expect(await ask('GET', sitePaths.certificate)).toMatchObject({
    status: 404,
    body: { code: 'NO_CERTIFICATE' },
  });
  expect(await ask('GET', sitePaths.request)).toMatchObject({ status: 404, body: { code: 'NO_SITE' } });
  site = undefined;
  for (const path of Object.values(sitePaths))
    expect(await ask('GET', path)).toMatchObject({ status: 503, body: { code: 'NOT_READY' } });
});

test('other methods have nothing here', async () => {
  expect(await ask('POST', sitePaths.request)).toMatchObject({
    status: 405,
    headers: { allow: 'GET, HEAD' },
  });
  expect(await ask('DELETE', sitePaths.certificate)).toMatchObject({
    status: 405,
    headers: { allow: 'GET, HEAD, POST' },
  });
  expect([given, bounds]).toEqual([[], []]);
});

describe('a chain that is brought', () => {
  test('is handed on as it is, and the answer is the one that judges', async () => {
    expect(await ask('POST', sitePaths.certificate)).toMatchObject({ status: 200, body: { taken: true } });
    expect(given).toEqual([CHAIN]);
    judge = async () => {
      throw new DstackError('CERT_KEY', 'for another key');
    };
    expect(await ask('POST', sitePaths.certificate)).toMatchObject({
      status: 422,
      body: { code: 'CERT_KEY', message: 'for another key' },
    });
  });

  test('has at most 16 KiB, and more is handed to nobody', async () => {
    expect(await ask('POST', sitePaths.certificate, new Uint8Array(16 * 1024 + 1))).toMatchObject({
      status: 413,
      body: { code: 'BODY_TOO_LARGE' },
    });
    expect([given, bounds]).toEqual([[], [16 * 1024]]);
    // Bytes that are no text are no more characters than bytes: the rule's own bound holds.
    await ask('POST', sitePaths.certificate, new Uint8Array(16 * 1024).fill(0xff));
    expect(given[0]).toHaveLength(16 * 1024);
  });

  test('waits for its turn: five at once, then five a second', async () => {
    const statuses = [];
    for (let i = 0; i < 7; i++) statuses.push((await ask('POST', sitePaths.certificate)).status);
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429, 429]);
    clock += 199;
    expect(await ask('POST', sitePaths.certificate)).toMatchObject({
      status: 429,
      headers: { 'retry-after': '1' },
      body: { code: 'BUSY' },
    });
    clock += 1;
    expect((await ask('POST', sitePaths.certificate)).status).toBe(200);
    expect(given).toHaveLength(6);
  });

  test('is looked at alone', async () => {
    let end = () => {};
    judge = () =>
      new Promise((resolve) => {
        end = resolve;
      });
    const first = ask('POST', sitePaths.certificate);
    await new Promise((resolve) => setImmediate(resolve));
    expect((await ask('POST', sitePaths.certificate)).status).toBe(429);
    end();
    expect((await first).status).toBe(200);
    judge = async () => {};
    expect((await ask('POST', sitePaths.certificate)).status).toBe(200);
  });

  test('while there is nobody to judge it, it waits, and nothing from inside is told', async () => {
    judge = async () => {
      throw new DstackError('SOCKET_UNREACHABLE', 'cannot reach /run/dstack/acme/tls.sock');
    };
    const answer = await ask('POST', sitePaths.certificate);
    expect(answer).toMatchObject({
      status: 503,
      headers: { 'retry-after': '5' },
      body: { code: 'NOT_READY' },
    });
    expect(JSON.stringify(answer)).not.toContain('/run/');
    judge = async () => {
      throw new TypeError('x is not a function at /usr/lib');
    };
    expect(JSON.stringify(await ask('POST', sitePaths.certificate))).not.toContain('/usr/lib');
  });
});

test('through the front: no app sees any of it, and a body that is too long is answered, not cut', async () => {
  const front = await TestFront.start();
  const seen: string[] = [];
  const app = createServer((req, res) => {
    seen.push(req.url!);
    res.end('the app');
  });
  try {
    front.answers = (request) => handle(request);
    await front.serve(await listenOn(app));
    const visit = (method: string, path: string, body?: Uint8Array): Promise<string> =>
      new Promise((resolve, reject) => {
        const to = { host: '127.0.0.1', port: front.port, path, method, rejectUnauthorized: false };
        request({ ...to, agent: false }, (response) => {
          text(response).then((said) => resolve(`${response.statusCode} ${said}`), reject);
        })
          .on('error', reject)
          .end(body);
      });
    expect(await visit('GET', sitePaths.certificate)).toBe(`200 ${CHAIN}`);
    expect(await visit('POST', sitePaths.certificate, BODY)).toBe('200 {"taken":true}');
    expect(given).toEqual([CHAIN]);
    for (const size of [16 * 1024 + 1, 5 * 1024 * 1024])
      expect(await visit('POST', sitePaths.certificate, new Uint8Array(size))).toMatch(
        /^413 .*BODY_TOO_LARGE/,
      );
    expect(await visit('POST', `${sitePaths.certificate}/x`, BODY)).toMatch(/^404 .*NO_ROUTE/);
    expect([given.length, seen]).toEqual([1, []]);
    expect(await visit('GET', '/')).toBe('200 the app');
  } finally {
    app.close();
    app.closeAllConnections();
    await front.stop();
  }
});
