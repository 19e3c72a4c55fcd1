/** A hostile authority, or whoever its name leads to: a real TLS server that the test's root certifies, with answers that none should give. */
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { afterEach, describe, expect, test } from 'vitest';
import { der, derSequence } from '../../lib/attestation/bytes/der-writer.ts';
import { extension, newKey, TestAuthority } from '../../test/support/authority.ts';
import { accountKey } from './account-key.ts';
import { openAccount, orderCertificate } from './authority.ts';
import { Renewals } from './renewal-info.ts';
import { transport } from './transport.ts';

const root = new TestAuthority('Root of the directory');
const key = accountKey(new Uint8Array(32).fill(9));
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

async function authority(answer: RequestListener, names = ['localhost']): Promise<string> {
  const own = newKey();
  const credentials = {
    key: own.privateKey.export({ format: 'pem', type: 'pkcs8' }),
    cert: root.issue({ key: own, names }),
  };
  const server = createServer(credentials, answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `https://localhost:${(server.address() as AddressInfo).port}`;
}

const ask = (origin: string, path = '/', roots = [root.pem]) =>
  transport({ directory: `${origin}/dir`, roots, answeredWithin: 1_000 })({ url: `${origin}${path}` });

describe('of an authority', () => {
  test('an answer is read', async () => {
    const origin = await authority((_, response) => response.end('{"a":1}'));
    expect(await ask(origin)).toMatchObject({ status: 200, data: '{"a":1}' });
  });

  test.each<[what: string, code: string, answer: RequestListener]>([
    ['a huge answer', 'ACME_ANSWER', (_, response) => response.end(Buffer.alloc(10_000_000, 'a'))],
    [
      'one without end',
      'ACME_ANSWER',
      (_, response) => {
        const timer = setInterval(() => response.write(Buffer.alloc(10_000, 'a')), 5);
        response.on('close', () => clearInterval(timer));
      },
    ],
    [
      'one that drips',
      'ACME_UNREACHABLE',
      (_, response) => {
        const timer = setInterval(() => response.write('a'), 100);
        response.on('close', () => clearInterval(timer));
      },
    ],
    ['none', 'ACME_UNREACHABLE', () => {}],
    [
      'another protocol',
      'ACME_UNREACHABLE',
      ({ socket }) => void socket.write('HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
    ],
    ['a connection that breaks off', 'ACME_UNREACHABLE', (request) => void request.socket.destroy()],
    [
      'a redirect to this machine',
      'ACME_ORIGIN',
      (_, response) => void response.writeHead(302, { location: 'https://127.0.0.1:7600/' }).end(),
    ],
    [
      'a refusal in control characters',
      'ACME_REFUSED',
      (_, response) =>
        void response.writeHead(500).end(JSON.stringify({ detail: '\u001b[2J'.repeat(1_000) })),
    ],
    [
      'a refusal that is no JSON',
      'ACME_REFUSED',
      (_, response) => void response.writeHead(403).end('<html>'),
    ],
  ])('%s is refused as %s, soon, in few words', async (_, code, answer) => {
    const origin = await authority(answer);
    const started = performance.now();
    const error: Error & { code?: string } = await ask(origin).then(
      () => new Error('taken'),
      (thrown) => thrown,
    );
    expect(error.code, error.message).toBe(code);
    expect(performance.now() - started).toBeLessThan(30_000);
    expect(error.message.length).toBeLessThan(2_500);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
    expect(error.message).not.toMatch(/[\x00-\x1f]/);
  });

  test('TLS is certified by a root that is trusted, for its name', async () => {
    const answer: RequestListener = (_, response) => response.end('{}');
    await expect(ask(await authority(answer), '/', [new TestAuthority('Another').pem])).rejects.toMatchObject(
      { code: 'ACME_UNREACHABLE' },
    );
    await expect(ask(await authority(answer, ['other.example']))).rejects.toMatchObject({
      code: 'ACME_UNREACHABLE',
    });
  });
});

describe('what an authority names', () => {
  const directory = (origin: string, over: object = {}) =>
    JSON.stringify({
      newNonce: `${origin}/nonce`,
      newAccount: `${origin}/account`,
      newOrder: `${origin}/order`,
      renewalInfo: `${origin}/info`,
      ...over,
    });
  /** Every request but the directory's and for nonces. */
  const scripted = async (
    over: object,
    script: (path: string, origin: string) => { status?: number; headers?: object; body: unknown },
  ) => {
    let origin = '';
    const asked: string[] = [];
    origin = await authority((request, response) => {
      const path = request.url!;
      asked.push(path);
      response.setHeader('replay-nonce', 'bm9uY2U');
      if (path === '/dir') return void response.end(directory(origin, over));
      if (path === '/nonce') return void response.end();
      const { status = 200, headers = {}, body } = script(path, origin);
      response.writeHead(status, headers as Record<string, string>);
      response.end(typeof body === 'string' ? body : JSON.stringify(body));
    });
    const account = { directory: `${origin}/dir`, roots: [root.pem], key };
    const order = {
      ...account,
      names: ['site.example'],
      request: new Uint8Array(10),
      challenges: ['http-01'],
      show: async () => () => {},
      before: () => {},
      signal: AbortSignal.timeout(5_000),
    };
    return { account, order, asked, origin };
  };
  const found = { headers: { location: 'LOCATION' }, body: { status: 'valid' } };

  test.each([
    ['the loopback', 'https://127.0.0.1:7600/nonce'],
    ['another host', 'https://169.254.169.254/nonce'],
    ['plain HTTP', 'http://localhost/nonce'],
    ['a file', 'file:///etc/passwd'],
    ['credentials', 'https://a:b@localhost/nonce'],
    ['no URL', 'nonce'],
    ['an object', { href: 'https://localhost/' }],
    ['a URL without end', `https://localhost/${'a'.repeat(10_000)}`],
  ])('is not visited when it is %s', async (_, newNonce) => {
    const { account } = await scripted({ newNonce }, () => found);
    await expect(openAccount(account)).rejects.toMatchObject({ code: 'ACME_ORIGIN' });
  });

  const at = (path: string) => (origin: string) => `${origin}${path}`;
  const orderOf = (origin: string, over: object = {}) => ({
    status: 'pending',
    authorizations: [at('/authorization')(origin)],
    finalize: at('/finalize')(origin),
    ...over,
  });
  const authorizationOf = (origin: string, over: object = {}) => ({
    status: 'pending',
    identifier: { type: 'dns', value: 'site.example' },
    challenges: [{ type: 'http-01', url: `${origin}/challenge`, status: 'pending', token: 'a'.repeat(43) }],
    ...over,
  });

  test.each<[what: string, code: string, path: string, body: (origin: string) => unknown]>([
    [
      'an order without authorizations',
      'ACME_ANSWER',
      '/order',
      (origin) => orderOf(origin, { authorizations: undefined }),
    ],
    [
      'an order of a thousand',
      'ACME_ANSWER',
      '/order',
      (origin) => orderOf(origin, { authorizations: Array(1000).fill(`${origin}/a`) }),
    ],
    ['an order that is text', 'ACME_ANSWER', '/order', () => 'order'],
    ['an order that is null', 'ACME_ANSWER', '/order', () => null],
    [
      'an order elsewhere',
      'ACME_ORIGIN',
      '/order',
      (origin) => orderOf(origin, { authorizations: ['https://127.0.0.1/'] }),
    ],
    [
      'an authorization for a name that is not ours',
      'ACME_ANSWER',
      '/authorization',
      (origin) => authorizationOf(origin, { identifier: { type: 'dns', value: 'other.example' } }),
    ],
    [
      'only challenges that we do not use',
      'ACME_CHALLENGE',
      '/authorization',
      (origin) =>
        authorizationOf(origin, {
          challenges: [{ type: 'dns-01', url: `${origin}/c`, status: 'pending', token: 'a'.repeat(43) }],
        }),
    ],
    [
      'a token that leads out of its folder',
      'ACME_ANSWER',
      '/authorization',
      (origin) =>
        authorizationOf(origin, {
          challenges: [
            { type: 'http-01', url: `${origin}/c`, status: 'pending', token: '../../../../etc/passwd' },
          ],
        }),
    ],
    [
      'a challenge that failed, in too many words',
      'ACME_INVALID',
      '/authorization',
      (origin) =>
        authorizationOf(origin, {
          status: 'invalid',
          challenges: [
            {
              type: 'http-01',
              url: `${origin}/challenge`,
              status: 'invalid',
              token: 'a'.repeat(43),
              error: { detail: 'no\u001b[2J'.repeat(1_000) },
            },
          ],
        }),
    ],
    ['work without end', 'ACME_SLOW', '/authorization', (origin) => authorizationOf(origin)],
  ])('%s ends the order as %s', async (_, code, path, body) => {
    const { order } = await scripted({}, (asked, origin) => {
      if (asked === '/account')
        return { headers: { location: `${origin}/account` }, body: { status: 'valid' } };
      if (asked === path)
        return {
          status: path === '/order' ? 201 : 200,
          headers: { location: `${origin}/orders/1` },
          body: body(origin),
        };
      if (asked === '/order')
        return { status: 201, headers: { location: `${origin}/orders/1` }, body: orderOf(origin) };
      if (asked === '/authorization') return { body: authorizationOf(origin) };
      return { body: {} };
    });
    const error = await orderCertificate(order).catch((thrown) => thrown);
    expect(error.code, error.message).toBe(code);
    expect(error.message.length).toBeLessThan(2_500);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
    expect(error.message).not.toMatch(/[\x00-\x1f]/);
  });

  test('a Retry-After of a year is waited for by nobody: the refusal comes at once, and says so', async () => {
    const headers = { 'retry-after': `${365 * 24 * 3600}` };
    const body = { type: 'urn:ietf:params:acme:error:rateLimited', detail: 'too many' };
    const { account, asked } = await scripted({}, () => ({ status: 429, headers, body }));
    const started = performance.now();
    await expect(openAccount(account)).rejects.toMatchObject({
      code: 'ACME_REFUSED',
      type: 'rateLimited',
      retryAfter: 365 * 24 * 3600,
    });
    expect(performance.now() - started).toBeLessThan(60_000);
    expect(asked.filter((path) => path === '/account')).toHaveLength(1);
  });

  test('nonces that are all wrong are tried no more than 41 times', async () => {
    const body = { type: 'urn:ietf:params:acme:error:badNonce', detail: 'wrong' };
    const { account, asked } = await scripted({}, () => ({ status: 400, body }));
    await expect(openAccount(account)).rejects.toMatchObject({ code: 'ACME_ANSWER' });
    expect(asked.filter((path) => path === '/account')).toHaveLength(41);
  });

  test.each([
    ['no window', {}],
    [
      'a window that ends before it starts',
      { suggestedWindow: { start: '2030-01-02T00:00:00Z', end: '2030-01-01T00:00:00Z' } },
    ],
    ['dates that are none', { suggestedWindow: { start: 'soon', end: 'later' } }],
    ['text', 'renew now'],
  ])('a proposal of renewal with %s is none', async (_, body) => {
    const { account, asked } = await scripted({}, () => ({ body }));
    const problems: unknown[] = [];
    const renewals = new Renewals({ ...account, problem: (error) => problems.push(error) });
    const issued = { chain: root.issue({ key: newKey(), more: [AUTHORITY_KEY] }), fingerprint: 'a' } as never;
    expect(await renewals.proposed(issued)).toBeUndefined();
    expect(await renewals.proposed(issued)).toBeUndefined();
    // It is not asked again at once.
    expect(asked.filter((path) => path.startsWith('/info'))).toEqual(['/info/AQID.AQ']);
  });
});

/** authorityKeyIdentifier of the key 010203. */
const AUTHORITY_KEY = extension('2.5.29.35', false, derSequence(der(0x80, Uint8Array.of(1, 2, 3))));
