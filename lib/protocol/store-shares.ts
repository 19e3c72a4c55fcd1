/**
 * How the store's database is shared out: what apps may keep in it, so that none of them can stop the writes of another, nor all of them
 * together those of the node itself. In bytes.
 */
import type { StoreConfig } from './network-config.ts';

export interface StoreShares {
  /** What etcd's database may have on the disk. */
  readonly database: number;
  /** What is kept for the apps of these names, and for nobody else. */
  readonly named: ReadonlyMap<string, number>;
  /** What any other app may keep. */
  readonly each: number;
  /** What all other apps together may keep. */
  readonly others: number;
}

const MIB = 1024 * 1024;
const DEFAULT_QUOTA_MIB = 256;
/**
 * Of the database, what all apps together may keep. On the disk it can take twice of that, with values that just do not fit a page; the
 * rest is for history, and for the owner and the node's daemons.
 */
const KEPT = 3 / 8;
/** Of the database, what an app may keep for which network.json says nothing. */
const EACH = 1 / 8;

/** What apps may keep together, MiB. */
export const keptMiB = ({ quotaMiB = DEFAULT_QUOTA_MIB }: StoreConfig): number => quotaMiB * KEPT;

export function storeShares(config: StoreConfig = {}): StoreShares {
  const { quotaMiB = DEFAULT_QUOTA_MIB, shareMiB, shares = {} } = config;
  const named = new Map(Object.entries(shares).map(([app, share]) => [app, share * MIB]));
  const others = keptMiB(config) * MIB - [...named.values()].reduce((sum, share) => sum + share, 0);
  const each = (shareMiB ?? quotaMiB * EACH) * MIB;
  return { database: quotaMiB * MIB, named, each: Math.min(each, others), others };
}
