/** What is asked first of each command, by people who have read nothing: what they type is taken as they mean it, or they are told. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { simulatedCase } from '../lib/attestation/testing.ts';
import { codeOf } from '../lib/protocol/errors.ts';
import { dstack } from '../test/support/cli.ts';
import { writeTestImage } from '../test/support/vm-process.ts';
import { readArguments, UsageError } from './command.ts';
import { allCommands } from './commands.ts';
import { completion } from './completion.ts';
import { parseDuration, showDuration } from './duration.ts';
import { hostFacts } from './join/host.ts';
import { requireAddress } from './owner/connection.ts';

const commands = await allCommands();

// A process takes some seconds to load on a busy machine.
vi.setConfig({ testTimeout: 120_000 });

const root = join(import.meta.dirname, '..');
let folder: string;
const path = (name: string) => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'first-words-'));
  writeFileSync(path('key'), '42'.repeat(32), { mode: 0o600 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(file: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(file, args, { cwd: root }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** A command in this process: its code, and whether it was a mistake in the command line. */
async function attempt(...words: string[]): Promise<{ code: string; message: string; isUsage: boolean }> {
  const line = words.join(' ');
  const command = commands.find(({ name }) => line.startsWith(`${name} `))!;
  try {
    await command.run(readArguments(command, words.slice(command.name.split(' ').length)));
    return { code: 'done', message: '', isUsage: false };
  } catch (error) {
    return { code: codeOf(error), message: (error as Error).message, isUsage: error instanceof UsageError };
  }
}
const AT = ['--rpc', 'http://127.0.0.1:1', '--chain-id', '31337', '--contract', `0x${'c0'.repeat(20)}`];
const owner = () => [...AT, '--owner-key', path('key')];

test('--version is one line', async () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  expect(await dstack(['--version'])).toEqual({ code: 0, stdout: `dstack ${version}\n`, stderr: '' });
});

test.each(['scripts/demo.mjs', './tmuxdemo.sh'])(
  '%s: --help is a page, and what it does not know starts nothing',
  async (script) => {
    const [file, ...words] = script.endsWith('.mjs') ? [process.execPath, script] : [script];
    for (const flag of ['--help', '-h']) {
      const { code, stdout } = await run(file!, ...words, flag);
      expect(code).toBe(0);
      expect(stdout).toContain('Ctrl-C');
    }
    const wrong = await run(file!, ...words, '--hepl');
    expect([wrong.code, wrong.stdout, wrong.stderr]).toEqual([2, '', expect.stringContaining('--help')]);
  },
);

test("the demo's pane keeps the demo's last words: its shell outlives Ctrl-C", () => {
  expect(readFileSync(join(root, 'tmuxdemo.sh'), 'utf8')).toContain(
    '"trap : INT; node scripts/demo.mjs; exec bash"',
  );
});

test('an address counts with 0x and without, a mistyped one never', () => {
  const address = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
  for (const text of [address, address.slice(2), address.toLowerCase()]) {
    expect(requireAddress('x', text).toLowerCase()).toBe(address.toLowerCase());
  }
  for (const text of [address.replace('f39F', 'F39F'), address.slice(0, -1), 'vitalik.eth', '']) {
    expect(() => requireAddress('x', text)).toThrow(UsageError);
  }
});

test('durations', () => {
  const read = (text: string) => parseDuration('--x', text, 864_000);
  expect(['2d', '12h', '30m', '90s', '0s'].map(read)).toEqual([172_800, 43_200, 1_800, 90, 0]);
  expect([172_800, 43_200, 1_800, 90, 0].map(showDuration)).toEqual(['2d', '12h', '30m', '90s', '0s']);
  expect(parseDuration('--x', '600', 864_000, 'seconds')).toBe(600);
  for (const wrong of ['600', '2', 'd', '2 d', '-2d', '2w', '1.5d', '11d'])
    expect(() => read(wrong)).toThrow(UsageError);
});

