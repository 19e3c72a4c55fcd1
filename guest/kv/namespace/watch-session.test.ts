import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  Watch,
  type WatchCreateRequestSchema,
  WatchRequestSchema,
  type WatchResponseSchema,
} from '../../../lib/etcd/gen/watch_pb.js';
import { bytesOf, textOf } from '../../../test/support/etcd.ts';
import type { Call } from '../types.ts';
import { type Client, callOf, clientOf, startStore } from './store.fixture.ts';
import type { Store } from './store.ts';
import { WatchSession } from './watch-session.ts';

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

type Answer = MessageInitShape<typeof WatchResponseSchema>;
type Create = Omit<MessageInitShape<typeof WatchCreateRequestSchema>, 'key' | 'rangeEnd' | '$typeName'>;

/** A client's watch stream, and what it was told. */
async function watcher(call: Call, of = store) {
  const stream = of.upstream.stream(Watch.method.watch, { signal: call.signal });
  const answers: Answer[] = [];
  const ends = {
    etcd: stream.send.bind(stream),
    client: async (answer: Answer) => void answers.push(answer),
  };
  const session = await WatchSession.open(of, call, ends);
  const read = (async () => {
    for await (const reply of stream) await session.reply(reply);
  })().catch(() => {});
  const ask = (request: MessageInitShape<typeof WatchRequestSchema>['requestUnion']) =>
    session.request(create(WatchRequestSchema, request === undefined ? {} : { requestUnion: request }));
  return {
    answers,
    watch: (key: string, rangeEnd = '', more: Create = {}) =>
      ask({ case: 'createRequest', value: { ...more, key: bytesOf(key), rangeEnd: bytesOf(rangeEnd) } }),
    cancel: (watchId: bigint) => ask({ case: 'cancelRequest', value: { watchId } }),
    progress: () => ask({ case: 'progressRequest', value: {} }),
    events: () =>
      answers.flatMap(({ watchId, events }) =>
        (events ?? []).map(({ type, kv }) => `${watchId} ${type === 1 ? 'no ' : ''}${textOf(kv!.key!)}`),
      ),
    /** Resolves when so many answers have come. */
    has: (count: number) => expect.poll(() => answers.length).toBeGreaterThanOrEqual(count),
    async end() {
      session.close();
      stream.close();
      await read;
    },
  };
}

test('a watch of everything tells of the namespace’s keys alone', async () => {
  const client = await watcher(one.call);
  await client.watch('', '\0');
  await client.watch('\0', '\0', { filters: [1] });
  await client.watch('b', '\0', { filters: [0], watchId: 7n });
  await client.has(3);
  expect(client.answers.map(({ watchId, created }) => [watchId, created])).toEqual([
    [0n, true],
    [1n, true],
    [7n, true],
  ]);
  await two.put('a', 'v');
  await one.put('a', 'v');
  await two.put('c', 'v');
  await one.put('c', 'v');
  await one.remove('\0', '\0');
  await two.remove('\0', '\0');
  await client.has(3 + 3 + 2 + 1);
  expect(client.events().sort()).toEqual(['0 a', '0 c', '0 no a', '0 no c', '1 a', '1 c', '7 no c']);
  await client.end();
});

test('previous values, history, progress, cancellation and ids that are taken', async () => {
  const { header } = await one.put('p', '1');
  await two.put('p', '1');
  await one.put('p', '2');
  const client = await watcher(one.call);
  await client.watch('p', '', { startRevision: header!.revision!, prevKv: true });
  await client.has(2);
  expect(
    client.answers[1]!.events?.map(({ kv, prevKv }) => [textOf(kv!.value!), prevKv && textOf(prevKv.value!)]),
  ).toEqual([
    ['1', undefined],
    ['2', '1'],
  ]);
  await client.progress();
  await client.has(3);
  expect(client.answers[2]).toMatchObject({ watchId: -1n, events: [] });
  await client.watch('p', '', { watchId: 5n });
  await client.watch('q', '', { watchId: 5n });
  await client.has(5);
  expect(client.answers[4]).toMatchObject({
    created: true,
    canceled: true,
    watchId: -1n,
    cancelReason: 'mvcc: duplicate watch ID provided on the WatchStream',
  });
  await client.cancel(5n);
  await client.has(6);
  expect(client.answers[5]).toMatchObject({ watchId: 5n, canceled: true });
  await client.watch('b', 'a');
  await client.has(7);
  expect(client.answers[6]).toMatchObject({ canceled: true, cancelReason: 'mvcc: watcher range is empty' });
  await client.end();
});

