import type { MessageInitShape } from '@bufbuild/protobuf';
import { create } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { etcdError } from '../../../lib/etcd/errors.ts';
import {
  CampaignRequestSchema,
  Election,
  LeaderRequestSchema,
  type LeaderResponseSchema,
  ProclaimRequestSchema,
  ResignRequestSchema,
} from '../../../lib/etcd/gen/election_pb.js';
import { Lock, LockRequestSchema, UnlockRequestSchema } from '../../../lib/etcd/gen/lock_pb.js';
import { bytesOf, textOf } from '../../../test/support/etcd.ts';
import { type Client, callOf, clientOf, refusalOf, startStore } from '../namespace/store.fixture.ts';
import type { Store } from '../namespace/store.ts';
import type { Call, ServedMethod } from '../types.ts';
import { electionMethods } from './election.ts';
import { lockMethods } from './lock.ts';

let world: Awaited<ReturnType<typeof startStore>>;
let store: Store;
let one: Client;
let two: Client;
/** Ends what a test left waiting. */
let ending: AbortController;

beforeAll(async () => {
  world = await startStore();
  store = world.store;
  one = clientOf(store, callOf('a/one/'));
  two = clientOf(store, callOf('a/two/'));
});

beforeEach(() => {
  ending = new AbortController();
});

afterEach(() => ending.abort());
afterAll(() => world.stop());

const handlerOf = (methods: ServedMethod[], name: string) =>
  methods.find(({ method }) => method.name === name)!.handle;
type Reply = {
  header?: { revision: bigint };
  key: Uint8Array;
  leader: { key: Uint8Array; rev: bigint; lease: bigint };
  kv: { value: Uint8Array; key: Uint8Array };
};
const lockCall = (name: keyof typeof Lock.method, request: object, call: Call) =>
  (
    handlerOf(lockMethods(store), Lock.method[name].name) as never as (
      request: object,
      call: Call,
    ) => Promise<Reply>
  )(create(name === 'lock' ? LockRequestSchema : UnlockRequestSchema, request), call);
const electionCall = (name: 'campaign' | 'proclaim' | 'leader' | 'resign', request: object, call: Call) => {
  const schema = {
    campaign: CampaignRequestSchema,
    proclaim: ProclaimRequestSchema,
    leader: LeaderRequestSchema,
    resign: ResignRequestSchema,
  }[name];
  return (
    handlerOf(electionMethods(store), Election.method[name].name) as never as (
      request: object,
      call: Call,
    ) => Promise<Reply>
  )(create(schema, request), call);
};
const waiting = (prefix = 'a/one/', signal = ending.signal) => callOf(prefix, { signal });
const name = bytesOf('name');
const hex = (lease: bigint) => lease.toString(16);
/** Whether it is done by now, without waiting for it. */
const stateOf = async (promise: Promise<unknown>) => {
  await new Promise((resolve) => setTimeout(resolve, 200));
  return Promise.race([
    promise.then(
      () => 'done',
      () => 'failed',
    ),
    Promise.resolve('waiting'),
  ]);
};

