/** tls-alpn-01 (RFC 8737): who offers `acme-tls/1` alone gets the challenge's certificate, and nobody else, whatever the name. */
import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { credentialsOf, end, listenOn, pemOf, TestFront } from '../../test/support/front.ts';
import type { FrontState } from './front.ts';

const NAME = 'site.example';
const CHALLENGE = credentialsOf(0x55);
const fingerprint = (certificate: string): string => new X509Certificate(certificate).fingerprint256;
const app = createServer((req, res) => res.end(`the app, for ${req.headers['x-forwarded-for']}`));
let front: TestFront;
let sites: FrontState['sites'];

beforeAll(async () => {
  front = await TestFront.start();
  const upstream = {
    app: 'greeting',
    host: '127.0.0.1',
    port: await listenOn(app),
    protocol: 'http/1.1' as const,
  };
  sites = [{ domains: [NAME], upstream }];
});
afterAll(async () => {
  await front.stop();
  app.close();
  app.closeAllConnections();
});

const challenges = [{ ...pemOf(CHALLENGE), domain: NAME }];

interface Seen {
  /** `challenge`, `site`, or what went wrong. */
  certificate: string;
  alpn?: string | false | null;
  /** What came for a request. */
  answer: string;
}

/** A visit with these protocols; its first bytes in pieces of `piece`, if there is one. */
function visit(
  protocols: string[] | undefined,
  servername: string | undefined = NAME,
  piece = 0,
): Promise<Seen> {
  return new Promise((resolve) => {
    const tcp = connectTcp(front.port, '127.0.0.1').setNoDelay(true);
    const socket: TLSSocket = connect({
      socket: piece === 0 ? tcp : inPieces(tcp, piece),
      rejectUnauthorized: false,
      ...(servername !== '' && { servername }),
      ...(protocols !== undefined && { ALPNProtocols: protocols }),
      ecdhCurve: 'X25519MLKEM768',
    });
    const seen: Seen = { certificate: 'none', answer: '' };
    socket.on('secureConnect', () => {
      const shown = fingerprint(new X509Certificate(socket.getPeerCertificate(true).raw).toString());
      const known = {
        [fingerprint(CHALLENGE.certificate)]: 'challenge',
        [fingerprint(front.credentials.certificate)]: 'site',
      };
      seen.certificate = known[shown] ?? 'another';
      seen.alpn = socket.alpnProtocol;
      socket.write(`GET / HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`);
      if (seen.alpn === 'h2') socket.destroy();
    });
    socket
      .on('data', (chunk) => {
        seen.answer += chunk.toString('latin1');
      })
      .on('error', () => {})
      .on('close', () => resolve(seen));
  });
}

/** What is written first reaches the socket in small pieces, as a large greeting does. */
function inPieces(tcp: ReturnType<typeof connectTcp>, size: number): Duplex {
  let isFirst = true;
  const slowly = async (bytes: Buffer) => {
    for (let at = 0; at < bytes.length; at += size) {
      tcp.write(bytes.subarray(at, at + size));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const duplex = new Duplex({
    read() {},
    write(bytes: Buffer, _encoding, done) {
      const pieces = isFirst;
      isFirst = false;
      if (pieces) slowly(bytes).then(() => done(), done);
      else tcp.write(bytes, done);
    },
  });
  tcp.on('data', (bytes) => duplex.push(bytes)).on('error', () => {});
  tcp.on('close', () => duplex.destroy());
  return duplex;
}

describe('where network.json names the challenge', () => {
  test.each([0, 700, 90])(
    'acme-tls/1 gets its certificate, a handshake and no more (in pieces of %i)',
    async (piece) => {
      await front.apply({ sites, sorting: true, challenges });
      expect(await visit(['acme-tls/1'], NAME, piece)).toEqual({
        certificate: 'challenge',
        alpn: 'acme-tls/1',
        answer: '',
      });
    },
  );

  test.each([
    ['no protocol', undefined],
    ['HTTP/1.1', ['http/1.1']],
    ['HTTP/2', ['h2', 'http/1.1']],
    ['acme-tls/1 and HTTP', ['acme-tls/1', 'h2']],
    ['HTTP and acme-tls/1', ['h2', 'acme-tls/1']],
    ['HTTP/1.1 and acme-tls/1', ['http/1.1', 'acme-tls/1']],
    ['something like it', ['acme-tls/11']],
    ['something like it in capitals', ['ACME-TLS/1']],
    ['two', ['acme-tls/1', 'acme-tls/2']],
  ])('%s never does, by the same name', async (_, protocols) => {
    await front.apply({ sites, sorting: true, challenges });
    const seen = await visit(protocols);
    expect(seen.certificate).toBe('site');
    expect(seen.alpn).not.toBe('acme-tls/1');
    if (seen.alpn !== 'h2') expect(seen.answer).toMatch(/the app, for 127\.0\.0\.1$/);
  });

  test('acme-tls/1 gets nothing for another name, for none, and once the challenge is over', async () => {
    await front.apply({ sites, sorting: true, challenges });
    for (const name of ['other.example', 'nobody.invalid', `www.${NAME}`, ''])
      expect(await visit(['acme-tls/1'], name)).toMatchObject({
        answer: '',
        certificate: expect.not.stringMatching(/^challenge$/),
      });
    await front.apply({ sites, sorting: true });
    expect((await visit(['acme-tls/1'])).certificate).toBe('none');
    expect((await visit(['http/1.1'])).certificate).toBe('site');
    // Another certificate for the same name.
    await front.apply({
      sites,
      sorting: true,
      challenges: [{ ...pemOf(credentialsOf(0x56)), domain: NAME }],
    });
    expect((await visit(['acme-tls/1'])).certificate).toBe('another');
  });

  test('the front that died sorts again', async () => {
    await end(front.haproxy);
    await front.crash();
    await front.apply({ sites, sorting: true, challenges });
    expect(await front.apply({ sites, sorting: true, challenges })).toEqual([]);
    for (let i = 0; i < 10; i++) expect((await visit(['acme-tls/1'])).certificate).toBe('challenge');
    for (let i = 0; i < 10; i++) expect((await visit(['http/1.1'])).answer).toMatch(/the app/);
  });

  test('what is no TLS, or never says what it wants, is let go', async () => {
    const hasty = await TestFront.start({ times: { request: 1_500 } });
    await hasty.apply({ sites, sorting: true, challenges });
    for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\x16\x03\x01', '']) {
      const began = performance.now();
      await new Promise((resolve) => {
        const socket = connectTcp(hasty.port, '127.0.0.1', () => socket.write(bytes, 'latin1'));
        socket
          .resume()
          .on('error', () => {})
          .on('close', resolve);
      });
      expect(performance.now() - began).toBeLessThan(60_000);
    }
    await hasty.stop();
  });
});

describe('where it does not', () => {
  test('nobody passes the sorter, and acme-tls/1 is nothing that is spoken here', async () => {
    await front.apply({ sites });
    const passed = async () => {
      const stat = await front.control('show stat -1 1 -1');
      const row = stat
        .split('\n')
        .find((line) => line.startsWith('sorter,'))!
        .split(',');
      return Number(row[stat.split('\n')[0]!.slice(2).split(',').indexOf('stot')]);
    };
    const before = await passed();
    for (let i = 0; i < 20; i++)
      expect((await visit(['http/1.1'])).answer).toMatch(/the app, for 127\.0\.0\.1$/);
    const { certificate, alpn } = await visit(['acme-tls/1']);
    expect(certificate).not.toBe('challenge');
    expect(alpn).not.toBe('acme-tls/1');
    expect(await passed()).toBe(before);
  });
});
