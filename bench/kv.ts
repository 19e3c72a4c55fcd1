/**
 * The store next to etcd alone: the same etcd, the same client, the same disk, in one run. They take turns, round by round, and a round's
 * ratio is of its own two measurements, so that a machine that is busy in some rounds and idle in others does not decide it; the
 * median of the rounds counts. Both run all the time, and only one has load. Of kv every write is in its ledger before it is answered.
 *
 *   npm run bench -- kv [--rounds N] [--seconds N] [--keys N] [--fill N] [--profile]
 *
 * `--keys` is what the loads work on, `--fill` how many keys are there when memory, disk and restart are measured (a million
 * takes minutes). `--profile` then says in which files kv's processor time goes. The last line is JSON.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { print, printError, printJson } from '../lib/daemon/terminal.ts';
import { type Contestant, type Name, names, resourcesOf, startContestant } from './kv/contestants.ts';
import type { FanOut, FanOutSettings } from './kv/fan-out.ts';
import type { Kind, Load, LoadSettings } from './kv/load.ts';
import { profileOf } from './kv/profile.ts';
import { cpuOf } from './processes.ts';

const AIMS = { puts: 0.5, ranges: 0.5, p99: 2.5 } as const;
/** Puts at 1, 10 and 100 connections; the others as a busy app has them. */
const LOADS: readonly (readonly [Kind, number])[] = [
  ['put', 1],
  ['put', 10],
  ['put', 100],
  ['range', 10],
  ['range', 100],
  ['txn', 100],
  ['ycsb-a', 100],
];
const FAN_OUT = { connections: 50, watches: 1_000, writes: 30 };
const state = resolve(import.meta.dirname, '../.state');

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly keys: number;
  readonly fill: number;
  readonly profile: boolean;
}

interface Measured extends Load {
  /** Microseconds of its processors an operation. */
  readonly cpu: number;
}

type Both<T> = Record<Name, T>;

export async function benchKv(args: readonly string[]): Promise<void> {
  const options = optionsOf(args);
  // The disk of the repository: a folder of tmpfs has no fsync.
  mkdirSync(state, { recursive: true });
  const folder = mkdtempSync(join(state, 'bench-kv-'));
  const started: Contestant[] = [];
  try {
    for (const name of names) {
      const execArgv = name === 'kv' && options.profile ? ['--cpu-prof', `--cpu-prof-dir=${folder}`] : [];
      started.push(await startContestant(name, join(folder, name), execArgv));
    }
    const [etcd, kv] = started as [Contestant, Contestant];
    const both = { etcd, kv };
    for (const one of started)
      await load(one, { kind: 'fill', connections: 1, operations: options.keys / 100 }, options);
    const loads = await measureLoads(both, options);
    const fanOut = await measureFanOut(both, options.rounds);
    const receipts = await measureReceipts(kv, options);
    const filled = await measureFilled(both, options);
    for (const one of started) await one.subject.stop();
    report(loads, fanOut, receipts, filled, options);
    if (options.profile) print('', ...profileOf(folder));
    printJson(summary(loads, fanOut, receipts, filled, options));
  } finally {
    for (const one of started) await one.subject.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function optionsOf(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '5' },
      keys: { type: 'string', default: '10000' },
      fill: { type: 'string', default: '50000' },
      profile: { type: 'boolean', default: false },
    },
  });
  const whole = (text: string): number => {
    if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`${text} is not a number of at least 1`);
    return Number(text);
  };
  const { rounds, seconds, keys, fill, profile } = values;
  return {
    rounds: whole(rounds),
    seconds: whole(seconds),
    keys: whole(keys),
    fill: whole(fill),
    profile,
  };
}

interface LoadResult {
  readonly kind: Kind;
  readonly connections: number;
  readonly rounds: Both<Measured[]>;
}

