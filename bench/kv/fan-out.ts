/**
 * One key with a thousand watches on it: `node bench/kv/fan-out.ts SETTINGS`, as JSON. Prints how long it takes from a write's call
 * until every watch has its event, as JSON.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { printJson } from '../../lib/daemon/terminal.ts';
import { KV, PutRequestSchema } from '../../lib/etcd/gen/kv_pb.js';
import { Watch, WatchRequestSchema, WatchResponseSchema } from '../../lib/etcd/gen/watch_pb.js';
import { headerBlock, LeanClient } from './lean-client.ts';

export interface FanOutSettings {
  readonly host: string;
  readonly port: number;
  /** Each with an equal part of the watches, on one stream. */
  readonly connections: number;
  readonly watches: number;
  readonly writes: number;
}

export interface FanOut {
  readonly eventsPerSecond: number;
  /** Milliseconds until the last watch has an event. */
  readonly p50: number;
  readonly p99: number;
}

const KEY = Buffer.from('watched');
const path = ({ parent, name }: { parent: { typeName: string }; name: string }) =>
  `/${parent.typeName}/${name}`;

async function run({ host, port, connections, watches, writes }: FanOutSettings): Promise<FanOut> {
  const authority = `${host}:${port}`;
  let [created, seen] = [0, 0];
  let reached: (() => void) | undefined;
  const until = async (done: () => boolean) => {
    while (!done())
      await new Promise<void>((resolve) => {
        reached = resolve;
      });
  };
  const request = Buffer.from(
    toBinary(
      WatchRequestSchema,
      create(WatchRequestSchema, { requestUnion: { case: 'createRequest', value: { key: KEY } } }),
    ),
  );
  const clients = await Promise.all(Array.from({ length: connections }, () => LeanClient.open(host, port)));
  for (const client of clients) {
    const listener = {
      message(bytes: Buffer) {
        const answer = fromBinary(WatchResponseSchema, bytes);
        if (answer.created) created += 1;
        seen += answer.events.length;
        reached?.();
      },
      end() {
        throw new Error('a stream of watches has ended');
      },
    };
    const id = client.call(headerBlock(path(Watch.method.watch), authority), request, listener, false);
    for (let n = 1; n < watches / connections; n += 1) client.send(id, request);
  }
  await until(() => created >= watches);

  const writer = await LeanClient.open(host, port);
  const block = headerBlock(path(KV.method.put), authority);
  const times: number[] = [];
  const start = performance.now();
  for (let n = 0; n < writes; n += 1) {
    const value = Buffer.from(`${n}`.padEnd(256));
    const message = Buffer.from(toBinary(PutRequestSchema, create(PutRequestSchema, { key: KEY, value })));
    const called = performance.now();
    writer.call(block, message, { message() {}, end() {} });
    await until(() => seen >= (n + 1) * watches);
    times.push(performance.now() - called);
  }
  const seconds = (performance.now() - start) / 1000;
  for (const client of [...clients, writer]) client.close();
  times.sort((a, b) => a - b);
  return {
    eventsPerSecond: (writes * watches) / seconds,
    p50: times[Math.floor(writes / 2)]!,
    p99: times[Math.floor(writes * 0.99)]!,
  };
}

if (import.meta.main) printJson(await run(JSON.parse(process.argv[2] ?? '{}') as FanOutSettings));
