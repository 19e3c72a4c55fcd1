/**
 * A hostile app beside the website's: it fills what it can write to, takes what it can own, and multiplies. What it gets is an
 * error of its own, and the website's visitors wait no longer than its share of the processors makes them. For each test that has a
 * node at hand, whose website is up.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import type { DemoHost, DemoNetwork } from '../../scripts/demo/host.ts';
import { asOwner, buildApp, packAs } from '../../scripts/demo/network.ts';
import { jsonLines } from '../../scripts/demo/processes.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import { constantLoad, type Load } from './load.ts';
import { havePublicAddress, PUBLIC_ADDRESS } from './public-address.ts';

const PER_SECOND = 2;
const IDLE_SECONDS = 20;
const VOLUME_MIB = 8;
const LIMITS = ['egress=internet', 'data=rw', 'hostVolume=ro', `volumes={"/own":${VOLUME_MIB}}`];
const MEMORY = ['memoryMiB=64', 'pids=100', 'shmMiB=4', 'tmpfs={"/tmp":4}', 'stopSeconds=1'];

export async function hostileApp(network: DemoNetwork, host: DemoHost): Promise<void> {
  const command = await Command.start();
  const load = constantLoad(host.tlsPort, '/version', PER_SECOND);
  try {
    const archive = await buildApp(
      'hostile',
      '--version',
      '1',
      '--files',
      join(import.meta.dirname, 'hostile'),
    );
    layHostFolders(host.volume);
    const pack = (round: number) => {
      const fields = [...LIMITS, ...MEMORY].flatMap((field) => ['--set', field]);
      const env = ['--env', `TEST=${command.url}`, '--env', `ROUND=${round}`];
      return packAs('hostile', network, host, archive, ...fields, ...env);
    };
    const [first, second] = [await pack(1), await pack(2)];
    await rollOut(network, host, first);
    const idle = load.answers.length;
    await new Promise((resolve) => setTimeout(resolve, IDLE_SECONDS * 1000));
    say(`visitors, of a hostile app that waits: ${percentiles(load, idle)}`);
    const attack = async (name: string, seconds = 120): Promise<string> => {
      const from = load.answers.length;
      const said = await command.order(name, seconds);
      say(`visitors, of ${name}: ${percentiles(load, from)}`);
      return said;
    };

    const seen = await attack('look');
    if (process.env.HOSTILE_SHOW !== undefined) say(seen);
    const [inside, outside, count] = /^\s*(\d+)\s+(\d+)\s+(\d+)$/m.exec(seen)!.slice(1).map(Number);
    expect([inside, count]).toEqual([0, 65_536]);
    expect(outside).toBeGreaterThanOrEqual(65_536);
    expect(seen).toContain('the host says this');
    expect(seen).not.toContain('"chainId"');
    expect(seen).not.toContain('another');
    expect(seen).toMatch(/mine: Read-only file system/);

    const logged = await attack('log', 200);
    expect(Number(/grew by (-?\d+) MiB/.exec(logged)?.[1]), logged).toBeLessThan(8);
    expect(await attack('memory')).toMatch(/ended by 137/);
    const shm = await attack('shm');
    say(shm.replaceAll('\n', '; '));
    expect(shm).not.toContain('it never ended');

    const volume = await attack('volume');
    expect(volume).toMatch(/Disk quota exceeded|No space left/);
    expect(Number(/^(\d+)\t\/own\/fill$/m.exec(volume)![1])).toBeLessThanOrEqual(VOLUME_MIB * 1024);
    const disk = await attack('disk', 300);
    say(disk.replaceAll('\n', '; '));
    expect(disk).not.toContain('it never ended');
    expect(disk).toMatch(/Disk quota exceeded|No space left/);

    const own = await attack('own');
    say(own.replaceAll('\n', '; '));
    expect(own).toContain('took /mnt/encrypted_data');
    expect(own).not.toContain('took /mnt/host_volume');

    // The last one: it answers nothing any more.
    const bomb = load.answers.length;
    await command.order('fork', 20).catch(() => undefined);
    say(`visitors, of fork: ${percentiles(load, bomb)}`);
    await rollOut(network, host, second);
    expect(await attack('volume')).toMatch(/Disk quota exceeded|No space left/);
    await asOwner(network, 'app', 'withdraw', 'hostile');

    const failed = load.answers.filter(({ failed }) => failed);
    say(`visitors: ${load.answers.length} in all, ${failed.length} failed`);
    expect(failed).toEqual([]);
    expect((await host.status()).state).toBe('joined');
  } finally {
    await load.stop();
    await command.stop();
  }
}

async function rollOut(network: DemoNetwork, host: DemoHost, manifest: string): Promise<void> {
  await asOwner(network, 'app', 'rollout', 'hostile', manifest);
  await waitFor(
    'the hostile app',
    async () =>
      jsonLines(host.console()).find(
        (line) => line.msg === 'app deployed' && `0x${line.manifest}` === manifest,
      ),
    240,
    () => JSON.stringify(jsonLines(host.console()).at(-1)),
    () => host.alive(),
  );
}

/** The app's own folder, with a way out that is none, and another app's. */
function layHostFolders(volume: string): void {
  for (const app of ['hostile', 'another']) mkdirSync(join(volume, 'apps', app), { recursive: true });
  writeFileSync(join(volume, 'apps/hostile/from-host.txt'), 'the host says this\n');
  symlinkSync('../../network.json', join(volume, 'apps/hostile/up'));
}

function percentiles({ answers }: Load, from: number): string {
  const took = answers
    .slice(from)
    .map(({ took }) => took)
    .sort((a, b) => a - b);
  const at = (share: number) => Math.round(took[Math.floor((took.length - 1) * share)] ?? Number.NaN);
  return `${took.length} answers, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, the slowest ${at(1)} ms`;
}

/** Where the hostile app, from inside its container, gets its orders and tells what came of them. */
class Command {
  readonly #server: Server;
  readonly #leave: () => Promise<void>;
  #order = '';
  #told: ((said: string) => void) | undefined;

  static async start(): Promise<Command> {
    const command = new Command(await havePublicAddress());
    await new Promise<void>((resolve) => command.#server.listen(0, PUBLIC_ADDRESS, resolve));
    return command;
  }

  private constructor(leave: () => Promise<void>) {
    this.#leave = leave;
    this.#server = createServer(async (request, response) => {
      const said = await text(request);
      if (request.url === '/order') {
        response.end(this.#order);
        this.#order = '';
      } else {
        response.end();
        this.#told?.(said);
      }
    });
  }

  /** As an app sees it, which reaches nothing of the host's but this. */
  get url(): string {
    return `http://${PUBLIC_ADDRESS}:${(this.#server.address() as AddressInfo).port}`;
  }

  async order(name: string, seconds: number): Promise<string> {
    let said: string | undefined;
    this.#told = (text) => {
      said = text;
    };
    this.#order = name;
    return waitFor(`what came of ${name}`, async () => said, seconds);
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await this.#leave();
  }
}
