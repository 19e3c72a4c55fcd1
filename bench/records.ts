/**
 * `npm run bench -- records [COUNT] [--only store,pair,sync,liars]`: what a node of records takes in a second on one core, how soon it answers, what a record
 * takes on the disk and in memory; what two nodes say to each other that differ by ten records; how long one takes that has nothing yet; what liars cost. The
 * records are made first, by a process of its own: of a hundred certified owners, each with two links, one name (300 ordinals a name) and 64 bytes
 * of value; a few have work instead. Figures are next to what was aimed at, and to those of ZeroTier's LF, which were measured on another day.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import { AS_A_NODE } from './records/files.ts';
import { costOfLiar, type LiarCost } from './records/liars.ts';
import { LIES } from './records/lies.ts';
import { benchFresh, benchPair, type FreshFigures, type PairFigures } from './records/sync.ts';

const COUNT = 100_000;
const WORKED = 100;
const PARTS = ['store', 'pair', 'sync', 'liars'] as const;
const FRESH = 10_000;
const LIAR_SECONDS = 15;

/** What the measuring process prints as JSON. */
export interface Figures {
  readonly recordsPerCpuSecond: number;
  readonly workedPerCpuSecond: number;
  readonly recordsPerSecond: number;
  readonly getMs: number;
  readonly getP99Ms: number;
  readonly queryMs: number;
  readonly queryP99Ms: number;
  readonly residentMiB: number;
  readonly logBytes: number;
  readonly indexBytes: number;
  readonly bytesPerRecord: number;
  readonly startMs: number;
  readonly startWithoutIndexMs: number;
}

interface Row {
  readonly what: string;
  readonly aim?: string;
  /** LF's, and whether more of it is better. */
  readonly lf?: readonly [figure: number, better: 'more' | 'less'];
}

const ROWS: Readonly<Record<keyof Figures | keyof PairFigures, Row>> = {
  recordsPerCpuSecond: {
    what: 'records judged and kept, a second of one core (LF: with a certificate)',
    aim: '≥ 1,500',
    lf: [24, 'more'],
  },
  workedPerCpuSecond: { what: 'the same, with work instead of a certificate' },
  recordsPerSecond: { what: 'records judged and kept, a second of the clock' },
  getMs: { what: 'one by its identity, median ms', aim: '< 0.8', lf: [1.6, 'less'] },
  getP99Ms: { what: 'the same, p99 ms' },
  queryMs: { what: '300 records of a name, ranked, median ms', aim: '< 10', lf: [20.7, 'less'] },
  queryP99Ms: { what: 'the same, p99 ms' },
  residentMiB: { what: 'memory of the process, MiB', aim: '< 140', lf: [250, 'less'] },
  logBytes: { what: 'bytes a record, in the log' },
  indexBytes: { what: 'bytes a record, in the index' },
  bytesPerRecord: { what: 'bytes a record, both', aim: '< 650' },
  startMs: { what: 'a start, ms' },
  startWithoutIndexMs: { what: 'a start that makes the index, ms' },
  pairMs: { what: 'two nodes that differ by ten: from dialling to the same records, ms', aim: '< 500' },
  pairBytes: { what: 'the same: bytes both ways, beside the records', aim: '< 16,000' },
  pairMoreMiB: { what: 'the same: more memory, MiB', aim: '< 60' },
};

/** @throws Error for parts that there are not */
export async function benchRecords(args: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { only: { type: 'string', default: PARTS.join(',') } },
  });
  const count = Number(positionals[0] ?? COUNT);
  const parts = values.only.split(',');
  const unknown = parts.find((part) => !PARTS.some((one) => one === part));
  if (unknown !== undefined) throw new Error(`--only takes ${PARTS.join(', ')}, not ${unknown}`);
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-records-'));
  const result: Record<string, unknown> = { bench: 'records', count };
  try {
    print(
      `${cpus().length} × ${cpus()[0]?.model.trim()}; ${count} records; load ${loadavg()[0]!.toFixed(1)}`,
      '',
    );
    if (parts.some((part) => part !== 'liars')) await run(folder, 'make.ts', count, WORKED);
    // The pair is of what was measured.
    if (parts.includes('store') || parts.includes('pair')) {
      const figures: Figures = JSON.parse(await run(folder, 'measure.ts', count));
      Object.assign(result, show(figures));
    }
    if (parts.includes('pair')) Object.assign(result, show(await benchPair(folder, join(folder, 'node'))));
    if (parts.includes('sync')) result.fresh = await fresh(folder, count);
    if (parts.includes('liars')) result.liars = await liars();
    printJson(result);
  } finally {
    if (existsSync(folder)) rmSync(folder, { recursive: true });
  }
}

async function run(folder: string, program: string, ...given: readonly number[]): Promise<string> {
  const path = join(import.meta.dirname, 'records', program);
  // As `npx dstack` does: 20 MiB less than where each start compiles the sources.
  const env = { ...process.env, ...AS_A_NODE.env, NODE_COMPILE_CACHE: join(folder, 'compiled') };
  const node = async (...args: string[]) =>
    (await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 20, env })).stdout;
  await node('--import', join(import.meta.dirname, '../host/records/node.ts'), '--eval', '0');
  return await node(...AS_A_NODE.flags, path, folder, ...given.map(String));
}

function show<T extends Partial<Record<keyof typeof ROWS, number>>>(figures: T): T {
  print('| what | is | aim | LF | times better |', '|---|---:|---:|---:|---:|');
  for (const [name, is] of Object.entries(figures) as [keyof typeof ROWS, number][]) {
    const { what, aim = '', lf } = ROWS[name];
    const better = lf === undefined ? '' : (lf[1] === 'more' ? is / lf[0] : lf[0] / is).toPrecision(2);
    print(`| ${what} | ${is} | ${aim} | ${lf?.[0] ?? ''} | ${better} |`);
  }
  print('');
  return figures;
}

async function fresh(folder: string, count: number): Promise<Record<number, FreshFigures>> {
  const done: Record<number, FreshFigures> = {};
  print(
    '| a node that has nothing fetches | seconds | of one core | bytes a record on the wire |',
    '|---:|---:|---:|---:|',
  );
  for (const records of new Set([Math.min(FRESH, count), count])) {
    const figures = await benchFresh(folder, records);
    done[records] = figures;
    print(`| ${records} | ${figures.seconds} | ${figures.cpuSeconds} | ${figures.bytesPerRecord} |`);
  }
  print('');
  return done;
}

async function liars(): Promise<LiarCost[]> {
  const costs: LiarCost[] = [];
  print(
    `| what a peer does for ${LIAR_SECONDS} s, with a new key whenever it was sent away | a core's time | memory | disk | its connections end by |`,
    '|---|---:|---:|---:|---|',
  );
  for (const liar of Object.keys(LIES)) {
    const cost = await costOfLiar(liar, LIAR_SECONDS, 1);
    costs.push(cost);
    print(
      `| ${cost.what} | ${cost.cpuPercent} % | ${cost.memoryMiB} MiB | ${cost.diskBytes} | ${cost.end} (${cost.connections}) |`,
    );
  }
  print('');
  return costs;
}
