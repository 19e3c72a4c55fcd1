/** The acme daemon of one node in a process, with the replicator's real sockets, and what the front would do for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext, createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { keyring } from '../../guest/replicator/keyring.ts';
import { secretHolder } from '../../guest/replicator/secret.ts';
import { type Joined, serveSiblings } from '../../guest/replicator/siblings.ts';
import { siteRequest } from '../../guest/replicator/site-request.ts';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import type { SiteConfig } from '../../lib/protocol/network-config.ts';
import { Strict } from '../../lib/protocol/schema.ts';
import { AcmeSite, sockets, TakenReply } from '../../lib/protocol/sockets.ts';
import { node24 } from './network.ts';

const contract = parseAddress(`0x${'c0'.repeat(20)}`);

export interface AcmeNodeOptions {
  site: SiteConfig;
  /** The network's secret, 32 times this byte. */
  seed?: number;
  /** Added to the clock, seconds. */
  ahead?: () => number;
  /** Instead of guest/acme/main.ts. */
  program?: string;
  /** False where a test has the front's own driver. */
  asks?: boolean;
  /** Whom it asks for names: address and port. */
  resolver?: string;
  /** Of an earlier node that was ended, to go on there. */
  root?: string;
}

export class AcmeNode {
  readonly root: string;
  said = '';
  /** What the replicator was told of CAA. */
  readonly told: boolean[] = [];
  readonly #options: AcmeNodeOptions;
  readonly #servers: Server[] = [];
  #daemon: ChildProcess | undefined;
  #polling: NodeJS.Timeout | undefined;
  /** What the driver of the front has got last. */
  shown: AcmeSite | undefined;

  constructor(options: AcmeNodeOptions) {
    this.#options = options;
    this.root = options.root ?? mkdtempSync(join(tmpdir(), 'dstack-acme-'));
  }

  async start(): Promise<this> {
    const { seed = 7, ahead = () => 0 } = this.#options;
    const { acme, ...others } = this.#options.site;
    const site = { ...others, ...(acme !== undefined && { acme: { firstWithin: 0, ...acme } }) };
    for (const folder of ['run/dstack', 'usr/lib/dstack', 'var/lib/dstack/acme'])
      mkdirSync(join(this.root, folder), { recursive: true });
    const write = (path: string, value: object) =>
      writeFileSync(join(this.root, path), JSON.stringify(value));
    const confirmation = { depth: 0 };
    const chain = { chainId: 31337, contract, confirmation, endpoints: ['http://127.0.0.1:1'], quorum: 1 };
    write('run/dstack/network.json', { version: 1, ...chain, site });
    write('usr/lib/dstack/flavour.json', { version: 1, flavour: 'sim', builtAt: 1 });
    const keys = secretHolder(keyring(new Map([[1, new Uint8Array(32).fill(seed)]])), {
      chainId: 31337,
      contract,
    });
    const joined = {
      keys,
      site: { takeCaa: (hostImpersonable: boolean) => void this.told.push(hostImpersonable) },
      siteRequest: () => siteRequest(site, keys),
      reached: () => {
        const now = Math.floor(Date.now() / 1000) + ahead();
        return { block: 1, timestamp: now, now };
      },
    };
    const run = join(this.root, 'run/dstack');
    this.#servers.push(
      ...(await serveSiblings(run, Promise.resolve(joined as unknown as Joined), this.root)),
    );
    this.startDaemon();
    // As the driver of the front does.
    if (this.#options.asks === false) return this;
    this.#polling = setInterval(() => {
      this.site().then(
        (site) => {
          this.shown = site;
          if (site.alpn.length > 0) this.#tellShown(site).catch(() => {});
        },
        () => {},
      );
    }, 200);
    return this;
  }

  startDaemon(): void {
    const main = this.#options.program ?? join(import.meta.dirname, '../../guest/acme/main.ts');
    const { resolver } = this.#options;
    const names = resolver === undefined ? [] : ['--resolver', resolver];
    this.#daemon = spawn(node24, [main, '--root', this.root, ...names]);
    for (const stream of [this.#daemon.stdout!, this.#daemon.stderr!]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        this.said += chunk;
      });
    }
  }

  site(): Promise<AcmeSite> {
    const path = join(this.root, 'run/dstack', sockets.acmeForTls);
    return callUnix({ path, method: 'GET', route: '/v1/site', reply: AcmeSite, timeout: 60_000 });
  }

  #tellShown({ alpn }: AcmeSite): Promise<unknown> {
    const path = join(this.root, 'run/dstack', sockets.acmeForTls);
    const body = { certificates: alpn.map(({ certificate }) => toHex(sha256(utf8(certificate)))) };
    const reply = Strict({});
    return callUnix({ path, method: 'POST', route: '/v1/shown', body, reply, timeout: 60_000 });
  }

  bring(chain: string): Promise<unknown> {
    const path = join(this.root, 'run/dstack', sockets.acmeForTls);
    return callUnix({
      path,
      method: 'POST',
      route: '/v1/certificate',
      body: { chain },
      reply: TakenReply,
      timeout: 60_000,
    });
  }

  async kill(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = once(daemon, 'exit');
    daemon.kill('SIGKILL');
    await ended;
  }

  /** @param keep leaves its folder for a successor */
  async stop(keep = false): Promise<void> {
    clearInterval(this.#polling);
    await this.kill();
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
    if (!keep) rmSync(this.root, { recursive: true, force: true });
  }
}

const CHALLENGE = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]+)$/;

/** What any node's front does on port 80 (RFC 8555, section 8.3): it needs the thumbprint and no state. */
export async function answerHttp01(port: number, thumbprint: () => string | undefined): Promise<Server> {
  const server = createServer((request, response) => {
    const [, token] = CHALLENGE.exec(request.url ?? '') ?? [];
    const known = thumbprint();
    if (token === undefined || known === undefined) response.statusCode = 404;
    response.end(token === undefined || known === undefined ? '' : `${token}.${known}`);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** What the front does for `acme-tls/1` and nothing else (RFC 8737): a certificate that is shown for no other protocol. */
export async function answerTlsAlpn01(port: number, site: () => AcmeSite | undefined): Promise<TlsServer> {
  const server = createTlsServer({
    ALPNProtocols: ['acme-tls/1'],
    SNICallback: (name, done) => {
      const found = site()?.alpn.find(({ domain }) => domain === name);
      if (found === undefined) done(new Error('no challenge for this name'));
      else done(null, createSecureContext({ cert: found.certificate, key: found.key }));
    },
  });
  server.on('tlsClientError', () => {});
  server.on('secureConnection', (socket) => socket.on('error', () => {}).end());
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
