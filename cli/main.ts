/** `npx dstack`: the one place that may import both sides. Each command is one entry of a table in commands/. */

import { print, printError, printFailure } from '../lib/daemon/terminal.ts';
import { type Command, helpOf, readArguments, UsageError } from './command.ts';
import { appCommands } from './commands/app.ts';
import { auditCommands } from './commands/audit.ts';
import { imageCommands } from './commands/image.ts';
import { kvCommands } from './commands/kv.ts';
import { networkCommands } from './commands/network.ts';
import { nodeCommands } from './commands/node.ts';
import { quoteCommands } from './commands/quote.ts';
import { relayCommands } from './commands/relay.ts';
import { signerCommands } from './commands/signer.ts';
import { siteCommands } from './commands/site.ts';
import { vmCommands } from './commands/vm.ts';

const commands: readonly Command[] = [
  ...networkCommands,
  ...appCommands,
  ...nodeCommands,
  ...quoteCommands,
  ...auditCommands,
  ...kvCommands,
  ...siteCommands,
  ...signerCommands,
  ...relayCommands,
  ...vmCommands,
  ...imageCommands,
];

async function main(argv: readonly string[]): Promise<number> {
  const words = argv
    .filter((word) => !word.startsWith('-'))
    .slice(0, 3)
    .join(' ');
  const command = commands.find(
    ({ name }) => words === name || words.startsWith(`${name} `) || argv[0] === name,
  );
  if (command === undefined) {
    // `network --help` asks about a group, `app secret` about one in it.
    const groupOf = (words: readonly string[]) =>
      commands.filter(({ name }) => name.startsWith(`${words.join(' ')} `));
    const depth = [2, 1].find((count) => argv.length >= count && groupOf(argv.slice(0, count)).length > 0);
    const group = depth === undefined ? [] : groupOf(argv.slice(0, depth));
    const before = argv.slice(0, -1).join(' ');
    const question = commands.some(({ name }) => name.startsWith(`${before} `)) ? argv.at(-1) : argv[0];
    const unknown = question !== undefined && !['help', '--help', '-h'].includes(question);
    const listed = group.length > 0 ? group : commands;
    print(...listed.map(({ name, summary }) => `npx dstack ${name.padEnd(20)} ${summary}`), '');
    print('`npx dstack COMMAND --help` explains a command.');
    const asked = argv.slice(0, (depth ?? 1) + 1).join(' ');
    if (unknown) printError('', `dstack: USAGE: no command ${JSON.stringify(asked)}`);
    return unknown ? 2 : 0;
  }
  const rest = argv.slice(command.name.split(' ').length);
  if (rest.includes('--help') || rest.includes('-h')) {
    print(...helpOf(command));
    return 0;
  }
  await command.run(readArguments(command, rest));
  // A command whose answer is no says so with its exit code, not with an error.
  return Number(process.exitCode ?? 0);
}

// Node would print an error that nobody awaits unescaped.
process.on('uncaughtException', (error) => {
  printFailure('dstack', error);
  process.exit(1);
});
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  printFailure('dstack', error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
