/** What one app does to the store that another app uses, by bytes on the wire. */
import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { status } from '../../../lib/etcd/errors.ts';
import { Auth } from '../../../lib/etcd/gen/auth_pb.js';
import { KV } from '../../../lib/etcd/gen/kv_pb.js';
import { Maintenance, Receipt } from '../../../lib/etcd/gen/receipt_pb.js';
import { Watch } from '../../../lib/etcd/gen/watch_pb.js';
import { bytesOf } from '../../../test/support/etcd.ts';
import { app, startKv, type TestKv } from '../../../test/support/kv.ts';

const timeout = 300_000;
let kv: TestKv;
let hostile: string;
let other: ClientHttp2Session;
const sessions: ClientHttp2Session[] = [];

beforeAll(async () => {
  kv = await startKv();
  hostile = await kv.open(app('hostile'));
  other = sessionAt(await kv.open(app('other')));
});

afterAll(async () => {
  for (const session of sessions) session.destroy();
  await kv?.stop();
});

function sessionAt(address: string, initialWindowSize = 8 * 1024 * 1024): ClientHttp2Session {
  const session = connect(`http://${address}`, { settings: { initialWindowSize }, maxSessionMemory: 1000 });
  session.on('error', () => {});
  sessions.push(session);
  return session;
}

type Method<I extends DescMessage, O extends DescMessage> =
  | DescMethodUnary<I, O>
  | DescMethodBiDiStreaming<I, O>;

function open(session: ClientHttp2Session, { parent, name }: Method<DescMessage, DescMessage>) {
  const path = `/${parent.typeName}/${name}`;
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  return session.request(headers, { endStream: false }).on('error', () => {});
}

function framed<I extends DescMessage>(schema: I, message: MessageInitShape<I>): Buffer {
  const body = toBinary(schema, create(schema, message));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

interface Ended<O extends DescMessage> {
  readonly code: number;
  readonly text: string;
  readonly answers: MessageShape<O>[];
}

function ended<O extends DescMessage>(stream: ClientHttp2Stream, schema: O): Promise<Ended<O>> {
  const chunks: Buffer[] = [];
  let code = -1;
  let text = '';
  const note = (headers: object): void => {
    const found = headers as Record<string, string | undefined>;
    if (found['grpc-status'] === undefined) return;
    code = Number(found['grpc-status']);
    text = decodeURIComponent(found['grpc-message'] ?? '');
  };
  stream.on('response', note).on('trailers', note);
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    stream.once('close', () => {
      const answers: MessageShape<O>[] = [];
      let rest = Buffer.concat(chunks);
      while (rest.length >= 5) {
        const end = 5 + rest.readUInt32BE(1);
        answers.push(fromBinary(schema, new Uint8Array(rest.subarray(5, end))));
        rest = rest.subarray(end);
      }
      resolve({ code, text, answers });
    });
  });
}

function call<I extends DescMessage, O extends DescMessage>(
  session: ClientHttp2Session,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
): Promise<Ended<O>> {
  const stream = open(session, method);
  stream.end(framed(method.input, request));
  return ended(stream, method.output);
}

test('where there are users, nobody learns which revisions are theirs', { timeout }, async () => {
  const session = sessionAt(await kv.open(app('users')));
  const put = await call(session, KV.method.put, { key: bytesOf('a'), value: bytesOf('b') });
  const revision = put.answers[0]!.header!.revision;
  await call(session, Auth.method.userAdd, { name: 'root', password: 'p' });
  await call(session, Auth.method.userGrantRole, { user: 'root', role: 'root' });
  await call(session, Auth.method.authEnable, {});
  const asked = [
    await call(session, Receipt.method.getReceipt, { revision }),
    await call(session, Receipt.method.getReceipt, { revision: revision + 1n }),
    await call(session, Maintenance.method.txStatus, { revision }),
  ];
  expect(asked.map(({ text }) => text)).toEqual(Array(3).fill('etcdserver: user name is empty'));
});

