/**
 * A round of the store's torture: clients work, parts are killed at random moments and started again, and then everything that the
 * clients were told is compared with what is there.
 */
import { Random } from '../../torture/random.ts';
import type { Operation } from '../checker/history.ts';
import { checkHistory } from '../checker/linearizable.ts';
import type { Subject } from './etcd.ts';
import { compareWithLog, readEvents } from './event-log.ts';
import { Workload } from './workload.ts';

export interface RoundOptions {
  readonly seed: number;
  readonly kills: number;
  readonly clients: number;
  readonly keys: number;
  readonly pauseMs: number;
  /** Between the answer of a store that was started again and its next kill, at most. */
  readonly lifeMs: number;
  /** What is looked at after each kill, once the store answers again and while clients write. @returns what is wrong */
  readonly look?: () => Promise<readonly string[]>;
}

export interface RoundResult {
  readonly operations: number;
  readonly acknowledged: number;
  /** Of which nobody knows whether they happened. */
  readonly unanswered: number;
  readonly kills: number;
  readonly revisions: number;
  /** Acknowledged writes that are not there. */
  readonly lost: number;
  readonly problems: string[];
}

export async function playRound(subject: Subject, options: RoundOptions): Promise<RoundResult> {
  const random = new Random(options.seed);
  const workload = new Workload({ address: subject.address, ...options });
  const problems: string[] = [];
  const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  for (let kill = 0; kill < options.kills; kill += 1) {
    await wait(random.between(20, options.lifeMs));
    await Promise.all(partsOf(subject, random).map((part) => subject.kill(part)));
    // Some clients meet a store that is gone, others one that has just come back.
    await wait(random.between(0, 60));
    await subject.start();
    for (const problem of (await options.look?.()) ?? []) problems.push(`after kill ${kill + 1}: ${problem}`);
  }
  await wait(options.lifeMs);
  const history = await workload.stop();
  const verdict = await judge(subject, history);
  return { ...verdict, problems: [...problems, ...verdict.problems], kills: options.kills };
}

/** One of them, or all at once. */
function partsOf({ parts }: Subject, random: Random): readonly string[] {
  return random.chance(1 / (parts.length + 1)) ? parts : [random.pick(parts)];
}

async function judge(subject: Subject, history: readonly Operation[]): Promise<Omit<RoundResult, 'kills'>> {
  const problems: string[] = [];
  const log = await readEvents(subject.address);
  const { lost, invented } = compareWithLog(history, log);
  problems.push(...lost.map((one) => `lost: ${one}`), ...invented.map((one) => `nobody wrote: ${one}`));
  const verdict = checkHistory(history);
  if (!verdict.linearizable)
    problems.push(
      `not linearizable: partition ${verdict.partition}, after ${verdict.order.length} operations none of ${JSON.stringify(verdict.stuck)}`,
    );
  const acknowledged = history.filter(({ answer }) => answer !== undefined).length;
  return {
    operations: history.length,
    acknowledged,
    unanswered: history.length - acknowledged,
    revisions: log.size,
    lost: lost.length,
    problems,
  };
}
