/**
 * The network's life, replayed from its chain and its public files: who was let in, on what evidence, and who could hold
 * the secret today. `audit` reads like the report that it produces; each of its steps is a file.
 */
import { trustRootOf } from '../../lib/attestation/certificates/trust-roots.ts';
import { createMemory } from '../../lib/attestation/memory.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { RequestView } from '../../lib/protocol/network-contract.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import type { Archives } from './archives.ts';
import { Comparison } from './compare.ts';
import { Findings } from './findings.ts';
import type { AuditedHead } from './head.ts';
import type { History } from './history.ts';
import { Holders } from './holders.ts';
import { LooseEnds } from './loose-ends.ts';
import { Past } from './past.ts';
import type { AuditReport } from './report.ts';
import { judgeDeployment, judgeHead, judgeSources } from './sources.ts';
import type { StateProof, Upcoming } from './state.ts';
import { judgeHolders, judgeToday } from './today.ts';
import { bare, bytesOf, nameOf } from './words.ts';

export type { AuditReport } from './report.ts';

export interface AuditInput {
  readonly network: Domain;
  readonly flavour: Flavour;
  readonly history: History;
  readonly records: Archives;
  readonly reader: NetworkReader;
  /** The block at which the contract's state is compared. */
  readonly head: AuditedHead;
  /** Both of the same block. */
  readonly stateProof: StateProof;
  readonly upcoming: Upcoming;
}

export async function audit(input: AuditInput): Promise<AuditReport> {
  const { network, flavour, history, records, reader, head } = input;
  const findings = new Findings();
  judgeHead(head, findings);
  judgeDeployment(history.deployment, findings);
  judgeSources(records.sources, findings);

  const past = new Past(findings);
  const memory = createMemory(trustRootOf(flavour));
  const answers = await readAnswers(input);
  const holders = new Holders({ network, flavour, past, records, reader, memory, answers }, findings);
  for (const entry of history.entries) {
    past.take(entry);
    await holders.take(entry);
  }

  const comparison = new Comparison({ ...input, past, deployment: history.deployment }, findings);
  const requestWindow = await comparison.withState();
  await comparison.withUpcoming();
  comparison.withStorage();

  const loose = new LooseEnds({ network, past, records, reader, head, requestWindow }, findings);
  // If the events explain all of the storage there is none, whatever the records say.
  if (!comparison.isExplained()) await loose.lookForHiddenOnboardings();
  const unanswered = loose.unanswered();
  const unposted = loose.unposted();

  const now = head.timestamp;
  const holdersToday = holders.at(now);
  judgeToday(past.replay, flavour, now, findings);
  judgeHolders(holdersToday, findings);

  return {
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
    sources: records.sources,
    findings: findings.sorted(),
  };
}

/** What the contract shows of each request that an event says was answered, by its hash: read together. */
async function readAnswers({ history, reader, head }: AuditInput): Promise<Map<string, RequestView>> {
  const hashes = history.entries.flatMap(({ event }) =>
    event.name === 'Onboarded' ? [bare(event.requestHash)] : [],
  );
  const views = await reader.requests(hashes.map(bytesOf), head);
  return new Map(hashes.map((hash, at) => [hash, views[at]!]));
}
