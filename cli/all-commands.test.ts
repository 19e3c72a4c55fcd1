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

/** These look at their file or folder first: a right one is more than is made here, and their options are those of the other owner's commands. */
const FILE_FIRST = ['network bootstrap', 'dev'];
/** Means something with a network only, by which another way to judge is not; read as by `site verify`. */
const WITH_NETWORK = ['kv audit --chain-id'];

/** A value that is right by the form that help shows, of nothing that exists. */
const PLAIN: Readonly<Record<string, string>> = {
  ADDRESS: `0x${'11'.repeat(20)}`,
  URL: 'https://127.0.0.1:1',
  'FILE|URL': 'https://127.0.0.1:1',
  'DIR|URL': 'https://127.0.0.1:1',
  'URL-OR-FOLDER': 'https://127.0.0.1:1',
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
  'image tables': { out: 'none' },
  'kv receipt verify': { evidence: 'manifest' },
  'kv audit': { evidence: 'manifest' },
  'app secret set': { file: 'manifest' },
  'app diff': { volume: '.' },
  'network publish': { archive: '.' },
};

/** Where a network is, and how an owner signs, for the commands that have to know. */
const NETWORK: Readonly<Record<string, string>> = {
  rpc: 'https://127.0.0.1:1',
  'chain-id': '1',
  contract: `0x${'11'.repeat(20)}`,
  network: `0x${'11'.repeat(20)}`,
  signer: 'https://127.0.0.1:1',
};

/** `given`, with as much of NETWORK as the command takes. */
function within(command: Command, given: Readonly<Record<string, string>>): string[] {
  // A log is judged by a network or by a key.
  if (command.name.startsWith('kv')) return lineOf(command, given);
  const takes = ([name]: readonly [string, string]): boolean =>
    name !== 'network' || command.options[name]?.value === 'ADDRESS';
  return lineOf(command, { ...Object.fromEntries(Object.entries(NETWORK).filter(takes)), ...given });
}

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
        .map(([name]) => [`${command.name} --${name}`, command, name] as const)
        .filter(([line]) => !WITH_NETWORK.includes(line)),
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

/** One letter of a right one has another case. */
const MISTYPED = '0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266';

describe('a name is never resolved, nor a mistyped address taken', () => {
  test.each(optionsOf('ADDRESS'))('%s', async (_, command, option) => {
    for (const wrong of ['vitalik.eth', '0x123', MISTYPED]) {
      const error = await refused(command, within(command, { [option]: wrong }));
      expect(error, wrong).toBeInstanceOf(UsageError);
      // And not because of something else on the line.
      expect((error as Error).message).toContain(wrong);
    }
    expect(readdirSync(folder)).toEqual(['manifest']);
  });
});

test.each(
  named.filter(([, { positionals }]) => positionals?.some((name) => /\b(ADDRESS|CONTRACT)\b/.test(name))),
)('%s: no name and no mistyped address where its argument is one', async (_, command) => {
  for (const wrong of ['vitalik.eth', MISTYPED]) {
    const line = within(command, {});
    const error = await refused(command, [...line.slice(0, -1), wrong]);
    expect(error, wrong).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain(wrong);
  }
});

describe('a number is digits', () => {
  test.each(optionsOf('NUMBER', 'BLOCKS', 'MIB', 'SECONDS', 'PORT', 'BLOCK', 'BYTES', 'N'))(
    '%s',
    async (_, command, option) => {
      for (const wrong of ['x', '1e3x', '0x']) {
        const error = await refused(command, within(command, { [option]: wrong }));
        expect(error, wrong).toBeInstanceOf(UsageError);
        expect((error as Error).message).toMatch(new RegExp(`--${option}\\b|${wrong}`));
      }
      expect(readdirSync(folder)).toEqual(['manifest']);
    },
  );
});

describe('of two keys on one line none is quietly left out', () => {
  const signing = named.filter(([, { options }]) => 'owner-key' in options && 'account' in options);
  const { signer: _, ...ofNetwork } = NETWORK;
  test.each(signing)('%s', async (name, command) => {
    if (FILE_FIRST.includes(name)) return;
    const error = await refused(
      command,
      lineOf(command, { ...ofNetwork, 'owner-key': 'none', account: 'none' }),
    );
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toContain('each say whose key signs');
  });
});

/** Their lines are what they are for: without them there is nothing left of the command. */
const ANSWERS = [
  ...['network watch', 'app status', 'app ps', 'app logs', 'node status', 'quote show', 'image measure'],
  ...['kv receipt get', 'signer status', 'signer state show', 'signer pubkey', 'records get'],
  ...['records node status', 'records owner list', 'records owner showcsr', 'records url list'],
  ...['records oracle list', 'records genesis show'],
];
/** What they print on standard output is the answer; what else they say goes to standard error. */
const SILENT = [
  ...['kv backup', 'kv restore', 'signer init', 'signer import', 'signer wrap', 'signer backup'],
  ...['signer recover', 'signer state import'],
];

test('whoever has --json has --quiet, but for those of which nothing would be left', () => {
  const without = commands.filter(({ options }) => 'json' in options && !('quiet' in options));
  expect(without.map(({ name }) => name).toSorted()).toEqual([...ANSWERS, ...SILENT].toSorted());
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
