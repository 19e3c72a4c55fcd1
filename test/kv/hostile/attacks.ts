/** What a hostile client of one namespace sends. Each attack ends by itself; whether the store stands it is the test's to see. */
import { create, toBinary } from '@bufbuild/protobuf';
import { KV, PutRequestSchema, RangeRequestSchema, TxnRequestSchema } from '../../../lib/etcd/gen/kv_pb.js';
import { LeaseGrantRequestSchema } from '../../../lib/etcd/gen/lease_pb.js';
import { WatchRequestSchema } from '../../../lib/etcd/gen/watch_pb.js';
import type { Random } from '../../torture/random.ts';
import {
  frame,
  framed,
  grpcHeaders,
  grpcMessage,
  headerBlock,
  PREFACE,
  pause,
  RawConnection,
} from './raw-http2.ts';

const END_STREAM = 1;
const END_HEADERS = 4;
const RANGE = '/etcdserverpb.KV/Range';
const WATCH = '/etcdserverpb.Watch/Watch';

/** What came back, to be searched for what belongs to others. */
export type Attack = (address: string, random: Random) => Promise<Buffer[]>;

async function over(
  address: string,
  attack: (connection: RawConnection) => Promise<void>,
  wait = 100,
): Promise<Buffer[]> {
  const connection = await RawConnection.speaking(address);
  await attack(connection);
  await pause(wait);
  connection.close();
  return [connection.received()];
}

const allKeys = Buffer.from(
  toBinary(
    RangeRequestSchema,
    create(RangeRequestSchema, { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) }),
  ),
);
const call = (stream: number, path: string, body: Uint8Array): Buffer =>
  Buffer.concat([
    framed(frame.headers, END_HEADERS, stream, grpcHeaders(path)),
    framed(frame.data, END_STREAM, stream, body),
  ]);

function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.between(0, 255)));
}

/** A message that was right, with bytes cut off, changed, put in or repeated. */
function spoiled(random: Random, message: Buffer): Buffer {
  const at = random.between(0, message.length - 1);
  switch (random.between(0, 4)) {
    case 0:
      return message.subarray(0, at);
    case 1: {
      const copy = Buffer.from(message);
      copy[at] = random.between(0, 255);
      return copy;
    }
    case 2:
      return Buffer.concat([message.subarray(0, at), randomBytes(random, 8), message.subarray(at)]);
    case 3:
      return Buffer.concat([message, message.subarray(at)]);
    default:
      // A field that says to be longer than all there is.
      return Buffer.concat([message, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07])]);
  }
}

const METHODS = [
  ...Object.values(KV.method).map(({ parent, name }) => `/${parent.typeName}/${name}`),
  WATCH,
  '/etcdserverpb.Lease/LeaseGrant',
  '/etcdserverpb.Lease/LeaseKeepAlive',
  '/etcdserverpb.Auth/Authenticate',
  '/etcdserverpb.Maintenance/Snapshot',
  '/v3lockpb.Lock/Lock',
  '/v3electionpb.Election/Observe',
  '/lskvserverpb.Receipt/GetReceipt',
  '/etcdserverpb.KV/Nothing',
  '/',
  '/../../etc/passwd',
];

function samples(): Buffer[] {
  const key = Buffer.from('dir/1');
  const put = create(PutRequestSchema, { key, value: Buffer.alloc(50, 'x'), lease: 7n });
  return [
    allKeys,
    Buffer.from(toBinary(PutRequestSchema, put)),
    Buffer.from(
      toBinary(
        TxnRequestSchema,
        create(TxnRequestSchema, {
          compare: [{ key, target: 3, targetUnion: { case: 'value', value: key } }],
          success: [
            { request: { case: 'requestPut', value: put } },
            { request: { case: 'requestTxn', value: { success: [] } } },
          ],
        }),
      ),
    ),
    Buffer.from(toBinary(LeaseGrantRequestSchema, create(LeaseGrantRequestSchema, { TTL: 60n }))),
    Buffer.from(
      toBinary(
        WatchRequestSchema,
        create(WatchRequestSchema, {
          requestUnion: {
            case: 'createRequest',
            value: { key: Buffer.from([0]), rangeEnd: Buffer.from([0]), startRevision: 1n },
          },
        }),
      ),
    ),
  ];
}

