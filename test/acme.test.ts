/** The website's certificate, ordered by the real daemon of a real authority (pebble). */
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { jitter } from '../guest/acme/schedule.ts';
import { daemons } from '../guest/daemons.ts';
import { bundleDaemons } from '../guest/image/daemons.ts';
import { sha256, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { tlsKey } from '../lib/protocol/keys.ts';
import type { SiteConfig } from '../lib/protocol/network-config.ts';
import { p256PublicKey } from '../lib/protocol/site-evidence.ts';
import type { AcmeSite } from '../lib/protocol/sockets.ts';
import { AcmeNode, type AcmeNodeOptions, answerHttp01, answerTlsAlpn01 } from './support/acme-node.ts';
import { type KeyPair, newKey, TestAuthority } from './support/authority.ts';
import { type Pebble, type PebbleOptions, startPebble } from './support/pebble.ts';
import { proposing } from './support/proposals.ts';

const PATIENCE = { timeout: 120_000, interval: 100 };
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function pebble(options?: PebbleOptions): Promise<Pebble> {
  const started = await startPebble(options);
  cleanups.push(() => started.stop());
  return started;
}

async function node(options: AcmeNodeOptions): Promise<AcmeNode> {
  const started = await new AcmeNode(options).start();
  cleanups.push(() => started.stop());
  return started;
}

/** Any node of the network may be the one that the authority reaches. */
async function answering(port: number, of: AcmeNode): Promise<Server> {
  const server = await answerHttp01(port, () => of.shown?.thumbprint);
  cleanups.push(() => server.close());
  return server;
}

const siteOf = (authority: Pebble, over: Partial<SiteConfig> = {}): SiteConfig => ({
  domains: ['site.example', 'www.site.example'],
  acme: { directory: authority.directory, challenges: ['http-01'] },
  roots: authority.roots,
  ...over,
});

/** Has relays carry what one node takes to the others. */
function gossip(nodes: readonly AcmeNode[]): void {
  const timer = setInterval(() => {
    for (const { shown } of nodes) {
      const chain = shown?.chain;
      if (chain === undefined) continue;
      for (const other of nodes)
        if (other.shown !== undefined && other.shown.chain !== chain) other.bring(chain).catch(() => {});
    }
  }, 500);
  cleanups.push(() => clearInterval(timer));
}

const issued = (one: AcmeNode, authority?: Pebble) =>
  vi.waitFor(() => expect(one.shown?.chain, `${one.said}${authority?.log() ?? ''}`).toBeDefined(), PATIENCE);
const stateIs = (one: AcmeNode, state: string) =>
  vi.waitFor(() => expect(one.shown?.status.state, one.said).toBe(state), PATIENCE);

describe('one node', () => {
  test('orders by http-01, and what is issued is for the key of the network', async () => {
    const authority = await pebble();
    const one = await node({ site: siteOf(authority) });
    await answering(authority.httpPort, one);
    await issued(one, authority);
    await stateIs(one, 'current');
    const key = new X509Certificate(one.shown!.chain!).publicKey.export({ format: 'der', type: 'spki' });
    expect(new Uint8Array(key)).toEqual(p256PublicKey(tlsKey(new Uint8Array(32).fill(7), 1)));
    expect(one.shown?.status).toMatchObject({
      hostImpersonable: true,
      account: expect.stringMatching(/^https:/),
    });
    expect(authority.orders()).toBe(1);
  });

  test('answers by tls-alpn-01, with a certificate for that alone, which is gone afterwards', async () => {
    const authority = await pebble();
    const acme = { directory: authority.directory, challenges: ['tls-alpn-01' as const] };
    const one = await node({ site: siteOf(authority, { acme }) });
    const server = await answerTlsAlpn01(authority.tlsPort, () => one.shown);
    cleanups.push(() => server.close());
    let seen: AcmeSite['alpn'] = [];
    await vi.waitFor(
      () => {
        if (one.shown !== undefined && one.shown.alpn.length > 0) seen = one.shown.alpn;
        expect(one.shown?.chain, one.said + authority.log()).toBeDefined();
      },
      { ...PATIENCE, interval: 50 },
    );
    expect(seen[0]?.domain).toMatch(/site\.example$/);
    const answer = new X509Certificate(seen[0]!.certificate);
    expect(answer.subjectAltName).toBe(`DNS:${seen[0]!.domain}`);
    expect(answer.checkPrivateKey(createPrivateKey(seen[0]!.key))).toBe(true);
    expect(answer.publicKey.equals(networkKeys(7).publicKey)).toBe(false);
    await vi.waitFor(() => expect(one.shown?.alpn).toEqual([]), PATIENCE);
    expect(one.shown?.thumbprint).toBeUndefined();
  });

  test('needs one record for dns-persist-01, says which, and makes no order before it is there', async () => {
    const authority = await pebble();
    const acme = { directory: authority.directory, challenges: ['dns-persist-01' as const] };
    let ahead = 0;
    const site = siteOf(authority, { domains: ['site.example'], acme });
    const one = await node({ site, resolver: authority.resolver, ahead: () => ahead });
    await vi.waitFor(() => expect(one.shown?.status.code, one.said).toBe('ACME_RECORD_MISSING'), PATIENCE);
    const { account, issuers, reason } = one.shown!.status;
    const value = `${issuers![0]}; accounturi=${account}`;
    expect(value).toMatch(/^pebble\.letsencrypt\.org; accounturi=https:/);
    expect(reason).toContain(`_validation-persist.site.example. TXT "${value}"`);
    expect(authority.orders()).toBe(0);
    await authority.setTxt('_validation-persist.site.example', value);
    ahead = 3600;
    await issued(one, authority);
    expect(authority.orders()).toBe(1);
  });

  test('asks for the profile that is named', async () => {
    const authority = await pebble();
    const acme = { directory: authority.directory, challenges: ['http-01' as const], profile: 'nobodys' };
    const one = await node({ site: siteOf(authority, { acme }) });
    await vi.waitFor(() => expect(one.shown?.status.code, one.said).toBe('ACME_REFUSED'), PATIENCE);
    expect(one.shown?.status.reason).toContain('nobodys');
  });

  test('does so by the bundle of the image, with all that is left out of it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-acme-bundle-'));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const program = join(folder, 'acme.mjs');
    const bundles = await bundleDaemons(daemons.filter(({ name }) => name === 'acme'));
    writeFileSync(program, bundles.get('acme.mjs')!);
    const authority = await pebble();
    const one = await node({ site: siteOf(authority), program });
    await answering(authority.httpPort, one);
    await issued(one);
  });

  test('gets its certificate from an authority that refuses 60 of 100 nonces', async () => {
    const authority = await pebble({ env: { PEBBLE_WFE_NONCEREJECT: '60' } });
    const one = await node({ site: siteOf(authority) });
    await answering(authority.httpPort, one);
    await issued(one, authority);
    // The client takes the nonce of a refusal, and asks for one before everything else.
    const asked = (what: RegExp) => authority.log().match(what)!.length;
    expect(asked(/POST \//g)).toBeGreaterThan(asked(/HEAD \/nonce/g) + 5);
    expect(authority.orders()).toBeLessThan(40);
    expect(remembered(one).orders).toHaveLength(1);
  });

  test('renews before the end, five orders a week and no more, and shows none whose time is up', async () => {
    // The time that is left for each order is most of a life, however slow the machine is.
    const authority = await pebble({ lifetime: 100 });
    const way = await proposing(authority, 3);
    cleanups.push(() => way.close());
    const acme = { directory: way.directory, challenges: ['http-01' as const] };
    const one = await node({ site: siteOf(authority, { acme }) });
    await answering(authority.httpPort, one);
    await issued(one, authority);
    const serials = new Set<string>();
    const gaps: number[] = [];
    await vi.waitFor(
      () => {
        const { serial, notAfter = 0, state } = one.shown!.status;
        if (serial !== undefined) serials.add(serial);
        if (serials.size < 5 && notAfter < Date.now() / 1000) gaps.push(notAfter);
        expect(serials.size, one.said).toBe(5);
        expect(state).toBe('held');
      },
      { timeout: 400_000, interval: 200 },
    );
    expect(gaps).toEqual([]);
    await vi.waitFor(() => expect(one.shown?.chain).toBeUndefined(), { timeout: 200_000 });
    expect(one.shown?.status.nextOrder).toBeGreaterThan(Date.now() / 1000 + 6 * 24 * 3600);
    expect(authority.orders()).toBe(5);
  }, 660_000);

  test('leaves an authority that is down alone for longer and longer, also across its own end, and orders when it is back', async () => {
    const authority = await pebble();
    const way = await detour(authority.port);
    const site = siteOf(authority, {
      acme: { directory: `https://localhost:${way.port}/dir`, challenges: ['http-01'] },
    });
    let ahead = 0;
    way.close();
    const one = await node({ site, ahead: () => ahead });
    await answering(authority.httpPort, one);
    await vi.waitFor(
      () => expect(one.shown?.status).toMatchObject({ state: 'failed', code: 'ACME_UNREACHABLE' }),
      PATIENCE,
    );
    for (let tries = 2; tries <= 4; tries++) {
      const { nextOrder: next = 0 } = one.shown!.status;
      ahead = next - Math.floor(Date.now() / 1000);
      await vi.waitFor(() => expect(remembered(one).failures?.tries).toBe(tries), PATIENCE);
      await vi.waitFor(() => expect(one.shown?.status.nextOrder).toBeGreaterThan(next), PATIENCE);
    }
    const next = one.shown!.status.nextOrder!;
    expect(next - remembered(one).failures.at).toBeGreaterThan(200);
    await one.kill();
    await way.open();
    one.startDaemon();
    const still = async () =>
      expect((await one.site()).status).toMatchObject({ state: 'failed', nextOrder: next });
    await vi.waitFor(still, PATIENCE);
    // Whoever would order at once has had the time to.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    await still();
    ahead += 320;
    await issued(one, authority);
    expect(remembered(one)).toMatchObject({ orders: [{}] });
    expect(remembered(one).failures).toBeUndefined();
  });

  test('goes on with its certificate after its end; other names are ordered at once, and counted for themselves', async () => {
    const authority = await pebble();
    const one = await node({ site: siteOf(authority) });
    const http = await answering(authority.httpPort, one);
    await issued(one, authority);
    const { chain } = one.shown!;
    await one.kill();
    one.startDaemon();
    const shows = async () => expect((await one.site()).chain).toBe(chain);
    await vi.waitFor(shows, PATIENCE);
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    await shows();
    await one.stop(true);
    const domains = ['site.example', 'new.example'];
    const other = await node({ site: siteOf(authority, { domains }), root: one.root });
    http.close();
    await answering(authority.httpPort, other);
    await issued(other, authority);
    expect(new X509Certificate(other.shown!.chain!).subjectAltName?.split(', ').sort()).toEqual([
      'DNS:new.example',
      'DNS:site.example',
    ]);
    expect(authority.orders()).toBe(2);
    const orders = remembered(other).orders as { names: string }[];
    expect(new Set(orders.map(({ names }) => names)).size).toBe(2);
  });

  test('starts afresh where what it remembers cannot be read', async () => {
    const authority = await pebble();
    const one = new AcmeNode({ site: siteOf(authority) });
    mkdirSync(join(one.root, 'var/lib/dstack/acme'), { recursive: true });
    writeFileSync(join(one.root, MEMORY), '{"version":1,"orders":"all"}');
    cleanups.push(() => one.stop());
    await one.start();
    await answering(authority.httpPort, one);
    await issued(one, authority);
    expect(one.said).toContain('what was remembered cannot be read');
  });
});

