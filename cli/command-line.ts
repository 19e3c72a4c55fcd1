/** From the words of a command line to the command that they name. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mute, outliveReaders, print, printError, printFailure } from '../lib/daemon/terminal.ts';
import { type Command, helpOf, readArguments, UsageError } from './command.ts';
import { completion } from './completion.ts';
import { nearest } from './nearest.ts';
import { repository } from './repository.ts';

export interface CommandTable {
  /** The commands that begin with this word; all of them, for a list, when none does. */
  commandsOf(word: string | undefined): Promise<readonly Command[]>;
  allCommands(): Promise<readonly Command[]>;
}

/** Runs the command that this process was started with, and sets its exit code. */
export async function runProcess(table: CommandTable): Promise<void> {
  // Node would print an error that nobody awaits unescaped.
  process.on('uncaughtException', (error) => {
    printFailure('dstack', error);
    process.exit(1);
  });
  outliveReaders();
  try {
    process.exitCode = await main(process.argv.slice(2), table);
  } catch (error) {
    printFailure('dstack', error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}

async function main(argv: readonly string[], { commandsOf, allCommands }: CommandTable): Promise<number> {
  if (argv.length === 1 && ['--version', '-V', 'version'].includes(argv[0]!)) {
    print(`dstack ${version()}`);
    return 0;
  }
  if (argv[0] === 'completion') {
    print(...completion(argv.slice(1), await allCommands()));
    return 0;
  }
  const commands = await commandsOf(argv[0]);
  const words = argv
    .filter((word) => !word.startsWith('-'))
    .slice(0, 3)
    .join(' ');
  const command = commands.find(
    ({ name }) => words === name || words.startsWith(`${name} `) || argv[0] === name,
  );
  if (command === undefined) return withoutCommand(argv, commands);
  const rest = argv.slice(command.name.split(' ').length);
  if (rest.includes('--help') || rest.includes('-h')) {
    print(...helpOf(command));
    return 0;
  }
  const args = readArguments(command, rest);
  if (args.flag('quiet')) mute();
  await command.run(args);
  // A command whose answer is no says so with its exit code, not with an error.
  return Number(process.exitCode ?? 0);
}

/** The list that was asked for; what was mistyped is said on standard error alone, with what may have been meant. */
function withoutCommand(argv: readonly string[], commands: readonly Command[]): number {
  // `network --help` asks about a group, `app secret` about one in it.
  const groupOf = (words: readonly string[]) =>
    commands.filter(({ name }) => name.startsWith(`${words.join(' ')} `));
  const depth = [2, 1].find((count) => argv.length >= count && groupOf(argv.slice(0, count)).length > 0);
  const group = depth === undefined ? [] : groupOf(argv.slice(0, depth));
  const before = argv.slice(0, -1).join(' ');
  const question = commands.some(({ name }) => name.startsWith(`${before} `)) ? argv.at(-1) : argv[0];
  const list = (group.length > 0 ? group : commands).map(
    ({ name, summary }) => `npx dstack ${name.padEnd(20)} ${summary}`,
  );
  if (question === undefined || ['help', '--help', '-h'].includes(question)) {
    print(...list, '');
    print(
      '`npx dstack COMMAND --help` explains a command; `--version`, `completion bash|zsh|fish`: docs/cli.md.',
    );
    return 0;
  }
  const asked = argv.slice(0, (depth ?? 1) + 1).join(' ');
  const meant = nearest(
    argv,
    commands.map(({ name }) => name),
  );
  if (group.length > 0) printError(...list, '');
  printError(
    `dstack: USAGE: no command ${JSON.stringify(asked)}${meant.length === 0 ? '' : `, but there is ${meant.join(', ')}`}: \`npx dstack help\` lists all`,
  );
  return 2;
}

function version(): string {
  const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}
