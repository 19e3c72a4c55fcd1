/**
 * `npm run bench -- signer`: how long a node waits for a signature over SecretConnection, beside one bare compare-and-swap on the same
 * etcd in the same run, at 1 and 10 chains. etcd has one member, on this machine's disk; the signer is a process of its own.
 *
 * The two are measured in turns, request by request, so that both see the same machine.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdRecords, type Stored } from '../guest/signer/records.ts';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { EtcdClient } from '../lib/etcd/client.ts';
import { toHex } from '../lib/protocol/encoding.ts';
import { TestEtcd } from '../test/signer/support/etcd.ts';
import { TestNode } from '../test/signer/support/node.ts';
import { type Chain, configText, freshRecord, testSecret } from '../test/signer/support/signer.ts';

const WARM = 100;
const REQUESTS = 1_000;
const MAIN = new URL('../cli/main.ts', import.meta.url).pathname;
const HASH = new Uint8Array(32).fill(1);

export async function benchSigner(): Promise<void> {
  const etcd = await TestEtcd.start();
  try {
    print(
      '| chains | what | p50 ms | p99 ms | longest ms | a second | memory MB |',
      '|---|---|---|---|---|---|---|',
    );
    const results: Result[] = [];
    for (const chains of [1, 10]) results.push(await measure(etcd, chains));
    print('', 'aim: half of the signatures within 1 ms of a compare-and-swap, and none that takes 50 ms', '');
    printJson({ bench: 'signer', results });
  } finally {
    await etcd.stop();
  }
}

interface Series {
  readonly name: string;
  readonly times: number[];
}

/** Beside the bare compare-and-swap of the same run; milliseconds. */
interface Result {
  readonly chains: number;
  readonly toSwap: { readonly p50: number; readonly p99: number };
  readonly p50More: number;
  readonly longest: number;
  readonly atOncePerSecond: number;
  readonly memoryMB: number;
}

async function measure(etcd: TestEtcd, count: number): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-signer-'));
  const secret = testSecret();
  const nodes: TestNode[] = [];
  const chains: Chain[] = [];
  for (let n = 0; n < count; n += 1) {
    const node = await TestNode.listen();
    nodes.push(node);
    const id = `bench-${count}-${n}`;
    await freshRecord(etcd.endpoints, secret, id);
    chains.push({ id, protocol: 'v0.38' as const, nodes: [node.address] });
  }
  writeFileSync(join(folder, 'signer.toml'), configText(etcd.endpoints, chains));
  writeFileSync(join(folder, 'secret'), toHex(secret.secret), { mode: 0o600 });
  const args = [MAIN, 'signer', 'start', '--dev', '--secret', 'secret'];
  const signer = spawn(process.execPath, args, { cwd: folder, stdio: 'ignore' });
  const client = new EtcdClient({ endpoints: etcd.endpoints });
  try {
    await Promise.all(nodes.map((node) => node.accept(60_000)));
    const signed: Series = { name: 'a vote signed', times: [] };
    const bare: Series = { name: 'a compare-and-swap', times: [] };
    const records = new EtcdRecords(client);
    const begun = performance.now();
    await Promise.all(
      nodes.map((node, n) => turns(node, chains[n]!.id, records, `bare/${count}/${n}`, signed, bare)),
    );
    const seconds = (performance.now() - begun) / 1000;
    const memory = residentMegabytes(signer.pid!);
    report(count, bare, seconds, '');
    report(count, signed, seconds, String(memory));
    const atOncePerSecond = await rate(nodes, chains);
    print(`| ${count} | of these, at once | | | | ${atOncePerSecond} | |`);
    const [swap, signature] = [quantiles(bare), quantiles(signed)];
    return {
      chains: count,
      toSwap: { p50: signature.p50 / swap.p50, p99: signature.p99 / swap.p99 },
      p50More: signature.p50 - swap.p50,
      longest: signature.longest,
      atOncePerSecond,
      memoryMB: memory,
    };
  } finally {
    client.close();
    const ended = once(signer, 'exit');
    signer.kill('SIGTERM');
    await ended;
    await Promise.all(nodes.map((node) => node.close()));
    rmSync(folder, { recursive: true });
  }
}

/** One of each, in turns. */
async function turns(
  node: TestNode,
  chain: string,
  records: EtcdRecords,
  key: string,
  signed: Series,
  bare: Series,
): Promise<void> {
  let stored: Stored | undefined;
  const value = 'x'.repeat(300);
  for (let height = 1; height <= WARM + REQUESTS; height += 1) {
    const first = performance.now();
    await vote(node, chain, height);
    const second = performance.now();
    const swapped = await records.swap(key, stored, value);
    const third = performance.now();
    if (!swapped.written) throw new Error('somebody else wrote');
    stored = { value, revision: swapped.revision };
    if (height <= WARM) continue;
    signed.times.push(second - first);
    bare.times.push(third - second);
  }
}

async function vote(node: TestNode, chain: string, height: number): Promise<void> {
  const block = { hash: HASH, parts: { total: 1, hash: HASH } };
  const asked = { type: 2, height: BigInt(height), block, timestamp: { seconds: BigInt(height) } };
  const answer = (await node.ask({ vote: { chain, vote: asked } })).vote as { error?: unknown };
  if (answer.error !== undefined) throw new Error('the signer refused');
}

/** Votes a second, with nothing between them. */
async function rate(nodes: readonly TestNode[], chains: readonly { id: string }[]): Promise<number> {
  const each = Math.ceil(REQUESTS / nodes.length);
  const begun = performance.now();
  await Promise.all(
    nodes.map(async (node, n) => {
      for (let height = 1; height <= each; height += 1)
        await vote(node, chains[n]!.id, WARM + REQUESTS + height);
    }),
  );
  return Math.round((1000 * each * nodes.length) / (performance.now() - begun));
}

function quantiles({ times }: Series): {
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
} {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  return { p50: at(0.5), p99: at(0.99), longest: at(1) };
}

function report(chains: number, series: Series, seconds: number, memory: string): void {
  const { p50, p99, longest } = quantiles(series);
  const times = [p50, p99, longest].map((one) => one.toFixed(2));
  const figures = [...times, Math.round(series.times.length / seconds), memory];
  print(`| ${chains} | ${series.name} | ${figures.join(' | ')} |`);
}

function residentMegabytes(pid: number): number {
  const kibibytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kibibytes) / 1024);
}
