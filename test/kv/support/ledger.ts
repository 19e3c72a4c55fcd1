/** The ledger of a store that a test started: the key that it has there, and the same tree made from nothing but etcd's events. */
import { join } from 'node:path';
import { EtcdClient } from '../../../guest/kv/engine/client.ts';
import { EtcdRevisions } from '../../../guest/kv/engine/follow.ts';
import { openDisk } from '../../../guest/kv/ledger/disk.ts';
import { KvLedger } from '../../../guest/kv/ledger/ledger.ts';
import { FILES } from '../../../guest/kv/ledger/log-files.ts';
import type { OnRevision, Upstream } from '../../../guest/kv/types.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { type Checkpoint, openCheckpoint } from '../../../lib/ledger/checkpoint.ts';
import { buildLeaf, FIRST_REVISION, revisionAt } from '../../../lib/ledger/leaf.ts';
import { origin, salts, signer } from '../../../lib/ledger/log.fixture.ts';
import { leafHash, nodeHash } from '../../../lib/ledger/merkle.ts';
import { NOTHING_PUBLIC } from '../../../lib/ledger/policy.ts';

/** Where a store of a test has it, beside etcd's data. */
const folderOf = (folder: string): string => join(folder, 'ledger');

/** As the store starts it, with a secret of the tests. */
export async function startLedger(
  upstream: Upstream,
  folder: string,
  onRevision: OnRevision = () => {},
  mostBehind?: number,
): Promise<KvLedger> {
  const disk = await openDisk(folderOf(folder), FILES);
  const now = () => Math.floor(Date.now() / 1000);
  const behind = mostBehind === undefined ? {} : { mostBehind };
  const ledger = await KvLedger.open({ disk, signer, salts, now, onRevision, ...behind });
  const revisions = await EtcdRevisions.open(upstream);
  await ledger.follow(revisions, await newest(upstream));
  return ledger;
}

const newest = async (upstream: Upstream): Promise<bigint> => {
  const { header } = await upstream.unary(KV.method.range, { key: Buffer.from('k/'), countOnly: true });
  return header!.revision;
};

/**
 * Makes the whole tree anew from etcd's events, with the functions that define it and none of the code that keeps it, and compares it with
 * the head that the store serves. @returns what differs
 */
export async function compareLedger(socket: string, address: string): Promise<string[]> {
  const etcd = new EtcdClient(socket);
  try {
    const last = await newest(etcd);
    const entries = await entriesUntil(etcd, last);
    return differences(await headOver(address, entries.length), entries);
  } finally {
    etcd.close();
  }
}

/**
 * The same while clients write: the head that is served at this moment, and the tree of as many of etcd's events.
 * @returns what differs
 */
export async function compareLedgerNow(socket: string, address: string): Promise<string[]> {
  const head = await headOver(address, 1);
  const etcd = new EtcdClient(socket);
  try {
    return differences(head, await entriesUntil(etcd, revisionAt(head.size - 1)));
  } finally {
    etcd.close();
  }
}

export function differences(
  { size, root }: Pick<Checkpoint, 'size' | 'root'>,
  entries: readonly Uint8Array[],
): string[] {
  const expected = Buffer.from(treeHash(entries.map(leafHash))).toString('hex');
  const served = Buffer.from(root).toString('hex');
  if (size === entries.length && served === expected) return [];
  return [
    `the ledger's head is ${served} over ${size}, of etcd's events it is ${expected} over ${entries.length}`,
  ];
}

/** As RFC 9162, section 2.1.1, defines it, of one leaf or more. */
function treeHash(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 1) return leaves[0]!;
  const half = 2 ** Math.ceil(Math.log2(leaves.length) - 1);
  return nodeHash(treeHash(leaves.slice(0, half)), treeHash(leaves.slice(half)));
}

/** A leaf of every revision from the first on. Nothing is public in a store of a test. */
async function entriesUntil(etcd: EtcdClient, last: bigint): Promise<Uint8Array[]> {
  const entries: Uint8Array[] = [];
  const done = new AbortController();
  const revisions = await EtcdRevisions.open(etcd);
  const ended = revisions.follow(
    FIRST_REVISION - 1n,
    (revision, events) => {
      if (revision > last) return;
      entries.push(buildLeaf(revision, events, NOTHING_PUBLIC, salts).entry);
      if (revision === last) done.abort();
    },
    done.signal,
  );
  await ended.catch((error: unknown) => {
    if (!done.signal.aborted) throw error;
  });
  return entries;
}

/** The head that is served, once it is over so many leaves: it is signed after they are on the disk. */
async function headOver(address: string, size: number): Promise<Checkpoint> {
  for (const until = Date.now() + 60_000; ; ) {
    const answer = await fetch(`http://${address}/ledger/checkpoint`);
    if (answer.ok) {
      const head = openCheckpoint(await answer.text(), origin, [signer]);
      if (head.size >= size || Date.now() > until) return head;
    } else if (Date.now() > until) throw new Error(`no head is served: ${answer.status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
