/**
 * The website's certificate from end to end: a real authority (pebble), the acme daemon, the driver and the front in processes, and
 * visitors who come all the while.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { afterEach, expect, test, vi } from 'vitest';
import type { FrontDescription } from '../guest/tls/front-config.ts';
import { serveUnix } from '../lib/daemon/unix-http.ts';
import type { SiteConfig } from '../lib/protocol/network-config.ts';
import { AcmeNode } from './support/acme-node.ts';
import { newKey, TestAuthority } from './support/authority.ts';
import { end, frontBelow, listenOn, startHaproxy } from './support/front.ts';
import { node24 } from './support/network.ts';
import { type Pebble, type PebbleOptions, startPebble } from './support/pebble.ts';
import { proposing } from './support/proposals.ts';

const PATIENCE = { timeout: 120_000, interval: 100 };
const NAME = 'site.example';
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A node: what its secret, its app and the authority's way to it need is real, but for kubernethes' word. */
class Node {
  readonly description: FrontDescription;
  readonly acme: AcmeNode;
  haproxy!: ChildProcess;
  driver: ChildProcess;
  said = '';

  private constructor(description: FrontDescription, acme: AcmeNode) {
    this.description = description;
    this.acme = acme;
    this.driver = this.drive();
  }

  static async start(site: SiteConfig, authority: Pebble): Promise<Node> {
    const acme = new AcmeNode({ site, asks: false });
    const description = await frontBelow(acme.root);
    description.listen.port = authority.tlsPort;
    description.listen.httpPort = authority.httpPort;
    await acme.start();
    cleanups.push(() => acme.stop());
    mkdirSync(join(acme.root, 'run/dstack/kubernethes'), { recursive: true });
    const app: Server = createServer((_req, res) => res.end('the app'));
    const port = await listenOn(app);
    const kubernethes = await serveUnix({
      path: join(acme.root, 'run/dstack/kubernethes/tls.sock'),
      routes: {
        'POST /v1/upstream': () => ({
          turn: `${'0'.repeat(16)}-1`,
          website: { upstream: { app: 'greeting', host: '127.0.0.1', port, protocol: 'http1' } },
          sites: [],
        }),
      },
    });
    cleanups.push(() => {
      for (const server of [app, kubernethes]) {
        server.close();
        server.closeAllConnections();
      }
    });
    const node = new Node(description, acme);
    cleanups.push(() => Promise.all([end(node.driver), node.haproxy && end(node.haproxy)]));
    await vi.waitFor(() => expect(node.said).toContain("has the site's key"), PATIENCE);
    node.haproxy = await startHaproxy(description);
    return node;
  }

  drive(): ChildProcess {
    this.said = '';
    const driver = spawn(node24, ['guest/tls/main.ts', '--root', this.acme.root], {
      cwd: join(import.meta.dirname, '..'),
    });
    for (const stream of [driver.stdout!, driver.stderr!]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        this.said += chunk;
      });
    }
    return driver;
  }

  /** A visit on a connection of its own: what the app said, and the certificate that was shown. */
  visit(): Promise<{ body: string; shown: X509Certificate }> {
    return new Promise((resolve, reject) => {
      const to = { host: '127.0.0.1', port: this.description.listen.port, servername: NAME };
      request({ ...to, headers: { host: NAME }, rejectUnauthorized: false, agent: false }, (response) => {
        const { raw } = (response.socket as TLSSocket).getPeerCertificate(true);
        text(response).then((body) => resolve({ body, shown: new X509Certificate(raw) }), reject);
      })
        .on('error', reject)
        .end();
    });
  }
}

async function pebble(options?: PebbleOptions): Promise<Pebble> {
  const started = await startPebble(options);
  cleanups.push(() => started.stop());
  return started;
}

const siteOf = (authority: Pebble, challenge: 'http-01' | 'tls-alpn-01'): SiteConfig => ({
  domains: [NAME],
  acme: { directory: authority.directory, challenges: [challenge] },
  roots: authority.roots,
});

