/** Where visitors come from: the host's forwarder before the front, and what others could say in its place. */
import { createServer, type IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { connect as connectTcp, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Forwarder, forwardVisitors } from '../host/vm/forwarder.ts';
import { proxyHeader } from '../host/vm/proxy-header.ts';
import { listenOn, TestFront } from './support/front.ts';

const app = createServer((req, res) => {
  req.resume().on('end', () => res.end(`from ${req.headers['x-forwarded-for']}`));
});
let front: TestFront;
let forwarder: Forwarder;

beforeAll(async () => {
  // This machine is its own visitor: the loopback is no inside here, but for the last of it.
  const limits = {
    perSource: 4,
    insideSources: ['10.90.0.0/16', '127.0.0.66', '::1', '::ffff:10.90.0.0/112'],
  };
  // Whoever is let in stays, however slowly the others come.
  front = await TestFront.start({ limits, times: { request: 600_000 } });
  forwarder = await forwardVisitors({ host: '127.0.0.1', port: 0 }, front.description.listen.proxiedPort);
});
afterAll(async () => {
  forwarder.close();
  await front.stop();
  app.close();
  app.closeAllConnections();
});

const header = (from: string): Buffer =>
  proxyHeader(
    { address: from, port: 1 },
    { address: from.includes('.') ? '192.0.2.1' : '2001:db8::1', port: 443 },
  );

/** What comes back for a request to this port, after these bytes in the clear. */
function visit(port: number, before: Buffer | string = '', localAddress = '127.0.0.1'): Promise<string> {
  return new Promise((resolve) => {
    const tcp = connectTcp({ port, host: '127.0.0.1', localAddress });
    tcp.on('error', () => resolve('nothing'));
    if (before.length > 0) tcp.write(before);
    const socket = connect({ socket: tcp, rejectUnauthorized: false });
    let seen = '';
    socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'));
    socket
      .on('data', (chunk) => {
        seen += chunk.toString('latin1');
      })
      .on('error', () => {})
      .on('close', () => resolve(/from .*$/.exec(seen)?.[0] ?? 'nothing'));
  });
}

/** Opens a connection as one of this address, is answered on it and keeps it; undefined where it is not let in. */
function dial(from: string, port: number): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const tcp = connectTcp(port, '127.0.0.1', () => tcp.write(header(from)));
    const socket = connect({ socket: tcp, rejectUnauthorized: false });
    // TLS 1.3: the client is done before the server has looked.
    socket.on('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
    socket.once('data', () => resolve(socket));
    for (const one of [tcp, socket])
      one.on('error', () => resolve(undefined)).on('close', () => resolve(undefined));
  });
}

