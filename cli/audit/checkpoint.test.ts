/** A network that grows, audited again and again with a checkpoint; and checkpoints that somebody meddled with. */
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { ModelledChain } from '../../test/support/modelled-chain.ts';
import { Checkpoint } from './checkpoint.ts';
import { hashOf } from './checkpoint-lines.ts';
import { runAudit } from './run.ts';

let folder: string;
let chain: ModelledChain;
let path: string;
/** After a first audit of five onboardings and a second of two more. */
let kept: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-checkpoint-'));
  kept = join(folder, 'kept');
  path = kept;
  chain = await ModelledChain.start(join(folder, 'archive'));
  chain.grow(5);
  await audited();
  chain.grow(2);
  await audited();
});
afterAll(() => {
  chain?.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  path = join(folder, 'checkpoint');
  copyFileSync(kept, path);
});
afterEach(() => {
  chain.lie = (_, result) => result;
  chain.tellsTimes = true;
  chain.reorganisedFrom = Number.POSITIVE_INFINITY;
});

interface Options {
  pin?: string;
  flavour?: 'sim' | 'production';
  archives?: string[];
  at?: number;
  checkpointed?: boolean;
}

async function audited({
  pin,
  flavour = 'sim',
  archives = [chain.folder],
  at,
  checkpointed = true,
}: Options = {}) {
  const calls = chain.calls;
  const run = await runAudit({
    endpoints: [chain.url],
    contract: chain.domain.contract,
    flavour,
    archives,
    from: 0,
    depth: 0,
    at,
    waitMs: 0,
    checkpoint: checkpointed ? { path, pin } : undefined,
    clock: () => chain.timeOf(chain.head),
  });
  const saved = await run.save();
  const faults = run.report.findings.filter(({ severity }) => severity !== 'warning');
  return { ...run, hash: saved?.hash, calls: chain.calls - calls, faults };
}
const refused = (code: string, options?: Options) =>
  expect(audited(options)).rejects.toMatchObject({ code: `AUDIT_CHECKPOINT_${code}` });
const lines = () => readFileSync(path, 'utf8').split('\n').slice(0, -1);
const write = (all: readonly string[]) => writeFileSync(path, all.map((line) => `${line}\n`).join(''));