/** Visits until `until` says so; what failed, and the serials that were seen, in their order. */
async function visitors(
  node: Node,
  until: () => boolean,
): Promise<{ failed: string[]; serials: string[]; count: number }> {
  const failed: string[] = [];
  const serials: string[] = [];
  let count = 0;
  const visitor = async () => {
    while (!until()) {
      try {
        const { body, shown } = await node.visit();
        count += 1;
        if (body !== 'the app') failed.push(body);
        if (!serials.includes(shown.serialNumber)) serials.push(shown.serialNumber);
      } catch (error) {
        failed.push((error as Error).message);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await Promise.all([visitor(), visitor(), visitor()]);
  return { failed, serials, count };
}

test.each(['http-01', 'tls-alpn-01'] as const)(
  "%s through the front: the authority's certificate takes the place of our own, and stays while acme and the driver die",
  { timeout: 300_000 },
  async (challenge) => {
    const authority = await pebble();
    const node = await Node.start(siteOf(authority, challenge), authority);
    await vi.waitFor(async () => expect((await node.visit()).body).toBe('the app'), PATIENCE);
    const own = (await node.visit()).shown;
    await vi.waitFor(
      async () => expect((await node.visit()).shown.issuer, node.said + node.acme.said).toContain('Pebble'),
      PATIENCE,
    );
    const { shown } = await node.visit();
    expect(shown.subjectAltName).toBe(`DNS:${NAME}`);
    // The same key, which is why evidence and pins hold.
    expect(shown.publicKey.export({ type: 'spki', format: 'pem' })).toBe(
      own.publicKey.export({ type: 'spki', format: 'pem' }),
    );
    // The challenge is over: nothing is left that shows its certificate.
    await node.acme.kill();
    await end(node.driver);
    node.driver = node.drive();
    await vi.waitFor(() => expect(node.said).toContain("has the site's key"), PATIENCE);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect((await node.visit()).shown.serialNumber).toBe(shown.serialNumber);
    // A front that died has to be told again, and the driver has it no more: then the key is shown with its own certificate.
    await end(node.haproxy);
    node.haproxy = await startHaproxy(node.description);
    await vi.waitFor(
      async () => expect((await node.visit()).shown.serialNumber).toBe(own.serialNumber),
      PATIENCE,
    );
    node.acme.startDaemon();
    await vi.waitFor(
      async () => expect((await node.visit()).shown.serialNumber).toBe(shown.serialNumber),
      PATIENCE,
    );
    expect(authority.orders()).toBe(1);
  },
);

test('a certificate is renewed twice, and no visitor is lost', {
  timeout: 300_000,
}, async () => {
  const authority = await pebble({ lifetime: 300 });
  const way = await proposing(authority, 3);
  cleanups.push(() => way.close());
  const site = siteOf(authority, 'http-01');
  const acme = { ...site.acme!, directory: way.directory };
  const node = await Node.start({ ...site, acme }, authority);
  await vi.waitFor(async () => expect((await node.visit()).body).toBe('the app'), PATIENCE);
  const seen = new Set<string>();
  const began = performance.now();
  const watching = setInterval(() => {
    node.visit().then(
      ({ shown }) => shown.issuer.includes('Pebble') && seen.add(shown.serialNumber),
      () => {},
    );
  }, 500);
  const { failed, serials, count } = await visitors(
    node,
    () => seen.size >= 3 || performance.now() - began > 200_000,
  );
  clearInterval(watching);
  expect(failed).toEqual([]);
  // Our own, and three of the authority.
  expect(serials.length, node.said + node.acme.said).toBeGreaterThanOrEqual(4);
  expect(count).toBeGreaterThan(100);
});

test('a chain for another key is never shown, whatever acme says', { timeout: 300_000 }, async () => {
  const authority = await pebble();
  const { acme: _, ...site } = siteOf(authority, 'http-01');
  const node = await Node.start(site, authority);
  await vi.waitFor(async () => expect((await node.visit()).body).toBe('the app'), PATIENCE);
  const own = (await node.visit()).shown;
  await node.acme.kill();
  let chain = new TestAuthority('Somebody').issue({ key: newKey(), names: [NAME] });
  const said = await serveUnix({
    path: join(node.acme.root, 'run/dstack/acme/tls.sock'),
    routes: {
      'GET /v1/site': () => ({ chain, alpn: [], status: { state: 'brought', hostImpersonable: true } }),
    },
  });
  cleanups.push(() => said.close());
  await vi.waitFor(() => expect(node.said).toContain("for another key than the site's"), PATIENCE);
  chain = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  const visit = await node.visit();
  expect(visit.body).toBe('the app');
  expect(visit.shown.fingerprint256).toBe(own.fingerprint256);
});
