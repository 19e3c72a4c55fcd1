/** One audit from its beginning to its end: what is read of the chain, in which order, and what is kept for the next one. */
import type { ChainClient } from '../../lib/chain/chain-client.ts';
import { networkReader } from '../../lib/chain/network-reader.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Address } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type Audited, audit } from './audit.ts';
import { playChain } from './chain-tape.ts';
import { Checkpoint } from './checkpoint.ts';
import { auditedHead } from './head.ts';
import { readHistory } from './history.ts';
import type { Publication, Published } from './publication.ts';
import type { FoundRecord } from './record.ts';
import type { CheckpointReport } from './report.ts';
import type { TapeSource } from './sources.ts';
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
  /** Called with each record about something in the network's history. */
  readonly onRecord?: ((record: FoundRecord) => void) | undefined;
  /** What the chain has to be the chain of: where the folder that is audited was written. */
  readonly published?: Pick<Published, 'chainId' | 'block'> | undefined;
  /** For answers that are not the chain's, but of a publication. */
  readonly tape?: TapeSource | undefined;
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
  if (options.published !== undefined) await requireChainOf(chain, options.published);
  const network = { chainId: chain.chainId, contract };
  const kept = options.checkpoint;
  const checkpoint = kept && (await Checkpoint.open(kept.path, network, flavour, kept.pin));
  const earlier = await checkpoint?.upTo(chain, head);
  const onProgress = (block: number) => options.onProgress?.(block, head.number);
  const history = await readHistory({ endpoints, contract, from, head, known: earlier, onProgress });
  const reader = networkReader(chain, contract);
  const stateProof = await readStateProof(endpoints, contract, head);
  const upcoming = await readUpcoming(chain, contract, head);
  const { onRecord, tape } = options;
  const input = {
    ...{ network, flavour, history, archives, reader, head, stateProof, upcoming, earlier },
    ...{ onRecord, tape },
  };
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

/**
 * Another chain may have another network at the same address, whose verdict would be taken for this one's.
 * @throws PUBLISHED_OTHER_CHAIN, and what the chain client throws
 */
async function requireChainOf(
  chain: ChainClient,
  { chainId, block }: Pick<Published, 'chainId' | 'block'>,
): Promise<void> {
  const seen = chain.chainId === chainId ? (await chain.block(block.number)).hash : undefined;
  if (seen === block.hash) return;
  throw new DstackError(
    'PUBLISHED_OTHER_CHAIN',
    seen === undefined
      ? `the folder is of chain ${chainId}, and --rpc (or DSTACK_RPC_URL) is of chain ${chain.chainId}`
      : `the folder was written on a chain whose block ${block.number} is ${block.hash}; on that of --rpc (or DSTACK_RPC_URL) it is ${seen}: another chain, or the folder is made up. To audit this chain's contract give its address`,
  );
}

/**
 * An audit without a chain: by the answers that a publication has, as of its block.
 * @param blockHash of that block, by a source of the auditor's own
 * @throws PUBLISHED_CHAIN, and what `runAudit` throws
 */
export async function auditPublication(
  publication: Publication,
  { archives, blockHash }: { readonly archives: readonly string[]; readonly blockHash?: string | undefined },
): Promise<Run> {
  const { contract, flavour, from, depth, block, chainId } = publication.published;
  const player = await playChain(publication.tape());
  try {
    const run = await runAudit({
      ...{ contract, flavour, archives, from, depth: depth ?? undefined, at: block.number },
      endpoints: [player.url],
      waitMs: 0,
      checkpoint: undefined,
      tape: { blockHash },
    });
    const { head } = run.report;
    if (head.hash !== block.hash || run.report.chainId !== chainId)
      throw new DstackError('PUBLISHED_CHAIN', 'published.json names another block or chain than chain.json');
    return run;
  } catch (error) {
    const missing = player.missing();
    if (missing === undefined) throw error;
    throw new DstackError(
      'PUBLISHED_CHAIN',
      `chain.json has no answer to ${missing}: it is cut, or of another release; ask the chain itself, --rpc URL`,
      { cause: error },
    );
  } finally {
    player.close();
  }
}
