import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { TestNetwork } from '../../contracts/fixture.ts';
import { Chain } from '../../contracts/local-chain.ts';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { readArguments } from '../command.ts';
import { networkCommands } from './network.ts';

const DELAY = 1_000;
/** Anvil's first two accounts, from its published mnemonic. */
const OWNER_KEY = 'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const STRANGER_KEY = '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d';
const FMSPC = '00906ED50000';

let anvil: Anvil;
let chain: Chain;
let folder: string;
let network: TestNetwork;
beforeAll(async () => {
  anvil = await startAnvil();
  chain = new Chain(anvil.url);
  folder = await mkdtemp(join(tmpdir(), 'dstack-tcb-'));
  await writeFile(join(folder, 'owner.key'), OWNER_KEY, { mode: 0o600 });
  await writeFile(join(folder, 'stranger.key'), STRANGER_KEY, { mode: 0o600 });
});
afterAll(async () => {
  await rm(folder, { recursive: true });
  await anvil.stop();
});
beforeEach(async () => {
  network = await TestNetwork.bootstrapped(chain, { delay: DELAY });
});
afterEach(() => vi.restoreAllMocks());

/** What the command printed. */
async function run(name: string, options: readonly string[], ...words: string[]): Promise<string> {
  const printed = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const command = networkCommands.find((it) => it.name === name)!;
  const where = ['--rpc', anvil.url, '--chain-id', '31337', '--contract', network.address];
  try {
    await command.run(readArguments(command, [...where, ...options, ...words]));
    return printed.mock.calls.map(([text]) => String(text)).join('');
  } finally {
    printed.mockRestore();
  }
}
const tcb = (kind: string, value: string, key = 'owner.key') =>
  run('network tcb', ['--owner-key', join(folder, key), '--yes'], kind, value);
const status = () => run('network status', []);
/** When what the newest block loosened takes effect. */
const later = async () => new Date((Number((await chain.head()).time) + DELAY) * 1_000).toISOString();

test("a new network's policy is in its status", async () => {
  const shown = await status();
  expect(shown).toMatch(/^TCB minimum {6}any evaluation$/m);
  expect(shown).toMatch(/^TCB statuses {5}UpToDate$/m);
  expect(shown).toMatch(/^out of date for {2}none$/m);
  expect(shown).not.toContain('denied FMSPC');
});

test('what tightens is in force when the command returns; what loosens is shown with its time', async () => {
  expect(await tcb('minimum', '17')).toMatch(/^TCB minimum +evaluation 17 or later$/m);
  const lower = await tcb('minimum', '16');
  expect(lower).toContain(`evaluation 17 or later; evaluation 16 or later from ${await later()}`);
  const added = await tcb('statuses', 'SWHardeningNeeded, UpToDate');
  expect(added).toContain(`UpToDate; UpToDate, SWHardeningNeeded from ${await later()}`);
  expect(await tcb('grace', '30d')).toContain(`none; 30 days from ${await later()}`);

  await chain.pass(DELAY);
  const shown = await status();
  expect(shown).toMatch(/^TCB minimum +evaluation 16 or later$/m);
  expect(shown).toMatch(/^TCB statuses +UpToDate, SWHardeningNeeded$/m);
  expect(shown).toMatch(/^out of date for +30 days$/m);
  expect(await tcb('grace', '90s')).toMatch(/^out of date for +90 s$/m);
  expect(await tcb('grace', 'none')).toMatch(/^out of date for +none$/m);
});

test('one status in exchange for another: gone at once, added later', async () => {
  await tcb('statuses', 'UpToDate,SWHardeningNeeded');
  await chain.pass(DELAY);
  const shown = await tcb('statuses', 'UpToDate,ConfigurationNeeded');
  expect(shown).toContain(`UpToDate; UpToDate, ConfigurationNeeded from ${await later()}`);
});

test('FMSPCs are denied at once, in any writing, and allowed after the delay', async () => {
  expect(await tcb('deny', FMSPC)).toMatch(/^denied FMSPC +00906ed50000$/m);
  await expect(tcb('deny', '0x00906ed50000')).rejects.toMatchObject({ code: 'CONTRACT_REFUSED' });
  expect(await tcb('allow', FMSPC)).toContain(`00906ed50000; allowed from ${await later()}`);
  await expect(tcb('allow', FMSPC)).rejects.toMatchObject({
    code: 'CONTRACT_REFUSED',
    message: expect.stringContaining('FmspcNotDenied'),
  });
  await chain.pass(DELAY);
  expect(await status()).not.toContain('denied FMSPC');
});

test('what changes nothing is refused before anything is sent; a pending change can be cancelled', async () => {
  await tcb('minimum', '17');
  await expect(tcb('minimum', '17')).rejects.toMatchObject({
    code: 'TCB_POLICY_UNCHANGED',
    message: 'minimum is evaluation 17 or later already',
  });
  await tcb('minimum', '3');
  const from = await later();
  await chain.pass(10);
  await expect(tcb('minimum', '3')).rejects.toMatchObject({
    code: 'TCB_POLICY_UNCHANGED',
    message: expect.stringContaining(from),
  });
  expect(await tcb('minimum', '17')).toMatch(/^TCB minimum +evaluation 17 or later$/m);
  await chain.pass(2 * DELAY);
  expect(await status()).toMatch(/^TCB minimum +evaluation 17 or later$/m);
});

test('a stranger sets nothing', async () => {
  for (const [kind, value] of [
    ['minimum', '17'],
    ['statuses', 'UpToDate,OutOfDate'],
    ['grace', '1d'],
    ['deny', FMSPC],
  ] as const) {
    await expect(tcb(kind, value, 'stranger.key')).rejects.toMatchObject({
      code: 'NOT_THE_OWNER',
    });
  }
  expect(await status()).toMatch(/^TCB minimum +any evaluation$/m);
});

test.each([
  ['maximum', '1'],
  ['toString', '1'],
  ['minimum', '-1'],
  ['minimum', '4294967296'],
  ['minimum', '0x11'],
  ['minimum', ''],
  ['statuses', ''],
  ['statuses', 'OutOfDate'],
  ['statuses', 'UpToDate,Revoked'],
  ['statuses', 'UpToDate,uptodate'],
  ['statuses', '3'],
  ['grace', '30'],
  ['grace', '-1d'],
  ['grace', '3651d'],
  ['grace', '1.5d'],
  ['deny', '00906ed5'],
  ['deny', '00906ed5000000'],
  ['allow', 'any'],
])('%s %j is a mistake of usage, and nothing is sent', async (kind, value) => {
  const words = value.startsWith('-') ? ['--', kind, value] : [kind, value];
  const sent = run('network tcb', ['--owner-key', join(folder, 'owner.key')], ...words);
  await expect(sent).rejects.toMatchObject({ code: 'USAGE' });
});
