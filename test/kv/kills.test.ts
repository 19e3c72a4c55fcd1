/** A bounded sample of `npm run torture -- --only store`, with a fixed seed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { leafHash, rootOf } from '../../lib/ledger/merkle.ts';
import type { Operation } from './checker/history.ts';
import { killed } from './rounds.ts';
import { BareEtcd } from './support/etcd.ts';
import { compareWithLog, readEvents } from './support/event-log.ts';
import { playRound } from './support/kills.ts';
import { differences } from './support/ledger.ts';

const SHORT = 5;
const timeout = 300_000;

test.concurrent('kv, etcd and both are killed under concurrent clients: no acknowledged write is lost, and the history is linearizable', {
  timeout,
}, async () => {
  const result = await killed(21, SHORT);
  expect(result).toMatchObject({ problems: [], lost: 0, kills: SHORT });
  expect(result.acknowledged).toBeGreaterThan(20);
});

test.concurrent('a bare etcd passes too; one that forgets a write, or has one more, does not', {
  timeout,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-kv-'));
  const etcd = await BareEtcd.start(folder);
  try {
    const options = { seed: 22, kills: 2, clients: 4, keys: 4, pauseMs: 10, lifeMs: 300 };
    expect(await playRound(etcd, options)).toMatchObject({ problems: [], lost: 0 });
    const log = new Map(await readEvents(etcd.address));
    const [revision, changes] = [...log][0]!;
    const write: Operation = {
      client: 0,
      called: 0,
      returned: 1,
      comparisons: [],
      success: [...changes].map(([key, value]) =>
        value === undefined ? { kind: 'delete', key } : { kind: 'put', key, value },
      ),
      failure: [],
      answer: { succeeded: true, revision, results: [...changes].map(() => ({ kind: 'put' })) },
    };
    const only = new Map([[revision, changes]]);
    expect(compareWithLog([write], only)).toEqual({ lost: [], invented: [] });
    expect(compareWithLog([write], new Map()).lost).toHaveLength(1);
    expect(compareWithLog([], only).invented).toHaveLength(1);
    const { answer: _, ...unanswered } = write;
    expect(compareWithLog([unanswered], only)).toEqual({ lost: [], invented: [] });
    const twice = new Map([...only, [revision + 1, changes]]);
    expect(compareWithLog([unanswered], twice).invented).toHaveLength(1);
  } finally {
    await etcd.stop();
    rmSync(folder, { recursive: true });
  }
});

test('a ledger with another leaf, another order or one leaf less is not the one that is made anew', () => {
  for (let count = 2; count < 40; count += 1) {
    const entries = Array.from({ length: count }, (_, n) => Buffer.from(`leaf ${n}`));
    const head = (leaves: readonly Uint8Array[]) => ({
      size: leaves.length,
      root: rootOf(leaves.map(leafHash)),
    });
    expect(differences(head(entries), entries)).toEqual([]);
    expect(differences(head(entries.with(count - 1, Buffer.from('forged'))), entries)).toHaveLength(1);
    expect(differences(head(entries.toReversed()), entries)).toHaveLength(1);
    expect(differences(head(entries.slice(1)), entries)).toHaveLength(1);
  }
});
