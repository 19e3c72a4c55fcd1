/** The door against clients of other makers and against hostile ones: bytes on the wire, not our own client. */

import { once } from 'node:events';
import { type ClientHttp2Session, connect, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { Lease } from '../../../lib/etcd/gen/lease_pb.js';
import { Lock } from '../../../lib/etcd/gen/lock_pb.js';
import { Maintenance } from '../../../lib/etcd/gen/maintenance_pb.js';
import { DstackError } from '../../../lib/protocol/errors.ts';
import { bytesOf, textOf } from '../../../test/support/etcd.ts';
import { app, owner, startKv, type TestKv } from '../../../test/support/kv.ts';
import { encodeHeaders } from '../engine/hpack.ts';

/** What the ledger says of a revision; tests change it. */
let coveredBy: (revision: bigint) => Promise<void> = async () => {};
let kv: TestKv;
let address: string;
let appAddress: string;
const cleanups: (() => void)[] = [];

beforeAll(async () => {
  kv = await startKv({ covered: (revision) => coveredBy(revision), durable: 2n ** 62n });
  address = await kv.open(owner);
  appAddress = await kv.open(app('some'));
  await call(KV.method.put, { key: bytesOf('a'), value: bytesOf('b') });
});

afterAll(async () => {
  for (const cleanup of cleanups) cleanup();
  await kv?.stop();
});

/** One call by grpc-js; its refusal as `[code, text]`. */
async function call<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: { at?: string; deadline?: number } = {},
): Promise<MessageShape<O>> {
  const client = new Client(options.at ?? address, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) =>
      client.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        new Metadata(),
        options.deadline === undefined ? {} : { deadline: Date.now() + options.deadline },
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      ),
    );
  } finally {
    client.close();
  }
}

async function refusalOf(done: Promise<unknown>): Promise<[number, string]> {
  try {
    await done;
  } catch (error) {
    return [(error as ServiceError).code, (error as ServiceError).details];
  }
  return [0, 'accepted'];
}

const inVain = (milliseconds: number): Promise<string> =>
  new Promise((resolve) => setTimeout(() => resolve('waited in vain'), milliseconds).unref());

const framedPut = (key: string, value: string | Uint8Array = 'x'): Buffer =>
  framed(
    toBinary(KV.method.put.input, create(KV.method.put.input, { key: bytesOf(key), value: bytesOf(value) })),
  );

