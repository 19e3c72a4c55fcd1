/** What the demo is told. Plain JavaScript without dependencies: it is read before anything is installed. */
import { parseArgs } from 'node:util';

/**
 * @param {readonly string[]} args
 * @returns {import('./options.d.mts').DemoOptions}
 * @throws {Error} for what the demo does not know
 */
export function demoOptions(args) {
  const { values } = parsed(args);
  const { gossip, once } = values;
  if (gossip !== 'http' && gossip !== 'records')
    throw new Error(`--gossip is http or records, not ${gossip}`);
  return { once, setUpOnly: values['set-up-only'], gossip };
}

/** @param {readonly string[]} args */
function parsed(args) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        once: { type: 'boolean', default: false },
        'set-up-only': { type: 'boolean', default: false },
        gossip: { type: 'string', default: 'http' },
      },
    });
  } catch {
    throw new Error(`the demo takes --once, --gossip WAY or --set-up-only, not ${args.join(' ')}`);
  }
}
