/** What `network publish` writes, read by `audit` without the chain; and folders that somebody changed. */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { codeOf } from '../../lib/protocol/errors.ts';
import { dstack } from '../../test/support/cli.ts';
import { ModelledChain } from '../../test/support/modelled-chain.ts';
import { recordChain, type Tape } from './chain-tape.ts';
import { type Published, readPublication } from './publication.ts';
import { publish } from './publish.ts';
import type { AuditReport } from './report.ts';
import { auditPublication } from './run.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

let root: string;
let chain: ModelledChain;
let out: string;
const options = () => ({
  ...{ contract: chain.domain.contract, flavour: 'sim' as const, endpoints: [chain.url] },
  ...{ archives: [chain.folder], from: 0, depth: 0, at: chain.head, waitMs: 0, out },
});
const codes = ({ findings }: AuditReport, severity: string) =>
  findings.filter((finding) => finding.severity === severity).map(({ code }) => code);

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'dstack-publish-'));
  out = join(root, 'published');
  chain = await ModelledChain.start(join(root, 'archive'));
  chain.grow(2);
  writeFileSync(join(chain.folder, `config-${'ab'.repeat(32)}.json`), '{}');
  await publish(options());
});
afterAll(() => {
  chain?.stop();
  rmSync(root, { recursive: true, force: true });
});

/** An audit of the folder, or of a copy of it that was changed. */
async function auditFolder(change?: (folder: string) => void, blockHash?: string): Promise<AuditReport> {
  const folder = change === undefined ? out : join(root, 'changed');
  if (change !== undefined) {
    rmSync(folder, { recursive: true, force: true });
    cpSync(out, folder, { recursive: true });
    change(folder);
  }
  const { report } = await auditPublication(readPublication(folder), { archives: [folder], blockHash });
  return report;
}
/** Changes what the chain said. */
const tapeOf = (folder: string, change: (answers: Tape['answers']) => Tape['answers']) => {
  const path = join(folder, 'chain.json');
  const tape = JSON.parse(readFileSync(path, 'utf8')) as Tape;
  writeFileSync(path, JSON.stringify({ ...tape, answers: change(tape.answers) }));
};

