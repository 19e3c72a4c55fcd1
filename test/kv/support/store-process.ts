/**
 * The store as a process of a test: `node store-process.ts SETTINGS`, as JSON. The parts that run in the VM, over an etcd that somebody
 * else starts and ends, with a listener of the loopback for each namespace.
 */
import { once } from 'node:events';
import { pino } from 'pino';
import { startStore } from '../../../guest/kv/start.ts';
import { utf8 } from '../../../lib/protocol/encoding.ts';
import { storeShares } from '../../../lib/protocol/store-shares.ts';
import { startLedger } from './ledger.ts';

export interface ListenerSettings {
  readonly port: number;
  /** Before every key in etcd, as `o/` or `a/left/`. */
  readonly prefix: string;
  readonly owner: boolean;
}

export interface StoreProcessSettings {
  /** etcd's. */
  readonly socket: string;
  /** Of the ledger. */
  readonly folder: string;
  readonly listeners: readonly ListenerSettings[];
  /** Looks whether the disk of that folder has room. */
  readonly watched?: boolean;
  /** How many leaves may be in memory alone. */
  readonly mostBehind?: number;
}

async function main(settings: StoreProcessSettings): Promise<void> {
  const { socket, folder, listeners, watched, mostBehind } = settings;
  const log = pino({ level: process.env.STORE_LOG ?? 'warn' });
  const running = await startStore({
    socket,
    urls: () => listeners.map(({ port }) => `http://127.0.0.1:${port}`),
    ...(watched && { folder }),
    ledger: (upstream, onRevision) => startLedger(upstream, folder, onRevision, mostBehind),
    // As for etcd: what is tested there is not what they may keep.
    shares: storeShares({ quotaMiB: 4096 }),
    log,
  });
  for (const { port, prefix, owner } of listeners) {
    const door = running.door({ callerOf: () => ({ prefix: utf8(prefix), name: prefix, owner }) });
    door.server.listen(port, '127.0.0.1');
    await once(door.server, 'listening');
  }
  // For a profile, which is written when the process ends by itself.
  process.once('SIGTERM', () => process.exit(0));
}

await main(JSON.parse(process.argv[2] ?? '{}') as StoreProcessSettings);
