/**
 * `npm run bench -- records [COUNT]`: what a node of records takes in a second on one core, how soon it answers, and what a record takes on the disk and in
 * memory. The records are made first, by a process of its own: of a hundred certified owners, each with two links, one name (300 ordinals a name) and 64 bytes
 * of value; a few have work instead. Figures are next to what was aimed at; there is no peer that does the same.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';

const COUNT = 100_000;
const WORKED = 100;

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

const ROWS: readonly (readonly [figure: keyof Figures, what: string, aim?: string])[] = [
  ['recordsPerCpuSecond', 'records judged and kept, a second of one core', '≥ 1,500'],
  ['workedPerCpuSecond', 'the same, with work instead of a certificate'],
  ['recordsPerSecond', 'records judged and kept, a second of the clock'],
  ['getMs', 'one by its identity, median ms', '< 0.8'],
  ['getP99Ms', 'the same, p99 ms'],
  ['queryMs', '300 records of a name, ranked, median ms', '< 10'],
  ['queryP99Ms', 'the same, p99 ms'],
  ['residentMiB', 'memory of the process, MiB', '< 140'],
  ['logBytes', 'bytes a record, in the log'],
  ['indexBytes', 'bytes a record, in the index'],
  ['bytesPerRecord', 'bytes a record, both', '< 650'],
  ['startMs', 'a start, ms'],
  ['startWithoutIndexMs', 'a start that makes the index, ms'],
];

export async function benchRecords(args: readonly string[]): Promise<void> {
  const count = Number(args[0] ?? COUNT);
  const folder = mkdtempSync(join(tmpdir(), 'dstack-bench-records-'));
  const run = async (program: string, ...given: (string | number)[]) => {
    const path = join(import.meta.dirname, 'records', program);
    const options = { maxBuffer: 1 << 20 };
    return (await promisify(execFile)(process.execPath, [path, folder, ...given.map(String)], options))
      .stdout;
  };
  try {
    await run('make.ts', count, WORKED);
    const figures: Figures = JSON.parse(await run('measure.ts', count));
    print(`${cpus().length} × ${cpus()[0]?.model.trim()}; ${count} records`, '');
    print('| what | is | aim |', '|---|---:|---:|');
    for (const [figure, what, aim = ''] of ROWS) print(`| ${what} | ${figures[figure]} | ${aim} |`);
    printJson({ bench: 'records', count, ...figures });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
