/** `npx dstack`: the one place that may import both sides. */
import { runProcess } from './command-line.ts';
import { allCommands, commandsOf } from './commands.ts';

await runProcess({ allCommands, commandsOf });