/** Transactions in transactions, deeper than any stack. */
function nested(depth: number): Buffer {
  const around = (inner: Buffer, field: number): Buffer => {
    const length: number[] = [];
    for (let rest = inner.length; ; rest >>>= 7) {
      length.push(rest >= 128 ? (rest & 127) | 128 : rest);
      if (rest < 128) break;
    }
    return Buffer.concat([Buffer.from([(field << 3) | 2, ...length]), inner]);
  };
  let message = Buffer.alloc(0);
  // RequestOp.request_txn is field 4, TxnRequest.success is field 2.
  for (let n = 0; n < depth; n += 1) message = around(around(message, 4), 2) as Buffer<ArrayBuffer>;
  return message;
}

export const attacks: Readonly<Record<string, Attack>> = {
  'right calls for all there is': (address) =>
    over(
      address,
      async (connection) => {
        const others = ['Maintenance/Snapshot', 'Maintenance/Hash', 'Lease/LeaseLeases', 'Auth/UserList'];
        await connection.write(
          call(1, RANGE, grpcMessage(allKeys)),
          call(3, WATCH, grpcMessage(samples().at(-1)!)),
          ...others.map((name, n) => call(5 + 2 * n, `/etcdserverpb.${name}`, grpcMessage(Buffer.alloc(0)))),
        );
      },
      500,
    ),

  'spoiled messages of every method': (address, random) =>
    over(
      address,
      async (connection) => {
        const messages = samples();
        for (let stream = 1; stream < 800; stream += 2) {
          const body = grpcMessage(spoiled(random, random.pick(messages)));
          await connection.write(call(stream, random.pick(METHODS), body));
        }
      },
      800,
    ),

  'lengths that lie, and compression': (address) =>
    over(
      address,
      async (connection) => {
        const bodies = [
          grpcMessage(allKeys, 0),
          grpcMessage(allKeys, 1),
          grpcMessage(allKeys, 2 ** 32 - 1),
          grpcMessage(allKeys, 2 ** 21),
          grpcMessage(allKeys, allKeys.length, 1),
          grpcMessage(allKeys, allKeys.length, 255),
          Buffer.from([0]),
          Buffer.alloc(0),
          Buffer.concat([grpcMessage(allKeys), grpcMessage(allKeys)]),
        ];
        for (const [n, body] of bodies.entries()) await connection.write(call(2 * n + 1, RANGE, body));
      },
      300,
    ),

  'transactions in transactions without end': (address) =>
    over(
      address,
      async (connection) => {
        for (const [n, depth] of [10, 100, 1_000, 5_000].entries()) {
          const body = grpcMessage(nested(depth));
          await connection.write(
            framed(frame.headers, END_HEADERS, 2 * n + 1, grpcHeaders('/etcdserverpb.KV/Txn')),
          );
          for (let at = 0; at < body.length; at += 16_384)
            await connection.write(
              framed(
                frame.data,
                at + 16_384 >= body.length ? END_STREAM : 0,
                2 * n + 1,
                body.subarray(at, at + 16_384),
              ),
            );
        }
      },
      500,
    ),

  'content types, methods and headers that are wrong': (address, random) =>
    over(
      address,
      async (connection) => {
        const types = [
          '',
          'application/grpc-web',
          'application/grpc+json',
          'text/html',
          'application/grpc;x',
          'a',
        ];
        let stream = 1;
        for (const type of types)
          for (const method of ['POST', 'GET', 'CONNECT', 'PRI', '\u0000']) {
            const headers = headerBlock({
              ':method': method,
              ':scheme': 'http',
              ':path': random.pick(METHODS),
              ':authority': 'kv',
              'content-type': type,
              'grpc-timeout': random.pick(['1n', '99999999H', '-1S', 'x', '0m']),
              'grpc-encoding': random.pick(['gzip', 'identity', '']),
              token: 'x'.repeat(random.between(0, 3_000)),
            });
            await connection.write(
              framed(frame.headers, END_HEADERS, stream, headers),
              framed(frame.data, END_STREAM, stream, grpcMessage(allKeys)),
            );
            stream += 2;
          }
      },
      300,
    ),

  'calls that are reset as soon as they are made': (address) =>
    over(
      address,
      async (connection) => {
        const cancel = Buffer.from([0, 0, 0, 8]);
        for (let stream = 1; stream < 20_000 && !connection.closed; stream += 2)
          await connection.write(
            framed(frame.headers, END_HEADERS, stream, grpcHeaders(RANGE)),
            framed(frame.data, END_STREAM, stream, grpcMessage(allKeys)),
            framed(frame.reset, 0, stream, cancel),
          );
      },
      300,
    ),

  'headers that continue without end': (address) =>
    over(address, async (connection) => {
      await connection.write(framed(frame.headers, 0, 1, grpcHeaders(RANGE)));
      const more = headerBlock({ x: 'y'.repeat(8_000), z: 'y'.repeat(8_000) });
      for (let n = 0; n < 5_000 && !connection.closed; n += 1)
        await connection.write(framed(frame.continuation, 0, 1, more));
    }),

  'settings and pings without end, and answers that nobody reads': (address) =>
    over(address, async (connection) => {
      connection.stall();
      const setting = Buffer.from([0, 3, 0, 0, 0, 100]);
      for (let n = 0; n < 5_000 && !connection.closed; n += 1)
        await connection.write(
          framed(frame.settings, 0, 0, setting),
          framed(frame.ping, 0, 0, Buffer.alloc(8)),
        );
    }),

  'a window of nothing, and many watches and reads on it': (address) =>
    over(
      address,
      async (connection) => {
        // The initial window of each stream is 0.
        await connection.write(framed(frame.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
        const [range, watch] = [grpcMessage(allKeys), grpcMessage(samples().at(-1)!)];
        for (let stream = 1; stream < 1_000; stream += 4)
          await connection.write(
            call(stream, RANGE, range),
            framed(frame.headers, END_HEADERS, stream + 2, grpcHeaders(WATCH)),
            framed(frame.data, 0, stream + 2, watch),
          );
      },
      1_000,
    ),

  'windows that overflow, and frames out of their place': async (address, random) => {
    const received: Buffer[] = [];
    const frames: Buffer[] = [
      framed(frame.windowUpdate, 0, 0, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
      framed(frame.windowUpdate, 0, 1, Buffer.alloc(4)),
      framed(frame.data, END_STREAM, 1, grpcMessage(allKeys)),
      framed(frame.data, END_STREAM, 0, grpcMessage(allKeys)),
      framed(frame.headers, END_HEADERS, 2, grpcHeaders(RANGE)),
      framed(frame.headers, END_HEADERS, 0, grpcHeaders(RANGE)),
      framed(frame.continuation, END_HEADERS, 1, grpcHeaders(RANGE)),
      framed(frame.push, END_HEADERS, 1, grpcHeaders(RANGE)),
      framed(frame.settings, 1, 0, Buffer.alloc(6)),
      framed(frame.settings, 0, 0, Buffer.alloc(5)),
      framed(frame.goAway, 0, 0, Buffer.alloc(3)),
      framed(frame.headers, 0x2c, 1, Buffer.from([255])),
      framed(0xee, 0xff, 0x7fffffff, randomBytes(random, 100)),
      Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]), randomBytes(random, 5_000)]),
    ];
    for (const one of frames)
      received.push(...(await over(address, (connection) => connection.write(one), 5)));
    for (let n = 0; n < 30; n += 1)
      received.push(
        ...(await over(
          address,
          (connection) =>
            connection.write(
              framed(
                random.between(0, 10),
                random.between(0, 255),
                random.between(0, 9),
                randomBytes(random, 40),
              ),
            ),
          5,
        )),
      );
    return received;
  },

  'connections that say nothing, half a preface, or noise': async (address, random) => {
    const beginnings = [
      Buffer.alloc(0),
      PREFACE.subarray(0, 10),
      PREFACE,
      Buffer.from('GET / HTTP/1.1\r\n'),
      Buffer.from('\x16\x03\x01\x02\x00'),
      randomBytes(random, 500),
    ];
    const connections: RawConnection[] = [];
    for (let n = 0; n < 120; n += 1) {
      const connection = await RawConnection.open(address);
      await connection.write(beginnings[n % beginnings.length]!);
      connections.push(connection);
    }
    await pause(200);
    for (const connection of connections) connection.close();
    return connections.map((connection) => connection.received());
  },

  'messages that stop half way, on many streams': (address) =>
    over(
      address,
      async (connection) => {
        const half = grpcMessage(Buffer.alloc(12_000), 2_000_000);
        for (let stream = 1; stream < 1_200 && !connection.closed; stream += 2)
          await connection.write(
            framed(frame.headers, END_HEADERS, stream, grpcHeaders('/etcdserverpb.KV/Put')),
            framed(frame.data, 0, stream, half),
          );
      },
      300,
    ),
};
