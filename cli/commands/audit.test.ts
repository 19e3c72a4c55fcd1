/** What is typed wrong ends with exit code 2 before anybody is asked; and what a person sees of a checkpoint. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dstack } from '../../test/support/cli.ts';
import { ModelledChain } from '../../test/support/modelled-chain.ts';
import { readArguments, UsageError } from '../command.ts';
import { auditCommands } from './audit.ts';

let folder: string;
let chain: ModelledChain;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
  writeFileSync(join(folder, 'file'), 'x');
  chain = await ModelledChain.start(join(folder, 'archive'));
  chain.grow(2);
});
afterAll(() => {
  chain?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const [command] = auditCommands as [(typeof auditCommands)[number]];
const RPC = ['--rpc', 'http://127.0.0.1:1'];
const CONTRACT = `0x${'11'.repeat(20)}`;

test.each<[string, string[], RegExp]>([
  ['no contract', RPC, /takes CONTRACT/],
  ['a contract that is none', ['0x12', ...RPC], /CONTRACT is 0x and 40 hex digits/],
  ['no endpoint', [CONTRACT], /--rpc is missing/],
  ['an endpoint of another scheme', [CONTRACT, '--rpc', 'ws://node'], /--rpc takes an http\(s\) URL/],
  ['an endpoint that is no URL', [CONTRACT, '--rpc', 'http://a b'], /--rpc takes an http\(s\) URL/],
  ['an option that there is not', [CONTRACT, ...RPC, '--checkpoints', 'x'], /has no option --checkpoints/],
  ['what the archive was called', [CONTRACT, ...RPC, '--records', '.'], /--records is called --archive now/],
  [
    'an archive that is not there',
    [CONTRACT, ...RPC, '--archive', '/no/such'],
    /--archive takes a folder that is there/,
  ],
  [
    'a file for an archive',
    [CONTRACT, ...RPC, '--archive', '{}/file'],
    /--archive takes a folder that is there/,
  ],
  [
    'an archive of another scheme',
    [CONTRACT, ...RPC, '--archive', 'ftp://relay'],
    /an http\(s\) URL or records:/,
  ],
  ['a folder for a checkpoint', [CONTRACT, ...RPC, '--checkpoint', '{}'], /--checkpoint names a file/],
  ['a checkpoint in no folder', [CONTRACT, ...RPC, '--checkpoint', '/no/such/file'], /there is no folder/],
  ['an empty checkpoint', [CONTRACT, ...RPC, '--checkpoint', ''], /given without a value/],
  ['two checkpoints', [CONTRACT, ...RPC, '--checkpoint', 'a', '--checkpoint', 'b'], /given twice/],
  ['a pin without a checkpoint', [CONTRACT, ...RPC, '--pin', 'ab'.repeat(32)], /give --checkpoint FILE too/],
  [
    'a pin that is no hash',
    [CONTRACT, ...RPC, '--pin', '0xab', '--checkpoint', '{}/c'],
    /64 lower-case hex digits/,
  ],
  ['a depth that is no number', [CONTRACT, ...RPC, '--depth', '-1'], /--depth/],
  ['a block that is no number', [CONTRACT, ...RPC, '--at', 'latest'], /--at takes a whole number/],
  ['a flavour that there is not', [CONTRACT, ...RPC, '--flavour', 'prod'], /--flavour takes .*, not "prod"/],
])('%s is told in a sentence', async (_, argv, message) => {
  const words = argv.map((word) => word.replace('{}', folder));
  const attempt = async () => command.run(readArguments(command, words));
  const error = await attempt().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UsageError);
  expect((error as Error).message).toMatch(message);
  expect((error as Error).message).not.toContain('\n');
  expect(existsSync(join(folder, 'c'))).toBe(false);
});

test('a person sees what was known before, and gives the hash to the next audit', async () => {
  const at = ['--at', String(chain.head), '--flavour', 'sim', '--depth', '0'];
  const what = [chain.domain.contract, '--rpc', chain.url, '--archive', chain.folder, ...at];
  const checkpoint = ['--checkpoint', join(folder, 'checkpoint')];
  const first = await dstack(['audit', ...what, ...checkpoint]);
  expect(first.stderr).toBe('');
  const [, hash] =
    /^known {4}nothing before; 3 accepted now; checkpoint ([0-9a-f]{64})$/m.exec(first.stdout) ?? [];
  expect(hash).toBeDefined();
  expect(first.code).toBe(0);
  const next = await dstack(['audit', ...what, ...checkpoint, '--pin', hash!]);
  expect(next.stdout).toContain(
    `up to block ${chain.head}, with 3 quotes accepted before; 0 accepted now; checkpoint ${hash}`,
  );
  expect(next.code).toBe(0);
  const other = await dstack(['audit', ...what, ...checkpoint, '--pin', 'ab'.repeat(32)]);
  expect(other.stderr).toContain('AUDIT_CHECKPOINT_PIN');
  expect(other.code).toBe(1);
});
