/** `npx dstack`: the one place that may import both sides. Each command is one entry of a table in commands/. */
import { DstackError } from '../lib/protocol/errors.ts';
import { type Command, helpOf, readArguments, UsageError } from './command.ts';
import { appCommands } from './commands/app.ts';
import { auditCommands } from './commands/audit.ts';
import { imageCommands } from './commands/image.ts';
import { networkCommands } from './commands/network.ts';
import { nodeCommands } from './commands/node.ts';
import { quoteCommands } from './commands/quote.ts';
import { relayCommands } from './commands/relay.ts';
import { vmCommands } from './commands/vm.ts';

const commands: readonly Command[] = [
  ...networkCommands,
  ...appCommands,
  ...nodeCommands,
  ...quoteCommands,
  ...auditCommands,
  ...relayCommands,
  ...vmCommands,
  ...imageCommands,
];

async function main(argv: readonly string[]): Promise<number> {
  const words = argv
    .filter((word) => !word.startsWith('-'))
    .slice(0, 2)
    .join(' ');
  const command = commands.find(
    ({ name }) => words === name || words.startsWith(`${name} `) || argv[0] === name,
  );
  if (command === undefined) {
    const unknown = argv.length > 0 && !['help', '--help', '-h'].includes(argv[0]!);
    console.log(
      `${commands.map(({ name, summary }) => `npx dstack ${name.padEnd(20)} ${summary}`).join('\n')}\n`,
    );
    console.log('`npx dstack COMMAND --help` says more.');
    if (unknown) console.error(`\ndstack: no command ${JSON.stringify(argv.slice(0, 2).join(' '))}`);
    return unknown ? 2 : 0;
  }
  const rest = argv.slice(command.name.split(' ').length);
  if (rest.includes('--help') || rest.includes('-h')) {
    console.log(helpOf(command));
    return 0;
  }
  await command.run(readArguments(command, rest));
  // A command whose answer is no says so by the exit code, without an error.
  return Number(process.exitCode ?? 0);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const told = error instanceof DstackError || isSystemError(error);
  // What nobody foresaw is a bug, and its stack trace the report.
  if (!told) throw error;
  console.error(`dstack: ${error instanceof DstackError ? error.code : 'FILE'}: ${error.message}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

/** A file that is not there or not ours to read or write, say: ENOENT, EACCES. Node's message names it. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error;
}
