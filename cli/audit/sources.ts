/** What an audit is made from: how old the block is, whose code the contract has, and who gave the public files. */
import type { SourceReport } from './archives.ts';
import type { Earlier } from './checkpoint.ts';
import type { Findings } from './findings.ts';
import { type AuditedHead, CLOCK_SKEW_SECONDS, OLD_HEAD_SECONDS } from './head.ts';
import type { Deployment } from './history.ts';
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
