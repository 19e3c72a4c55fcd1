/** What the front says without TLS: to an authority, to a visitor who forgot the s, and to everybody else. */
import { request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TestFront } from '../../test/support/front.ts';

const THUMBPRINT = `${'a'.repeat(42)}_`;
const TOKEN = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA';
const FOLDER = '/.well-known/acme-challenge';
let front: TestFront;

beforeAll(async () => {
  front = await TestFront.start();
});
beforeEach(() => front.apply({ sites: [{ domains: ['site.example', 'www.site.example'] }] }));
afterAll(() => front.stop());

interface Answer {
  status: number | undefined;
  location?: string;
  type?: string;
  body: string;
}

function ask(path: string, host = 'site.example', method = 'GET', port?: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const to = { host: '127.0.0.1', port: port ?? front.description.listen.httpPort, agent: false };
    request({ ...to, path, method, headers: { host } }, (response) => {
      const { location, 'content-type': type } = response.headers;
      text(response).then(
        (body) => resolve({ status: response.statusCode, location, type, body } as Answer),
        reject,
      );
    })
      .on('error', reject)
      .end();
  });
}

/** All that comes back for these bytes until the front hangs up. */
function raw(bytes: string, of = front): Promise<string> {
  return new Promise((resolve) => {
    let seen = '';
    const socket = connect(of.description.listen.httpPort, '127.0.0.1', () => socket.write(bytes, 'latin1'));
    socket
      .on('data', (chunk) => {
        seen += chunk.toString('latin1');
      })
      .on('error', () => {})
      .on('close', () => resolve(seen));
  });
}

describe('an authority', () => {
  test("gets the token and the account's thumbprint, from a node that ordered nothing", async () => {
    await front.apply({ sites: [{ domains: ['site.example'] }], thumbprint: THUMBPRINT });
    // RFC 8555, section 8.3.
    expect(await ask(`${FOLDER}/${TOKEN}`)).toEqual({
      status: 200,
      location: undefined,
      type: 'application/octet-stream',
      body: `${TOKEN}.${THUMBPRINT}`,
    });
    expect((await ask(`${FOLDER}/${TOKEN}`, 'Site.Example:80')).body).toBe(`${TOKEN}.${THUMBPRINT}`);
  });

  test('gets it also while the driver knows of none, and that of another account once there is one', async () => {
    const sites = [{ domains: ['site.example'] }];
    await front.apply({ sites, thumbprint: THUMBPRINT });
    expect(await front.apply({ sites })).toEqual([]);
    expect((await ask(`${FOLDER}/${TOKEN}`)).body).toBe(`${TOKEN}.${THUMBPRINT}`);
    await front.apply({ sites, thumbprint: 'b'.repeat(43) });
    expect((await ask(`${FOLDER}/${TOKEN}`)).body).toBe(`${TOKEN}.${'b'.repeat(43)}`);
  });

  test.each([
    ['a name that is not ours', `${FOLDER}/${TOKEN}`, 'other.example', 'GET'],
    ['no token', `${FOLDER}/`, 'site.example', 'GET'],
    ['a token with a folder', `${FOLDER}/a/b`, 'site.example', 'GET'],
    ['a token with a dot', `${FOLDER}/a.b`, 'site.example', 'GET'],
    ['a token in percent', `${FOLDER}/%61`, 'site.example', 'GET'],
    ['a token of a thousand characters', `${FOLDER}/${'a'.repeat(1_000)}`, 'site.example', 'GET'],
    ['another method', `${FOLDER}/${TOKEN}`, 'site.example', 'POST'],
  ])('gets nothing for %s', async (_, path, host, method) => {
    await front.apply({ sites: [{ domains: ['site.example'] }], thumbprint: THUMBPRINT });
    const { status, body, location } = await ask(path, host, method);
    expect(status).toBe(404);
    expect(location).toBeUndefined();
    expect(body).not.toContain(THUMBPRINT);
  });

  test.each(['x', `${'a'.repeat(42)}\n`, `${'a'.repeat(41)} x`])(
    'no thumbprint: %j is refused',
    async (thumbprint) => {
      await expect(front.apply({ thumbprint })).rejects.toMatchObject({ code: 'FRONT_STATE' });
    },
  );
});

