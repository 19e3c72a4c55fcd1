/** The store's parts put together: etcd behind its socket, the ledger, and the services of the API. The same in a VM and on a laptop. */
import type { Log } from '../../lib/daemon/log.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { Maintenance } from '../../lib/etcd/gen/maintenance_pb.js';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { authMethods } from './api/auth.ts';
import { clusterMethods } from './api/cluster.ts';
import { covered } from './api/covered.ts';
import { Door, type DoorOptions } from './api/door.ts';
import { electionMethods } from './api/election.ts';
import type { Condition } from './api/info.ts';
import { kvMethods } from './api/kv.ts';
import { leaseMethods } from './api/lease.ts';
import { lockMethods } from './api/lock.ts';
import { maintenanceMethods } from './api/maintenance.ts';
import { Metrics } from './api/metrics.ts';
import { receiptMethods } from './api/receipt.ts';
import { watchMethods } from './api/watch.ts';
import { EtcdClient } from './engine/client.ts';
import { makeRoom } from './namespace/room.ts';
import { Store } from './namespace/store.ts';
import type { Ledger, ServedMethod, Upstream } from './types.ts';

export interface StoreSettings {
  /** etcd's socket. */
  readonly socket: string;
  /** Where clients reach the store, as `member list` tells them. */
  readonly urls: () => readonly string[];
  /** Makes the ledger, once etcd answers. */
  readonly ledger: (upstream: Upstream) => Promise<Ledger>;
  readonly log: Log;
}

export interface RunningStore {
  readonly upstream: Upstream;
  readonly store: Store;
  readonly ledger: Ledger;
  /** A way in; it does not listen yet. */
  door(options: Pick<DoorOptions, 'callerOf' | 'tls' | 'limits' | 'times'>): Door;
  /** Ends calls and doors. etcd is its owner's to end. */
  close(): Promise<void>;
}

/** Within this time etcd has to answer a read for the store to be well. Milliseconds. */
const HEALTHY_WITHIN = 5000;
/** How often it is looked whether the store is full. Milliseconds. */
const ROOM_EVERY = 10_000;

export async function startStore(settings: StoreSettings): Promise<RunningStore> {
  const { log } = settings;
  const etcd = new EtcdClient(settings.socket, {
    onState: (connected, why) => {
      if (connected) log.info({}, 'etcd answers');
      else log.warn({ why: why?.message }, 'etcd is away');
    },
  });
  await answering(etcd);
  const ledger = await settings.ledger(etcd);
  const upstream = covered(etcd, ledger);
  const store = await Store.open(upstream, { durable: () => ledger.durable });
  const methods: ServedMethod[] = [
    ...kvMethods(store),
    ...watchMethods(store),
    ...leaseMethods(store),
    ...authMethods(store),
    ...lockMethods(store),
    ...electionMethods(store),
    ...clusterMethods(store, settings.urls),
    ...maintenanceMethods(store),
    ...(ledger.log === undefined ? [] : receiptMethods(store, ledger.log)),
  ];
  const metrics = new Metrics(methods.map(({ method }) => `/${method.parent.typeName}/${method.name}`));
  metrics.gauge({
    name: 'kv_etcd_connected',
    help: 'Whether etcd answers.',
    value: () => (etcd.connected ? 1 : 0),
  });
  metrics.gauge({
    name: 'kv_ledger_durable_revision',
    help: 'Whose leaves are on the disk.',
    value: () => ledger.durable,
  });
  const condition = conditionOf(etcd);
  const doors: Door[] = [];
  const room = setInterval(() => {
    makeRoom(upstream, store.floors).then(
      (made) => made && log.warn({}, 'the store was full: the history of all namespaces was dropped'),
      (error: unknown) => log.warn({ err: error }, 'no room could be made'),
    );
  }, ROOM_EVERY).unref();
  return {
    upstream,
    store,
    ledger,
    door(options) {
      const door = new Door({
        ...options,
        methods,
        metrics,
        condition,
        log,
        ...(ledger.log && { ledger: ledger.log }),
      });
      doors.push(door);
      return door;
    },
    async close() {
      clearInterval(room);
      await Promise.all(doors.map((door) => door.close()));
      await ledger.close?.();
      etcd.close();
    },
  };
}

/** Waits until etcd answers, however long it takes: it may be starting, or reading a long log. */
async function answering(etcd: EtcdClient): Promise<void> {
  for (;;) {
    try {
      await etcd.unary(Maintenance.method.status, {});
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function conditionOf(etcd: EtcdClient): Condition {
  const within = () => ({ deadline: performance.now() + HEALTHY_WITHIN });
  return {
    async problem() {
      try {
        // Linearizable: it is answered by a majority of the members or not at all.
        await etcd.unary(KV.method.range, { key: utf8('k/health'), countOnly: true }, within());
        const { alarms } = await etcd.unary(Maintenance.method.alarm, {}, within());
        return alarms.length === 0 ? undefined : 'ALARM NOSPACE';
      } catch {
        return 'RAFT NO LEADER';
      }
    },
    version: async () => (await etcd.unary(Maintenance.method.status, {}, within())).version,
  };
}