test('watches of long keys count by their length', { timeout }, async () => {
  const refusals = async () => {
    const stream = open(sessionAt(hostile), Watch.method.watch);
    let told = '';
    stream.on('data', (chunk: Buffer) => {
      told += chunk.toString('latin1');
    });
    const value = { key: new Uint8Array(1_900_000).fill(97) };
    const create = framed(Watch.method.watch.input, { requestUnion: { case: 'createRequest', value } });
    for (let n = 0; n < 13; n += 1) stream.write(create);
    await expect.poll(() => told.match(/too many requests/g)?.length).toBe(3);
    stream.close();
    await once(stream, 'close');
  };
  await refusals();
  // Those that have ended make room.
  await refusals();
});

test('so many streams, and no more, of one app', { timeout }, async () => {
  const streams: ClientHttp2Stream[] = [];
  for (let n = 0; n < 3; n += 1) {
    const session = sessionAt(hostile);
    for (let m = 0; m < 700; m += 1) streams.push(open(session, Watch.method.watch).resume());
  }
  const codes = new Map<string, number>();
  for (const stream of streams)
    stream.on('trailers', (headers) => {
      const code = String(headers['grpc-status']);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    });
  await expect.poll(() => codes.get(String(status.resourceExhausted))).toBe(100);
  const put = await call(other, KV.method.put, { key: bytesOf('a'), value: bytesOf('b') });
  expect(put.code).toBe(0);
  for (const stream of streams) stream.close();
  const again = open(sessionAt(hostile), Watch.method.watch).resume();
  const value = { key: bytesOf('a') };
  again.write(framed(Watch.method.watch.input, { requestUnion: { case: 'createRequest', value } }));
  await once(again, 'data');
  again.close();
});

test('answers that an app does not take are bounded, and no other app is refused', { timeout }, async () => {
  const session = sessionAt(hostile);
  for (let n = 0; n < 10; n += 1)
    await call(session, KV.method.put, { key: bytesOf(`k${n}`), value: new Uint8Array(1_000_000) });
  const slow = sessionAt(hostile, 1);
  const asked = Array.from({ length: 14 }, () => {
    const stream = open(slow, KV.method.range);
    stream.end(framed(KV.method.range.input, { key: bytesOf('k'), rangeEnd: bytesOf('l') }));
    return stream;
  });
  let refused = 0;
  for (const stream of asked)
    stream.on('response', (headers) => {
      if (headers['grpc-status'] === String(status.resourceExhausted)) refused += 1;
    });
  // 96 MiB have room for ten of them.
  await expect.poll(() => refused).toBe(4);
  const got = await call(other, KV.method.range, { key: bytesOf('a') });
  expect(got.code).toBe(0);
  slow.destroy();
  const range = { key: bytesOf('k'), rangeEnd: bytesOf('l') };
  await expect.poll(async () => (await call(session, KV.method.range, range)).code).toBe(0);
});

test('what of the log an app asks for and does not take is bounded, and no other app is refused', {
  timeout,
}, async () => {
  const session = sessionAt(hostile);
  const all = { key: bytesOf('\0'), rangeEnd: bytesOf('\0') };
  const puts = (round: number) =>
    Array.from({ length: 128 }, (_, n) => {
      const value = { key: bytesOf(`${round}/${n}`) };
      return { request: { case: 'requestPut' as const, value } };
    });
  // A leaf of 1,024 events, and eight of 128: a bundle of them has nearly 2 MB.
  for (let leaf = 0; leaf < 256; leaf += 9) {
    for (let round = 0; round < 8; round += 1) await call(session, KV.method.txn, { success: puts(round) });
    await call(session, KV.method.deleteRange, all);
  }
  const bundle = { ':path': '/ledger/tile/entries/000' };
  const answered = new Map<unknown, number>();
  const slow = Array.from({ length: 4 }, () => sessionAt(hostile, 1));
  for (const one of slow)
    for (let n = 0; n < 40; n += 1)
      one
        .request(bundle)
        .on('error', () => {})
        .on('response', ({ ':status': code }) => answered.set(code, (answered.get(code) ?? 0) + 1));
  await expect.poll(() => answered.get(429) ?? 0, { timeout: 60_000 }).toBeGreaterThan(50);
  expect(answered.get(200)).toBeGreaterThan(30);
  const taken = other.request(bundle).resume();
  const [head] = await once(taken, 'response');
  expect(head[':status']).toBe(200);
  for (const one of slow) one.destroy();
  const code = async () => {
    const [again] = await once(session.request(bundle).resume(), 'response');
    return again[':status'];
  };
  await expect.poll(code).toBe(200);
});
