/**
 * Ten thousand relays, in a simulation that is seeded: how long joins take at several rates, what each node pays, and which part falls
 * first as more nodes join. What is simulated, event by event, is in spread.ts and join.ts; the load of all other joins is arithmetic, from
 * what was measured (costs.ts).
 *
 * What is not: lazy links (they only help), lines that are full, hosts that are slower than others, collateral that travels.
 */
import { type Costs, costOfJoin, fullAt, WORLD } from './costs.ts';
import { newPlayers, type SimulatedJoin, simulateJoin } from './join.ts';
import { newGraph } from './spread.ts';

export interface SimulationOptions {
  readonly relays: number;
  /** Joins that are followed at each rate. */
  readonly joins: number;
  /** The share of relays that are dead or malicious. */
  readonly bad: number;
  readonly seed: number;
  readonly costs: Costs;
  /** Joins a minute. */
  readonly rates: readonly number[];
}

/** At one rate; of one relay where nothing else is said. */
export interface RateFigures {
  joinsPerMinute: number;
  cpuPercent: number;
  kBPerSecond: number;
  callsPerSecond: number;
  /** Nodes that were asked, for a join. */
  answers: number;
  seals: number;
  /** Bodies for each relay and message. */
  bodies: number;
  /** Bodies of one message that the busiest relay gave. */
  mostGiven: number;
  /** Until the last relay has a request, seconds. */
  spreadSeconds: number;
  /** From a node's request to its secret, seconds. */
  joinP50: number;
  joinP99: number;
  /** Joins that did not come to an end within half of the request's window. */
  late: number;
  /** Good relays that a request did not reach by eager links, on average. */
  unreached: number;
}

export interface Simulation extends Omit<SimulationOptions, 'rates'> {
  rows: RateFigures[];
  /** Joins a minute at which each part is full. */
  full: Record<string, number>;
  firstFalls: string;
  /** Joins a minute that were simulated with every part below its bound and no join late. */
  sustained: number;
}

export function simulate(
  { rates, ...options }: SimulationOptions,
  onRow = (_: RateFigures) => {},
): Simulation {
  const { relays, joins, bad, seed, costs } = options;
  const random = randomOf(seed);
  const players = newPlayers(newGraph(relays, bad, random), seed);
  const parts = fullAt(costs);
  const [firstFalls, most] = parts[0]!;
  const rows = [...rates, Math.floor(0.95 * most)].map((rate) => {
    const load = { costs, random, busy: Math.min(0.98, (rate * costOfJoin(costs).cpuMs) / 60_000) };
    const followed = Array.from({ length: joins }, (_, nth) => simulateJoin(players, nth, load));
    const row = figuresOf(rate, followed, costs);
    onRow(row);
    return row;
  });
  const good = rows.filter((row) => row.joinsPerMinute < most && row.late === 0);
  const sustained = Math.max(0, ...good.map(({ joinsPerMinute }) => joinsPerMinute));
  return { ...options, rows, full: Object.fromEntries(parts), firstFalls, sustained };
}

function figuresOf(rate: number, joins: readonly SimulatedJoin[], costs: Costs): RateFigures {
  const { cpuMs, bytes, calls } = costOfJoin(costs);
  const times = joins.map(({ time }) => time / 1000).toSorted((a, b) => a - b);
  const half = (WORLD.window * WORLD.blockMs) / 2000;
  const mean = (of: (join: SimulatedJoin) => number) =>
    joins.reduce((sum, join) => sum + of(join), 0) / joins.length;
  return {
    joinsPerMinute: rate,
    cpuPercent: (rate * cpuMs) / 600,
    kBPerSecond: (rate * bytes) / 60_000,
    callsPerSecond: (costs.idleCallsPerMinute + rate * calls) / 60,
    answers: mean(({ answers }) => answers),
    seals: mean(({ seals }) => seals),
    bodies: mean(({ bodies }) => bodies),
    mostGiven: Math.max(...joins.map(({ mostGiven }) => mostGiven)),
    spreadSeconds: mean(({ spreadMs }) => spreadMs) / 1000,
    joinP50: quantile(times, 0.5),
    joinP99: quantile(times, 0.99),
    late: times.filter((time) => !(time < half)).length,
    unreached: mean(({ unreached }) => unreached),
  };
}

const quantile = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!;

/** In [0, 1), the same sequence for a seed: mulberry32. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Lines of tables in Markdown. */
export const rateHeader = [
  '| joins a minute | answers | seals | bodies | most given | time to join p50 / p99, s | spread, s | CPU, % | kB/s | calls/s |',
  '|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|',
];

export function rateLine(row: RateFigures): string {
  const short = (figure: number) => String(Number(figure.toPrecision(3)));
  const cells = [
    row.joinsPerMinute,
    row.answers,
    row.seals,
    row.bodies,
    row.mostGiven,
    `${short(row.joinP50)} / ${short(row.joinP99)}`,
    row.spreadSeconds,
    row.cpuPercent,
    row.kBPerSecond,
    row.callsPerSecond,
  ];
  return `| ${cells.map((cell) => (typeof cell === 'number' ? short(cell) : cell)).join(' | ')} |`;
}

export const fullLines = ({ full, firstFalls, sustained }: Simulation): string[] => [
  '| part | full at, joins a minute |',
  '|---|---:|',
  ...Object.entries(full).map(([part, rate]) => `| ${part} | ${Math.round(rate)} |`),
  '',
  `First falls: ${firstFalls}. Sustained: ${sustained} joins a minute.`,
];
