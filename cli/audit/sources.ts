/** What an audit is made from: how old the block is, whose code the contract has, and who gave the public files. */
import { parseHex, sameHex } from '../../lib/protocol/hex.ts';
import type { SourceReport } from './archives.ts';
import type { Earlier } from './checkpoint.ts';
import type { Findings } from './findings.ts';
import { type AuditedHead, CLOCK_SKEW_SECONDS, OLD_HEAD_SECONDS } from './head.ts';
import type { Deployment } from './history.ts';
import type { StateProof } from './state.ts';
import { instant } from './words.ts';

/** A history that ends early shows no revocation and nobody who came later; whoever means that has to say so. */
export function judgeHead(head: AuditedHead, findings: Findings): void {
  const { number, timestamp, seenAt, age, chosen } = head;
  const where = `block ${number}`;
  if (age < -CLOCK_SKEW_SECONDS) {
    const message = `the block is of ${instant(timestamp)}, this machine's clock says ${instant(seenAt)}: the block's age is unknown`;
    findings.add('gap', 'HEAD_AFTER_CLOCK', where, message);
  }
  if (chosen) {
    const message = `the auditor named this block, ${age} s old: nothing that came later is in this report`;
    findings.add('warning', 'HEAD_CHOSEN', where, message);
  } else if (age > OLD_HEAD_SECONDS) {
    const message = `the newest block that the endpoints show is ${age} s old by this machine's clock: they hide what came later, or the chain has stopped; to audit the past, give --at ${number}`;
    findings.add('failure', 'HEAD_OLD', where, message);
  }
}

/** Where answers come from that no chain gave to this audit. */
export interface TapeSource {
  /** Of the audited block, by a source of the auditor's own; undefined without one. */
  readonly blockHash: string | undefined;
}

/**
 * Whoever wrote the answers down could have made up all of them. A block's hash stands for the state under it, and so, where the storage is
 * proven under it and explained by the events, for every event and its order; but not for the blocks' times.
 */
export function judgeTape(
  tape: TapeSource | undefined,
  { number, hash }: AuditedHead,
  storage: StateProof,
  findings: Findings,
): void {
  if (tape === undefined) return;
  const where = `block ${number}`;
  const later =
    'nothing that came later is in this report, and when each event was is its word; --rpc asks the chain';
  if (tape.blockHash === undefined) {
    const message = `the folder is all that says what the chain answered: give the hash of block ${number} by a source of your own, --block-hash, or ask the chain, --rpc`;
    findings.add('gap', 'CHAIN_NOT_ASKED', where, message);
  } else if (!sameHex(parseHex(tape.blockHash), parseHex(hash))) {
    const message = `the folder's block ${number} is ${hash}, the chain's is ${tape.blockHash}: it is of another chain, or made up`;
    findings.add('failure', 'CHAIN_OTHER_BLOCK', where, message);
  } else if (!storage.proven || storage.under !== 'block hash') {
    const message = `the hash of block ${number} is right, and the contract's state is not proven under it; ${later}`;
    findings.add('gap', 'CHAIN_NOT_ASKED', where, message);
  } else {
    const message = `the folder says what the chain answered, and the hash of block ${number} stands for the contract's state in it; ${later}`;
    findings.add('warning', 'CHAIN_FROM_FOLDER', where, message);
  }
}

export function judgeDeployment(deployment: Deployment, findings: Findings): void {
  if (!deployment.genuine) findings.add('gap', 'CONTRACT_CODE_UNPROVEN', 'deployment', deployment.reason);
}

/** What a source spoiled or withheld shows where it is missing; this names the source. */
export function judgeSources(sources: readonly SourceReport[], findings: Findings): void {
  for (const { source, faults, faultCount } of sources) {
    if (faultCount === 0) continue;
    const more = faultCount > faults.length ? ` (and ${faultCount - faults.length} more)` : '';
    findings.add('warning', 'RECORD_SOURCE_FAULTY', source, `${faults.join('; ')}${more}`);
  }
}

/** What earlier audits read counts as the chain's by the hash of a block that the chain still has. */
export function judgeCheckpoint(
  earlier: Earlier | undefined,
  historyHolds: boolean,
  findings: Findings,
): void {
  if (earlier === undefined) return;
  const { block, fellBackFrom } = earlier;
  if (fellBackFrom !== undefined) {
    const message = `the chain no longer has block ${fellBackFrom}, of which the newest audit in it was made: what came after block ${block} was read and judged again`;
    findings.add('warning', 'CHECKPOINT_FELL_BACK', 'checkpoint', message);
  }
  if (!historyHolds) {
    const message = `the history does not hold, and up to block ${block} it is the checkpoint's: audit without --checkpoint to learn whether the fault is there; the file is left as it is`;
    findings.add('warning', 'CHECKPOINT_IN_DOUBT', 'checkpoint', message);
  }
}
