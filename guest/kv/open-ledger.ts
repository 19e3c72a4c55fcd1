/** The ledger over a running etcd: opened from its files, and caught up with. */
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import type { EarlierHead } from '../../lib/ledger/checkpoint.ts';
import { revisionAt } from '../../lib/ledger/leaf.ts';
import { noteSigner } from '../../lib/ledger/note.ts';
import { SaltKey, type Salts, saltsAfter } from '../../lib/ledger/salt.ts';
import type { DstackError } from '../../lib/protocol/errors.ts';
import { EtcdRevisions } from './engine/follow.ts';
import { openDisk } from './ledger/disk.ts';
import { KvLedger } from './ledger/ledger.ts';
import { FILES } from './ledger/log-files.ts';
import type { OnRevision, Upstream } from './types.ts';

/** A log that another one continues: of the store of which a backup was restored. */
export interface EarlierLog extends EarlierHead {
  readonly saltKey: Uint8Array;
}

export interface LedgerSettings {
  /** Of the log's files. */
  readonly folder: string;
  /** The log's name. */
  readonly origin: string;
  /** Of the Ed25519 key that signs heads (`ledgerKey`). */
  readonly seed: Uint8Array;
  /** `ledgerSaltKey`. */
  readonly saltKey: Uint8Array;
  /** The logs that this one began with, the first one first. */
  readonly earlier?: readonly EarlierLog[];
  /** How many of the last leaves are made again, and compared (`KvLedger`). */
  readonly compared?: number;
  /** Seconds since 1970: the chain's time. */
  readonly now: () => number;
  readonly onStop: (why: DstackError) => void;
  /** Whose key signs the heads, as JSON (lib/protocol/ledger-evidence.ts); absent where no network stands behind it. */
  readonly evidence?: string;
}

/** Resolves once every revision that etcd has now is covered. @throws LEDGER_MISMATCH, LEDGER_GAP, LEDGER_STOPPED */
export async function openLedger(
  settings: LedgerSettings,
  upstream: Upstream,
  onRevision: OnRevision = () => {},
): Promise<KvLedger> {
  const { folder, origin, seed, saltKey, earlier = [], compared, now, onStop, evidence } = settings;
  const ledger = await KvLedger.open({
    disk: await openDisk(folder, FILES),
    signer: noteSigner(origin, seed),
    salts: earlier.reduceRight<Salts>(
      (later, log) => saltsAfter(new SaltKey(log.saltKey), revisionAt(log.size - 1), later),
      new SaltKey(saltKey),
    ),
    continues: earlier.map(({ origin, size, root }) => ({ origin, size, root })),
    ...(compared !== undefined && { compared }),
    now,
    onStop,
    onRevision,
    ...(evidence !== undefined && { evidence }),
  });
  try {
    const source = await EtcdRevisions.open(upstream);
    const { header } = await upstream.unary(KV.method.range, { key: Uint8Array.of(0), countOnly: true });
    const newest = header?.revision ?? 0n;
    await ledger.follow(source, newest);
    // A store that has never been written to is at revision 1, which has no leaf.
    if (newest > 1n) await ledger.covered(newest);
    return ledger;
  } catch (error) {
    await ledger.close();
    throw error;
  }
}
