/** `npx dstack` of the package for authors, which is compiled from this: the commands that need nothing of this repository. */
import { runProcess } from './command-line.ts';
import { createCommands } from './commands/create.ts';
import { devCommands } from './commands/dev.ts';

const commands = [...createCommands, ...devCommands];
const all = async () => commands;
await runProcess({ allCommands: all, commandsOf: all });