test('a watch from before the floor is cancelled with it, of this namespace only', async () => {
  const past = (await one.put('f', '1')).header!.revision!;
  const floor = (await one.put('f', '2')).header!.revision!;
  await one.compact(floor);
  const client = await watcher(one.call);
  await client.watch('f', '', { startRevision: past });
  await client.has(2);
  expect(client.answers).toMatchObject([
    { created: true, canceled: false, watchId: 0n },
    { canceled: true, watchId: 0n, compactRevision: floor },
  ]);
  await client.watch('f', '', { startRevision: floor, prevKv: true });
  await client.has(4);
  expect(client.answers[3]!.events).toHaveLength(1);
  expect(client.answers[3]!.events![0]).not.toHaveProperty('prevKv');
  const other = await watcher(two.call);
  await two.put('f');
  await other.watch('f', '', { startRevision: past });
  await other.has(2);
  expect(other.events()).toEqual(['0 f']);
  await Promise.all([client.end(), other.end()]);
});

test('a namespace has so many watches at most, and those that end make room', async () => {
  const few = await world.reopened({ mostWatches: 2 });
  const [first, second, other] = await Promise.all([
    watcher(one.call, few),
    watcher(one.call, few),
    watcher(two.call, few),
  ]);
  const reasonOf = async (client: typeof first) => {
    const before = client.answers.length;
    await client.watch('x');
    await client.has(before + 1);
    return client.answers.at(-1)!.cancelReason;
  };
  const refused = `rpc error: code = ResourceExhausted desc = ${etcdError('tooManyRequests').message}`;
  expect([await reasonOf(first), await reasonOf(second), await reasonOf(second)]).toEqual(['', '', refused]);
  expect(await reasonOf(other)).toBe('');
  await first.cancel(0n);
  await first.has(2);
  expect([await reasonOf(second), await reasonOf(first)]).toEqual(['', refused]);
  // One that etcd refuses takes no place.
  await second.end();
  await first.watch('b', 'a');
  await first.has(4);
  expect([await reasonOf(first), await reasonOf(first), await reasonOf(first)]).toEqual(['', '', refused]);
  await Promise.all([first.end(), other.end()]);
});

describe('with users', () => {
  const root = clientOf;
  const prefix = 'a/users/';

  test('a watch is allowed as a read is, and ends when that ends', async () => {
    const auth = store.auths.of(store.spaceOf(callOf(prefix).caller));
    const { addRole, grantPermission, grantRole, revokePermission } = await import('../auth/changes.ts');
    const nobody = callOf(prefix);
    await root(store, nobody).put('r/1');
    await auth.addUser(nobody, 'root', 'secret');
    await auth.addUser(nobody, 'alice', 'secret');
    await auth.change(nobody, grantRole({ user: 'root', role: 'root' } as never));
    await auth.change(nobody, addRole({ name: 'reader' } as never));
    const range = { key: bytesOf('r/'), rangeEnd: bytesOf('r0') };
    await auth.change(nobody, grantPermission({ name: 'reader', perm: { ...range, permType: 0 } } as never));
    await auth.change(nobody, grantRole({ user: 'alice', role: 'reader' } as never));
    await auth.enable(nobody);
    const tokenOf = async (name: string) =>
      (await auth.authenticate(nobody, { name, password: 'secret' })).token;
    const asRoot = callOf(prefix, { token: await tokenOf('root') });
    const asAlice = callOf(prefix, { token: await tokenOf('alice') });

    const refused = async (call: Call, key: string, rangeEnd = '') => {
      const client = await watcher(call);
      await client.watch(key, rangeEnd);
      await client.has(1);
      await client.end();
      expect(client.answers[0]).toMatchObject({ created: true, watchId: call === asRoot ? 0n : -1n });
      return client.answers[0]!.cancelReason;
    };
    const as = (code: string, name: Parameters<typeof etcdError>[0]) =>
      `rpc error: code = ${code} desc = ${etcdError(name).message}`;
    expect(await refused(asAlice, 'x')).toBe(as('PermissionDenied', 'permissionDenied'));
    expect(await refused(asAlice, 'r/', '\0')).toBe(as('PermissionDenied', 'permissionDenied'));
    expect(await refused(asAlice, '', '\0')).toBe(as('PermissionDenied', 'permissionDenied'));
    expect(await refused(nobody, 'r/', 'r0')).toBe(as('InvalidArgument', 'userEmpty'));
    expect(await refused(callOf(prefix, { token: 'x.1' }), 'r/')).toBe(
      as('Unauthenticated', 'invalidAuthToken'),
    );
    expect(await refused(asRoot, '', '\0')).toBe('');

    const client = await watcher(asAlice);
    await client.watch('r/', 'r0');
    await client.has(1);
    await root(store, asRoot).put('r/1', '2');
    await client.has(2);
    await auth.change(asRoot, revokePermission({ role: 'reader', ...range } as never));
    await root(store, asRoot).put('r/1', '3');
    await client.has(3);
    expect(client.answers.slice(2)).toMatchObject([
      { watchId: 0n, canceled: true, cancelReason: as('PermissionDenied', 'permissionDenied') },
    ]);
    expect(client.events()).toEqual(['0 r/1']);
    await client.end();
  });
});
