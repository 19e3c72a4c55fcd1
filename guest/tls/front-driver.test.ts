/** The front as its driver leads it, certificates first: HAProxy itself, over TLS, before apps of the test's. */
import { X509Certificate } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request } from 'node:https';
import { networkInterfaces } from 'node:os';
import { buffer, text } from 'node:stream/consumers';
import { type ConnectionOptions, connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { credentialsOf, listenOn, pemOf, TestFront } from '../../test/support/front.ts';
import { Fronted } from './front.fixture.ts';
import type { FrontState } from './front.ts';
import { certificateList } from './front-config.ts';
import { ask as askFront } from './runtime-socket.ts';

const fronted = Fronted.forAllTests();
const { ask, dial, raw, shown } = fronted;

describe('TLS', () => {
  test('is modern only, with the post-quantum group where the client has it', async () => {
    const refused = (options: ConnectionOptions) =>
      new Promise((resolve) => {
        dial(options)
          .on('secureConnect', () => resolve('accepted'))
          .on('error', () => resolve('refused'));
      });
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    expect(await refused(old)).toBe('refused');
    expect(await refused({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' })).toBe('refused');
    expect(await refused({ maxVersion: 'TLSv1.2' })).toBe('accepted');
    const socket = dial({ ecdhCurve: 'X25519MLKEM768', ALPNProtocols: ['h2', 'http/1.1'] });
    await new Promise((resolve, reject) => socket.on('secureConnect', resolve).on('error', reject));
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(socket.alpnProtocol).toBe('h2');
    socket.destroy();
  });

  test('shows each name its certificate, and the self-signed one to every other', async () => {
    const fingerprint = (seed: number) => new X509Certificate(credentialsOf(seed).certificate).fingerprint256;
    const own = new X509Certificate(fronted.front.credentials.certificate).fingerprint256;
    const certificates = [
      { ...pemOf(credentialsOf(0x33)), serverNames: ['one.example'] },
      { ...pemOf(credentialsOf(0x34)), serverNames: ['*.two.example', 'two.example'] },
    ];
    await fronted.front.apply({ certificates });
    expect(await fronted.front.apply({ certificates })).toEqual([]);
    expect(await shown('one.example')).toBe(fingerprint(0x33));
    expect(await shown('two.example')).toBe(fingerprint(0x34));
    expect(await shown('www.two.example')).toBe(fingerprint(0x34));
    for (const name of ['www.one.example', 'nobody.example', undefined]) expect(await shown(name)).toBe(own);

    // Another certificate, other names, and one gone.
    await fronted.front.apply({
      certificates: [{ ...pemOf(credentialsOf(0x35)), serverNames: ['one.example', 'more.example'] }],
    });
    expect(await shown('one.example')).toBe(fingerprint(0x35));
    expect(await shown('more.example')).toBe(fingerprint(0x35));
    expect(await shown('two.example')).toBe(own);
    await fronted.front.apply({});
    expect(await shown('one.example')).toBe(own);
  });

  test('changes certificates while visitors come, and loses none of them', async () => {
    fronted.handle = (_req, res) => res.end('here');
    let wrong = 0;
    let answered = 0;
    let done = false;
    const visitors = Array.from({ length: 4 }, async () => {
      while (!done) {
        const said = await raw('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
        if (said.endsWith('here')) answered += 1;
        else wrong += 1;
      }
    });
    for (let i = 0; i < 10; i++) {
      await fronted.front.apply({
        certificate: pemOf(credentialsOf(0x40 + i)),
        sites: [
          {
            domains: [],
            upstream: { app: 'greeting', host: '127.0.0.1', port: fronted.port, protocol: 'http/1.1' },
          },
        ],
      });
    }
    done = true;
    await Promise.all(visitors);
    expect(answered).toBeGreaterThan(10);
    expect(wrong).toBe(0);
  });
});

describe("the driver's hand on it", () => {
  test("nobody gets in before it has the site's key, and again after a crash", async () => {
    const early = await TestFront.start();
    const outcome = () =>
      new Promise((resolve) => {
        connect({ host: '127.0.0.1', port: early.port, rejectUnauthorized: false })
          .on('secureConnect', () => resolve('a certificate'))
          .on('error', () => resolve('nothing'));
      });
    expect(await outcome()).toBe('nothing');
    await early.serve(fronted.port);
    expect(await outcome()).toBe('a certificate');
    await early.crash();
    expect(await outcome()).toBe('nothing');
    // The same words restore all of it.
    await early.serve(fronted.port);
    expect(await outcome()).toBe('a certificate');
    await early.stop();
  });

  test('sends only what differs', async () => {
    await fronted.front.serve(fronted.port);
    expect(await fronted.front.serve(fronted.port).then(() => fronted.front.apply({}))).toEqual([
      'no site0/http1-a',
      'no site0-uploads/http1-a',
    ]);
    expect(await fronted.front.apply({})).toEqual([]);
  });

  test("an app's new address gets all that comes after, over no connection to the old one", async () => {
    const name = (what: string): Server => createServer((_req, res) => res.end(what));
    const [one, two] = [name('one'), name('two')];
    const ports = [await listenOn(one), await listenOn(two)];
    for (let i = 0; i < 6; i++) {
      await fronted.front.serve(ports[i % 2]);
      for (let j = 0; j < 3; j++) expect((await ask()).body.toString()).toBe(i % 2 === 0 ? 'one' : 'two');
    }
    one.close();
    two.close();
  });

  test('no visitor notices that an app moves, on new connections, kept ones and over HTTP/2', {
    timeout: 300_000,
  }, async () => {
    const name = (what: string): Server => createServer((_req, res) => res.end(what));
    const apps = [name('one'), name('two'), name('three')];
    const ports = await Promise.all(apps.map(listenOn));
    // One with the image's times: however slow this machine is, they are not what is tested.
    const moving = await TestFront.start();
    const { port } = moving;
    await moving.serve(ports[0]);
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: moving.credentials.certificate });
    const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    const overHttp2 = async (): Promise<string> => {
      const stream = session.request({ ':path': '/' });
      const status = new Promise((resolve) => stream.on('response', (head) => resolve(head[':status'])));
      return `${await status} ${await text(stream)}`;
    };
    const overHttp1 = async (through: Agent | false): Promise<string> => {
      const { status, body } = await ask({ port, agent: through });
      return `${status} ${body}`;
    };
    const ways = [() => overHttp1(false), () => overHttp1(agent), overHttp2];
    const wrong: string[] = [];
    let asked = 0;
    let done = false;
    const visitors = [...ways, ...ways].map(async (visit) => {
      for (; !done; asked++) {
        const said = await visit().catch((error: Error) => error.message);
        if (!/^200 (one|two|three)$/.test(said)) wrong.push(said);
      }
    });
    for (let i = 1; i < 30; i++) {
      await moving.serve(ports[i % 3]);
      // What is asked from now on gets to the new one, whichever connection it comes by.
      const expected = `200 ${['one', 'two', 'three'][i % 3]}`;
      expect(await Promise.all(ways.map((visit) => visit()))).toEqual([expected, expected, expected]);
    }
    done = true;
    await Promise.all(visitors);
    expect(wrong).toEqual([]);
    expect(asked).toBeGreaterThan(100);
    session.destroy();
    agent.destroy();
    await moving.stop();
    for (const one of apps) one.close();
  });

  describe('while an app is being replaced', () => {
    const being: FrontState['sites'][number] = { domains: [], waits: true };

    test('requests wait for the next one, bodies too, and the others do not', async () => {
      const replaced = await TestFront.start();
      const said: string[] = [];
      const next = createServer((req, res) => {
        buffer(req).then((body) => res.end(`next ${body.length}`));
      });
      fronted.handle = (_req, res) => res.end('old');
      const port = await listenOn(next);
      const ask2 = (path: string, body?: Buffer): Promise<string> =>
        new Promise((resolve, reject) => {
          const options = { host: '127.0.0.1', port: replaced.port, rejectUnauthorized: false, agent: false };
          const req = request({ ...options, path, method: body ? 'POST' : 'GET' }, (response) => {
            text(response).then((all) => resolve(`${response.statusCode} ${all}`), reject);
          }).on('error', reject);
          req.end(body);
        });
      await replaced.serve(fronted.port);
      expect(await ask2('/')).toBe('200 old');
      expect(await replaced.apply({ sites: [being] })).toContain('site0 waits');
      const waiting = [ask2('/'), ask2('/upload', Buffer.alloc(300_000))].map((one) =>
        one.then((answer) => said.push(answer)),
      );
      // What is the node's own waits for nobody.
      expect(await ask2('/.well-known/dstack/nothing')).toMatch(/^404 /);
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(said).toEqual([]);
      const upstream = { app: 'greeting', host: '127.0.0.1', port, protocol: 'http/1.1' as const };
      await replaced.apply({ sites: [{ domains: [], upstream }] });
      await Promise.all(waiting);
      expect(said.sort()).toEqual(['200 next 0', '200 next 300000']);
      expect(await ask2('/')).toBe('200 next 0');
      await replaced.stop();
      next.close();
    });

    test('nobody waits for longer than it may take', async () => {
      const replaced = await TestFront.start({ times: { wait: 2_000 } });
      replaced.reason = 'greeting is being replaced';
      await replaced.apply({ sites: [being] });
      const socket = connect({ host: '127.0.0.1', port: replaced.port, rejectUnauthorized: false });
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      const began = performance.now();
      expect(await text(socket)).toMatch(/^HTTP\/1.1 503 [\s\S]*greeting is being replaced/);
      expect(performance.now() - began).toBeGreaterThan(900);
      await replaced.stop();
    });
  });

  test('never leads to an address of the node itself', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4');
    const host = own?.address ?? '';
    // A machine without any network has no such address, and nothing to protect.
    if (host === '') return;
    const upstream = { app: 'greeting', host, port: fronted.port, protocol: 'http/1.1' as const };
    await expect(fronted.front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
  });

  test.each(['0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255'])(
    'never leads to %s, which is no container: the site is without an app then',
    async (host) => {
      fronted.handle = (_req, res) => res.end('the app');
      const upstream = { app: 'greeting', host, port: fronted.port, protocol: 'http/1.1' as const };
      await expect(fronted.front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
        code: 'UPSTREAM_OWN',
      });
      expect((await ask()).status).toBe(503);
      await fronted.front.serve(fronted.port);
      expect((await ask()).body.toString()).toBe('the app');
    },
  );

  test('what is refused holds up nothing else: a site that moved is not sent to where it was', async () => {
    const elsewhere = createServer((_req, res) => res.end('its new address'));
    fronted.handle = (_req, res) => res.end("another's by now");
    const upstream = {
      app: 'greeting',
      host: '127.0.0.1',
      port: await listenOn(elsewhere),
      protocol: 'http/1.1' as const,
    };
    const wrong = {
      ...pemOf(credentialsOf(0x33)),
      key: pemOf(credentialsOf(0x34)).key,
      serverNames: ['wrong.example'],
    };
    const right = { ...pemOf(credentialsOf(0x35)), serverNames: ['right.example'] };
    const sites = [
      { domains: [], upstream: { ...upstream, host: '0.0.0.0' } },
      { domains: ['moved.example'], upstream },
    ];
    await fronted.front.apply({
      sites: sites.map((site) => ({ ...site, upstream: { ...upstream, port: fronted.port } })),
    });
    const saidTo = async (host: string) => {
      const servername = host.toLowerCase().replace(/:.*/, '');
      return (await ask({ servername, headers: { host } })).body.toString();
    };
    expect(await saidTo('moved.example')).toBe("another's by now");
    await expect(fronted.front.apply({ certificates: [wrong, right], sites })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
    expect(await saidTo('moved.example')).toBe('its new address');
    expect((await ask()).status).toBe(503);
    expect(await shown('right.example')).toBe(
      new X509Certificate(credentialsOf(0x35).certificate).fingerprint256,
    );
    // Nor does a certificate that could not be committed keep the site's own from being changed, or a front from opening.
    await fronted.front.apply({ certificate: pemOf(credentialsOf(0x36)) });
    expect(await shown()).toBe(new X509Certificate(credentialsOf(0x36).certificate).fingerprint256);
    const early = await TestFront.start();
    await expect(early.apply({ certificates: [wrong], sites })).rejects.toMatchObject({
      code: 'UPSTREAM_OWN',
    });
    await expect(early.apply({ certificates: [wrong] })).rejects.toMatchObject({ code: 'FRONT_REFUSED' });
    const outcome = await new Promise((resolve) =>
      connect({ host: '127.0.0.1', port: early.port, rejectUnauthorized: false })
        .on('secureConnect', () => resolve('open'))
        .on('error', () => resolve('shut')),
    );
    expect(outcome).toBe('open');
    await early.stop();
    elsewhere.close();
  });

  test('a certificate with other issuers after it is another one', async () => {
    const { chain, key } = pemOf(fronted.front.credentials);
    const issuers = async (): Promise<number> => {
      const line = `show ssl cert ${fronted.front.description.placeholder}`;
      return (
        (await askFront(fronted.front.description.control, { line })).match(/^Chain Subject: /gm)?.length ?? 0
      );
    };
    await fronted.front.apply({ certificate: { chain, key } });
    expect(await issuers()).toBe(0);
    const longer = { chain: `${chain}${credentialsOf(0x55).certificate}`, key };
    expect(await fronted.front.apply({ certificate: longer })).toHaveLength(1);
    expect(await issuers()).toBe(1);
    expect(await fronted.front.apply({ certificate: longer })).toEqual([]);
    await fronted.front.apply({ certificate: { chain, key } });
    expect(await issuers()).toBe(0);
  });

  test.each([
    ['a domain with a command', { domains: ['a.example; shutdown sessions'] }],
    ['a domain with a line', { domains: ['a.example\nshow env'] }],
    ['a domain with a space', { domains: ['a.example site1'] }],
    ['an app with a slash', { upstream: { app: 'a/b', host: '127.0.0.1', port: 1, protocol: 'http/1.1' } }],
    [
      'a host with words',
      { upstream: { app: 'a', host: '127.0.0.1 port 22', port: 1, protocol: 'http/1.1' } },
    ],
    ['a port that is none', { upstream: { app: 'a', host: '127.0.0.1', port: '1;x', protocol: 'http/1.1' } }],
    ['a field that nobody knows', { command: 'show env' }],
  ])('%s is refused', async (_, site) => {
    const sites = [{ domains: [], ...site }] as never;
    await expect(fronted.front.apply({ sites })).rejects.toMatchObject({ code: 'FRONT_STATE' });
  });

  test.each(['999.1.1.1', '127.0.0.01', '127.0.0.256', '0177.0.0.1', '127.0.1', '127.0.0.1.'])(
    'the host %s is refused: it is no address, or one that programs read differently',
    async (host) => {
      const upstream = { app: 'a', host, port: 1, protocol: 'http/1.1' as const };
      await expect(fronted.front.apply({ sites: [{ domains: [], upstream }] })).rejects.toMatchObject({
        code: 'FRONT_STATE',
      });
    },
  );

  test.each([
    ['names', { serverNames: ['a.example]\nmore'] }],
    ['names with a filter', { serverNames: ['!a.example'] }],
    ['a chain', { chain: 'x\r\n\r\nshow env' }],
    ['a key', { key: '-----BEGIN;' }],
  ])('a certificate with other %s than certificates have is refused', async (_, wrong) => {
    const certificates = [{ ...pemOf(credentialsOf(0x33)), serverNames: ['a.example'], ...wrong }];
    await expect(fronted.front.apply({ certificates })).rejects.toMatchObject({ code: 'FRONT_STATE' });
  });

  test("a key that is not the certificate's is refused, and the old one goes on", async () => {
    await fronted.front.apply({});
    const mixed = { ...pemOf(credentialsOf(0x33)), key: pemOf(credentialsOf(0x34)).key };
    await expect(fronted.front.apply({ certificate: mixed })).rejects.toMatchObject({
      code: 'FRONT_REFUSED',
    });
    expect(await shown()).toBe(new X509Certificate(fronted.front.credentials.certificate).fingerprint256);
    expect(await fronted.front.apply({})).toEqual([]);
  });

  test.each([
    ['show env\nshow env', undefined],
    ['show env; show env', undefined],
    ['show env', 'x\n\nshow env'],
    ['show env', ''],
  ])('one command stays one: %j with %j is refused', async (line, payload) => {
    const command = payload === undefined ? { line } : { line, payload };
    await expect(askFront(fronted.front.description.control, command)).rejects.toMatchObject({
      code: 'FRONT_COMMAND',
    });
  });

  test('the key is in no file', async () => {
    await fronted.front.serve(fronted.port);
    expect(
      await askFront(fronted.front.description.control, {
        line: `show ssl crt-list ${certificateList(fronted.front.description)}`,
      }),
    ).toContain(fronted.front.description.placeholder);
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(fronted.front.description.placeholder, 'utf8')).not.toContain(
      pemOf(fronted.front.credentials).key.slice(30, 100),
    );
  });
});
