/** The store's parts put together: etcd behind its socket, the ledger, and the services of the API. The same in a VM and on a laptop. */
import type { Log } from '../../lib/daemon/log.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { Maintenance } from '../../lib/etcd/gen/maintenance_pb.js';
import { utf8 } from '../../lib/protocol/encoding.ts';
import type { StoreShares } from '../../lib/protocol/store-shares.ts';
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
import { DiskSpace } from './namespace/disk-space.ts';
import { Intake } from './namespace/intake.ts';
import { Room } from './namespace/room.ts';
import { Store } from './namespace/store.ts';
import { Usage } from './namespace/usage.ts';
import { setPublic } from './public-keys.ts';
import type { Ledger, OnRevision, ServedMethod, Upstream } from './types.ts';

export interface StoreSettings {
  /** etcd's socket. */
  readonly socket: string;
  /** Where its data is; left out, nobody looks whether the disk there is full. */
  readonly folder?: string;
  /** Where clients reach the store, as `member list` tells them. */
  readonly urls: () => readonly string[];
  /** Makes the ledger, once etcd answers. It tells of all revisions from then on. */
  readonly ledger: (upstream: Upstream, onRevision: OnRevision) => Promise<Ledger>;
  /** What etcd's database may have, and what apps may keep in it. */
  readonly shares: StoreShares;
  /** What everyone may read in the ledger, and nothing else; left out, it stays what it is. */
  readonly publicPrefixes?: readonly Uint8Array[];
  /** How often it is looked whether room is to be made, milliseconds. */
  readonly roomEvery?: number;
  readonly log: Log;
}

export interface RunningStore {
  readonly upstream: Upstream;
  readonly store: Store;
  readonly ledger: Ledger;
  /** A way in; it does not listen yet. */
  door(
    options: Pick<
      DoorOptions,
      'callerOf' | 'isStill' | 'tls' | 'limits' | 'times' | 'messageWithin' | 'clientsRoot'
    >,
  ): Door;
  /** Ends calls and doors. etcd is its owner's to end. */
  close(): Promise<void>;
}

/** Within this time etcd has to answer a read for the store to be well. Milliseconds. */
const HEALTHY_WITHIN = 5000;
/** How often it is looked whether the store is full: in between, less is written than there is room for. Milliseconds. */
const ROOM_EVERY = 1_000;

export async function startStore(settings: StoreSettings): Promise<RunningStore> {
  const { log } = settings;
  const etcd = new EtcdClient(settings.socket, {
    onState: (connected, why) => {
      if (connected) log.info({}, 'etcd answers');
      else log.warn({ why: why?.message }, 'etcd is away');
    },
  });
  await answering(etcd);
  const usage = new Usage(settings.shares, (namespace, { used, share }) =>
    log.warn({ namespace, used, share }, 'an app keeps what it may, or all apps do: its writes are refused'),
  );
  let intake: Intake | undefined;
  const ledger = await settings.ledger(etcd, (revision, events) => {
    usage.told(revision, events);
    intake?.told(events);
  });
  await usage.scan(etcd);
  const upstream = covered(etcd, ledger);
  if (settings.publicPrefixes !== undefined && (await setPublic(upstream, settings.publicPrefixes)))
    log.info({}, 'from here on the ledger shows what network.json makes public, and nothing else');
  const store = await Store.open(upstream, {
    durable: () => ledger.durable,
    usage,
  });
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
    values: () => [{ value: etcd.connected ? 1 : 0 }],
  });
  metrics.gauge({
    name: 'kv_ledger_durable_revision',
    help: 'Whose leaves are on the disk.',
    values: () => [{ value: ledger.durable }],
  });
  metrics.gauge({
    name: 'kv_namespace_used_bytes',
    help: 'What a namespace keeps.',
    values: () => [...usage.all()].map(([namespace, { used }]) => ({ labels: { namespace }, value: used })),
  });
  metrics.gauge({
    name: 'kv_namespace_share_bytes',
    help: 'What a namespace may keep; of one without a bound there is none.',
    values: () =>
      [...usage.all()].flatMap(([namespace, { share }]) =>
        share === undefined ? [] : [{ labels: { namespace }, value: share }],
      ),
  });
  const doors: Door[] = [];
  const room = new Room(upstream, store.floors, settings.shares.database, () => usage.deletedOf());
  const disk = settings.folder === undefined ? undefined : new DiskSpace(settings.folder);
  intake = new Intake(room, settings.shares.database);
  store.disk = disk;
  store.intake = intake;
  await lookAtDisk(disk, log);
  await intake.look();
  const looking = setInterval(() => {
    void lookAtDisk(disk, log);
    intake.look().then(
      (done) => {
        if (done === 'dropped')
          log.warn({}, 'the store was full of history: that of all namespaces was dropped');
      },
      (error: unknown) => log.warn({ err: error }, 'no room could be made'),
    );
  }, settings.roomEvery ?? ROOM_EVERY).unref();
  const condition = conditionOf(etcd, disk);
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
      clearInterval(looking);
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

async function lookAtDisk(disk: DiskSpace | undefined, log: Log): Promise<void> {
  try {
    if (!(await disk?.look())) return;
    if (disk?.isFull) log.warn({}, 'the disk is nearly full: writes are refused until there is room');
    else log.info({}, 'the disk has room again: writes are done');
  } catch (error) {
    log.warn({ err: error }, 'it is not known how full the disk is');
  }
}

function conditionOf(etcd: EtcdClient, disk: Pick<DiskSpace, 'isFull'> | undefined): Condition {
  const within = () => ({ deadline: performance.now() + HEALTHY_WITHIN });
  return {
    async problem() {
      try {
        // Linearizable: it is answered by a majority of the members or not at all.
        await etcd.unary(KV.method.range, { key: utf8('k/health'), countOnly: true }, within());
        const { alarms } = await etcd.unary(Maintenance.method.alarm, {}, within());
        return alarms.length === 0 && !disk?.isFull ? undefined : 'ALARM NOSPACE';
      } catch {
        return 'RAFT NO LEADER';
      }
    },
    version: async () => (await etcd.unary(Maintenance.method.status, {}, within())).version,
  };
}