describe('the nodes of a network', () => {
  test('have one account, and an order each where they hear nothing of the other', async () => {
    const authority = await pebble();
    const one = await node({ site: siteOf(authority) });
    await answering(authority.httpPort, one);
    await issued(one, authority);
    // The first one answers for the second.
    const two = await node({ site: siteOf(authority) });
    await issued(two, authority);
    expect(two.shown?.status.account).toBe(one.shown?.status.account);
    expect(authority.log().match(/There are now (\d+) accounts/g)).toEqual(['There are now 1 accounts']);
  });

  test('ten that start at once make at most two orders, and all have the certificate', async () => {
    // The first two order at about the same time; the third one when they have a certificate, also on a slow machine.
    const within = 150;
    const authority = await pebble();
    const plain = siteOf(authority);
    const site = { ...plain, acme: { ...plain.acme!, firstWithin: within } };
    const nodes = await Promise.all(
      crowd(10, site.domains, within).map((id) => {
        const each = new AcmeNode({ site });
        mkdirSync(join(each.root, 'var/lib/dstack/acme'), { recursive: true });
        writeFileSync(join(each.root, MEMORY), JSON.stringify({ version: 1, node: id, orders: [] }));
        cleanups.push(() => each.stop());
        return each.start();
      }),
    );
    await answering(authority.httpPort, nodes[0]!);
    gossip(nodes);
    for (const each of nodes)
      await vi.waitFor(() => expect(each.shown?.chain, each.said).toBeDefined(), { timeout: 400_000 });
    await vi.waitFor(() => expect(new Set(nodes.map(({ shown }) => shown?.chain)).size).toBe(1), PATIENCE);
    expect(authority.orders()).toBeGreaterThan(0);
    expect(authority.orders()).toBeLessThanOrEqual(2);
  }, 660_000);
});

