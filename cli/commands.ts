/**
 * Every command of `npx dstack`, by its first word. Each is one entry of a table in commands/; a table is loaded only when its word is
 * asked for, since all of them together pull in the whole repository: over a second of processor time before the first line.
 */
import type { Command } from './command.ts';

/** In the order of the help. */
const groups: Readonly<Record<string, () => Promise<readonly Command[]>>> = {
  network: async () => (await import('./commands/network.ts')).networkCommands,
  create: async () => (await import('./commands/create.ts')).createCommands,
  dev: async () => (await import('./commands/dev.ts')).devCommands,
  app: async () => (await import('./commands/app.ts')).appCommands,
  agent: async () => (await import('./commands/agent.ts')).agentCommands,
  node: async () => (await import('./commands/node.ts')).nodeCommands,
  quote: async () => (await import('./commands/quote.ts')).quoteCommands,
  audit: async () => (await import('./commands/audit.ts')).auditCommands,
  kv: async () => (await import('./commands/kv.ts')).kvCommands,
  site: async () => (await import('./commands/site.ts')).siteCommands,
  signer: async () => (await import('./commands/signer.ts')).signerCommands,
  records: async () => (await import('./commands/records.ts')).recordsCommands,
  relay: async () => (await import('./commands/relay.ts')).relayCommands,
  vm: async () => (await import('./commands/vm.ts')).vmCommands,
  image: async () => (await import('./commands/image.ts')).imageCommands,
};

/** The commands that begin with this word; all of them, for a list, when none does. */
export async function commandsOf(word: string | undefined): Promise<readonly Command[]> {
  return word !== undefined && Object.hasOwn(groups, word) ? await groups[word]!() : await allCommands();
}

export async function allCommands(): Promise<readonly Command[]> {
  return (await Promise.all(Object.values(groups).map((load) => load()))).flat();
}
