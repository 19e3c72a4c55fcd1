/** What is told of the ledger: receipts to who wrote, heads and tiles to anyone. All of it is of what is on the disk. */
import { signCurrent } from '../../../lib/ledger/current.ts';
import { indexOf, openingOf, parseLeaf } from '../../../lib/ledger/leaf.ts';
import { inclusionNodes, proofOf } from '../../../lib/ledger/merkle.ts';
import { formatReceipt } from '../../../lib/ledger/receipt.ts';
import { parseRecord } from '../../../lib/ledger/record.ts';
import { CHECKPOINT_PATH, hasTile, parseTilePath } from '../../../lib/ledger/tiles.ts';
import { bytesEqual, sha256, utf8 } from '../../../lib/protocol/encoding.ts';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { LEDGER_EVIDENCE_PATH } from '../../../lib/protocol/ledger-evidence.ts';
import type { KvLedger } from './ledger.ts';

/** A receipt shows no more events than this: of a delete of a whole range it shows the first. */
const MAX_OPENINGS = 1_024;

/** The read that a receipt is to say was current. */
export interface CurrentRead {
  /** With its namespace's prefix. */
  readonly key: Uint8Array;
  /** Of the answer. */
  readonly revision: bigint;
}

/**
 * The receipt of a revision for who has the keys under this prefix. Waits until the revision is on the disk.
 * @param mayRead throws for keys, with the prefix, that who asks may not read
 * @param current makes the receipt say that the key's value of this revision was current at a later one
 * @throws RECEIPT_NONE for a revision that wrote nothing under the prefix, or is not there; LEDGER_STOPPED
 */
export async function receiptOf(
  ledger: KvLedger,
  revision: bigint,
  namespace: Uint8Array,
  mayRead: (keys: readonly Uint8Array[]) => void = () => {},
  current?: CurrentRead,
): Promise<string> {
  const index = indexOf(revision);
  if (index < 0 || index >= ledger.sizes.tree) throw none(revision);
  await ledger.onDisk(revision);
  const { head: checkpoint, size } = ledger.files.state;
  const { entry, records } = await ledger.files.leaf(index);
  const leaf = parseLeaf(entry);
  const keys = records.map((record) => parseRecord(record).key);
  const own = keys.flatMap((key, at) =>
    bytesEqual(key.subarray(0, namespace.length), namespace) ? [at] : [],
  );
  // The same words as for a revision that is not there: whose it is, is nobody else's business.
  if (own.length === 0) throw none(revision);
  mayRead(own.map((at) => keys[at]!));
  const { salts, signer } = ledger.options;
  const nodes = inclusionNodes(index, size);
  const said = current && {
    current: signCurrent(
      { keyHash: sha256(current.key), revision: current.revision, modRevision: revision },
      signer,
    ),
  };
  return formatReceipt({
    entry,
    namespace,
    openings: own.slice(0, MAX_OPENINGS).map((at) => openingOf(leaf, records, at, salts)),
    proof: proofOf(nodes, await ledger.files.hashes(nodes.flat(), size)),
    checkpoint,
    ...said,
  });
}

export interface LogResource {
  readonly bytes: Uint8Array;
  readonly type: string;
  /** Whether the path will have these bytes for ever. */
  readonly immutable: boolean;
}

/** A resource of the log by its path in the tlog-tiles layout; undefined where there is none. */
export async function logResource(ledger: KvLedger, path: string): Promise<LogResource | undefined> {
  if (path === CHECKPOINT_PATH) {
    return { bytes: utf8(ledger.head()), type: 'text/plain; charset=utf-8', immutable: false };
  }
  if (path === LEDGER_EVIDENCE_PATH) {
    const { evidence } = ledger.options;
    return evidence === undefined
      ? undefined
      : { bytes: utf8(evidence), type: 'application/json', immutable: false };
  }
  const tile = parseTilePath(path);
  if (tile === undefined || !hasTile(tile, ledger.sizes.disk)) return undefined;
  return { bytes: await ledger.files.tile(tile), type: 'application/octet-stream', immutable: true };
}

const none = (revision: bigint) =>
  new DstackError('RECEIPT_NONE', `revision ${revision} wrote nothing that is yours`);
