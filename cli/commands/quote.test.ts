import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { startPcs } from '../../host/collateral/pcs.fixture.ts';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import { PUBLISHED_QUOTES, simulatedCase } from '../../lib/attestation/testing.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DATA = join(ROOT, 'testdata/attestation');
const QUOTE = join(DATA, 'quotes/tdx-v4-50806f000000-12b401a8-teekit.bin');
const COLLATERAL = join(DATA, 'collateral/6243df6a0ce6de22.json');
const AT = '1687939438';
const directory = mkdtempSync(join(tmpdir(), 'quote-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

function quote(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [join(ROOT, 'cli/main.ts'), 'quote', ...args], (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

test('accepts a debug TD with a warning, as text and as JSON; refuses it under a policy', async () => {
  const usual = ['verify', QUOTE, '--collateral', COLLATERAL, '--at', AT];
  const [text, json, strict, iso] = await Promise.all([
    quote(...usual),
    quote(...usual, '--json'),
    quote(...usual, '--json', '--policy', file('policy.json', '{}')),
    quote('verify', QUOTE, '--collateral', COLLATERAL, '--at', '2023-06-28T08:03:58Z'),
  ]);
  expect(text).toMatchObject({ code: 0, stderr: '' });
  expect(text.stdout).toMatch(/^WARNING debug /m);
  expect(text.stdout).toMatch(/^ACCEPT {2}/m);
  expect(iso.stdout).toBe(text.stdout);
  expect(json.code).toBe(0);
  expect(JSON.parse(json.stdout)).toMatchObject({
    verdict: 'accept',
    code: null,
    status: 'UpToDate',
    advisories: [],
    message: expect.any(String),
    steps: expect.arrayContaining([expect.objectContaining({ name: 'debug', outcome: 'warning' })]),
  });
  expect(strict.code).toBe(1);
  expect(JSON.parse(strict.stdout)).toMatchObject({
    verdict: 'reject',
    code: 'TD_DEBUG',
    status: 'UpToDate',
  });
});

test('a refusal exits with 1, whatever it is that is refused', async () => {
  const malformed = file('collateral.json', '{}');
  const nothing = file('nothing.bin', new Uint8Array(100));
  const refused = [
    { code: 'COLLATERAL_MISSING', args: [QUOTE, '--at', AT] },
    { code: 'ROOT_CRL_EXPIRED', args: [QUOTE, '--collateral', COLLATERAL, '--at', '2030-01-01'] },
    { code: 'COLLATERAL_FORMAT', args: [QUOTE, '--collateral', malformed, '--at', AT] },
    { code: 'QUOTE_VERSION', args: [nothing, '--at', AT] },
  ];
  const answers = await Promise.all(refused.map(({ args }) => quote('verify', ...args, '--json')));
  expect(answers.map(({ code }) => code)).toEqual([1, 1, 1, 1]);
  expect(answers.map(({ stdout }) => JSON.parse(stdout).code)).toEqual(refused.map(({ code }) => code));
});

test('a mistake in the call exits with 2 and prints no verdict', async () => {
  const calls = [
    ['verify'],
    ['verify', QUOTE, '--at', 'soon'],
    ['verify', QUOTE, '--at', '2026-02-30T00:00:00Z'],
    ['verify', join(directory, 'missing.bin')],
    ['verify', QUOTE, '--policy', file('wrong.json', '{"statuses":["Revoked"]}')],
    ['verify', QUOTE, '--root', file('root.pem', 'no certificate')],
  ];
  const answers = await Promise.all(calls.map((args) => quote(...args)));
  expect(answers.map(({ code, stdout }) => [code, stdout])).toEqual(calls.map(() => [2, '']));
});

test('shows a quote, in hex too', async () => {
  const hex = file('quote.hex', `0x${readFileSync(QUOTE).toString('hex')}\n`);
  const [binary, text] = await Promise.all([quote('show', QUOTE), quote('show', hex)]);
  expect(binary.stdout).toMatch(/^TDATTRIBUTES +0100001000000000 debug, septVeDisable$/m);
  expect(text.stdout).toBe(binary.stdout);
});

test("gets the collateral of a quote's platform from a service; with it the quote is accepted", async () => {
  const { quote: bytes } = simulatedCase();
  const path = file('simulated.bin', bytes);
  const root = file('root.der', SIMULATED_ROOT.certificate);
  const service = await startPcs(PUBLISHED_SIMULATED_COLLATERAL, 'pccs');
  try {
    const out = join(directory, 'fetched.json');
    const got = await quote('collateral', path, '--pcs', service.url, '--out', out);
    expect(got).toMatchObject({ code: 0, stdout: '' });
    expect(got.stderr).toContain('tdx-53494d000000-platform, TCB evaluation 1');
    expect(JSON.parse(readFileSync(out, 'utf8'))).toEqual(PUBLISHED_SIMULATED_COLLATERAL);
    expect(await quote('verify', path, '--root', root, '--collateral', out)).toMatchObject({ code: 0 });
    expect((await quote('verify', path, '--root', root)).stdout).toContain('COLLATERAL_MISSING');
    service.override.tcb = (_, response) => void response.writeHead(404).end();
    expect(await quote('collateral', path, '--pcs', service.url)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('PCS_STATUS'),
    });
    expect(await quote('collateral', path, '--pcs', 'pccs')).toMatchObject({ code: 2 });
  } finally {
    await service.close();
  }
});

test('an SGX quote is accepted by the command, though no node would take it', async () => {
  const sgx = PUBLISHED_QUOTES.find(({ tee, collateral }) => tee === 'SGX' && collateral.length > 0)!;
  const { file: collateral, verify_at_unix: at, expected_status: status } = sgx.collateral[0]!;
  const path = join(DATA, 'quotes', `${sgx.name}.bin`);
  const { code, stdout } = await quote(
    ...['verify', path, '--collateral', join(DATA, 'collateral', collateral), '--at', String(at), '--json'],
  );
  expect([code, JSON.parse(stdout).status]).toEqual([0, status]);
});
