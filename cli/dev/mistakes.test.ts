/**
 * What somebody types or has wrong who uses `create` and `dev` for the first time: each is a sentence, a code that stays, exit code 2 for what was typed and 1 for
 * what failed, and leaves nothing behind.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { freePort } from '../../test/support/free-port.ts';
import { readArguments, UsageError } from '../command.ts';
import { createCommands } from '../commands/create.ts';
import { devCommands } from '../commands/dev.ts';
import { createApp } from './create.ts';

const [create] = createCommands;
const [dev] = devCommands;
const home = process.cwd();
const scratch = mkdtempSync(join(tmpdir(), 'dstack-mistakes-'));
const states = () => readdirSync(tmpdir()).filter((name) => name.startsWith('dstack-dev-')).length;
let here = '';
beforeEach(() => {
  here = mkdtempSync(join(scratch, 'here-'));
  process.chdir(here);
});
afterEach(() => {
  process.chdir(home);
  // A command that waits for Ctrl-C has said so.
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM');
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Said {
  readonly code: string;
  readonly exit: number;
  readonly text: string;
}

async function said(command: typeof create, words: readonly string[]): Promise<Said> {
  try {
    await command!.run(readArguments(command!, words));
  } catch (error) {
    const text = [(error as Error).message, ...((error as DstackError).details ?? [])].join('\n');
    // What the command line prints of anything else is a stack trace, for a bug.
    expect(error).toBeInstanceOf(DstackError);
    return { code: codeOf(error), exit: error instanceof UsageError ? 2 : 1, text };
  }
  return { code: 'none', exit: 0, text: '' };
}

describe('create', () => {
  const long = 'a'.repeat(32);
  test.each([
    ['My App', 'APP_NAME'],
    ['my app', 'APP_NAME'],
    ['MyApp', 'APP_NAME'],
    ['my.app', 'APP_NAME'],
    ['my_app', 'APP_NAME'],
    ['-', 'APP_NAME'],
    ['my-', 'APP_NAME'],
    ['.', 'APP_NAME'],
    ['..', 'APP_NAME'],
    ['../there', 'APP_NAME'],
    ['/tmp/there', 'APP_NAME'],
    ['@me/app', 'APP_NAME'],
    ['node_modules', 'APP_NAME'],
    ['favicon.ico', 'APP_NAME'],
    ['a:b', 'APP_NAME'],
    ['$(id)', 'APP_NAME'],
    ['ápp', 'APP_NAME'],
    ['app\n', 'APP_NAME'],
    [long, 'APP_NAME'],
    ['dstack', 'APP_NAME'],
    ['solc', 'APP_NAME'],
  ])('no app is called %j', async (name, code) => {
    const { exit, text, ...is } = await said(create, [name]);
    expect([is.code, exit]).toEqual([code, 2]);
    expect(text).toMatch(/name|called/);
    expect(readdirSync(here)).toEqual([]);
  });

  test.each([
    [['mine', '--template', 'pingpong'], /ping-pong, auction, transfers; not pingpong/],
    [['mine', '--template', '../auction'], /not \.\.\/auction/],
    [['mine', '--template', ''], /empty/],
    [['mine', 'yours'], /takes NAME/],
    [[], /takes NAME/],
    [['--yes'], /no option --yes/],
  ])('%j is mistyped', async (words, why) => {
    const { code, exit, text } = await said(create, words);
    expect([code, exit]).toEqual(['USAGE', 2]);
    expect(text).toMatch(why);
    expect(readdirSync(here)).toEqual([]);
  });

  test.each([
    ['a file', () => writeFileSync('mine', '')],
    ['a folder with something in it', () => mkdirSync('mine/src', { recursive: true })],
    ['a folder with a hidden one', () => mkdirSync('mine/.git', { recursive: true })],
    ['a link to an empty folder', () => symlinkSync(mkdtempSync(join(scratch, 'empty-')), 'mine')],
    ['a link to nothing', () => symlinkSync('nowhere', 'mine')],
  ])('%s of that name is left alone', async (_, make) => {
    make();
    const before = readdirSync(here);
    const { code, exit, text } = await said(create, ['mine']);
    expect([code, exit]).toEqual(['CREATE_FOLDER', 1]);
    expect(text).toContain(`${join(here, 'mine')} is there already`);
    expect(readdirSync(here)).toEqual(before);
  });

  test.each(['/proc/mine', '/dev/null/mine', '/nowhere/at-all/mine'])(
    'where nothing can be written nothing is: %s',
    async (folder) => {
      const made = createApp(folder, 'mine', 'ping-pong', new AbortController().signal);
      await expect(made).rejects.toMatchObject({
        code: 'CREATE_FOLDER',
        message: expect.stringContaining(`${folder} can't be made`),
      });
    },
  );
});

describe('dev', () => {
  const app = (files: Readonly<Record<string, string>>) => {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(here, path, '..'), { recursive: true });
      writeFileSync(join(here, path), text);
    }
  };
  const whole = {
    'package.json': '{"name":"mine","type":"module"}',
    'contracts/App.sol': 'pragma solidity ^0.8.24; contract App { constructor(address, bytes32) {} }',
    'enclave/main.ts': 'export {};',
    'host/main.ts': 'export {};',
  };

  test.each([
    ['outside of an app', {}, [], /no app, it has no package.json/],
    ['in a folder that is not there', {}, ['--dir', 'nowhere'], /is no folder/],
    ['in a file', { mine: '' }, ['--dir', 'mine'], /is no folder/],
    ['with a package.json that is no JSON', { ...whole, 'package.json': '{' }, [], /package\.json/],
    ['with a package.json without a name', { ...whole, 'package.json': '{}' }, [], /package\.json/],
    ['with a name that no app has', { ...whole, 'package.json': '{"name":"My App"}' }, [], /package\.json/],
    ['in another npm package', { 'package.json': '{"name":"other"}' }, [], /it has no contracts\/App\.sol/],
  ])('%s', async (_, files, words, why) => {
    app(files as Record<string, string>);
    const { code, exit, text } = await said(dev, words);
    expect([code, exit]).toEqual(['APP_FOLDER', 2]);
    expect(text).toMatch(why);
  });

  test.each(['0', '-1', '65536', '8080.5', 'http', '80 80', '0x'])('port %s is none', async (port) => {
    app(whole);
    const { code, exit, text } = await said(dev, [`--port=${port}`]);
    expect([code, exit]).toEqual(['USAGE', 2]);
    expect(text).toContain('1 to 65535');
  });

  test.each([
    [['--vm', '--test'], 'USAGE', 2, /--test has no meaning with --vm/],
    [['--archive', 'app.tar'], 'USAGE', 2, /--archive is for --vm alone/],
    [['--vm', '--image', 'none'], 'DEV_VM_IMAGE', 1, /no image in .*none: npm run demo -- --set-up-only/],
  ])('%j in a VM', async (words, code, exit, why) => {
    app(whole);
    const is = await said(dev, words);
    expect([is.code, is.exit]).toEqual([code, exit]);
    expect(is.text).toMatch(why);
  });

  test('a port that somebody has is named, and nothing is left', async () => {
    app(whole);
    const other = createServer();
    const port = await freePort();
    await new Promise<void>((listening) => other.listen(port, '127.0.0.1', listening));
    const before = states();
    try {
      const { code, exit, text } = await said(dev, ['--port', String(port)]);
      expect([code, exit]).toEqual(['DEV_PORT', 1]);
      expect(text).toContain(`${port}`);
      expect(text).toContain('--port');
    } finally {
      other.close();
    }
    expect(states()).toBe(before);
  });

  test.each([
    ['TypeScript', { 'enclave/main.ts': '\nconst = 1;' }, 'DEV_SOURCE', /enclave\/main\.ts:2:/],
    [
      'TypeScript that has to be compiled',
      { 'enclave/kind.ts': 'enum A { B }' },
      'DEV_SOURCE',
      /enclave\/kind\.ts/,
    ],
    ['Solidity', { 'contracts/App.sol': 'not Solidity' }, 'SOLC_FAILED', /App\.sol/],
    [
      'an import that is not there',
      { 'contracts/App.sol': 'import "./none.sol";' },
      'SOLC_FAILED',
      /none\.sol/,
    ],
    [
      'an import from outside',
      { 'contracts/App.sol': `${'import'} "../../etc/passwd";` },
      'SOLC_FAILED',
      /passwd/,
    ],
  ])('broken from the start: %s', async (_, files, code, why) => {
    app({ ...whole, ...files } as Record<string, string>);
    const before = states();
    const is = await said(dev, ['--port', String(await freePort())]);
    expect([is.code, is.exit]).toEqual([code, 1]);
    expect(is.text).toMatch(why);
    expect(states()).toBe(before);
    expect(existsSync(join(here, 'node_modules'))).toBe(false);
  });
});
