/** Which images a network has: whoever asks says it, nothing that is judged does. */
import { type Flavour, flavours } from '../lib/protocol/network-config.ts';
import { type Arguments, type Option, UsageError } from './command.ts';

export const flavourOption = {
  value: 'NAME',
  help: "of the network's images: production, sim or dev",
  default: 'production',
} satisfies Option;

/** What `--flavour` says. @throws USAGE */
export function flavourOf(args: Arguments): Flavour {
  const given = args.text('flavour');
  const flavour = flavours.find((name) => name === given);
  if (flavour === undefined)
    throw new UsageError(`--flavour takes ${flavours.join(', ')}, not ${JSON.stringify(given)}`);
  return flavour;
}