async function measureLoads(both: Both<Contestant>, options: Options): Promise<LoadResult[]> {
  const results = LOADS.map(([kind, connections]) => ({
    kind,
    connections,
    rounds: { etcd: [] as Measured[], kv: [] as Measured[] },
  }));
  for (let round = 1; round <= options.rounds; round += 1)
    for (const { kind, connections, rounds } of results)
      for (const name of inTurns(round)) {
        printError(`round ${round} of ${options.rounds}: ${kind}, ${connections} connections, ${name}`);
        const pids = both[name].pids();
        const before = cpuOf(pids);
        const measured = await load(both[name], { kind, connections, seconds: options.seconds }, options);
        // The warm-up is a tenth of it, and is not among the operations.
        const cpu = ((cpuOf(pids) - before) / measured.operations) * (10 / 11);
        rounds[name].push({ ...measured, cpu });
      }
  return results;
}

/** Who goes first changes. */
const inTurns = (round: number): readonly Name[] => (round % 2 === 0 ? names : names.toReversed());

async function measureFanOut(both: Both<Contestant>, rounds: number): Promise<Both<FanOut[]>> {
  const results: Both<FanOut[]> = { etcd: [], kv: [] };
  for (let round = 1; round <= rounds; round += 1)
    for (const name of inTurns(round)) {
      printError(`round ${round} of ${rounds}: a write to ${FAN_OUT.watches} watches, ${name}`);
      const settings: FanOutSettings = { ...placeOf(both[name]), ...FAN_OUT };
      results[name].push(await worker<FanOut>('fan-out.ts', settings));
    }
  return results;
}

/** Only kv has them. */
async function measureReceipts(kv: Contestant, options: Options): Promise<Load> {
  printError('receipts');
  const settings = { kind: 'receipt', connections: 10, seconds: options.seconds, revisions: 1_000 } as const;
  return load(kv, settings, options);
}

interface Filled {
  readonly megabytes: number;
  readonly diskMegabytes: number;
  readonly restartSeconds: number;
}

/** With that many keys: what it holds, and how long it takes from a kill until it answers. */
async function measureFilled(both: Both<Contestant>, options: Options): Promise<Both<Filled>> {
  const results: Partial<Both<Filled>> = {};
  for (const name of names) {
    printError(`${options.fill} keys, ${name}`);
    const { subject } = both[name];
    const settings = { kind: 'fill', connections: 1, operations: Math.ceil(options.fill / 100) } as const;
    await load(both[name], settings, options);
    const resources = resourcesOf(both[name]);
    // As a machine that stops; the profile of a process that is killed is lost, so it ends by itself when one is wanted.
    if (options.profile) await subject.stop();
    else for (const part of subject.parts) await subject.kill(part);
    const begin = performance.now();
    await subject.start();
    results[name] = { ...resources, restartSeconds: (performance.now() - begin) / 1000 };
  }
  return results as Both<Filled>;
}

const placeOf = ({ subject }: Contestant): { host: string; port: number } => {
  const [host, port] = subject.address.split(':') as [string, string];
  return { host, port: Number(port) };
};

/** @throws Error when one of its calls failed */
async function load(
  contestant: Contestant,
  settings: Pick<LoadSettings, 'kind' | 'connections' | 'seconds' | 'operations' | 'revisions'>,
  { keys }: Options,
): Promise<Load> {
  const measured = await worker<Load>('load.ts', { ...placeOf(contestant), ...settings, keys });
  if (measured.failed > 0) throw new Error(`${settings.kind}: ${measured.failed} calls failed`);
  return measured;
}

async function worker<T>(program: string, settings: object): Promise<T> {
  const args = [join(import.meta.dirname, 'kv', program), JSON.stringify(settings)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout) as T;
}

function median(all: readonly number[]): number {
  return all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN;
}

/** Of the rounds' own ratios, kv to etcd. */
function ratio<T>(rounds: Both<T[]>, pick: (one: T) => number): number {
  return median(rounds.kv.map((one, n) => pick(one) / pick(rounds.etcd[n]!)));
}

