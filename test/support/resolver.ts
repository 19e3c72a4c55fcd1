/** A resolver that speaks DNS over HTTPS: pebble's challtestsrv of Debian, with what a test puts into its DNS. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { newKey, type TestAuthority } from './authority.ts';
import { freePort } from './free-port.ts';

export class TestResolver {
  readonly url: string;
  readonly #management: string;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(url: string, management: string, process: ChildProcess, folder: string) {
    this.url = url;
    this.#management = management;
    this.#process = process;
    this.#folder = folder;
  }

  /** @param authority certifies its TLS @param name that leads to this machine where it is asked */
  static async start(authority: TestAuthority, name = 'localhost'): Promise<TestResolver> {
    const folder = mkdtempSync(join(tmpdir(), 'dstack-resolver-'));
    const key = newKey();
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    };
    const [port, management, plain] = [await freePort(), await freePort(), await freePort()];
    const nowhere = ['-http01', '-https01', '-tlsalpn01'].flatMap((flag) => [flag, '']);
    const { command, args, env } = toolCommand('pebble-challtestsrv', [
      ...nowhere,
      // It wants a server of another sort besides.
      ...['-dnsserver', `127.0.0.1:${plain}`],
      ...['-doh', `127.0.0.1:${port}`, '-management', `127.0.0.1:${management}`],
      ...['-doh-cert', file('certificate.pem', authority.issue({ key, names: [name] }))],
      ...[
        '-doh-cert-key',
        file('key.pem', key.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()),
      ],
    ]);
    const child = spawn(command, args, { env, stdio: 'ignore' });
    const url = `https://${name}:${port}/dns-query`;
    const resolver = new TestResolver(url, `http://127.0.0.1:${management}`, child, folder);
    for (let tries = 0; ; tries++) {
      try {
        await resolver.clear('nobody.example');
        return resolver;
      } catch (cause) {
        if (tries > 300) throw new Error('challtestsrv does not answer', { cause });
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** In place of the records that the name had. */
  async setCaa(name: string, ...policies: (readonly [tag: string, value: string])[]): Promise<void> {
    await this.clear(name);
    const body = { host: `${name}.`, policies: policies.map(([tag, value]) => ({ tag, value })) };
    await this.#post('add-caa', body);
  }

  async clear(name: string): Promise<void> {
    await this.#post('clear-caa', { host: `${name}.` });
  }

  async fail(name: string, fails = true): Promise<void> {
    await this.#post(fails ? 'set-servfail' : 'clear-servfail', { host: `${name}.` });
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #post(what: string, body: object): Promise<void> {
    const answer = await fetch(`${this.#management}/${what}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`challtestsrv answers ${answer.status} to ${what}`);
  }
}