describe('a certificate that is brought', () => {
  test('is taken by the rule: what is refused says why, and the one in use stays', async () => {
    const authority = await pebble();
    const root = new TestAuthority('Root of the test');
    const site = siteOf(authority, { domains: ['site.example'], roots: [...authority.roots, root.pem] });
    const { acme: _, ...silent } = site;
    const one = await node({ site: silent });
    await stateIs(one, 'brought');
    const key = networkKeys(7);
    const now = Math.floor(Date.now() / 1000);
    const dates = { from: now - 100, to: now + 1000 };
    const good = root.issue({ key, ...dates });
    await one.bring(good);
    await vi.waitFor(() => expect(one.shown?.chain).toBe(good), PATIENCE);
    for (const [code, chain] of [
      ['CERT_EXPIRED', root.issue({ key, from: 1, to: now - 1 })],
      ['CERT_KEY', root.issue({ key: newKey(), ...dates })],
      ['CERT_NAME', root.issue({ key, ...dates, names: ['other.example'] })],
      ['CERT_CHAIN', new TestAuthority('Root of the test').issue({ key, ...dates })],
      ['CERT_OLDER', root.issue({ key, from: now - 200, to: now + 1000 })],
      ['CERT_OLDER', good],
      ['CERT_MALFORMED', 'garbage'],
      ['CERT_MALFORMED', good.padEnd(17 * 1024, '\n')],
      ['BAD_REQUEST', good.padEnd(30 * 1024, '\n')],
    ] as const) {
      await expect(one.bring(chain), code).rejects.toMatchObject({ code });
    }
    expect((await one.site()).chain).toBe(good);
    expect(authority.orders()).toBe(0);
  });
});