function report(
  loads: readonly LoadResult[],
  fanOut: Both<FanOut[]>,
  receipts: Load,
  filled: Both<Filled>,
  options: Options,
): void {
  const of = <T>(rounds: T[], pick: (one: T) => number) => median(rounds.map(pick));
  const times = (rounds: LoadResult['rounds'], pick: (one: Measured) => number) =>
    `${ratio(rounds, pick).toFixed(2)}x`;
  print(
    '',
    `${cpus().length} × ${cpus()[0]?.model.trim()}; node ${process.version}; ${options.rounds} rounds of ${options.seconds} s`,
    '',
    '| load | connections | etcd/s | kv/s | kv to etcd | p50 ms | p99 ms | p99 to etcd | CPU µs, etcd | CPU µs, kv |',
    '|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|',
  );
  for (const { kind, connections, rounds } of loads) {
    const numbers = [
      `${connections}`,
      of(rounds.etcd, ({ perSecond }) => perSecond).toFixed(0),
      of(rounds.kv, ({ perSecond }) => perSecond).toFixed(0),
      times(rounds, ({ perSecond }) => perSecond),
      of(rounds.kv, ({ p50 }) => p50).toFixed(1),
      of(rounds.kv, ({ p99 }) => p99).toFixed(1),
      times(rounds, ({ p99 }) => p99),
      of(rounds.etcd, ({ cpu }) => cpu).toFixed(0),
      of(rounds.kv, ({ cpu }) => cpu).toFixed(0),
    ];
    print(`| ${[kind, ...numbers].join(' | ')} |`);
  }
  print('', `| | etcd | kv |`, '|---|---:|---:|');
  const row = (title: string, pick: (name: Name) => string) =>
    print(`| ${[title, ...names.map(pick)].join(' | ')} |`);
  row(`events/s, a write to ${FAN_OUT.watches} watches`, (name) =>
    of(fanOut[name], ({ eventsPerSecond }) => eventsPerSecond).toFixed(0),
  );
  row('ms until the last watch has it, median', (name) => of(fanOut[name], ({ p50 }) => p50).toFixed(1));
  row(`MB of memory, ${options.fill} keys`, (name) => filled[name].megabytes.toFixed(0));
  row('MB of disk', (name) => filled[name].diskMegabytes.toFixed(0));
  row('seconds to restart', (name) => filled[name].restartSeconds.toFixed(1));
  print(
    '',
    `receipts/s, 10 connections: ${receipts.perSecond.toFixed(0)} (p99 ${receipts.p99.toFixed(1)} ms)`,
  );
  print(`aims: puts ${AIMS.puts}x at 10 and 100 connections, ranges ${AIMS.ranges}x, p99 ${AIMS.p99}x`);
}

function summary(
  loads: readonly LoadResult[],
  fanOut: Both<FanOut[]>,
  receipts: Load,
  filled: Both<Filled>,
  { fill }: Options,
): object {
  const round = (value: number) => Math.round(value * 1000) / 1000;
  const ratios = loads.map(({ kind, connections, rounds }) => [
    `${kind}-${connections}`,
    {
      perSecond: round(ratio(rounds, ({ perSecond }) => perSecond)),
      p50: round(ratio(rounds, ({ p50 }) => p50)),
      p99: round(ratio(rounds, ({ p99 }) => p99)),
    },
  ]);
  const perSecond = loads.map(({ kind, connections, rounds }) => [
    `${kind}-${connections}`,
    names.map((name) => Math.round(median(rounds[name].map((one) => one.perSecond)))),
  ]);
  return {
    toEtcd: {
      ...Object.fromEntries(ratios),
      fanOut: round(ratio(fanOut, ({ eventsPerSecond }) => eventsPerSecond)),
    },
    etcdAndKv: Object.fromEntries(perSecond),
    receiptsPerSecond: Math.round(receipts.perSecond),
    keys: fill,
    filled,
  };
}
