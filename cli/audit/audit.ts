/**
 * The network's life, replayed from its chain and its public files: who was let in, on what evidence, and who could hold
 * the secret today. `audit` reads like the report that it produces; each of its steps is a file.
 */
import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { createMemory } from '../../lib/attestation/memory.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { type Hex, parseHex } from '../../lib/protocol/hex.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { readRecords, type SourceLimits } from './archives.ts';
import type { Earlier } from './checkpoint.ts';
import type { Verdict } from './checkpoint-lines.ts';
import { Comparison } from './compare.ts';
import { EvidenceFound } from './evidence-found.ts';
import { Findings } from './findings.ts';
import type { AuditedHead } from './head.ts';
import type { History } from './history.ts';
import { Holders, type Recorded } from './holders.ts';
import { LooseEnds } from './loose-ends.ts';
import { Past } from './past.ts';
import type { FoundRecord, RecordTaker } from './record.ts';
import type { Kind } from './replay.ts';
import type { AuditReport } from './report.ts';
import {
  judgeCheckpoint,
  judgeDeployment,
  judgeHead,
  judgeSources,
  judgeTape,
  type TapeSource,
} from './sources.ts';
import type { StateProof, Upcoming } from './state.ts';
import { judgeHolders, judgeToday } from './today.ts';
import { bare, bytesOf, nameOf } from './words.ts';

export type { AuditReport } from './report.ts';

/** How long a source may take, and how much longer for each claim of the history. Milliseconds. */
const BASE_MS = 600_000;
const CLAIM_MS = 200;

export interface AuditInput {
  readonly network: Domain;
  readonly flavour: Flavour;
  readonly history: History;
  /** Folders with public files, or relays that serve theirs. */
  readonly archives: readonly string[];
  readonly limits?: Partial<SourceLimits>;
  readonly reader: NetworkReader;
  /** The block at which the contract's state is compared. */
  readonly head: AuditedHead;
  /** Both of the same block. */
  readonly stateProof: StateProof;
  readonly upcoming: Upcoming;
  /** What a checkpoint has. */
  readonly earlier?: Earlier | undefined;
  /** Called with each record about something in the history. */
  readonly onRecord?: ((record: FoundRecord) => void) | undefined;
  /** For a chain that was not asked itself. */
  readonly tape?: TapeSource | undefined;
}

export interface Audited {
  readonly report: AuditReport;
  /** What the next audit need not judge again. */
  readonly verdicts: readonly Verdict[];
  /** Whether the events are what the contract says, as far as that could be told: only then is anything to be built on them. */
  readonly historyHolds: boolean;
  /** What may join as of the audited block: hex without 0x. */
  readonly allowed: Readonly<Record<Kind, Hex[]>>;
}

export async function audit(input: AuditInput): Promise<Audited> {
  const { network, flavour, history, reader, head, earlier } = input;
  const findings = new Findings();
  judgeHead(head, findings);
  judgeTape(input.tape, head, input.stateProof, findings);
  judgeDeployment(history.deployment, findings);

  const past = new Past(findings);
  const evidence = new EvidenceFound(network, flavour, past, earlier);
  const memory = createMemory(trustRootOf(flavour));
  const answers = await readAnswers(input);
  const holders = new Holders({ network, flavour, past, evidence, reader, memory, answers }, findings);
  for (const entry of history.entries) {
    past.take(entry);
    await holders.take(entry);
  }

  const comparison = new Comparison({ ...input, past, deployment: history.deployment }, findings);
  const requestWindow = await comparison.withState();
  await comparison.withUpcoming();
  comparison.withStorage();
  const historyHolds = !findings.has('failure');
  judgeCheckpoint(earlier, historyHolds, findings);

  const sources = await readRecords(input.archives, handingOn(evidence, input.onRecord), network, {
    milliseconds: BASE_MS + evidence.unproven * CLAIM_MS,
    ...input.limits,
  });
  judgeSources(sources, findings);
  holders.judge();

  const loose = new LooseEnds({ past, evidence, reader, head, requestWindow }, findings);
  // If the events explain all of the storage there is none, whatever the records say.
  const hidden = comparison.isExplained() ? 0 : await loose.lookForHiddenOnboardings();
  const unanswered = loose.unanswered();
  const unposted = loose.unposted();

  const now = head.timestamp;
  const holdersToday = holders.at(now);
  judgeToday(past.replay, flavour, now, findings);
  judgeHolders(holdersToday, findings);

  const report: AuditReport = {
    verdict: findings.verdict(),
    ...network,
    head: {
      number: head.number,
      hash: head.hash,
      timestamp: now,
      seenAt: head.seenAt,
      age: head.age,
      chosen: head.chosen,
      endpoints: head.proven.of,
    },
    storage: { ...input.stateProof, explained: comparison.isExplained() },
    owner: past.replay.owner,
    delay: past.replay.delayAt(now),
    epoch: past.replay.epoch,
    timeline: past.timeline,
    holders: holdersToday,
    unanswered,
    unposted,
    pending: past.replay.pendingAt(now),
    apps: [...past.replay.apps.keys()].map((app) => ({
      app: nameOf(app),
      manifest: past.replay.manifestAt(app, now),
    })),
    sources,
    findings: findings.sorted(),
  };
  return {
    report,
    verdicts: evidence.newVerdicts(),
    historyHolds: historyHolds && hidden === 0,
    allowed: past.replay.allowedAt(now),
  };
}

/** Tells of each record that the history asks for, besides taking it. */
function handingOn(evidence: EvidenceFound, onRecord: AuditInput['onRecord']): RecordTaker {
  if (onRecord === undefined) return evidence;
  return {
    skips: (name) => evidence.skips(name),
    wants: (record) => evidence.wants(record),
    take(record) {
      if (evidence.wants(record)) onRecord(record);
      evidence.take(record);
    },
  };
}

/**
 * What the contract recorded for each request that an event says was answered, by its hash: read together. Of those that were read by an
 * earlier audit it is known, and never changes.
 */
async function readAnswers({ history, reader, head, earlier }: AuditInput): Promise<Map<string, Recorded>> {
  const hashes = history.entries.flatMap(({ event }) =>
    event.name === 'Onboarded' ? [bare(event.requestHash)] : [],
  );
  const answers = new Map<string, Recorded>();
  for (const { of, recorded } of earlier?.verdicts.values() ?? []) {
    if (recorded !== undefined) answers.set(of, { state: 'answered', answerHash: parseHex(`0x${recorded}`) });
  }
  const unknown = hashes.filter((hash) => !answers.has(hash));
  const views = await reader.requests(unknown.map(bytesOf), head);
  for (const [at, hash] of unknown.entries()) answers.set(hash, views[at]!);
  return answers;
}