describe('a folder', () => {
  test('has what an audit needs of the records, and nothing else of them', () => {
    const files = readdirSync(out).map((name) => name.replace(/-[0-9a-f-]{16,}|-0x[0-9a-f-]+/, ''));
    expect(files.sort()).toEqual([
      ...['README.md', 'answer.json', 'answer.json', 'bootstrap.collateral.json', 'bootstrap.json'],
      ...['bootstrap.quote', 'chain.json', 'config.json', 'published.json', 'request.json', 'request.json'],
    ]);
    const { published } = readPublication(out);
    expect(published.allowed).toMatchObject({
      platform: [],
      config: [expect.stringMatching(/^[0-9a-f]{64}$/)],
    });
    expect(published.block.number).toBe(chain.head);
  });

  test('is audited without asking anybody, and is not taken at its word', async () => {
    const asked = chain.calls;
    const report = await auditFolder();
    expect(chain.calls).toBe(asked);
    expect(report.holders.map(({ proof }) => proof.is)).toEqual(['verified', 'verified', 'verified']);
    expect(codes(report, 'failure')).toEqual([]);
    expect(codes(report, 'gap')).toEqual(['CHAIN_NOT_ASKED']);
    expect([report.verdict, report.storage]).toMatchObject(['unproven', { proven: true, explained: true }]);
  });

  test('of a block whose hash is another than by a source of the auditor fails', async () => {
    const report = await auditFolder(undefined, `0x${'ab'.repeat(32)}`);
    expect(codes(report, 'failure')).toEqual(['CHAIN_OTHER_BLOCK']);
  });

  test('whose block is right and does not vouch for the state stays unproven', async () => {
    const { published } = readPublication(out);
    // The headers of this chain are of no form that is known.
    expect(codes(await auditFolder(undefined, published.block.hash), 'gap')).toEqual(['CHAIN_NOT_ASKED']);
  });

  test('without one of its records, or with one that was changed, says what is missing or wrong', async () => {
    const request = (folder: string) =>
      join(folder, readdirSync(folder).find((name) => name.startsWith('request-'))!);
    const missing = await auditFolder((folder) => rmSync(request(folder)));
    expect(codes(missing, 'gap')).toContain('REQUEST_RECORD_MISSING');
    const spoiled = await auditFolder((folder) => {
      const text = readFileSync(request(folder), 'utf8');
      writeFileSync(request(folder), text.replace(/"quote": ?"04/, '"quote": "05'));
    });
    expect(spoiled.verdict).toBe('failed');
  });

  test('that was published with an event less does not explain the storage', async () => {
    chain.lie = (method, result) => (method === 'eth_getLogs' ? (result as unknown[]).slice(0, -2) : result);
    const report = await publish({ ...options(), out: join(root, 'hiding') });
    chain.lie = (_, result) => result;
    expect(codes(report, 'failure')).toContain('STORAGE_UNEXPLAINED');
    expect(report.holders).toHaveLength(2);
  });

  test.each<[string, (folder: string) => void, string]>([
    ['an answer', (folder) => tapeOf(folder, (answers) => answers.slice(1)), 'PUBLISHED_CHAIN'],
    [
      'its form',
      (folder) => writeFileSync(join(folder, 'chain.json'), '{"version":1,"answers":[{}]}'),
      'PUBLISHED_CHAIN',
    ],
    [
      'its block',
      (folder) => {
        const path = join(folder, 'published.json');
        writeFileSync(path, readFileSync(path, 'utf8').replace(/"hash": "0x../, '"hash": "0x00'));
      },
      'PUBLISHED_CHAIN',
    ],
    ['what says whose it is', (folder) => rmSync(join(folder, 'published.json')), 'PUBLISHED_MALFORMED'],
  ])('that lost %s is refused', async (_, change, code) => {
    expect(await auditFolder(change).then(() => 'audited', codeOf)).toBe(code);
  });

  test('is not written over', async () => {
    const before = statSync(join(out, 'chain.json')).mtimeMs;
    await expect(publish(options())).rejects.toThrowError(
      expect.objectContaining({ code: 'PUBLISH_FOLDER' }),
    );
    expect(statSync(join(out, 'chain.json')).mtimeMs).toBe(before);
  });
});

test('answers that are nested without end, or none at all, are said to be the fault of the folder', async () => {
  const folder = join(root, 'nested');
  cpSync(out, folder, { recursive: true });
  const deep = '['.repeat(1_000_000) + ']'.repeat(1_000_000);
  const audited = () => auditPublication(readPublication(folder), { archives: [folder] }).catch(codeOf);
  for (const [params, result] of [
    [`[${deep}]`, '1'],
    ['[]', deep],
  ]) {
    const answer = `{"method":"eth_chainId","params":${params},"result":${result}}`;
    writeFileSync(join(folder, 'chain.json'), `{"version":1,"answers":[${answer}]}`);
    expect(await audited()).toBe('PUBLISHED_CHAIN');
  }
  rmSync(join(folder, 'chain.json'));
  expect(await audited()).toBe('PUBLISHED_CHAIN');
});

test('what a web page asks of the recorder is neither handed on nor kept', async () => {
  const recorder = await recordChain(chain.url);
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] });
  const ask = (headers: Record<string, string>) =>
    fetch(recorder.url, { method: 'POST', headers, body }).then(
      ({ ok }) => ok,
      () => false,
    );
  expect(await ask({ 'content-type': 'text/plain', origin: 'http://evil.example' })).toBe(false);
  expect(await ask({ 'content-type': 'text/plain', 'sec-fetch-site': 'cross-site' })).toBe(false);
  expect(recorder.tape().answers).toEqual([]);
  recorder.close();
});

describe('on the command line', () => {
  test('a folder is audited by the chain where there is one, with the records of the folder', async () => {
    const args = ['audit', out, '--flavour', 'sim', '--json', '--rpc', chain.url, '--depth', '0'];
    const { stdout, code } = await dstack([...args, '--at', String(chain.head)]);
    const report = JSON.parse(stdout) as AuditReport;
    expect([codes(report, 'gap'), codes(report, 'failure'), code]).toEqual([[], [], 0]);
  });

  test('by another chain, which may have another network at that address, it is not audited', async () => {
    const args = ['--flavour', 'sim', '--rpc', chain.url, '--depth', '0', '--at', String(chain.head)];
    const other = join(root, 'other');
    const by = async (change: (published: Published) => unknown) => {
      cpSync(out, other, { recursive: true });
      const path = join(other, 'published.json');
      writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')))));
      const { code, stdout, stderr } = await dstack(['audit', other, ...args]);
      rmSync(other, { recursive: true });
      return [code, stdout, stderr];
    };
    const hash = `0x${'11'.repeat(32)}`;
    expect(await by((published) => ({ ...published, block: { ...published.block, hash } }))).toEqual([
      1,
      '',
      expect.stringMatching(/^dstack: PUBLISHED_OTHER_CHAIN: .*another chain, or the folder is made up/),
    ]);
    expect(await by((published) => ({ ...published, chainId: published.chainId + 1 }))).toEqual([
      1,
      '',
      expect.stringContaining('PUBLISHED_OTHER_CHAIN: the folder is of chain '),
    ]);
  });

  test('simulated evidence is accepted by who says so', async () => {
    const refused = await dstack(['audit', out]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/USAGE: .*is of a network of sim images.*--flavour sim says/);
    expect(refused.stdout).toBe('');
  });

  test('network publish writes one, and says how it stands', async () => {
    const again = join(root, 'again');
    const args = ['network', 'publish', '--contract', chain.domain.contract, '--rpc', chain.url, '--json'];
    const reading = [
      '--archive',
      chain.folder,
      '--flavour',
      'sim',
      '--depth',
      '0',
      '--at',
      String(chain.head),
    ];
    const { code, stdout, stderr } = await dstack([...args, '--out', again, ...reading]);
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      { out: again, verdict: 'unproven', block: chain.head },
    ]);
    expect(stderr).toContain('written  ');
    expect(readdirSync(again).sort()).toEqual(readdirSync(out).sort());
    const none = await dstack([...args, '--out', join(root, 'none'), '--flavour', 'sim']);
    expect([none.code, existsSync(join(root, 'none'))]).toEqual([2, false]);
  });
});

/** Made by `node test/support/publish-example.ts`: nodes without VMs, on a chain of their own. */
describe('the example in auditing', () => {
  const folder = join(import.meta.dirname, '../../auditing/simulated');

  test('is small, and an audit of it finds what it finds on the chain', async () => {
    const sizes = readdirSync(folder).map((name) => statSync(join(folder, name)).size);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(300_000);
    const { published } = readPublication(folder);
    const args = ['audit', folder, '--flavour', 'sim', '--block-hash', published.block.hash, '--json'];
    const { stdout, code } = await dstack(args);
    const report = JSON.parse(stdout) as AuditReport;
    expect([codes(report, 'failure'), codes(report, 'gap'), code]).toEqual([[], [], 0]);
    expect(codes(report, 'warning')).toContain('CHAIN_FROM_FOLDER');
    expect(report.holders.map(({ role, proof }) => `${role} ${proof.is}`)).toEqual([
      'bootstrap verified',
      'onboarded verified',
    ]);
  });

  test('has a quote that quote verify takes', async () => {
    const quote = join(folder, 'bootstrap.quote');
    const shown = await dstack(['quote', 'show', quote]);
    expect([shown.code, shown.stdout]).toEqual([0, expect.stringContaining('RTMR3')]);
  });
});
