/** Every command of `npx dstack`. Each is one entry of a table in commands/. */
import type { Command } from './command.ts';
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

export const commands: readonly Command[] = [
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