describe.each([
  ['without tls-alpn-01', false],
  ['with tls-alpn-01', true],
])('%s', (_, sorting) => {
  beforeAll(async () => {
    const port = app.listening ? (app.address() as { port: number }).port : await listenOn(app);
    const upstream = { app: 'greeting', host: '127.0.0.1', port, protocol: 'http/1.1' as const };
    await front.apply({ sorting, sites: [{ domains: [], upstream }] });
  });
  const port = () => front.description.listen.port;
  const proxied = () => front.description.listen.proxiedPort;

  test("the forwarder's word reaches the app, IPv4 and IPv6", async () => {
    expect(await visit(forwarder.address.port, '', '127.0.0.7')).toBe('from 127.0.0.7');
    expect(await visit(forwarder.address.port, '', '127.0.0.8')).toBe('from 127.0.0.8');
    expect(await visit(proxied(), header('2001:db8:1:2::9'))).toBe('from 2001:db8:1:2::9');
    expect(await visit(proxied(), header('198.51.100.7'))).toBe('from 198.51.100.7');
  });

  test("a visitor's own word is no header, by whatever port it comes", async () => {
    for (const forged of [
      header('6.6.6.6'),
      'PROXY TCP4 6.6.6.6 192.0.2.1 1 443\r\n',
      Buffer.concat([header('6.6.6.6'), header('6.6.6.6')]),
    ]) {
      expect(await visit(forwarder.address.port, forged)).toBe('nothing');
      expect(await visit(port(), forged)).toBe('nothing');
      expect(await visit(proxied(), Buffer.concat([header('198.51.100.7'), Buffer.from(forged)]))).toBe(
        'nothing',
      );
    }
    // Nor is what it writes inside of TLS.
    const said = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port: forwarder.address.port,
        rejectUnauthorized: false,
        agent: false,
      };
      const headers = { 'x-forwarded-for': '6.6.6.6', forwarded: 'for=6.6.6.6' };
      request({ ...options, headers }, resolve)
        .on('error', reject)
        .end();
    });
    expect(await text(said)).toBe('from 127.0.0.1');
  });

  test('where a header is due, nothing goes without one, or for long', async () => {
    const hasty = await TestFront.start({ times: { request: 3_000 } });
    const at = hasty.description.listen.proxiedPort;
    await hasty.apply({ sorting, sites: [{ domains: [] }] });
    const began = performance.now();
    expect(await visit(at)).toBe('nothing');
    const silent = await new Promise((resolve) => {
      connectTcp(at, '127.0.0.1')
        .resume()
        .on('error', () => {})
        .on('close', () => resolve('let go'));
    });
    expect(silent).toBe('let go');
    expect(performance.now() - began).toBeLessThan(120_000);
    await hasty.stop();
  });

  test.each(['10.90.0.2', '127.0.0.66', '::1', '::ffff:10.90.3.4'])(
    'a header that says %s, an address of the inside, is refused',
    async (address) => {
      expect(await visit(proxied(), header(address))).toBe('nothing');
    },
  );

  test('sources are counted by it, an IPv6 one by its /64', async () => {
    for (const [mine, other] of [
      ['198.51.100.1', '198.51.100.2'],
      ['2001:db8:a:1::1', '2001:db8:a:2::1'],
    ] as const) {
      const all = Array.from({ length: 6 }, (_, i) => mine.replace('::1', `::${i + 1}`));
      const held = await Promise.all(all.map((one) => dial(one, proxied())));
      expect(held.filter((one) => one !== undefined && !one.destroyed)).toHaveLength(4);
      expect(await visit(proxied(), header(other))).toBe(`from ${other}`);
      for (const one of held) one?.destroy();
      await expect.poll(() => visit(proxied(), header(mine))).toBe(`from ${mine}`);
    }
  });

  test('bytes pass both ways, to the end of either side', async () => {
    const body = Buffer.alloc(3_000_000, 7);
    const said = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port: forwarder.address.port,
        rejectUnauthorized: false,
        agent: false,
      };
      request({ ...options, method: 'POST' }, resolve)
        .on('error', reject)
        .end(body);
    });
    expect(await text(said)).toBe('from 127.0.0.1');
  });
});

test('a forwarder whose VM is away lets go', async () => {
  const alone = await forwardVisitors({ host: '127.0.0.1', port: 0 }, 1);
  expect(await visit(alone.address.port)).toBe('nothing');
  alone.close();
});

describe('the header', () => {
  test('has the bytes of the specification, and IPv4 also for an address that is written as IPv6', () => {
    const to = { address: '192.0.2.1', port: 443 };
    const bytes = `0d0a0d0a000d0a515549540a2111000c${'c6336407'}${'c0000201'}${'1f90'}${'01bb'}`;
    expect(proxyHeader({ address: '198.51.100.7', port: 8080 }, to).toString('hex')).toBe(bytes);
    const mapped = { address: '::ffff:192.0.2.1', port: 443 };
    expect(proxyHeader({ address: '::ffff:198.51.100.7', port: 8080 }, mapped).toString('hex')).toBe(bytes);
    const six = proxyHeader({ address: '2001:db8::1', port: 1 }, { address: 'fe80::2%eth0', port: 2 });
    expect(six.toString('hex')).toBe(
      `0d0a0d0a000d0a515549540a21210024${'20010db8'.padEnd(31, '0')}1${'fe80'.padEnd(31, '0')}200010002`,
    );
  });

  test('is of one family', () => {
    expect(() => proxyHeader({ address: '::1', port: 1 }, { address: '127.0.0.1', port: 1 })).toThrow(
      /family/,
    );
    expect(() => proxyHeader({ address: 'a', port: 1 }, { address: '127.0.0.1', port: 1 })).toThrow(
      /address/,
    );
  });
});
