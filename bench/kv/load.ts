/**
 * A load on one server, as a process of its own: `node bench/kv/load.ts SETTINGS`, as JSON. Prints what it measured as JSON.
 * Each connection has one call under way; requests are encoded before the clock runs.
 */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
import { printJson } from '../../lib/daemon/terminal.ts';
import { KV } from '../../lib/etcd/gen/kv_pb.js';
import { Receipt } from '../../lib/etcd/gen/receipt_pb.js';
import { headerBlock, LeanClient } from './lean-client.ts';

export const kinds = ['put', 'range', 'txn', 'ycsb-a', 'receipt', 'fill'] as const;
export type Kind = (typeof kinds)[number];

export interface LoadSettings {
  readonly host: string;
  readonly port: number;
  readonly kind: Kind;
  readonly connections: number;
  /** Of the measurement, after a tenth of it to warm up; without it until `operations` are done. */
  readonly seconds?: number;
  readonly operations?: number;
  readonly keys: number;
  /** How many revisions receipts are asked for. */
  readonly revisions?: number;
}

export interface Load {
  readonly perSecond: number;
  readonly operations: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly failed: number;
}

const VALUE = Buffer.alloc(256, 'v');
const BATCH = 100;
/** The first ones are kv's own, and nobody else has a receipt of them. */
const OWN_REVISIONS = 20;
/** Different requests of a load; each is used many times. */
const POOL = 4_096;

interface Prepared {
  readonly block: Buffer;
  readonly message: Buffer;
}

function prepare(settings: LoadSettings): () => Prepared {
  const { kind, keys } = settings;
  const authority = `${settings.host}:${settings.port}`;
  const blocks = new Map<DescMethodUnary, Buffer>();
  const prepared = <I extends DescMessage>(
    method: DescMethodUnary<I, DescMessage>,
    request: MessageInitShape<I>,
  ): Prepared => {
    const block = blocks.get(method) ?? headerBlock(`/${method.parent.typeName}/${method.name}`, authority);
    blocks.set(method, block);
    return { block, message: Buffer.from(toBinary(method.input, create(method.input, request))) };
  };
  const put = (n: number) => prepared(KV.method.put, { key: keyOf(n), value: VALUE });
  const range = (n: number) => prepared(KV.method.range, { key: keyOf(n) });
  const any = () => Math.floor(Math.random() * keys);
  if (kind === 'fill') {
    let n = 0;
    // One transaction of many writes: quicker, and the same keys for both.
    return () => {
      const success = Array.from({ length: BATCH }, () => {
        n += 1;
        return { request: { case: 'requestPut' as const, value: { key: keyOf(n - 1), value: VALUE } } };
      });
      return prepared(KV.method.txn, { success });
    };
  }
  const zipf = zipfian(keys);
  const make: Record<Exclude<Kind, 'fill'>, () => Prepared> = {
    put: () => put(any()),
    range: () => range(any()),
    txn: () => transaction(any()),
    'ycsb-a': () => (Math.random() < 0.5 ? range(zipf()) : put(zipf())),
    receipt: () =>
      prepared(Receipt.method.getReceipt, {
        revision: BigInt(OWN_REVISIONS + Math.floor(Math.random() * (settings.revisions ?? 1))),
      }),
  };
  const transaction = (n: number) =>
    prepared(KV.method.txn, {
      // As a client does that compares and sets.
      compare: [{ key: keyOf(n), result: 1, target: 0, targetUnion: { case: 'version', value: 0n } }],
      success: [{ request: { case: 'requestPut', value: { key: keyOf(n), value: VALUE } } }],
      failure: [{ request: { case: 'requestRange', value: { key: keyOf(n) } } }],
    });
  const pool = Array.from({ length: POOL }, make[kind]);
  let at = 0;
  return () => {
    at = (at + 1) % POOL;
    return pool[at]!;
  };
}

const keyOf = (n: number): Buffer => Buffer.from(`key-${String(n).padStart(8, '0')}`);

/** As YCSB's: constant 0.99, by the inverse of the sum (Gray et al., "Quickly generating billion-record synthetic databases"). */
function zipfian(items: number): () => number {
  const theta = 0.99;
  let zeta = 0;
  for (let n = 1; n <= items; n += 1) zeta += 1 / n ** theta;
  const alpha = 1 / (1 - theta);
  const eta = (1 - (2 / items) ** (1 - theta)) / (1 - (1 + 0.5 ** theta) / zeta);
  return () => {
    const u = Math.random();
    if (u * zeta < 1) return 0;
    if (u * zeta < 1 + 0.5 ** theta) return 1;
    return Math.floor(items * (eta * u - eta + 1) ** alpha);
  };
}

async function run(settings: LoadSettings): Promise<Load> {
  const next = prepare(settings);
  const { connections, seconds = Number.POSITIVE_INFINITY, operations = Number.POSITIVE_INFINITY } = settings;
  const clients = await Promise.all(
    Array.from({ length: connections }, () => LeanClient.open(settings.host, settings.port)),
  );
  const times: number[] = [];
  let [failed, begun] = [0, 0];
  const start = performance.now();
  // A load that has to do a number of operations measures all of them.
  const from = seconds === Number.POSITIVE_INFINITY ? start : start + seconds * 100;
  const until = from + seconds * 1000;
  await Promise.all(
    clients.map(async (client) => {
      for (;;) {
        const called = performance.now();
        if (called > until || begun >= operations) return;
        begun += 1;
        const { block, message } = next();
        let answered = false;
        await new Promise<void>((end) => {
          client.call(block, message, {
            message: () => {
              answered = true;
            },
            end,
          });
        });
        if (!answered) failed += 1;
        else if (called >= from) times.push(performance.now() - called);
        if (failed > 1_000) throw new Error(`${settings.kind}: calls fail`);
      }
    }),
  );
  const lasted = (performance.now() - from) / 1000;
  for (const client of clients) client.close();
  times.sort((a, b) => a - b);
  const at = (part: number) => times[Math.floor(times.length * part)] ?? Number.NaN;
  return {
    perSecond: times.length / lasted,
    operations: times.length,
    p50: at(0.5),
    p99: at(0.99),
    failed,
  };
}

if (import.meta.main) printJson(await run(JSON.parse(process.argv[2] ?? '{}') as LoadSettings));