describe('the next audit', () => {
  test('comes to what an audit without a checkpoint comes to, and pays for what is new', async () => {
    chain.tellsTimes = false;
    chain.grow(3);
    const next = await audited();
    const whole = await audited({ checkpointed: false });
    expect(whole.faults).toEqual([]);
    expect(whole.report.holders).toHaveLength(11);
    const said = ({ report }: typeof next) => ({
      ...report,
      sources: [],
      holders: report.holders.map((holder) => ({ ...holder, proof: holder.proof.is })),
    });
    expect(said(next)).toEqual(said(whole));
    expect(next.verdicts).toHaveLength(3);
    // Two blocks of each that is new, and what any audit asks.
    expect(whole.calls - next.calls).toBeGreaterThanOrEqual(2 * 7);
    // The config, the bootstrap package, three requests and their answers: the rest was not opened.
    expect(next.report.sources[0]).toMatchObject({ records: 8, faults: [] });
    const steps = next.report.holders.map(({ proof }) => (proof.is === 'verified' ? proof.steps.length : -1));
    expect(steps.slice(0, 8)).toEqual(Array(8).fill(0));
    expect(Math.min(...steps.slice(8))).toBeGreaterThan(10);
  });

  test('of nothing new adds nothing', async () => {
    const first = await audited();
    const before = readFileSync(path);
    const second = await audited();
    expect(second).toMatchObject({ hash: first.hash, verdicts: [], faults: [] });
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('judges what was missing once it is there', async () => {
    rmSync(path);
    const without = await audited({ archives: [] });
    expect(without.faults.map(({ code }) => code)).toContain('REQUEST_RECORD_MISSING');
    expect(without.verdicts).toEqual([]);
    const next = await audited();
    expect(next.faults).toEqual([]);
    expect(next.verdicts.length).toBe(next.report.holders.length);
  });

  test('is by the hash that the one before printed', async () => {
    const { hash } = await audited();
    await audited({ pin: hash! });
    await refused('PIN', { pin: 'ab'.repeat(32) });
    rmSync(path);
    await refused('PIN', { pin: hash! });
  });

  test('goes back to an earlier run when the chain was reorganised, and its file is that chain afterwards', async () => {
    const runs = lines()
      .map((line) => JSON.parse(line))
      .filter(({ type }) => type === 'run');
    chain.reorganisedFrom = runs[1].block;
    const { report, verdicts, faults } = await audited();
    expect(faults).toEqual([]);
    expect(report.findings).toContainEqual(expect.objectContaining({ code: 'CHECKPOINT_FELL_BACK' }));
    expect(verdicts.length).toBe(report.holders.length - 6);
    const again = await audited();
    expect(again.verdicts).toEqual([]);
    expect(again.report.findings.map(({ code }) => code)).not.toContain('CHECKPOINT_FELL_BACK');
  });
});

describe('a checkpoint is refused', () => {
  test('that is of a chain with none of its blocks', async () => {
    chain.reorganisedFrom = 0;
    const before = readFileSync(path);
    await refused('REORG');
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('that is ahead of what the endpoints show', () => refused('AHEAD', { at: 5 }));

  test('that is of another flavour, or another contract or chain', async () => {
    await refused('POLICY', { flavour: 'production' });
    const of = (change: object) => Checkpoint.open(path, { ...chain.domain, ...change }, 'sim');
    const other = { code: 'AUDIT_CHECKPOINT_NETWORK' };
    await expect(of({ chainId: 1 })).rejects.toMatchObject(other);
    await expect(of({ contract: parseAddress(`0x${'11'.repeat(20)}`) })).rejects.toMatchObject(other);
  });

  test.each<[string, string, (all: string[]) => string[]]>([
    ['without its end', 'TRUNCATED', (all) => all.slice(0, -1)],
    ['without its last run', 'ALTERED', (all) => all.toSpliced(-2, 1)],
    ['without an event', 'ALTERED', (all) => all.toSpliced(4, 1)],
    ['without its head', 'ALTERED', (all) => all.slice(1)],
    ['with two events in another order', 'ALTERED', (all) => all.with(4, all[5]!).with(5, all[4]!)],
    ['with an event twice', 'ALTERED', (all) => all.toSpliced(4, 0, all[4]!)],
    ['with something after its end', 'ALTERED', (all) => [...all, all.at(-1)!]],
    [
      'with a verdict of another quote',
      'ALTERED',
      (all) => all.map((line) => line.replace(/"quoteHash":"../, '"quoteHash":"00')),
    ],
    [
      'with another block',
      'ALTERED',
      (all) => all.map((line) => line.replace(/^(\{"type":"run".*"block":)\d+/, '$11')),
    ],
    [
      'of which the first run is another',
      'ALTERED',
      (all) => {
        const first = all.findIndex((line) => line.startsWith('{"type":"run"'));
        return all.with(first, all[first]!.replace(/"hash":"0x../, '"hash":"0x00'));
      },
    ],
    ['with a key twice', 'MALFORMED', (all) => all.with(2, all[2]!.replace('{', '{"type":"event",'))],
    ['with a field of its own', 'MALFORMED', (all) => all.with(2, all[2]!.replace('{', '{"more":1,'))],
    ['with a line that is deep', 'MALFORMED', (all) => all.with(2, '['.repeat(10_000) + ']'.repeat(10_000))],
    ['with a line that is long', 'MALFORMED', (all) => all.with(2, ' '.repeat(100_000))],
    [
      'of another format',
      'MALFORMED',
      (all) => all.map((line) => line.replace('checkpoint/v1', 'checkpoint/v2')),
    ],
    ['that is something else', 'MALFORMED', () => ['{"name":"package.json"}']],
    ['that is empty', 'TRUNCATED', () => []],
  ])('%s', async (_, code, change) => {
    write(change(lines()));
    const before = readFileSync(path);
    await refused(code);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  test('that is cut off anywhere, or has no line breaks, or is huge', async () => {
    const size = readFileSync(path).length;
    truncateSync(path, size - 1);
    await refused('TRUNCATED');
    truncateSync(path, 0);
    appendFileSync(path, 'x'.repeat(200_000));
    await refused('MALFORMED');
    // A hole: it takes no room on the disk.
    truncateSync(path, 1025 * 1024 * 1024);
    await refused('LARGE');
  });

  test('that somebody made whole again with a verdict by another policy', async () => {
    // Whoever knows the format can do this: what the verdict was judged by still has to be what the events add up to.
    const all = lines().map((line) => JSON.parse(line));
    const firstRun = all.findIndex(({ type }) => type === 'run');
    const forged = all.slice(0, firstRun + 1);
    const verdict = forged.find(({ role }) => role === 'onboarded');
    verdict.policy = 'ab'.repeat(32);
    const content = forged.slice(1, firstRun).map((line) => `${JSON.stringify(line)}\n`);
    forged[firstRun].lines = hashOf(content.join(''));
    forged.push({ type: 'end', runs: 1, hash: hashOf(JSON.stringify(forged[firstRun])) });
    write(forged.map((line) => JSON.stringify(line)));
    await refused('POLICY');
  });

  test('that another audit wrote meanwhile', async () => {
    chain.grow(1);
    const other = readFileSync(path);
    chain.lie = (method, result) => {
      if (method === 'eth_getProof') appendFileSync(path, ' ');
      return result;
    };
    await refused('CHANGED');
    expect(readFileSync(path, 'utf8').trimEnd()).toBe(other.toString().trimEnd());
  });
});

test('on a history that does not hold nothing is built', async () => {
  const before = readFileSync(path);
  chain.grow(1);
  const hidden = chain.topicOf('Onboarded');
  chain.lie = (method, result) =>
    method === 'eth_getLogs'
      ? (result as { topics: string[] }[]).filter(({ topics }) => topics[0] !== hidden)
      : result;
  const { report, historyHolds } = await audited();
  expect(historyHolds).toBe(false);
  const codes = report.findings.map(({ code }) => code);
  expect(codes).toEqual(expect.arrayContaining(['STORAGE_UNEXPLAINED', 'CHECKPOINT_IN_DOUBT']));
  expect(readFileSync(path).equals(before)).toBe(true);
});

type Logs = { topics: string[]; blockNumber: string; blockTimestamp?: unknown }[];

describe('the times of blocks', () => {
  const audit = async () => {
    const { report, calls, faults } = await audited({ checkpointed: false });
    expect(faults).toEqual([]);
    return { holders: report.holders, calls };
  };

  test('are those that come with the logs: no header is asked for by each of them', async () => {
    const told = await audit();
    chain.tellsTimes = false;
    const asked = await audit();
    expect(told.holders).toEqual(asked.holders);
    const blocks = 2 * asked.holders.length;
    expect(asked.calls - told.calls).toBeGreaterThanOrEqual(blocks - 4);
  });

  test.each<[string, (time: number, nth: number) => unknown]>([
    ['all an hour too early', (time) => `0x${(time - 3600).toString(16)}`],
    ['going back once', (time, nth) => `0x${(nth === 6 ? 1 : time).toString(16)}`],
    ['all zero', () => '0x0'],
    ['numbers', (time) => time],
    ['missing here and there', (time, nth) => (nth % 2 === 0 ? null : `0x${time.toString(16)}`)],
  ])('are read from the headers where those of the logs are wrong: %s', async (_, say) => {
    chain.tellsTimes = false;
    const { holders } = await audit();
    chain.tellsTimes = true;
    chain.lie = (method, result) =>
      method === 'eth_getLogs'
        ? (result as Logs).map((log, nth) => ({
            ...log,
            blockTimestamp: say(Number(log.blockTimestamp), nth),
          }))
        : result;
    expect((await audit()).holders).toEqual(holders);
  });
});

describe('an endpoint that lies about the logs', () => {
  const withLogs = (change: (logs: Logs) => unknown) => {
    chain.lie = (method, result) => (method === 'eth_getLogs' ? change(result as Logs) : result);
  };
  test.each<[string, (logs: Logs) => unknown, string]>([
    ['leaves the newest out', (logs) => logs.slice(0, -1), 'STORAGE_UNEXPLAINED'],
    ['leaves a registration out', (logs) => logs.toSpliced(-2, 1), 'HISTORY_BROKEN'],
  ])('%s', async (_, change, code) => {
    rmSync(path);
    withLogs(change);
    const { faults, hash } = await audited();
    expect(faults.map((fault) => fault.code)).toContain(code);
    expect(hash).toBeUndefined();
    expect(existsSync(path)).toBe(false);
  });

  test.each<[string, (logs: Logs) => unknown]>([
    ['in another order', (logs) => logs.toReversed()],
    ['twice', (logs) => [...logs, ...logs]],
    ['one of them twice', (logs) => [...logs, logs.at(-1)]],
    [
      'of a block that is not on the chain',
      (logs) => logs.with(-1, { ...logs.at(-1)!, blockHash: `0x${'ab'.repeat(32)}` } as never),
    ],
  ])('gives them %s', async (_, change) => {
    rmSync(path);
    withLogs(change);
    await expect(audited()).rejects.toMatchObject({ code: 'AUDIT_LOGS' });
  });
});
