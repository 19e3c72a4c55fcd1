/** The store within a test's own process, over an etcd of the locked Debian, with a port for each caller. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { DoorOptions } from '../../guest/kv/api/door.ts';
import { openLedger } from '../../guest/kv/open-ledger.ts';
import { type RunningStore, startStore } from '../../guest/kv/start.ts';
import type { Caller, Ledger } from '../../guest/kv/types.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { storeShares } from '../../lib/protocol/store-shares.ts';
import { type Etcd, startEtcd } from './etcd.ts';

export interface TestKv {
  readonly etcd: Etcd;
  readonly running: RunningStore;
  /** Opens a port for a caller: `127.0.0.1:port`. */
  open(
    caller: Caller,
    options?: Pick<DoorOptions, 'tls' | 'limits' | 'times' | 'messageWithin'>,
  ): Promise<string>;
  /** What was logged as a warning: a call that failed for no reason of the client's is one. */
  readonly warnings: string[];
  stop(): Promise<void>;
}

export const owner: Caller = { prefix: utf8('o/'), name: 'owner', owner: true };
export const app = (name: string): Caller => ({ prefix: utf8(`a/${name}/`), name, owner: false });

/** @param ledger instead of a real one @param quota etcd's, in bytes; then nobody makes room but the test */
export async function startKv(
  ledger?: Ledger,
  quota?: number,
  shares = storeShares(quota === undefined ? {} : { quotaMiB: quota / 1024 / 1024 }),
): Promise<TestKv> {
  const etcd = await startEtcd(quota === undefined ? {} : { quota });
  const warnings: string[] = [];
  const urls: string[] = [];
  const settings = {
    folder: join(etcd.folder, 'ledger'),
    origin: 'test.example/log',
    seed: new Uint8Array(32).fill(1),
    saltKey: new Uint8Array(32).fill(2),
    now: () => 1_800_000_000,
    onStop: (why: Error) => warnings.push(why.message),
  };
  const running = await startStore({
    socket: etcd.socket,
    urls: () => urls,
    ledger: async (upstream, onRevision) => ledger ?? openLedger(settings, upstream, onRevision),
    shares,
    ...(quota !== undefined && { roomEvery: 2 ** 31 - 1 }),
    log: {
      info: () => {},
      warn: (fields, message) => warnings.push(`${message} ${String((fields as { err?: Error }).err)}`),
    },
  });
  return {
    etcd,
    running,
    warnings,
    async open(caller, options = {}) {
      const door = running.door({ callerOf: () => caller, ...options });
      door.server.listen(0, '127.0.0.1');
      await once(door.server, 'listening');
      const address = `127.0.0.1:${(door.server.address() as AddressInfo).port}`;
      urls.push(`http://${address}`);
      return address;
    },
    async stop() {
      await running.close();
      await etcd.stop();
    },
  };
}