describe('everybody else', () => {
  test('is sent to the website, by one of its names and no other', async () => {
    const sent = { status: 301, type: undefined, body: '' };
    expect(await ask('/a/b?c=%2F')).toEqual({ ...sent, location: 'https://site.example/a/b?c=%2F' });
    expect(await ask('/', 'WWW.site.example:80', 'HEAD')).toEqual({
      ...sent,
      location: 'https://www.site.example/',
    });
    // Neither a path nor a target in absolute form makes it another place.
    expect((await ask('//evil.example/')).location).toBe('https://site.example//evil.example/');
    expect((await ask('/\\evil.example')).location).toMatch(/^https:\/\/site\.example\/|^undefined$/);
    expect(await raw('GET http://evil.example/ HTTP/1.1\r\nHost: site.example\r\n\r\n')).toMatch(
      /^HTTP\/1.1 400 /,
    );
    expect(await raw('GET http://site.example/x HTTP/1.1\r\nHost: site.example\r\n\r\n')).toMatch(
      /location: https:\/\/site\.example\/x\r\n/,
    );
  });

  test('is refused: another host, none, two, another method, the evidence, HTTP/2', async () => {
    const end = 'Connection: close\r\n\r\n';
    const refused = /^HTTP\/1\.[01] 40[0-5] (?![\s\S]*location)/i;
    expect(await raw(`GET / HTTP/1.1\r\nHost: other.example\r\n${end}`)).toMatch(refused);
    expect(await raw(`GET / HTTP/1.1\r\nHost: site.example.evil.example\r\n${end}`)).toMatch(refused);
    expect(await raw(`GET / HTTP/1.1\r\nHost: site.example/@evil\r\n${end}`)).toMatch(refused);
    expect(await raw(`GET / HTTP/1.0\r\n\r\n`)).toMatch(refused);
    expect(await raw(`GET / HTTP/1.1\r\nHost: site.example\r\nHost: evil.example\r\n${end}`)).toMatch(
      refused,
    );
    expect(await raw(`POST / HTTP/1.1\r\nHost: site.example\r\nContent-Length: 1\r\n${end}x`)).toMatch(
      refused,
    );
    expect(await raw(`CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n${end}`)).toMatch(
      refused,
    );
    const session = connectHttp2(`http://127.0.0.1:${front.description.listen.httpPort}`);
    const outcome = await new Promise((resolve) => {
      session.on('error', () => resolve('refused')).on('close', () => resolve('refused'));
      session
        .request({ ':authority': 'site.example' })
        .on('response', resolve)
        .on('error', () => {});
    });
    expect(outcome).toBe('refused');
  });

  test('gets one answer a connection, and a head that never ends none', async () => {
    const request = 'GET / HTTP/1.1\r\nHost: site.example\r\n\r\n';
    expect((await raw(request + request)).match(/^HTTP\/1/gm)).toHaveLength(1);
    const hasty = await TestFront.start({ times: { request: 1_000 } });
    await hasty.apply({ sites: [{ domains: ['site.example'] }] });
    const began = performance.now();
    expect(await raw('GET / HTTP/1.1\r\nHost: si', hasty)).toMatch(/^HTTP\/1.1 408 |^$/);
    expect(await raw('', hasty)).toMatch(/^HTTP\/1.1 408 |^$/);
    expect(performance.now() - began).toBeLessThan(60_000);
    await hasty.stop();
  });

  test('shares the bound of its source with the website', async () => {
    const small = await TestFront.start({ limits: { perSource: 2 } });
    await small.apply({ sites: [{ domains: ['site.example'] }] });
    const dial = (port: number) =>
      new Promise<ReturnType<typeof connect>>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(socket)).on('error', () => {});
      });
    const held = [await dial(small.port), await dial(small.description.listen.httpPort)];
    await expect(ask('/', 'site.example', 'GET', small.description.listen.httpPort)).rejects.toThrow();
    for (const one of held) one.destroy();
    await expect
      .poll(
        async () =>
          (await ask('/', 'site.example', 'GET', small.description.listen.httpPort).catch(() => undefined))
            ?.status,
      )
      .toBe(301);
    await small.stop();
  });

  test('gets nothing before the driver has spoken', async () => {
    const early = await TestFront.start();
    await expect(ask('/', 'site.example', 'GET', early.description.listen.httpPort)).rejects.toThrow();
    await early.stop();
  });
});