function framed(body: Uint8Array, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

function session(at = address): ClientHttp2Session {
  const made = connect(`http://${at}`);
  made.on('error', () => {});
  cleanups.push(() => made.destroy());
  return made;
}

/** Sends raw bytes as a call's body; what came of it. */
async function raw(
  body: Buffer | undefined,
  headers: OutgoingHttpHeaders = {},
  over = session(),
): Promise<{ http: number; status: string | undefined; message: string; body: Buffer }> {
  const stream = over.request({
    ':method': 'POST',
    ':path': '/etcdserverpb.KV/Put',
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  const result = { http: 0, status: undefined as string | undefined, message: '', body: Buffer.alloc(0) };
  const take = (from: Record<string, unknown>): void => {
    if (from['grpc-status'] !== undefined) result.status = String(from['grpc-status']);
    if (from['grpc-message'] !== undefined) result.message = decodeURIComponent(String(from['grpc-message']));
  };
  stream.on('response', (found) => {
    result.http = found[':status'] ?? 0;
    take(found);
  });
  stream.on('trailers', take);
  stream.on('data', (chunk: Buffer) => {
    result.body = Buffer.concat([result.body, chunk]);
  });
  stream.on('error', () => {});
  if (body === undefined) stream.end();
  else stream.end(body);
  await once(stream, 'close');
  return result;
}

describe('calls', () => {
  test('write and read, and etcd refuses in its own words', async () => {
    const { kvs } = await call(KV.method.range, { key: bytesOf('a') });
    expect(kvs.map((one) => [textOf(one.key), textOf(one.value)])).toEqual([['a', 'b']]);
    expect(await refusalOf(call(KV.method.put, {}))).toEqual([3, 'etcdserver: key is not provided']);
    expect(await refusalOf(call(KV.method.range, { key: bytesOf('a'), revision: 10n ** 12n }))).toEqual([
      11,
      'etcdserver: mvcc: required revision is a future revision',
    ]);
  });

  test('many at once on one connection, in any order', async () => {
    const over = session();
    const found = await Promise.all(
      [...Array(300).keys()].map((index) => raw(framedPut(`at-once/${index}`), {}, over)),
    );
    expect(new Set(found.map(({ status }) => status))).toEqual(new Set(['0']));
    const range = { key: bytesOf('at-once/'), rangeEnd: bytesOf('at-once0'), countOnly: true };
    expect((await call(KV.method.range, range)).count).toBe(300n);
  });

  test('a message may come in pieces of one byte, and be as large as etcd takes it', async () => {
    const over = session();
    const stream = over.request({
      ':method': 'POST',
      ':path': '/etcdserverpb.KV/Put',
      'content-type': 'application/grpc+proto',
    });
    for (const byte of framedPut('pieces')) stream.write(Buffer.from([byte]));
    stream.end();
    const [trailers] = await once(stream.resume(), 'trailers');
    expect(trailers['grpc-status']).toBe('0');
    expect((await raw(framedPut('large', new Uint8Array(1024 * 1024)))).status).toBe('0');
    expect(await raw(framedPut('larger', new Uint8Array(1600 * 1024)))).toMatchObject({
      status: '3',
      message: 'etcdserver: request is too large',
    });
  });

  test('a deadline ends a wait, whoever is waited for', async () => {
    const name = bytesOf('held');
    await call(Lock.method.lock, { name });
    const begin = performance.now();
    const [code] = await refusalOf(call(Lock.method.lock, { name }, { deadline: 300 }));
    expect(code).toBe(4);
    expect(performance.now() - begin).toBeLessThan(10_000);
    const late = await raw(
      framed(toBinary(Lock.method.lock.input, create(Lock.method.lock.input, { name }))),
      {
        ':path': '/v3lockpb.Lock/Lock',
        'grpc-timeout': '200m',
      },
    );
    expect(late).toMatchObject({ status: '4', message: 'context deadline exceeded' });
  });
});

describe('what is not a call', () => {
  test.each([
    ['a method that etcd has and this has not', { ':path': '/etcdserverpb.Maintenance/MoveLeader' }, '12'],
    ['a member of its cluster', { ':path': '/etcdserverpb.Cluster/MemberAdd' }, '12'],
    ['its downgrade', { ':path': '/etcdserverpb.Maintenance/Downgrade' }, '12'],
    ['a service that nobody has', { ':path': '/x.Y/Z' }, '12'],
    ['a path that is none', { ':path': '/../../etc/passwd' }, '12'],
    ['GET', { ':method': 'GET' }, '12'],
    ['compression', { 'grpc-encoding': 'gzip' }, '12'],
    ['a deadline that is none', { 'grpc-timeout': 'soon' }, '13'],
    ['a deadline of nine digits', { 'grpc-timeout': '123456789S' }, '13'],
  ] as [string, OutgoingHttpHeaders, string][])('%s is refused', async (_, headers, status) => {
    const body = headers[':method'] === 'GET' ? undefined : framedPut('never');
    expect((await raw(body, headers)).status).toBe(status);
  });

  test.each([
    ['a compressed message', framed(Buffer.from('x'), 1), '12'],
    ['a message that says it is 4 GB', Buffer.from([0, 255, 255, 255, 255, 1]), '8'],
    ['one byte more than may be', Buffer.from([0, 0, 32, 0, 1, 1]), '8'],
    ['a message that is cut off', framedPut('never').subarray(0, 9), '13'],
    ['no message', undefined, '13'],
    ['two messages', Buffer.concat([framedPut('never'), framedPut('never')]), '13'],
    ['bytes that are no message', framed(Buffer.from('ffffffffffff', 'hex')), '13'],
  ])('%s is refused', async (_, body, status) => {
    expect((await raw(body)).status).toBe(status);
    expect((await call(KV.method.range, { key: bytesOf('never') })).count).toBe(0n);
  });

  test('other content types are no gRPC', async () => {
    expect((await raw(framedPut('never'), { 'content-type': 'application/json' })).http).toBe(404);
    expect((await raw(framedPut('never'), { 'content-type': 'application/grpc-web' })).http).toBe(404);
  });

  test('headers above 16 KiB end the stream or the session, and the door stays', async () => {
    const found = await raw(framedPut('never'), { token: 'x'.repeat(60_000) }).catch(() => undefined);
    expect(found?.status).not.toBe('0');
    expect((await call(KV.method.range, { key: bytesOf('a') })).count).toBe(1n);
  });

  test('bytes that are neither HTTP/2 nor HTTP/1.1, or that stop half way, end their connection alone', async () => {
    const at = await kv.open(owner, { limits: { connections: 100, perSource: 50, firstByteWithin: 300 } });
    const port = Number(at.split(':')[1]);
    const says = [
      '',
      'PR',
      '\x16\x03\x01',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff',
      'nonsense\r\n\r\n',
    ];
    for (const text of says) {
      const socket = connectTcp(port, '127.0.0.1');
      socket.on('error', () => {}).resume();
      socket.write(text, 'latin1');
      if (text === 'PR') socket.end();
      await once(socket, 'close');
    }
    expect((await call(KV.method.range, { key: bytesOf('a') }, { at })).count).toBe(1n);
  });

  test('what all calls of a connection hold is bounded; others are not refused for it', async () => {
    const over = session();
    // Each says that it is 2 MB and sends all but its last byte. One more than a connection may have, and less than its caller may.
    const message = framedPut('x', new Uint8Array(2 * 1024 * 1024 - 100));
    const held = [...Array(9).keys()].map(() => {
      const stream = over.request({
        ':method': 'POST',
        ':path': '/etcdserverpb.KV/Put',
        'content-type': 'application/grpc',
      });
      const ended = new Promise<string>((resolve) => {
        stream.on('response', (found) => resolve(String(found['grpc-status'])));
        stream.on('close', () => resolve('closed'));
      });
      stream.on('error', () => {});
      stream.write(message.subarray(0, -1));
      return ended;
    });
    expect(await Promise.race([...held, inVain(10_000)])).toBe('8');
    expect((await call(KV.method.range, { key: bytesOf('a') })).count).toBe(1n);
    over.destroy();
  });

  test('a peer that has gone without a word is noticed, and one without calls is sent away', async () => {
    const at = await kv.open(owner, { times: { quiet: 200, answer: 200, idle: 2 } });
    const silent = connectTcp(Number(at.split(':')[1]), '127.0.0.1');
    silent.on('error', () => {}).resume();
    // A session with a watch, whose client never answers a ping.
    const headers = encodeHeaders([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/etcdserverpb.Watch/Watch'],
      [':authority', 'x'],
      ['content-type', 'application/grpc'],
    ]);
    const settings = Buffer.from('000000040000000000', 'hex');
    const head = Buffer.from([0, 0, headers.length, 1, 4, 0, 0, 0, 1]);
    silent.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings, head, headers]));
    const closed = once(silent, 'close').then(() => 'closed');
    expect(await Promise.race([closed, inVain(10_000)])).toBe('closed');
    silent.destroy();
    const idle = session(at);
    await once(idle, 'goaway');
  });
});

