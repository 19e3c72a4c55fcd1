/**
 * What holds for every command, whichever it is: a mistyped line is exit code 2 before anything is asked or written, a name is no address, and
 * help names each option. A command that is added is in here by itself.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { formatManifest, type Manifest } from '../lib/protocol/manifest.ts';
import { type Command, helpOf, readArguments, UsageError } from './command.ts';
import { allCommands } from './commands.ts';
import { distance, nearest } from './nearest.ts';

vi.setConfig({ testTimeout: 120_000 });

const commands = await allCommands();
const named = commands.map((command) => [command.name, command] as const);
const home = process.cwd();
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'all-commands-'));
  process.chdir(folder);
  writeFileSync('manifest', formatManifest(MANIFEST));
});
afterAll(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

const MANIFEST: Manifest = {
  version: 1,
  app: 'x',
  containers: [{ name: 'x', image: `sha256:${'ab'.repeat(32)}`, http: { port: 80 } }],
};

/** These look at their file first: a right one is more than is made here, and their options are those of the other owner's commands. */
const FILE_FIRST = ['network bootstrap'];

/** A value that is right by the form that help shows, of nothing that exists. */
const PLAIN: Readonly<Record<string, string>> = {
  ADDRESS: `0x${'11'.repeat(20)}`,
  URL: 'http://127.0.0.1:1',
  'FILE|URL': 'http://127.0.0.1:1',
  'DIR|URL': 'http://127.0.0.1:1',
  'URL-OR-FOLDER': 'http://127.0.0.1:1',
  NUMBER: '1',
  DURATION: '2d',
  FILE: 'none',
  DIR: 'none',
  'HOST:PORT': '127.0.0.1:1',
  DAYS: '1',
  DOMAIN: 'a.example',
  'measurement|config|platform': 'measurement',
  'HEX|FILE|any': '5e'.repeat(32),
  'minimum|statuses|grace|deny|allow': 'minimum',
  'NUMBER|NAME,NAME|DURATION|FMSPC': '20',
  'CONTRACT|FOLDER': `0x${'11'.repeat(20)}`,
  MANIFEST: 'manifest',
};

/** What these ask for before they look at the network. */
const BESIDES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'app secret set': { file: 'manifest' },
  'app diff': { volume: '.' },
};

/** A line with what is required, and this one thing besides. */
function lineOf(command: Command, options: Readonly<Record<string, string>>): string[] {
  const given = Object.entries(command.options).flatMap(([name, option]) => {
    const value =
      { ...BESIDES[command.name], ...options }[name] ??
      (option.required ? (PLAIN[option.value ?? ''] ?? 'x') : undefined);
    return value === undefined ? [] : [`--${name}=${value}`];
  });
  const positionals = (command.positionals ?? [])
    .filter((name) => !name.startsWith('['))
    .map((name) => PLAIN[name.replace('…', '')] ?? 'x');
  return [...given, ...positionals];
}

async function refused(command: Command, line: readonly string[]): Promise<unknown> {
  const quiet = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, 'write').mockReturnValue(true),
  );
  try {
    await command.run(readArguments(command, line));
    return 'done';
  } catch (error) {
    return error;
  } finally {
    for (const one of quiet) one.mockRestore();
  }
}

const optionsOf = (...forms: readonly string[]) =>
  commands
    .filter(({ name }) => !FILE_FIRST.includes(name))
    .flatMap((command) =>
      Object.entries(command.options)
        .filter(([, { value }]) => forms.includes(value ?? ''))
        .map(([name]) => [`${command.name} --${name}`, command, name] as const),
    );

describe('each command', () => {
  test.each(named)('%s: help has a line for each option, and its positionals', (_, command) => {
    const text = helpOf(command).join('\n');
    for (const [name, { help }] of Object.entries(command.options)) {
      expect(text).toMatch(new RegExp(`--${name}( |$)`, 'm'));
      expect(help.length, name).toBeGreaterThan(3);
    }
    for (const name of command.positionals ?? []) expect(text.split('\n')[0]).toContain(name);
  });

  test.each(named)(
    '%s: an option that it has not, too many words and too few are exit code 2',
    (_, command) => {
      const line = lineOf(command, {});
      expect(() => readArguments(command, [...line, '--no-such'])).toThrow(UsageError);
      const words = (command.positionals ?? []).filter((name) => !name.startsWith('[')).length;
      if (words > 0) expect(() => readArguments(command, line.slice(0, -1))).toThrow(UsageError);
      if (!(command.positionals ?? []).some((name) => name.endsWith('…')))
        expect(() => readArguments(command, [...line, 'one', 'too', 'many'])).toThrow(UsageError);
    },
  );
});

describe('a name is never resolved, nor a mistyped address taken', () => {
  test.each(optionsOf('ADDRESS'))('%s', async (_, command, option) => {
    for (const wrong of ['vitalik.eth', '0x123', '0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266']) {
      const error = await refused(command, lineOf(command, { [option]: wrong }));
      expect(error, wrong).toBeInstanceOf(UsageError);
    }
    expect(readdirSync(folder)).toEqual(['manifest']);
  });
});

describe('a number is digits', () => {
  test.each(optionsOf('NUMBER', 'BLOCKS', 'MIB', 'SECONDS', 'PORT', 'BLOCK', 'BYTES', 'N'))(
    '%s',
    async (_, command, option) => {
      for (const wrong of ['x', '1e3x', '0x']) {
        const error = await refused(command, lineOf(command, { [option]: wrong }));
        expect(error, wrong).toBeInstanceOf(UsageError);
      }
      expect(readdirSync(folder)).toEqual(['manifest']);
    },
  );
});

describe('of two keys on one line none is quietly left out', () => {
  const signing = named.filter(([, { options }]) => 'owner-key' in options && 'account' in options);
  test.each(signing)('%s', async (name, command) => {
    if (FILE_FIRST.includes(name)) return;
    const error = await refused(
      command,
      lineOf(command, { 'chain-id': '1', 'owner-key': 'none', account: 'none' }),
    );
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain('each say whose key signs');
  });
});

test('a negative number is not called an option that nobody typed', () => {
  const command = commands.find(({ name }) => name === 'network delay')!;
  expect(() => readArguments(command, ['-1h'])).toThrow(
    'no number or duration is negative here, and -1h is no option',
  );
});

test('what was meant is named', () => {
  const names = commands.map(({ name }) => name);
  expect(nearest(['netwrok', 'list'], names)).toEqual(['network list']);
  expect(nearest(['network', 'lst', '--json'], names)[0]).toBe('network list');
  expect(nearest(['quote', 'verfiy', 'file'], names)).toEqual(['quote verify']);
  expect(nearest(['something', 'else'], names)).toEqual([]);
  expect(['ab', 'ba', 'abc', ''].map((text) => distance(text, 'ab'))).toEqual([0, 1, 1, 2]);
});
