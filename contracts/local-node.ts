/**
 * A real Ethereum node for development and tests: anvil, by default this repository's, on a free loopback port.
 *
 * By default it mines a block for each transaction. Tests that read the time or `finalized` need `--block-time 1
 * --slots-in-an-epoch 1`, or both stand still between transactions.
 */
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { execa } from 'execa';

const ANVIL = join(import.meta.dirname, '../node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
const START_TIMEOUT_MS = 30_000;

export interface Anvil {
  /** JSON-RPC over http. */
  readonly url: string;
  readonly pid: number;
  /** Resolves once the process is gone, whoever ended it. */
  readonly gone: Promise<void>;
  /** Ends the process; resolves when it is gone. Harmless when called twice. */
  stop(): Promise<void>;
}

export interface AnvilOptions {
  /** Further ones, such as `['--block-time', '1']`. */
  readonly args?: readonly string[];
  /** The file to run. */
  readonly program?: string;
}

/**
 * Starts an anvil and waits until it listens. It dies with this process.
 *
 * @throws Error when it ends, or says nothing for 30 s, before it listens
 */
export async function startAnvil(options: AnvilOptions = {}): Promise<Anvil> {
  // Without a bound on its history anvil writes gigabytes of old states into the home folder, and leaves them there.
  const bounded = ['--prune-history', '1000'];
  const args = ['--host', '127.0.0.1', '--port', '0', '--threads', '1', ...bounded, ...(options.args ?? [])];
  const child = execa(options.program ?? ANVIL, args, {
    cleanup: true,
    reject: false,
    stdin: 'ignore',
    buffer: false,
    forceKillAfterDelay: 2_000,
  });
  const stop = async (): Promise<void> => {
    child.kill();
    await child;
  };
  child.stderr.resume();
  const address = await Promise.race([listening(child.stdout), child.then(() => undefined)]);
  if (address === undefined || child.pid === undefined) {
    await stop();
    throw new Error(`anvil ${args.join(' ')} did not start to listen`);
  }
  return { url: `http://${address}`, pid: child.pid, gone: child.then(() => {}), stop };
}

/** Resolves with `host:port` once anvil prints it; keeps reading its output, or the pipe would fill up. */
function listening(stdout: Readable): Promise<string | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, START_TIMEOUT_MS, undefined);
    timer.unref();
    let printed: string | undefined = '';
    stdout.on('data', (chunk: Buffer) => {
      if (printed === undefined) return;
      printed += chunk.toString();
      const address = /Listening on (\S+:\d+)\s/.exec(printed)?.[1];
      if (!address) return;
      printed = undefined;
      clearTimeout(timer);
      resolve(address);
    });
  });
}