describe('the owner', () => {
  const ownersOnly = [
    Maintenance.method.alarm,
    Maintenance.method.defragment,
    Maintenance.method.hash,
    Maintenance.method.hashKV,
  ] as const;

  test.each(ownersOnly)('alone may call %s', async (method) => {
    const one = method as DescMethodUnary;
    expect(await refusalOf(call(one, {}, { at: appAddress }))).toEqual([7, 'etcdserver: permission denied']);
    expect(await refusalOf(call(one, {}))).toEqual([0, 'accepted']);
  });

  test('alone gets a snapshot, the size of the database and the metrics', async () => {
    const path = { ':path': '/etcdserverpb.Maintenance/Snapshot' };
    expect((await raw(framed(Buffer.alloc(0)), path, session(appAddress))).status).toBe('7');
    const whole = await raw(framed(Buffer.alloc(0)), path);
    expect(whole.status).toBe('0');
    expect(whole.body.length).toBeGreaterThan(16_384);
    const [mine, theirs] = await Promise.all([
      call(Maintenance.method.status, {}),
      call(Maintenance.method.status, {}, { at: appAddress }),
    ]);
    expect([mine.version, theirs.version]).toEqual(['3.5.16', '3.5.16']);
    expect(mine.dbSize).toBeGreaterThan(0n);
    expect([theirs.dbSize, theirs.dbSizeInUse]).toEqual([0n, 0n]);
    expect((await fetch(`http://${appAddress}/metrics`)).status).toBe(403);
    expect(await (await fetch(`http://${address}/metrics`)).text()).toContain(
      'grpc_server_handled_total{grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="OK"}',
    );
  });

  test('has a namespace as others have', async () => {
    await call(KV.method.put, { key: bytesOf('whose'), value: bytesOf('owner') });
    const everything = { key: Buffer.alloc(1), rangeEnd: Buffer.alloc(1) };
    expect((await call(KV.method.range, everything, { at: appAddress })).kvs).toEqual([]);
  });
});

describe('the ledger', () => {
  test('is waited for by writes, and not by reads', async () => {
    const asked: bigint[] = [];
    let go = (): void => {};
    coveredBy = (revision) => {
      asked.push(revision);
      return new Promise((resolve) => {
        go = resolve;
      });
    };
    try {
      let answered = false;
      const write = call(KV.method.put, { key: bytesOf('proven') }).finally(() => {
        answered = true;
      });
      while (asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      expect((await call(KV.method.range, { key: bytesOf('proven') })).count).toBe(1n);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(answered).toBe(false);
      go();
      expect((await write).header!.revision).toBe(asked[0]);
    } finally {
      coveredBy = async () => {};
    }
  });

  test('that has stopped lets no write be answered', async () => {
    coveredBy = async () => {
      throw new DstackError('LEDGER_STOPPED', 'a gap');
    };
    try {
      for (const write of [
        () => call(KV.method.put, { key: bytesOf('x') }),
        () => call(KV.method.deleteRange, { key: bytesOf('x') }),
        () =>
          call(KV.method.txn, {
            success: [{ request: { case: 'requestPut', value: { key: bytesOf('x') } } }],
          }),
        () => call(Lease.method.leaseGrant, { TTL: 10n }),
      ])
        expect(await refusalOf(write())).toEqual([14, 'etcdserver: server stopped']);
      expect((await call(KV.method.range, { key: bytesOf('a') })).count).toBe(1n);
    } finally {
      coveredBy = async () => {};
    }
  });
});

test('none of all this was an internal error', () => {
  expect(kv.warnings).toEqual([]);
});
