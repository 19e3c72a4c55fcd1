/**
 * `npm run bench -- scale`: what grows with a network, counted where it can be counted. Start reading here; each part is a file of its own.
 *
 *   npm run bench -- scale [--only store,verifier,relay,apps,hosts,answers,gossip,audit,simulation] [--joins 20] [--seed 1]
 *
 * A table, how each figure grows, what a network of ten thousand relays would be by these figures (`simulation`; those of parts that are left
 * out are those of docs/growth.md), and JSON on the last line. Some twenty minutes.
 */
import { parseArgs } from 'node:util';
import { print, printError, printJson } from '../lib/daemon/terminal.ts';
import { gossipFigures } from './gossip.ts';
import { curvesOf, curveTable, type Row, shown } from './growth.ts';
import { answerRows } from './scale-answers.ts';
import { appRows } from './scale-apps.ts';
import { auditRows } from './scale-audit.ts';
import { hostRows } from './scale-hosts.ts';
import { memoryRows, storeRows } from './scale-parts.ts';
import { relayRows } from './scale-relay.ts';
import { type Costs, gossipCosts, MEASURED } from './simulation/costs.ts';
import { fullLines, rateHeader, rateLine, type Simulation, simulate } from './simulation/simulate.ts';

type Tell = (row: Row) => void;
/** A part tells its figures as it gets them, and may return what the simulation needs to know of them. */
// biome-ignore lint/suspicious/noConfusingVoidType: most of them return nothing
type Part = (tell: Tell) => Promise<Partial<Costs> | void>;

const parts: Readonly<Record<string, Part>> = {
  store: async (tell) => storeRows().forEach(tell),
  verifier: async (tell) => memoryRows().forEach(tell),
  relay: relayRows,
  apps: appRows,
  hosts: hostRows,
  answers: answerRows,
  gossip: gossipRows,
  audit: auditRows,
};
const SIMULATION = 'simulation';

export async function benchScale(args: readonly string[] = []): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      joins: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
    },
  });
  const known = [...Object.keys(parts), SIMULATION];
  const chosen = values.only?.split(',') ?? known;
  const unknown = chosen.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`--only takes some of ${known}, not ${unknown}`);
  print('| what | at | figure | |', '|---|---:|---:|---|');
  const rows: Row[] = [];
  // Each as soon as it is known: some take a while.
  const tell = (row: Row) => {
    const { what, size, figure, unit } = row;
    print(`| ${what} | ${size.toLocaleString('en')} | ${shown(figure)} | ${unit} |`);
    rows.push(row);
  };
  let costs: Costs = MEASURED;
  for (const name of chosen) {
    const part = parts[name];
    if (part === undefined) continue;
    const begun = performance.now();
    printError(`${name} …`);
    costs = { ...costs, ...(await part(tell)) };
    printError(`${name}: ${Math.round((performance.now() - begun) / 1000)} s`);
  }
  const curves = curvesOf(rows);
  print('', ...curveTable(curves));
  const simulation = chosen.includes(SIMULATION)
    ? simulated(costs, Number(values.joins), Number(values.seed))
    : undefined;
  printJson({
    bench: 'scale',
    rows,
    exponents: curves.map(({ what, exponent }) => ({ what, exponent })),
    costs,
    simulation,
  });
}

/** Among relays that all know each other, over real HTTP, with the relay's own checks. */
async function gossipRows(tell: Tell): Promise<Partial<Costs>> {
  const figures = await gossipFigures([4, 8, 16, 32], 6, (row) => {
    const mesh = (row.bytes * row.relays) / 1e6;
    tell({ what: 'gossip: a message in the whole mesh', size: row.relays, figure: mesh, unit: 'MB' });
    const one = (what: string, figure: number, unit: string) =>
      tell({ what: `gossip, for each relay and message: ${what}`, size: row.relays, figure, unit });
    one('bodies', row.bodies, 'bodies');
    one('checks', row.checks, 'checks');
    one('bytes', row.bytes / 1000, 'kB');
    one('processor', row.cpuMs, 'ms of CPU');
  });
  return gossipCosts(figures);
}

function simulated(costs: Costs, joins: number, seed: number): Simulation {
  const relays = 10_000;
  const bad = 0.01;
  print(
    '',
    `${relays} relays, ${100 * bad} % of them dead or silent, ${joins} joins at each rate, seed ${seed}:`,
  );
  print('', ...rateHeader);
  const found = simulate({ relays, joins, bad, seed, costs, rates: [10, 100, 200] }, (row) =>
    print(rateLine(row)),
  );
  print('', ...fullLines(found));
  return found;
}