describe('a lock', () => {
  test('is held by one at a time, in the order of coming', async () => {
    const leases = await Promise.all([one.grant(), one.grant(), one.grant()]);
    const [first, second, third] = leases.map(({ ID }) => ID!);
    const held = await lockCall('lock', { name, lease: first }, waiting());
    expect(textOf(held.key)).toBe(`name/${hex(first!)}`);
    const next = lockCall('lock', { name, lease: second }, waiting());
    expect(await stateOf(next)).toBe('waiting');
    const last = lockCall('lock', { name, lease: third }, waiting());
    // Who holds it, holds it again.
    expect((await lockCall('lock', { name, lease: first }, waiting())).key).toEqual(held.key);
    await lockCall('unlock', { key: held.key }, waiting());
    expect(textOf((await next).key)).toBe(`name/${hex(second!)}`);
    expect(await stateOf(last)).toBe('waiting');
    await one.revoke(second!);
    expect(textOf((await last).key)).toBe(`name/${hex(third!)}`);
    await one.revoke(third!);
    await one.revoke(first!);
  });

  test('is each namespace’s own', async () => {
    await Promise.all([
      lockCall('lock', { name }, waiting('a/one/')),
      lockCall('lock', { name }, waiting('a/two/')),
    ]);
    expect([(await one.keys()).length, (await two.keys()).length]).toEqual([1, 1]);
    await one.remove('\0', '\0');
    await two.remove('\0', '\0');
  });

  test('is not waited for by who has gone away', async () => {
    const held = await lockCall('lock', { name }, waiting());
    const leaver = new AbortController();
    const left = lockCall('lock', { name }, waiting('a/one/', leaver.signal));
    const next = lockCall('lock', { name, lease: (await one.grant(5n)).ID }, waiting());
    expect(await stateOf(left)).toBe('waiting');
    leaver.abort();
    await expect(left).rejects.toThrow('context canceled');
    expect((await one.keys()).sort()).toEqual([textOf(held.key), 'name/5'].sort());
    await lockCall('unlock', { key: held.key }, waiting());
    expect(textOf((await next).key)).toBe('name/5');
    expect(await one.keys()).toEqual(['name/5']);
    await one.revoke(5n);
  });

  test('is not had with a lease that is not there, and is lost with it', async () => {
    expect(await refusalOf(lockCall('lock', { name, lease: 99n }, waiting()))).toBe(
      etcdError('leaseNotFound').message,
    );
    const held = await lockCall('lock', { name }, waiting());
    await one.grant(6n);
    const next = lockCall('lock', { name, lease: 6n }, waiting());
    expect(await stateOf(next)).toBe('waiting');
    await one.revoke(6n);
    await lockCall('unlock', { key: held.key }, waiting());
    expect(await refusalOf(next)).toBe('mutex: session is expired');
    expect(await one.keys()).toEqual([]);
  });
});

describe('an election', () => {
  /** What an observer was told. */
  const observed = (call: Call) => {
    const told: MessageInitShape<typeof LeaderResponseSchema>[] = [];
    const observe = handlerOf(electionMethods(store), 'Observe') as never as (
      requests: AsyncIterable<unknown>,
      send: (reply: MessageInitShape<typeof LeaderResponseSchema>) => Promise<void>,
      call: Call,
    ) => Promise<void>;
    const requests = (async function* () {
      yield create(LeaderRequestSchema, { name });
    })();
    observe(requests, async (reply) => void told.push(reply), call).catch(() => {});
    return () => told.map(({ kv }) => textOf(kv!.value!));
  };

  test('has one leader, who proclaims, resigns and is followed by the next', async () => {
    const call = waiting();
    expect(await refusalOf(electionCall('leader', { name }, call))).toBe('election: no leader');
    const values = observed(call);
    const first = await electionCall('campaign', { name, value: bytesOf('one') }, call);
    expect(textOf(first.leader.key)).toBe(`name/${hex(first.leader.lease)}`);
    expect(textOf((await electionCall('leader', { name }, call)).kv.value)).toBe('one');
    const next = electionCall('campaign', { name, value: bytesOf('two') }, call);
    expect(await stateOf(next)).toBe('waiting');
    await electionCall('proclaim', { leader: first.leader, value: bytesOf('still one') }, call);
    await electionCall('resign', { leader: first.leader }, call);
    const second = await next;
    expect(textOf((await electionCall('leader', { name }, call)).kv.value)).toBe('two');
    await expect.poll(values).toEqual(['one', 'still one', 'two']);
    expect(
      await refusalOf(electionCall('proclaim', { leader: first.leader, value: bytesOf('late') }, call)),
    ).toBe('election: not leader');
    // To campaign again with one's lease is to proclaim.
    await electionCall('campaign', { name, lease: second.leader.lease, value: bytesOf('two again') }, call);
    await expect.poll(values).toEqual(['one', 'still one', 'two', 'two again']);
    await electionCall('resign', { leader: second.leader }, call);
    expect(await one.keys()).toEqual([]);
  });

  test('is each namespace’s own', async () => {
    await electionCall('campaign', { name, value: bytesOf('one') }, waiting());
    expect(await refusalOf(electionCall('leader', { name }, waiting('a/two/')))).toBe('election: no leader');
  });

  test('wants a leader where etcd does', async () => {
    expect(await refusalOf(electionCall('resign', {}, waiting()))).toBe('"leader" field must be provided');
    expect(await refusalOf(electionCall('proclaim', {}, waiting()))).toBe('"leader" field must be provided');
  });
});
