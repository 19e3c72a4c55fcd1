/** One audit from its beginning to its end: what is read of the chain, in which order, and what is kept for the next one. */
import { networkReader } from '../../lib/chain/network-reader.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type Audited, audit } from './audit.ts';
import { Checkpoint } from './checkpoint.ts';
import { auditedHead } from './head.ts';
import { readHistory } from './history.ts';
import type { CheckpointReport } from './report.ts';
import { readStateProof, readUpcoming } from './state.ts';

export interface RunOptions {
  /** JSON-RPC endpoints; all must agree. */
  readonly endpoints: readonly string[];
  readonly contract: Address;
  readonly flavour: Flavour;
  /** Folders, and relays' base URLs. */
  readonly archives: readonly string[];
  /** The first block to read, if no checkpoint says so. */
  readonly from: number;
  /** Blocks below the newest; the finalized one without it. */
  readonly depth: number | undefined;
  /** The block to audit at instead. */
  readonly at: number | undefined;
  readonly waitMs: number;
  readonly checkpoint: { readonly path: string; readonly pin: string | undefined } | undefined;
  readonly onWait?: (who: string) => void;
  /** Called with the last block read so far, and the last that there is. */
  readonly onProgress?: (block: number, last: number) => void;
  /** The auditor's clock, Unix seconds. */
  readonly clock?: () => number;
}

export interface Run extends Audited {
  /** Adds this audit to the checkpoint, if there is one and the history holds. @throws AUDIT_CHECKPOINT_CHANGED, and the file system's errors */
  save(): Promise<CheckpointReport | undefined>;
}

/** @throws AUDIT_* and what the chain client throws: then nothing can be said */
export async function runAudit(options: RunOptions): Promise<Run> {
  const { contract, flavour, archives, from, depth } = options;
  const endpoints = [...options.endpoints];
  const confirmation = depth === undefined ? ({ finalized: true } as const) : { depth };
  const { chain, head } = await auditedHead({ ...options, endpoints, confirmation });
  const network = { chainId: chain.chainId, contract };
  const kept = options.checkpoint;
  const checkpoint = kept && (await Checkpoint.open(kept.path, network, flavour, kept.pin));
  const earlier = await checkpoint?.upTo(chain, head);
  const onProgress = (block: number) => options.onProgress?.(block, head.number);
  const history = await readHistory({ endpoints, contract, from, head, known: earlier, onProgress });
  const reader = networkReader(chain, contract);
  const stateProof = await readStateProof(endpoints, contract, head);
  const upcoming = await readUpcoming(chain, contract, head);
  const input = { network, flavour, history, archives, reader, head, stateProof, upcoming, earlier };
  const audited = await audit(input);
  const { verdicts, historyHolds } = audited;
  return {
    ...audited,
    async save() {
      if (checkpoint === undefined) return undefined;
      const hash = historyHolds ? await checkpoint.add(head, history.entries, verdicts) : checkpoint.hash;
      return { hash, from: earlier?.block, known: earlier?.verdicts.size ?? 0, added: verdicts.length };
    },
  };
}