const MEMORY = 'var/lib/dstack/acme/site.json';
const remembered = (one: AcmeNode) => JSON.parse(readFileSync(join(one.root, MEMORY), 'utf8'));

/** The key that a network's website has, as pair. */
function networkKeys(seed: number): KeyPair {
  const scalar = tlsKey(new Uint8Array(32).fill(seed), 1);
  const spki = { key: Buffer.from(p256PublicKey(scalar)), format: 'der', type: 'spki' } as const;
  const publicKey = createPublicKey(spki);
  const d = Buffer.from(scalar).toString('base64url');
  const jwk = { ...publicKey.export({ format: 'jwk' }), d };
  return { publicKey, privateKey: createPrivateKey({ format: 'jwk', key: jwk }) };
}

/** Ids of nodes of which two draw about the same moment, before all others. */
function crowd(size: number, names: readonly string[], within: number): string[] {
  for (let seed = 0; ; seed++) {
    const ids = Array.from({ length: size }, (_, i) => toHex(sha256(utf8(`${seed}.${i}`))).slice(0, 32));
    const [first, second, third] = ids.map((id) => jitter(id, names, '') * within).sort((a, b) => a - b);
    if (first! > 5 && first! < 12 && second! - first! < 0.5 && third! - second! > 75) return ids;
  }
}

/** A way to a port that can be closed and opened. */
async function detour(to: number) {
  const sockets = new Set<Socket>();
  const server = createServer((from) => {
    const on = connect(to, '127.0.0.1');
    for (const socket of [from, on]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    }
    from.pipe(on).pipe(from);
  });
  const open = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  await open(0);
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  cleanups.push(close);
  return { port, close, open: () => open(port) };
}