test.each([
  ['app', 'rollout', 'web', '118b'],
  ['app', 'rollout', 'web', '0x118b'],
  ['network', 'allow', 'measurement', '0xzz'],
  ['network', 'allow', 'platform', 'package.json'],
  ['network', 'allow', 'measurement', 'package.json'],
  ['network', 'delay', '3'],
  ['network', 'owner', 'transfer', 'vitalik.eth'],
  ['network', 'list', '--from-block', 'x'],
])('%j %s %s %s: a mistake in the command line, before any endpoint is asked', async (...words) => {
  const chain = words[1] === 'list' ? AT : owner();
  const { isUsage, message, code } = await attempt(
    ...words.slice(0, 2),
    ...(words[1] === 'owner' ? [words[2]!] : []),
    ...chain,
    ...words.slice(words[1] === 'owner' ? 3 : 2),
  );
  expect([isUsage, code], message).toEqual([true, expect.stringMatching(/^(USAGE|POLICY_VALUE)$/)]);
});

test("a production image never gets the simulated platform's measurement", async () => {
  const image = writeTestImage(path('image'));
  const file = join(image, 'image.json');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"flavour":"sim"', '"flavour":"production"'));
  const settings = { imageFolder: image, platformStateFile: path('platform.json'), gasKeyFile: path('key') };
  await expect(hostFacts(settings)).rejects.toMatchObject({
    code: 'MEASUREMENT_UNKNOWN',
    message: expect.stringContaining('image tables --image'),
  });
  const allow = await attempt('network', 'allow', ...owner(), 'measurement', file);
  expect([allow.code, allow.message]).toEqual(['MEASUREMENT_UNKNOWN', expect.stringContaining('--tables')]);
});

test('a quote is taken as bytes, hex or base64, from a file or from standard input', async () => {
  const { quote } = simulatedCase();
  const hex = Buffer.from(quote).toString('hex');
  const shown = await dstack(['quote', 'show', '-'], {}, hex);
  expect([shown.code, shown.stdout]).toEqual([0, expect.stringMatching(/^MRTD /m)]);
  const show = commands.find(({ name }) => name === 'quote show')!;
  for (const [name, content] of Object.entries({
    bytes: quote,
    hex: `0x${hex}\n`,
    base64: Buffer.from(quote)
      .toString('base64')
      .replace(/(.{76})/g, '$1\n'),
  })) {
    writeFileSync(path(name), content);
    const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    await show.run(readArguments(show, [path(name)]));
    const text = write.mock.calls.map(([part]) => String(part)).join('');
    write.mockRestore();
    expect(text, name).toBe(shown.stdout);
  }
  writeFileSync(path('empty'), '');
  expect((await attempt('quote', 'show', path('empty'))).message).toContain('is empty');
});

test('the completion of each shell knows every command and its options, and is valid', async () => {
  const bash = completion(['bash'], commands).join('\n');
  writeFileSync(path('complete.bash'), bash);
  const ask = (words: string) =>
    run(
      'bash',
      '-c',
      `source ${path('complete.bash')}; COMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _dstack; echo "\${COMPREPLY[@]}"`,
    );
  expect((await ask('dstack network al')).stdout.trim()).toBe('allow');
  expect((await ask('npx dstack network owner tr')).stdout.trim()).toBe('transfer');
  expect((await ask('dstack network allow measurement --unsi')).stdout.trim()).toBe('--unsigned');
  expect((await ask('npx eslint --he')).stdout.trim()).toBe('');
  for (const shell of ['bash', 'zsh', 'fish']) {
    const text = completion([shell], commands).join('\n');
    for (const { name } of commands) expect(text).toContain(name.split(' ').at(-1));
  }
  expect(() => completion(['tcsh'], commands)).toThrow(UsageError);
});

test('docs/cli.md has a row for every command, and none for another', () => {
  const page = readFileSync(join(root, 'docs/cli.md'), 'utf8');
  const table = page.slice(page.indexOf('| command | docker or foundry |'));
  const rows = table.split('\n').filter((line) => line.startsWith('| `'));
  const named = rows.flatMap((row) =>
    [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
  );
  expect(named.toSorted()).toEqual(commands.map(({ name }) => name).toSorted());
});
