/** Every change that a store has kept, as a watch from its beginning tells it, and what that says of a history. */
import { create } from '@bufbuild/protobuf';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { type Event, Event_EventType } from '../../../lib/etcd/gen/mvcc_pb.js';
import { Watch, WatchRequestSchema } from '../../../lib/etcd/gen/watch_pb.js';
import type { Operation } from '../checker/history.ts';
import { StoreClient } from './client.ts';

/** By revision: what each key became; `undefined` for a deletion. */
export type EventLog = ReadonlyMap<number, ReadonlyMap<string, string | undefined>>;

/** Reads it up to the revision of now. @throws Error when that does not arrive in time */
export async function readEvents(address: string, milliseconds = 60_000): Promise<EventLog> {
  const client = new StoreClient(address);
  try {
    const { header } = await client.call(KV.method.range, { key: Buffer.from('?') });
    // A mark at the end: a store of which we see a part only has revisions without events.
    const marked = await client.call(KV.method.put, { key: Buffer.from('end'), value: Buffer.from('end') });
    const last = Number(marked.header!.revision);
    const log = new Map<number, Map<string, string | undefined>>();
    const stream = client.stream(Watch.method.watch);
    stream.write(
      create(WatchRequestSchema, {
        requestUnion: {
          case: 'createRequest',
          value: { key: Buffer.from([0]), rangeEnd: Buffer.from([0]), startRevision: 1n },
        },
      }),
    );
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no event of revision ${last} (after ${header?.revision})`)),
        milliseconds,
      );
      stream.on('error', reject);
      stream.on('data', ({ events }: { events: Event[] }) => {
        for (const { type, kv } of events) {
          const revision = Number(kv!.modRevision);
          const changes = log.get(revision) ?? new Map<string, string | undefined>();
          const key = Buffer.from(kv!.key).toString();
          changes.set(key, type === Event_EventType.DELETE ? undefined : Buffer.from(kv!.value).toString());
          log.set(revision, changes);
        }
        if (!log.has(last)) return;
        clearTimeout(timer);
        resolve();
      });
    });
    stream.on('error', () => {});
    stream.cancel();
    log.delete(last);
    return log;
  } finally {
    client.close();
  }
}

export interface EventProblems {
  /** Writes that were acknowledged, and are not in the log at their revision as they were made. */
  readonly lost: string[];
  /** Changes that no operation made, or made more than once. */
  readonly invented: string[];
}

/** Compares what was acknowledged with what was kept, and the other way round. */
export function compareWithLog(history: readonly Operation[], log: EventLog): EventProblems {
  const lost: string[] = [];
  const explained = new Set<number>();
  const unanswered: Operation[] = [];
  for (const operation of history) {
    const { answer } = operation;
    if (answer === undefined) {
      unanswered.push(operation);
      continue;
    }
    const steps = answer.succeeded ? operation.success : operation.failure;
    const happened = steps.filter((step, n) => {
      const result = answer.results[n];
      return step.kind === 'put' || (result?.kind === 'delete' && result.deleted > 0);
    });
    if (happened.length === 0) continue;
    explained.add(answer.revision!);
    const kept = log.get(answer.revision!);
    const expected = changesOf(happened);
    if (kept === undefined || !sameChanges(expected, kept))
      lost.push(`revision ${answer.revision}: ${JSON.stringify(expected)}, kept ${show(kept)}`);
  }
  const invented: string[] = [];
  for (const [revision, kept] of log) {
    if (explained.has(revision)) continue;
    // Only the success of an operation changes anything; what it wrote may be there once.
    const maker = unanswered.findIndex(({ success }) => sameChanges(changesOf(success), kept));
    if (maker === -1) invented.push(`revision ${revision}: ${show(kept)}`);
    else unanswered.splice(maker, 1);
  }
  return { lost, invented };
}

type Change = readonly [key: string, value: string | undefined];

function changesOf(steps: Operation['success']): Change[] {
  return steps.flatMap((step): Change[] => {
    if (step.kind === 'put') return [[step.key, step.value]];
    return step.kind === 'delete' ? [[step.key, undefined]] : [];
  });
}

const sameChanges = (expected: readonly Change[], kept: ReadonlyMap<string, string | undefined>): boolean =>
  expected.length === kept.size && expected.every(([key, value]) => kept.has(key) && kept.get(key) === value);

const show = (kept: ReadonlyMap<string, string | undefined> | undefined): string =>
  kept === undefined ? 'nothing' : JSON.stringify([...kept]);
