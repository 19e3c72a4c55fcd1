/**
 * Writes the figures of docs/growth.md, from what `npm run bench -- scale` ended with:
 *
 *   node bench/growth-page.ts FILE [FILE …]
 *
 * Each file is the output of a run, whole or not; of figures that several have, the last one's count. What is between the two marks of the page is replaced.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Curve, curvesOf, type Row, shown } from './growth.ts';
import { BEFORE } from './growth-before.ts';
import type { Costs } from './simulation/costs.ts';
import { fullLines, rateHeader, rateLine, type Simulation } from './simulation/simulate.ts';

const PAGE = join(import.meta.dirname, '../docs/growth.md');
const [BEGIN, END] = ['<!-- figures: bench/growth-page.ts -->', '<!-- end of figures -->'];

interface Run {
  rows?: Row[];
  costs?: Costs;
  simulation?: Simulation;
}

const runs = process.argv.slice(2).map((path): Run => {
  const lines = readFileSync(path, 'utf8').split('\n');
  const last = lines.findLast((line) => line.startsWith('{"bench"'));
  if (last === undefined) return { rows: lines.flatMap(rowsIn) };
  const said = JSON.parse(last) as Run & { bench: string };
  // What node bench/simulate-network.ts ends with is a simulation alone.
  return said.bench === 'simulation' ? { simulation: said as unknown as Simulation } : said;
});
const rows = new Map(runs.flatMap((run) => (run.rows ?? []).map((row) => [`${row.what} ${row.size}`, row])));
const simulation = runs.findLast((run) => run.simulation !== undefined)?.simulation;

/** Of a run that was ended before its last line: what its table has so far. */
function rowsIn(line: string): Row[] {
  const [, what, size, figure, unit] = /^\| ([^|]+) \| ([\d,]+) \| ([\d.,]+) \| ([^|]+) \|$/.exec(line) ?? [];
  if (what === undefined) return [];
  const number = (text: string) => Number(text.replaceAll(',', ''));
  return [{ what, size: number(size!), figure: number(figure!), unit: unit! }];
}

/** A table of all curves, in the order in which they were measured. */
function curveLines(): string[] {
  const before = new Map(curvesOf(BEFORE).map((curve) => [curve.what, curve]));
  return [
    '| what | before | exponent | now | exponent |',
    '|---|---:|---:|---:|---:|',
    ...curvesOf([...rows.values()]).map((curve) => {
      const was = before.get(curve.what);
      const cells = [...(was === undefined ? ['', ''] : cellsOf(was)), ...cellsOf(curve)];
      return `| ${curve.what} (${curve.unit}) | ${cells.join(' | ')} |`;
    }),
  ];
}

function cellsOf({ rows: all, exponent }: Curve): string[] {
  const figures = all.map(({ size, figure }) => `${size.toLocaleString('en')}: ${shown(figure)}`);
  return [figures.join('<br>'), exponent?.toFixed(2) ?? '–'];
}

function simulationLines({ relays, bad, joins, seed, costs, ...found }: Simulation): string[] {
  return [
    '',
    `${relays.toLocaleString('en')} relays, ${100 * bad} % of them dead or silent, ${joins} joins followed at each rate, seed ${seed}:`,
    '',
    ...rateHeader,
    ...found.rows.map(rateLine),
    '',
    ...fullLines({ relays, bad, joins, seed, costs, ...found }),
    '',
    `Costs: ${JSON.stringify(costs)}`,
  ];
}

const page = readFileSync(PAGE, 'utf8');
const [head, rest] = [page.split(BEGIN)[0]!, page.split(END)[1]!];
const figures = [...curveLines(), ...(simulation === undefined ? [] : simulationLines(simulation))];
writeFileSync(PAGE, [`${head}${BEGIN}`, '', ...figures, '', `${END}${rest}`].join('\n'));
