/** How etcd is started: for kv alone, on a unix socket. */
import { join } from 'node:path';
import { storeShares } from '../../../lib/protocol/store-shares.ts';

export interface EngineSettings {
  /** It makes a folder `etcd` there. */
  readonly data: string;
  /** Where kv connects. */
  readonly socket: string;
  /** On the loopback: etcd wants an address even where it has no peer. */
  readonly peerPort: number;
  /** Bytes that its database may have; a store that is full refuses writes. */
  readonly quota: number;
}

export const DEFAULT_QUOTA = storeShares().database;

/**
 * kv has checked a request's size and number of operations before it adds prefixes, guards and owners: etcd's own limits are above what that
 * can come to.
 */
const MAX_REQUEST = 4 * 1024 * 1024;
const MAX_OPERATIONS = 1024;

/** By the names of etcd's flags, which are those of its configuration file too (etcd.conf.yml.sample). */
function etcdSettings({
  data,
  socket,
  peerPort,
  quota,
}: EngineSettings): Record<string, string | number | boolean> {
  const peers = `http://127.0.0.1:${peerPort}`;
  return {
    name: 'kv',
    'data-dir': join(data, 'etcd'),
    'listen-client-urls': `unix://${socket}`,
    // It insists on a host and a port here, and tells them to nobody but kv.
    'advertise-client-urls': 'http://127.0.0.1:2379',
    'listen-peer-urls': peers,
    'initial-advertise-peer-urls': peers,
    'initial-cluster': `kv=${peers}`,
    // Its write-ahead log preallocates 64 MB a file.
    'max-wals': 2,
    'snapshot-count': 10_000,
    'quota-backend-bytes': quota,
    'max-request-bytes': MAX_REQUEST,
    'max-txn-ops': MAX_OPERATIONS,
    'enable-grpc-gateway': false,
    logger: 'zap',
    'log-level': 'warn',
  };
}

export function etcdArguments(settings: EngineSettings): string[] {
  const all = { ...etcdSettings(settings), 'log-outputs': 'stderr' };
  return Object.entries(all).map(([name, value]) => `--${name}=${value}`);
}

/** The same as a configuration file: JSON is YAML. */
export function etcdConfiguration(settings: EngineSettings): string {
  return JSON.stringify({ ...etcdSettings(settings), 'log-outputs': ['stderr'] });
}
