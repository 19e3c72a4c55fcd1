/** A look at websites that do not mean well: nothing here may take long, take much, or lead anywhere else. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { chainHex, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { p256PublicKey, type SiteEvidence } from '../../lib/protocol/site-evidence.ts';
import { newKey, TestAuthority } from '../../test/support/authority.ts';
import { type Answer, type Front, nonceIn, startFront } from '../../test/support/forge-site.ts';
import { visit } from './fetch.ts';

const key = sha256(utf8('a TLS key'));
const word = parseHex('11'.repeat(32));
const evidence = (nonce: string): SiteEvidence => ({
  type: 'site',
  version: 1,
  chainId: 1,
  contract: parseAddress(`0x${'22'.repeat(20)}`),
  networkKey: parseAddress(`0x${'33'.repeat(20)}`),
  epoch: 1,
  publicKey: toHex(p256PublicKey(key)),
  nonce: parseHex(nonce),
  measurement: word,
  config: word,
  platform: word,
  blockNumber: 1,
  blockHash: word,
  hostImpersonable: true,
  quote: parseHex('00'),
  quoteHash: word,
  signature: { r: chainHex(word), vs: chainHex(word) },
});

const fronts: Front[] = [];
afterEach(async () => {
  for (const front of fronts.splice(0)) await front.close();
});
async function look(answer: (target: string) => Answer | Promise<Answer>, waitMs = 0, visitMs = 5_000) {
  const front = await startFront(answer, key);
  fronts.push(front);
  return visit(new URL(front.url), () => new Uint8Array(randomBytes(32)), waitMs, visitMs);
}

test('the evidence for this nonce, the key of this connection, and what a browser would say', async () => {
  const seen = await look((target) => ({ body: JSON.stringify(evidence(nonceIn(target))) }));
  expect(seen.evidence.nonce).toBe(toHex(seen.nonce));
  expect(toHex(seen.publicKey)).toBe(toHex(p256PublicKey(key)));
  expect(seen.browserRefuses).toBe('DEPTH_ZERO_SELF_SIGNED_CERT');
  expect(fronts[0]!.asked).toEqual([`/.well-known/dstack/evidence.json?nonce=${toHex(seen.nonce)}`]);
});

test('a node that is busy is asked again, each time for a nonce of its own', async () => {
  let busy = 2;
  const seen = await look((target) => {
    busy -= 1;
    return busy >= 0
      ? { status: 429, headers: { 'retry-after': '1' }, body: '{}' }
      : { body: JSON.stringify(evidence(nonceIn(target))) };
  }, 300_000);
  const { asked } = fronts[0]!;
  expect(asked).toHaveLength(3);
  expect(new Set(asked.map(nonceIn)).size).toBe(3);
  expect(nonceIn(asked[2]!)).toBe(toHex(seen.nonce));
});

describe('refused', () => {
  test.each<[string, string, Answer]>([
    ['busy for ever', 'SITE_BUSY', { status: 429, headers: { 'retry-after': '1e99' }, body: '' }],
    [
      'a redirect',
      'SITE_REDIRECT',
      { status: 302, headers: { location: 'https://other.invalid/' }, body: '' },
    ],
    ['none', 'SITE_NO_EVIDENCE', { status: 404, body: 'not found' }],
    ['not ready', 'SITE_NOT_READY', { status: 503, body: '{}' }],
    ['an error', 'SITE_STATUS', { status: 500, body: '' }],
    ['another success', 'SITE_STATUS', { status: 204, body: '' }],
    ['no JSON', 'SITE_MALFORMED', { body: '<html>' }],
    ['JSON of something else', 'SITE_MALFORMED', { body: '{"verdict":"yes"}' }],
    ['a field too many', 'SITE_MALFORMED', { body: JSON.stringify({ ...evidence(word), more: 1 }) }],
    ['a field too few', 'SITE_MALFORMED', { body: JSON.stringify({ ...evidence(word), nonce: undefined }) }],
    [
      'a key twice',
      'SITE_MALFORMED',
      { body: JSON.stringify(evidence(word)).replace('{', '{"nonce":"00",') },
    ],
    ['compressed', 'SITE_MALFORMED', { headers: { 'content-encoding': 'gzip' }, body: '\u001f\u008b' }],
    ['too much', 'SITE_TOO_LARGE', { body: ' '.repeat(200_000) }],
  ])('%s: %s', async (_, code, answer) => {
    await expect(look(() => answer)).rejects.toMatchObject({ code });
    expect(fronts[0]!.asked).toHaveLength(1);
  });

  test('an answer that never comes', async () => {
    await expect(look(() => new Promise(() => {}), 0, 500)).rejects.toMatchObject({
      code: 'SITE_UNREACHABLE',
    });
  });

  test.each<[string, string]>([
    ['a body without a length', 'HTTP/1.1 200 OK\r\n\r\n'],
    ['a head', 'HTTP/1.1 200 OK\r\n'],
    ['one answer before the answer after the other', ''],
  ])('%s that never ends says nothing about the site', async (what, start) => {
    const own = newKey();
    const piece = { 'a body without a length': ' ', 'a head': 'a: b\r\n' }[what] ?? 'HTTP/1.1 102 P\r\n\r\n';
    const credentials = {
      key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      cert: new TestAuthority().issue({ key: own, names: ['localhost'] }),
    };
    const server = createTlsServer(credentials, (socket) => {
      socket
        .on('error', () => {})
        .once('data', () => {
          socket.write(start);
          const timer = setInterval(() => socket.write(piece), 50);
          socket.on('close', () => clearInterval(timer));
        });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await expect(
      visit(new URL(`https://127.0.0.1:${port}`), () => new Uint8Array(32), 0, 1_000),
    ).rejects.toMatchObject({
      code: 'SITE_UNREACHABLE',
      message: expect.stringContaining('it took too long'),
    });
    await new Promise((resolve) => server.close(resolve));
  });

  test('a server that speaks no TLS, and a port where nobody is', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end('HTTP/1.1 200 OK\r\n\r\n', () => socket.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const site = new URL(`https://127.0.0.1:${port}`);
    const refused = { code: 'SITE_UNREACHABLE' };
    await expect(visit(site, () => new Uint8Array(32), 0, 5_000)).rejects.toMatchObject(refused);
    await new Promise((resolve) => server.close(resolve));
    await expect(visit(site, () => new Uint8Array(32), 0, 5_000)).rejects.toMatchObject(refused);
  });
});
