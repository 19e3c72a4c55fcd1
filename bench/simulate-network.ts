/**
 * A network of ten thousand relays, simulated (bench/simulation/simulate.ts) by the costs that were measured last, or by those of
 * a line that `npm run bench -- scale` or `-- gossip` ended with, in a file.
 *
 *   node bench/simulate-network.ts [--relays 10000] [--joins 20] [--bad 0.01] [--seed 1] [--rates 10,100,200] [--costs FILE]
 *
 * The last line is JSON.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { print, printJson } from '../lib/daemon/terminal.ts';
import type { GossipFigures } from './gossip.ts';
import { type Costs, gossipCosts, MEASURED } from './simulation/costs.ts';
import { fullLines, rateHeader, rateLine, simulate } from './simulation/simulate.ts';

const { values } = parseArgs({
  options: {
    relays: { type: 'string', default: '10000' },
    joins: { type: 'string', default: '20' },
    bad: { type: 'string', default: '0.01' },
    seed: { type: 'string', default: '1' },
    rates: { type: 'string', default: '10,100,200' },
    costs: { type: 'string' },
  },
});

/** What a bench says of gossip is turned into costs; what `scale` says has them. */
function costsIn(path: string): Costs {
  type Said = { costs?: Costs } | GossipFigures;
  const said = JSON.parse(readFileSync(path, 'utf8').trim().split('\n').at(-1)!) as Said;
  return {
    ...MEASURED,
    ...('rows' in said && 'checkMs' in said ? gossipCosts(said) : {}),
    ...('costs' in said && said.costs),
  };
}

const [relays, joins, bad, seed] = [values.relays, values.joins, values.bad, values.seed].map(Number) as [
  number,
  number,
  number,
  number,
];
const costs = values.costs === undefined ? MEASURED : costsIn(values.costs);
print(
  `${relays} relays, ${100 * bad} % of them dead or silent, ${joins} joins at each rate, seed ${seed}`,
  '',
);
print(...rateHeader);
const found = simulate(
  { relays, joins, bad, seed, costs, rates: values.rates.split(',').map(Number) },
  (row) => print(rateLine(row)),
);
print('', ...fullLines(found));
printJson({ bench: 'simulation', ...found });
