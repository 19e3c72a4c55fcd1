import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RpcError, status } from '../../../lib/etcd/errors.ts';
import { KV, RangeRequest_SortOrder } from '../../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import { Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { Watch } from '../../../lib/etcd/gen/watch_pb.js';
import { bytesOf, type Etcd, startEtcd, textOf } from '../../../test/support/etcd.ts';
import { EtcdClient } from './client.ts';

let etcd: Etcd;
let client: EtcdClient;

beforeAll(async () => {
  etcd = await startEtcd();
  client = new EtcdClient(etcd.socket);
});

afterAll(async () => {
  client.close();
  await etcd.stop();
});

const put = (key: string, value: string | Uint8Array) =>
  client.unary(KV.method.put, { key: bytesOf(key), value: bytesOf(value) });
const get = (key: string) => client.unary(KV.method.range, { key: bytesOf(key) });

async function refusalOf(call: Promise<unknown>): Promise<[number, string]> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return [error.status, error.message];
    throw error;
  }
  return [0, 'accepted'];
}

describe('unary calls', () => {
  test('write and read', async () => {
    const first = await put('a', 'one');
    const second = await put('a', 'two');
    expect(second.header!.revision).toBe(first.header!.revision + 1n);
    const { kvs } = await get('a');
    expect(kvs.map((kv) => [textOf(kv.key), textOf(kv.value), kv.version])).toEqual([['a', 'two', 2n]]);
  });

  test('hundreds at once are each answered with their own', async () => {
    const names = [...Array(500).keys()].map((index) => `many/${index}`);
    await Promise.all(names.map((name) => put(name, `of ${name}`)));
    const found = await Promise.all(names.map((name) => get(name)));
    expect(found.map(({ kvs }) => textOf(kvs[0]!.value))).toEqual(names.map((name) => `of ${name}`));
  });

  test('messages far larger than a frame and a window go both ways', async () => {
    const value = new Uint8Array(1_400_000).map((_, index) => index % 251);
    await Promise.all([put('large/1', value), put('large/2', value), put('large/3', value)]);
    const { kvs } = await client.unary(KV.method.range, {
      key: bytesOf('large/'),
      rangeEnd: bytesOf('large0'),
      sortOrder: RangeRequest_SortOrder.DESCEND,
    });
    expect(kvs.map((kv) => Buffer.compare(kv.value, value))).toEqual([0, 0, 0]);
  });

  test("etcd's refusals come with its code and its words", async () => {
    expect(await refusalOf(put('', 'x'))).toEqual([3, 'etcdserver: key is not provided']);
    expect(
      await refusalOf(client.unary(KV.method.range, { key: bytesOf('a'), revision: 10n ** 9n })),
    ).toEqual([11, 'etcdserver: mvcc: required revision is a future revision']);
    expect(await refusalOf(client.unary(Lease.method.leaseRevoke, { ID: 12345n }))).toEqual([
      5,
      'etcdserver: requested lease not found',
    ]);
  });

  test('a deadline and a signal end a wait', async () => {
    etcd.process().kill('SIGSTOP');
    // All of its threads.
    await new Promise((resolve) => setTimeout(resolve, 100));
    try {
      const late = get('a').then(
        () => 'answered',
        (error) => error.status,
      );
      const deadline = performance.now() + 100;
      const code = await refusalOf(client.unary(KV.method.range, { key: bytesOf('a') }, { deadline }));
      expect(code[0]).toBe(status.deadlineExceeded);
      const signal = AbortSignal.timeout(50);
      const aborted = await refusalOf(client.unary(KV.method.range, { key: bytesOf('a') }, { signal }));
      expect(aborted[0]).toBe(status.cancelled);
      etcd.process().kill('SIGCONT');
      expect(await late).toBe('answered');
    } finally {
      etcd.process().kill('SIGCONT');
    }
  });
});

describe('streams', () => {
  test('a watch follows from a revision on, in order, and ends when it is closed', async () => {
    const { header } = await put('watched', '0');
    const watch = client.stream(Watch.method.watch);
    watch.send({
      requestUnion: {
        case: 'createRequest',
        value: { key: bytesOf('watched'), startRevision: header!.revision },
      },
    });
    for (let index = 1; index < 50; index++) await put('watched', String(index));
    const values: string[] = [];
    for await (const answer of watch) {
      values.push(...answer.events.map((event) => textOf(event.kv!.value)));
      if (values.length === 50) break;
    }
    expect(values).toEqual([...Array(50).keys()].map(String));
    expect(() => watch.send({ requestUnion: { case: 'progressRequest', value: {} } })).toThrow();
  });

  test('a reader that does not read stops its own stream only', async () => {
    const slow = client.stream(Watch.method.watch);
    slow.send({ requestUnion: { case: 'createRequest', value: { key: bytesOf('flood') } } });
    const answers = slow[Symbol.asyncIterator]();
    expect((await answers.next()).value.created).toBe(true);
    const value = new Uint8Array(100_000);
    for (let index = 0; index < 40; index++) await put('flood', value);
    expect(textOf((await get('watched')).kvs[0]!.value)).toBe('49');
    let seen = 0;
    while (seen < 40) seen += (await answers.next()).value.events.length;
    slow.close();
  });

  test('a snapshot arrives whole', async () => {
    const stream = client.stream(Maintenance.method.snapshot);
    stream.send({});
    stream.end();
    let length = 0;
    let remaining = 1n;
    for await (const part of stream) {
      length += part.blob.length;
      remaining = part.remainingBytes;
    }
    expect(remaining).toBe(0n);
    const { dbSize } = await client.unary(Maintenance.method.status, {});
    // Its SHA-256 comes after the database.
    expect(length).toBeGreaterThanOrEqual(Number(dbSize));
  });
});

describe('the connection', () => {
  test('comes back after etcd was killed; what was under way is refused, what is acknowledged stays', async () => {
    const watch = client.stream(Watch.method.watch);
    watch.send({ requestUnion: { case: 'createRequest', value: { key: bytesOf('kept') } } });
    const answers = watch[Symbol.asyncIterator]();
    await answers.next();
    await put('kept', 'acknowledged');
    await answers.next();
    const restarted = etcd.restart();
    expect(await refusalOf(answers.next())).toEqual([
      status.unavailable,
      'etcdserver: request timed out, possibly due to connection lost',
    ]);
    await restarted;
    expect(textOf((await get('kept')).kvs[0]!.value)).toBe('acknowledged');
  });

  test('without etcd a call is refused after a while, and at once when closed', async () => {
    const nowhere = new EtcdClient('/nonexistent/etcd.sock');
    const deadline = performance.now() + 100;
    expect((await refusalOf(nowhere.unary(KV.method.range, {}, { deadline })))[0]).toBe(
      status.deadlineExceeded,
    );
    const waiting = refusalOf(nowhere.unary(KV.method.range, {}));
    nowhere.close();
    expect(await waiting).toEqual([status.unavailable, 'etcdserver: server stopped']);
  });
});
