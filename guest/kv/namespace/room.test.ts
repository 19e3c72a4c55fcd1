import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { CompactionRequestSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { startKv } from '../../../test/support/kv.ts';
import { makeRoom } from './room.ts';
import { callOf, clientOf } from './store.fixture.ts';

const timeout = 300_000;
const QUOTA = 24 * 1024 * 1024;

test('a store that one app has filled with history takes the writes of all again', { timeout }, async () => {
  const kv = await startKv(undefined, QUOTA);
  try {
    const { store, upstream } = kv.running;
    const greedy = clientOf(store, callOf('a/greedy/'));
    const other = clientOf(store, callOf('a/other/'));
    await other.put('a', 'b');
    const fill = async () => {
      for (let n = 0; n < 100; n += 1) await greedy.put('k', 'x'.repeat(1_000_000));
    };
    await expect(fill()).rejects.toThrow('database space exceeded');
    await expect(other.put('a', 'c')).rejects.toThrow('database space exceeded');
    // Nobody can do it by a compaction.
    const { header } = await other.range('a');
    const request = create(CompactionRequestSchema, { revision: header!.revision! });
    await expect(store.compact(other.call, request)).rejects.toThrow('database space exceeded');
    await expect.poll(() => makeRoom(upstream, store.floors)).toBe(true);
    expect((await other.range('a')).kvs).toHaveLength(1);
    await other.put('a', 'c');
    expect(await makeRoom(upstream, store.floors)).toBe(false);
    expect(kv.warnings).toEqual([]);
  } finally {
    await kv.stop();
  }
});
