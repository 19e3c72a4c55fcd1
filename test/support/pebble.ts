/**
 * Pebble of Debian: a real authority in a process, with a name server beside it that leads every name to this machine. It makes new
 * issuing keys at each start. What answers its challenges is the test's to start, on `httpPort` and `tlsPort`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { newKey, TestAuthority } from './authority.ts';
import { freePort } from './free-port.ts';

export interface PebbleOptions {
  /** Of a certificate, in seconds. */
  lifetime?: number;
  /** Of certificates of these profiles, in seconds; `default` is of the lifetime above. */
  profiles?: Readonly<Record<string, number>>;
  /** By which its clients know this machine; localhost by default. It listens on the loopback, whatever this is. */
  address?: string;
  httpPort?: number;
  tlsPort?: number;
  /** Pebble's own settings, such as PEBBLE_WFE_NONCEREJECT. */
  env?: Readonly<Record<string, string>>;
  /** Instead of the locked one. */
  program?: string;
  /** To start again at the same place. */
  port?: number;
  /** What was trusted before. */
  authority?: TestAuthority;
}

export interface Pebble {
  /** The directory's URL. */
  directory: string;
  port: number;
  httpPort: number;
  tlsPort: number;
  /** PEM: of the directory's TLS, and of what is issued. */
  roots: string[];
  authority: TestAuthority;
  /** Its name server, address and port. */
  resolver: string;
  /** Sets a TXT record. */
  setTxt(name: string, value: string): Promise<void>;
  /** How many orders were asked for so far. */
  orders(): number;
  /** How often it was asked when to renew (RFC 9773). */
  renewalQuestions(): number;
  /** What it answers to that from now on, for the first certificate of this chain. Unix seconds. */
  proposeRenewal(chain: string, start: number, end: number): Promise<void>;
  /** Takes connections and says nothing, until `goOn`. */
  pause(): void;
  goOn(): void;
  /** What it has said. */
  log(): string;
  stop(): Promise<void>;
}

export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-pebble-'));
  const { authority = new TestAuthority('Root of the directory'), address = 'localhost' } = options;
  const key = newKey();
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const port = options.port ?? (await freePort());
  const [management, httpPort, tlsPort, dns, dnsManagement] = await Promise.all([
    freePort(),
    options.httpPort ?? freePort(),
    options.tlsPort ?? freePort(),
    freePort(),
    freePort(),
  ]);
  const lifetime = options.lifetime ?? 90 * 24 * 3600;
  const config = {
    pebble: {
      listenAddress: `127.0.0.1:${port}`,
      managementListenAddress: `127.0.0.1:${management}`,
      certificate: file('certificate.pem', authority.issue({ key, names: ['localhost', address] })),
      privateKey: file('key.pem', key.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()),
      httpPort,
      tlsPort,
      ocspResponderURL: '',
      externalAccountBindingRequired: false,
      retryAfter: { authz: 1, order: 1 },
      // Of 2.6; later ones have profiles.
      certificateValidityPeriod: lifetime,
      profiles: Object.fromEntries(
        Object.entries({ ...options.profiles, default: lifetime }).map(([name, validityPeriod]) => [
          name,
          { description: 'of the test', validityPeriod },
        ]),
      ),
    },
  };
  const processes: ChildProcess[] = [];
  let said = '';
  const start = (name: string, args: string[], env: Readonly<Record<string, string>> = {}): ChildProcess => {
    const tool = toolCommand(name, args);
    const [command, rest] =
      options.program && name === 'pebble' ? [options.program, args] : [tool.command, tool.args];
    const child = spawn(command, rest, { env: { ...tool.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    processes.push(child);
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        said += chunk;
      });
    }
    return child;
  };
  const nowhere = ['-http01', '-https01', '-tlsalpn01', '-doh'].flatMap((flag) => [flag, '']);
  const names = ['-defaultIPv4', '127.0.0.1', '-defaultIPv6', '', '-dnsserver', `127.0.0.1:${dns}`];
  start('pebble-challtestsrv', [...nowhere, ...names, '-management', `127.0.0.1:${dnsManagement}`]);
  const itself = start(
    'pebble',
    ['-config', file('config.json', JSON.stringify(config)), '-dnsserver', `127.0.0.1:${dns}`],
    {
      PEBBLE_VA_NOSLEEP: '1',
      PEBBLE_WFE_NONCEREJECT: '0',
      PEBBLE_AUTHZREUSE: '0',
      ...options.env,
    },
  );
  const managed = `https://localhost:${management}`;
  const issuing = await eventually(
    () => read(`${managed}/roots/0`, { ca: authority.pem }),
    () => said,
  );
  return {
    directory: `https://${address}:${port}/dir`,
    port,
    httpPort,
    tlsPort,
    roots: [authority.pem, issuing],
    authority,
    resolver: `127.0.0.1:${dns}`,
    async setTxt(name, value) {
      const body = JSON.stringify({ host: `${name}.`, value });
      await fetch(`http://127.0.0.1:${dnsManagement}/set-txt`, { method: 'POST', body });
    },
    orders: () => said.match(/POST \/order-plz/g)?.length ?? 0,
    renewalQuestions: () => said.match(/GET \/\S*renewalInfo\//g)?.length ?? 0,
    async proposeRenewal(chain, start, end) {
      const [certificate] = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/.exec(chain)!;
      const [from, to] = [start, end].map((time) => new Date(time * 1000).toISOString());
      const ariResponse = JSON.stringify({ suggestedWindow: { start: from, end: to } });
      const options = { ca: authority.pem, method: 'POST', headers: { 'user-agent': 'test' } };
      await read(`${managed}/set-renewal-info/`, options, JSON.stringify({ certificate, ariResponse }));
    },
    pause: () => void itself.kill('SIGSTOP'),
    goOn: () => void itself.kill('SIGCONT'),
    log: () => said,
    async stop() {
      for (const child of processes) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function read(url: string, options: RequestOptions, body?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request(url, options, (response) => {
      const said = text(response);
      if (response.statusCode === 200) resolve(said);
      else said.then((why) => reject(new Error(`pebble answers ${response.statusCode}: ${why}`)), reject);
    })
      .on('error', reject)
      .end(body);
  });
}

async function eventually<T>(attempt: () => Promise<T>, explain: () => string): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await attempt();
    } catch (cause) {
      if (tries > 900) throw new Error(`pebble does not answer: ${explain().slice(-2000)}`, { cause });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
