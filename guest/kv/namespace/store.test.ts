import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { etcdError, RpcError } from '../../../lib/etcd/errors.ts';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { Lease, LeaseGrantRequestSchema } from '../../../lib/etcd/gen/lease_pb.js';
import { AlarmRequest_AlarmAction, AlarmType, Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { bytesOf, textOf } from '../../../test/support/etcd.ts';
import { keepAlive } from './keep-alives.ts';
import { prefixEnd } from './keyspace.ts';
import { Leases } from './leases.ts';
import { anyDelete, anyPut, anyRange, anyTxn } from './requests.fixture.ts';
import { type Client, callOf, clientOf, refusalOf, startStore } from './store.fixture.ts';
import type { Store } from './store.ts';

let world: Awaited<ReturnType<typeof startStore>>;
let store: Store;
let one: Client;
let two: Client;

beforeAll(async () => {
  world = await startStore();
  store = world.store;
  one = clientOf(store, callOf('a/one/'));
  two = clientOf(store, callOf('a/two/'));
});

afterAll(() => world.stop());

const message = (name: Parameters<typeof etcdError>[0]) => etcdError(name).message;

describe('two namespaces', () => {
  beforeAll(async () => {
    for (const key of ['a', 'b', 'c']) {
      await one.put(key, `one's ${key}`);
      await two.put(key, `two's ${key}`);
    }
  });

  test('each see their own keys, whatever the range', async () => {
    expect(await one.keys()).toEqual(['a', 'b', 'c']);
    expect((await one.range('\xff', '\0')).kvs).toEqual([]);
    expect((await one.range('b', '\0')).kvs?.map(({ value }) => textOf(value!))).toEqual([
      "one's b",
      "one's c",
    ]);
    expect((await one.range('a', '\xff\xff')).count).toBe(3n);
    expect((await one.range('\0', '\0', { countOnly: true })).count).toBe(3n);
    expect(
      (await one.range('\0', '\0', { limit: 2n, sortOrder: 2 })).kvs?.map(({ key }) => textOf(key!)),
    ).toEqual(['c', 'b']);
    expect((await one.range('\0', '\0', { limit: 2n })).more).toBe(true);
    expect((await one.range('b', 'a')).kvs).toEqual([]);
  });

  test('each delete their own keys, whatever the range', async () => {
    const { deleted, prevKvs } = await two.remove('\0', '\0', { prevKv: true });
    expect([deleted, prevKvs?.length]).toEqual([3n, 3]);
    expect([await two.keys(), await one.keys()]).toEqual([[], ['a', 'b', 'c']]);
    await two.put('a', "two's a");
  });

  test('compare their own keys, whatever the range', async () => {
    await two.put('z', 'other');
    const { succeeded } = await one.txn({
      compare: [
        {
          key: bytesOf('\0'),
          rangeEnd: bytesOf('\0'),
          target: 0,
          targetUnion: { case: 'version', value: 1n },
        },
      ],
    });
    expect(succeeded).toBe(true);
  });

  test('are in nobody’s way within a transaction', async () => {
    const { responses } = await one.txn({
      success: [
        {
          request: {
            case: 'requestTxn',
            value: {
              success: [{ request: { case: 'requestPut', value: { key: bytesOf('d'), prevKv: true } } }],
            },
          },
        },
        { request: { case: 'requestDeleteRange', value: { key: bytesOf('e'), rangeEnd: bytesOf('\0') } } },
        { request: { case: 'requestRange', value: { key: bytesOf('\0'), rangeEnd: bytesOf('\0') } } },
      ],
    });
    const last = responses?.[2]?.response;
    expect(last?.case === 'responseRange' && last.value.kvs?.map(({ key }) => textOf(key!))).toEqual([
      'a',
      'b',
      'c',
      'd',
    ]);
    expect(await two.keys()).toEqual(['a', 'z']);
  });

  test('may use a key that looks like another’s', async () => {
    for (const key of ['../two/a', '/', 'a/two/a', '\0', '\xff'].map((text) => text)) {
      await one.put(key, 'mine');
      expect(textOf((await one.range(key)).kvs![0]!.value!)).toBe('mine');
    }
    expect(await two.keys()).toEqual(['a', 'z']);
  });

  test('keep the store’s own keys out of their sight', async () => {
    const { kvs } = await world.upstream.unary(KV.method.range, {
      key: bytesOf('k/'),
      rangeEnd: bytesOf('k0'),
      keysOnly: true,
    });
    expect(kvs.map(({ key }) => textOf(key))).toContain('k/lease-key');
    for (const key of await one.keys()) expect(key).not.toMatch(/lease-key/);
  });
});

test('random requests of one namespace change nothing of another, and are told nothing of it', async () => {
  const quiet = clientOf(store, callOf('d/quiet/'));
  const loud = callOf('a/loud/');
  for (const key of ['a', 'b', '0', '/', 'a/one/', '\xff']) await quiet.put(key, 'a secret');
  await quiet.grant(7n);
  await quiet.put('leased', 'a secret', { lease: 7n });
  const all = async () => {
    const kinds = ['d/', 'k/lease/d/', 'k/auth/', 'k/lease-key'];
    const found = kinds.map((key) =>
      world.upstream.unary(KV.method.range, { key: bytesOf(key), rangeEnd: prefixEnd(bytesOf(key)) }),
    );
    return (await Promise.all(found)).map(({ kvs }) => kvs);
  };
  const before = await all();
  const told = (reply: object) =>
    JSON.stringify(reply, (_, value) =>
      value?.type === 'Buffer' || value instanceof Uint8Array
        ? textOf(value)
        : typeof value === 'bigint'
          ? String(value)
          : value,
    );
  let answered = 0;
  const ask = async (request: Promise<object>) => {
    const reply = await request.catch((error: unknown) => {
      if (error instanceof RpcError) return {};
      throw error;
    });
    if ('header' in reply) answered += 1;
    expect(told(reply)).not.toMatch(/a secret|quiet|lease-key/);
  };
  await fc.assert(
    fc.asyncProperty(anyRange, anyPut, anyDelete, anyTxn, async (range, put, remove, txn) => {
      await ask(store.put(loud, put));
      await ask(store.range(loud, range));
      await ask(store.txn(loud, txn));
      await ask(store.deleteRange(loud, remove));
    }),
    { numRuns: 150, endOnFailure: true },
  );
  expect(answered).toBeGreaterThan(200);
  expect(await all()).toEqual(before);
  await quiet.revoke(7n);
});

describe('requests are refused as etcd refuses them', () => {
  test('keys twice in a transaction', async () => {
    const put = (key: string) => ({ request: { case: 'requestPut', value: { key: bytesOf(key) } } }) as const;
    const remove = (key: string, rangeEnd: string) =>
      ({
        request: { case: 'requestDeleteRange', value: { key: bytesOf(key), rangeEnd: bytesOf(rangeEnd) } },
      }) as const;
    const nested = (...success: ReturnType<typeof put>[]) =>
      ({ request: { case: 'requestTxn', value: { success } } }) as const;
    expect(await refusalOf(one.txn({ success: [put('x'), put('x')] }))).toBe(message('duplicateKey'));
    expect(await refusalOf(one.txn({ success: [put('x'), nested(put('x'))] }))).toBe(message('duplicateKey'));
    expect(await refusalOf(one.txn({ success: [put('x'), remove('a', 'z')] }))).toBe(message('duplicateKey'));
    expect(await refusalOf(one.txn({ success: [put('x')], failure: [put('x')] }))).toBe('accepted');
    // etcd overlooks this one: it takes the end for a key that is before all others.
    expect(await refusalOf(one.txn({ success: [put('x'), remove('a', '\0')] }))).toBe(
      message('duplicateKey'),
    );
  });

  test('as many operations and bytes as etcd takes are taken, whatever is put around them', async () => {
    const request = { case: 'requestPut', value: { value: new Uint8Array(1) } } as const;
    const puts = Array.from({ length: 128 }, (_, index) => ({
      request: {
        ...request,
        value: { ...request.value, key: bytesOf(`many/${index}/${'x'.repeat(11_000)}`) },
      },
    }));
    expect(
      await refusalOf(
        one.txn({
          compare: puts.map(({ request: { value } }) => ({ key: value.key })),
          success: [],
          failure: [],
        }),
      ),
    ).toBe('accepted');
    expect(await refusalOf(one.txn({ success: puts }))).toBe('accepted');
    expect(await refusalOf(one.txn({ success: [...puts, ...puts] }))).toBe(message('tooManyOps'));
    expect(await refusalOf(one.put('large', 'x'.repeat(1.5 * 1024 * 1024 - 100)))).toBe('accepted');
    expect(await refusalOf(one.put('large', 'x'.repeat(1.5 * 1024 * 1024)))).toBe(message('requestTooLarge'));
    await one.remove('many/', 'many0');
    await one.remove('large');
  });

  test('keys that are not there, leases that are not, revisions to come', async () => {
    expect(await refusalOf(one.put('none', '', { ignoreValue: true }))).toBe(message('keyNotFound'));
    expect(await refusalOf(one.put('none', 'v', { lease: 99n }))).toBe(message('leaseNotFound'));
    expect(await refusalOf(one.range('a', '', { revision: 2n ** 40n }))).toBe(message('futureRevision'));
    expect(await refusalOf(one.range('a', '', { sortTarget: 9 as never, sortOrder: 1 }))).toBe(
      message('invalidSortOption'),
    );
    expect(await refusalOf(one.put(''))).toBe(message('emptyKey'));
  });
});

describe('leases', () => {
  test('of the same id are one for each namespace', async () => {
    expect(await one.grant(1234n)).toMatchObject({ ID: 1234n, TTL: 60n });
    expect(await two.grant(1234n)).toMatchObject({ ID: 1234n, TTL: 60n });
    expect(await refusalOf(one.grant(1234n))).toBe(message('leaseExists'));
    await one.put('leased', 'v', { lease: 1234n });
    await two.put('leased', 'v', { lease: 1234n });
    expect((await one.range('leased')).kvs![0]!.lease).toBe(1234n);
    expect((await one.timeToLive(1234n)).keys?.map((key) => textOf(key as Uint8Array))).toEqual(['leased']);
    await one.revoke(1234n);
    expect([(await one.range('leased')).count, (await two.range('leased')).count]).toEqual([0n, 1n]);
    expect((await two.timeToLive(1234n)).keys).toHaveLength(1);
    await two.revoke(1234n);
  });

  test('of another namespace are none, by either id', async () => {
    const { ID = 0n } = await two.grant();
    await two.put('theirs', 'v', { lease: ID });
    const upstream = store.leases.ids(store.spaceOf(two.call.caller)).upstream(ID);
    for (const id of [ID, upstream, BigInt.asUintN(63, upstream)]) {
      expect(await refusalOf(one.put('mine', 'v', { lease: id }))).toBe(message('leaseNotFound'));
      expect(
        await refusalOf(
          one.txn({
            success: [{ request: { case: 'requestPut', value: { key: bytesOf('mine'), lease: id } } }],
          }),
        ),
      ).toBe(message('leaseNotFound'));
      expect(await refusalOf(one.revoke(id))).toBe(message('leaseNotFound'));
      expect(await one.timeToLive(id)).toMatchObject({ ID: id, TTL: -1n, grantedTTL: 0n, keys: [] });
      expect(await keepAlive(store, one.call, id)).toBe(0n);
    }
    expect(await one.leases()).toEqual([]);
    expect(await two.leases()).toEqual([ID]);
    expect(await keepAlive(store, two.call, ID)).toBe(60n);
    expect((await two.range('theirs')).count).toBe(1n);
    await two.revoke(ID);
    expect(await two.leases()).toEqual([]);
  });

  test('that a transaction does not come to are not asked for', async () => {
    const lost = { request: { case: 'requestPut', value: { key: bytesOf('lost'), lease: 5n } } } as const;
    expect((await one.txn({ failure: [lost] })).succeeded).toBe(true);
  });

  test('are known after a restart, in history too, and expire', async () => {
    await one.grant(76n, 600n);
    // Longer than it takes to use it, also on a slow machine, where it may be over before the restart is.
    await one.grant(77n, 10n);
    const { header } = await one.put('short', 'v', { lease: 77n });
    const again = clientOf(await world.reopened(), one.call);
    expect(await again.leases()).toContain(76n);
    expect(await refusalOf(again.put('long', 'w', { lease: 76n }))).toBe('accepted');
    await expect.poll(() => again.leases()).toEqual([76n]);
    expect((await again.range('short')).count).toBe(0n);
    expect((await again.range('short', '', { revision: header!.revision! })).kvs![0]!.lease).toBe(77n);
    expect(await refusalOf(again.put('short', 'w', { lease: 77n }))).toBe(message('leaseNotFound'));
    await again.grant(77n);
    for (const lease of [76n, 77n]) await again.revoke(lease);
  });

  test('that nobody was told of are revoked at a start', async () => {
    const { ID } = await world.upstream.unary(Lease.method.leaseGrant, { ID: 555n, TTL: 9_000n });
    await one.grant(9n);
    const again = await world.reopened();
    const { leases } = await world.upstream.unary(Lease.method.leaseLeases, {});
    expect(leases.map((lease) => lease.ID)).not.toContain(ID);
    expect(await clientOf(again, one.call).leases()).toEqual([9n]);
    await one.revoke(9n);
  });

  test('are compared for being the same, and for being any', async () => {
    await one.grant(42n);
    await one.put('leased', 'v', { lease: 42n });
    const holds = async (result: number, value: bigint) =>
      (
        await one.txn({
          compare: [{ key: bytesOf('leased'), target: 4, result, targetUnion: { case: 'lease', value } }],
        })
      ).succeeded;
    expect([
      await holds(0, 42n),
      await holds(0, 41n),
      await holds(3, 41n),
      await holds(1, 0n),
      await holds(2, 0n),
    ]).toEqual([true, false, true, true, false]);
    await one.revoke(42n);
  });

  test('are so many at most', async () => {
    const few = await Leases.open(world.upstream, { most: 2 });
    const space = store.spaceOf(one.call.caller);
    const grant = () => few.grant(space, create(LeaseGrantRequestSchema, { TTL: 60n }));
    const granted = [await grant(), await grant()];
    expect(await refusalOf(grant())).toBe(message('tooManyRequests'));
    const { leases } = await world.upstream.unary(Lease.method.leaseLeases, {});
    expect(leases).toHaveLength(2);
    for (const { ID } of granted) await one.revoke(ID!);
  });

  test('have positive ids, and are refused as etcd refuses them', async () => {
    expect(await refusalOf(one.grant(-1n))).toMatch('is positive');
    expect(await refusalOf(one.grant(1n, 9_000_000_001n))).toBe(message('leaseTtlTooLarge'));
    expect(await refusalOf(one.revoke(1n))).toBe(message('leaseNotFound'));
    expect(await one.leases()).toEqual([]);
  });
});

describe('compaction', () => {
  const read = (revision: bigint) =>
    ({ request: { case: 'requestRange', value: { key: bytesOf('c'), revision } } }) as const;
  const put = { request: { case: 'requestPut', value: { key: bytesOf('written') } } } as const;
  let past: bigint;
  let floor: bigint;

  const physical = async () => {
    for (let revision = 1n; ; revision += 1n)
      if (
        (await refusalOf(world.upstream.unary(KV.method.range, { key: bytesOf('x'), revision }))) ===
        'accepted'
      )
        return revision;
  };

  beforeAll(async () => {
    world.setDurable(0n);
    for (let index = 0; index < 10; index += 1) await one.put('c', '0');
    past = (await one.put('c', '1')).header!.revision!;
    floor = (await one.put('c', '2')).header!.revision!;
    await two.put('c', '1');
    await one.compact(floor);
  });

  test('is a namespace’s own', async () => {
    expect(await refusalOf(one.range('c', '', { revision: past }))).toBe(message('compacted'));
    expect(textOf((await one.range('c', '', { revision: floor })).kvs![0]!.value!)).toBe('2');
    expect(await refusalOf(two.range('c', '', { revision: past }))).toBe('accepted');
    expect(await physical()).toBe(1n);
  });

  test('is refused twice, and for what is to come', async () => {
    expect(await refusalOf(one.compact(floor))).toBe(message('compacted'));
    expect(await refusalOf(one.compact(2n ** 40n))).toBe(message('futureRevision'));
  });

  test('fails a transaction that comes to read before it, which then writes nothing', async () => {
    expect(await refusalOf(one.txn({ success: [put, read(past)] }))).toBe(message('compacted'));
    expect(await refusalOf(one.txn({ success: [read(past)] }))).toBe(message('compacted'));
    expect(await refusalOf(one.txn({ success: [read(0n)], failure: [put, read(past)] }))).toBe('accepted');
    expect((await one.range('written')).count).toBe(0n);
  });

  test('is kept', async () => {
    const again = clientOf(await world.reopened(), one.call);
    expect(await refusalOf(again.range('c', '', { revision: past }))).toBe(message('compacted'));
    expect(await refusalOf(again.compact(floor))).toBe(message('compacted'));
  });

  test('reaches etcd as far as all namespaces and the ledger allow, less one', async () => {
    const current = (await one.range('c')).header!.revision!;
    world.setDurable(floor - 3n);
    for (const prefix of ['a/two/', 'd/quiet/', 'a/loud/'])
      await clientOf(store, callOf(prefix)).compact(current);
    expect(await physical()).toBe(floor - 4n);
    world.setDurable(2n ** 62n);
    await store.floors.compactEtcd();
    expect(await physical()).toBe(floor - 1n);
    await clientOf(store, callOf('d/late/')).put('x');
    await one.compact(current);
    expect(await physical()).toBe(floor - 1n);
    expect(textOf((await two.range('c', '', { revision: current })).kvs![0]!.value!)).toBe('1');
  });
});

test('a store that is full opens, answers reads of all and deletes', async () => {
  const { alarm } = Maintenance.method;
  const full = { alarm: AlarmType.NOSPACE, memberID: (await one.range('c')).header!.memberId! };
  await world.upstream.unary(alarm, { ...full, action: AlarmRequest_AlarmAction.ACTIVATE });
  const again = await world.reopened();
  const client = clientOf(again, one.call);
  expect(await refusalOf(client.put('c'))).toBe(message('noSpace'));
  expect(await refusalOf(client.grant(31n))).toBe(message('noSpace'));
  expect((await client.range('c')).count).toBe(1n);
  expect((await clientOf(again, callOf('a/new/')).keys()).length).toBe(0);
  expect((await client.remove('c')).deleted).toBe(1n);
  await world.upstream.unary(alarm, { ...full, action: AlarmRequest_AlarmAction.DEACTIVATE });
  expect(await refusalOf(client.put('c'))).toBe('accepted');
});
