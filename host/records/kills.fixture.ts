/**
 * Kills nodes (kill -9) while they take records in and throw values away, and compares what they acknowledged with what is there: a round of
 * `npm run torture -- --only records`, as a process of its own, and a sample of it in the tests.
 *
 *     node host/records/kills.fixture.ts SEED
 *
 * The last line that it prints is its verdict as JSON.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { printError, printJson } from '../../lib/daemon/terminal.ts';
import { uint64 } from '../../lib/protocol/encoding.ts';
import { encodeRecord } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { withoutValue } from '../../lib/protocol/records/identity.ts';
import { idOf } from '../../lib/protocol/records/network.fixture.ts';
import { Random } from '../../test/torture/random.ts';
import { chainOf, GENESIS, PRUNED_BEFORE } from './chain.fixture.ts';
import { createRecords, LOG_FILE } from './folder.ts';
import { RecordsNode } from './node.ts';

const KILLS = 100;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Each so many it is said how many there were. */
const SAID_EVERY = 25;
/** Of one folder. */
const LIVES = 10;
const RECORDS = 400;
/** Folders at a time. */
const JOBS = 2;
/** Operations of the log within which a node kills itself: three a group. */
const OPERATIONS = 30;

export interface KillsResult {
  kills: number;
  acknowledged: number;
  /** Acknowledged, and not there. */
  lost: number;
  problems: string[];
}

interface Bench {
  readonly program: string;
  readonly file: string;
  /** Of each record its bytes, and those that it may have instead. */
  readonly bytes: ReadonlyMap<string, readonly Uint8Array[]>;
  readonly result: KillsResult;
  readonly say: (text: string) => void;
}

export async function killNodes(
  seed: number,
  kills: number,
  say: (text: string) => void = () => {},
): Promise<KillsResult> {
  const around = mkdtempSync(join(tmpdir(), 'dstack-records-kills-'));
  // What it has killed nodes in stays for nobody; a node that runs ends with its records.
  const interrupted = () => {
    rmSync(around, { recursive: true, force: true });
    process.exit(130);
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  const result: KillsResult = { kills: 0, acknowledged: 0, lost: 0, problems: [] };
  try {
    const bench = { ...(await prepare(around)), result, say };
    let folders = 0;
    const work = async () => {
      while (result.kills < kills && result.problems.length === 0) {
        folders += 1;
        await playFolder(join(around, `${folders}`), bench, new Random(seed * 10_000 + folders), kills);
      }
    };
    await Promise.all(Array.from({ length: JOBS }, work));
  } finally {
    rmSync(around, { recursive: true });
    for (const signal of SIGNALS) process.removeListener(signal, interrupted);
  }
  return result;
}

/** One program, which starts in a fraction of the time of the source, and what it adds. */
async function prepare(around: string): Promise<Omit<Bench, 'result' | 'say'>> {
  const program = join(around, 'killed.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'killed.fixture.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
  const records = chainOf(RECORDS);
  const file = join(around, 'records');
  writeFileSync(
    file,
    Buffer.concat(records.map(encodeRecord).flatMap((bytes) => [uint64(bytes.length).subarray(4), bytes])),
  );
  const formsOf = (record: DagRecord) =>
    (record.timestamp < PRUNED_BEFORE ? [record, withoutValue(record)] : [record]).map(encodeRecord);
  return { program, file, bytes: new Map(records.map((record) => [idOf(record), formsOf(record)])) };
}

async function playFolder(folder: string, bench: Bench, random: Random, kills: number): Promise<void> {
  createRecords(folder, encodeRecord(GENESIS));
  const acknowledged = new Set<string>();
  for (let life = 0; life < LIVES && bench.result.kills < kills; life += 1) {
    const wasKilled = await live(folder, bench, random, acknowledged);
    await compare(folder, bench, acknowledged);
    if (!wasKilled) break;
    bench.result.kills += 1;
    if (bench.result.kills % SAID_EVERY === 0) bench.say(`${bench.result.kills} kills`);
  }
  bench.result.acknowledged += acknowledged.size;
  rmSync(folder, { recursive: true });
}

/** Starts a node, and adds to `acknowledged` what it says until it is gone. @returns whether it was killed */
async function live(
  folder: string,
  bench: Bench,
  random: Random,
  acknowledged: Set<string>,
): Promise<boolean> {
  const killsItself = random.chance(0.5);
  const killAt = killsItself ? random.between(1, OPERATIONS) : 0;
  // While it starts, or after so many lines, and soon after that.
  const lines = killsItself ? Number.POSITIVE_INFINITY : random.between(0, 40);
  const args = [bench.program, folder, bench.file, `${killAt}`, `${random.between(0, 1_000_000)}`];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += chunk));
  let isDue = false;
  const look = () => {
    if (isDue || output.split('\n').length - 1 < lines) return;
    isDue = true;
    setTimeout(() => child.kill('SIGKILL'), random.between(0, 3));
  };
  child.stdout.on('data', (chunk) => {
    output += chunk;
    look();
  });
  if (lines === 0) look();
  const signal = await ended(child);
  // A last line without its end was never said.
  for (const line of output.split('\n').slice(0, -1)) if (line !== 'open') acknowledged.add(line);
  if (signal !== 'SIGKILL' && child.exitCode !== 0)
    bench.result.problems.push(`it ended with ${signal ?? child.exitCode}: ${errors}`);
  return signal === 'SIGKILL';
}

async function ended(child: ChildProcess): Promise<string | null> {
  const [, signal] = (await once(child, 'close')) as [number | null, string | null];
  return signal;
}

/** What was acknowledged is there, byte for byte, but for values that may be thrown away; and the index is the one that the log alone gives. */
async function compare(
  folder: string,
  { bytes, result }: Bench,
  acknowledged: ReadonlySet<string>,
): Promise<void> {
  const node = await RecordsNode.open(folder);
  const lost = [...acknowledged].filter((id) => {
    const there = node.get(id);
    return there === undefined || !bytes.get(id)!.some((form) => Buffer.compare(there, form) === 0);
  });
  result.lost += lost.length;
  result.problems.push(...lost.map((id) => `lost: ${id}`));
  const copy = `${folder}-copy`;
  mkdirSync(copy);
  copyFileSync(join(folder, LOG_FILE), join(copy, LOG_FILE));
  const rebuilt = await RecordsNode.open(copy);
  const [live, made] = [[...node.dump()].join('\n'), [...rebuilt.dump()].join('\n')];
  if (live !== made) result.problems.push('the index is not the one that is made from the log');
  await node.close();
  await rebuilt.close();
  rmSync(copy, { recursive: true });
}

if (import.meta.main) {
  const { lost, problems, ...counts } = await killNodes(Number(process.argv[2]), KILLS, (text) =>
    printError(`  ${text}`),
  );
  printJson({ ...counts, lostWrites: lost, converged: true, problems });
}
