/**
 * Five nodes of records in network namespaces that are divided while all of them write, under the same names, and put together again; then one more
 * comes: a round of `npm run torture -- --only division`, and seconds of it in the tests. Needs root and `ip`.
 *
 *     node host/records/division.fixture.ts SEED
 *
 * What it does it says on standard error. The last line that it prints is its verdict as JSON, which comes however busy the machine is; ended by SIGINT or
 * SIGTERM it leaves no process, no namespace and no file. What one that was killed has left, the next removes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { printError, printJson } from '../../lib/daemon/terminal.ts';
import { Random } from '../../test/torture/random.ts';
import type { NodeState } from './division-node.fixture.ts';
import { addressOf, folderOfPlaces, Places, removeLeftPlaces } from './namespaces.fixture.ts';

const NODES = 5;
const PORT = 7613;
const MINUTES_MS = 180_000;
/** Records that each node writes, in all and in a second at most: what all show first is looked at again and again. */
const RECORDS = 400;
const RATE = 20;
const PATIENCE_MS = 240_000;
/** A node that says nothing for so long hangs. */
const ANSWER_MS = 120_000;
/** For all that is not waiting while they are divided; the torture waits longer. */
const TOTAL_MS = 720_000;
const LOOK_MS = 300;
const LOOKED_EVERY_MS = 3_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface DivisionResult {
  converged: boolean;
  partitions: number;
  problems: string[];
  /** What all agree on in the end. */
  state?: NodeState;
}

class NodeProcess {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #said: string[] = [];

  constructor(program: string, places: Places, nth: number, folder: string, peers: readonly number[]) {
    places.add(nth);
    const told = [folder, String(nth), String(PORT), peers.map(addressOf).join(',')];
    const args = ['netns', 'exec', places.name(nth), process.execPath, program, ...told];
    this.#child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr!.on('data', (chunk: Buffer) => this.#said.push(String(chunk)));
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  async opened(): Promise<void> {
    await this.#answer();
  }

  async write(rate: number): Promise<void> {
    this.#child.stdin!.write(`write ${rate}\n`);
    await this.#answer();
  }

  async state(): Promise<NodeState> {
    this.#child.stdin!.write('state\n');
    return JSON.parse(await this.#answer()) as NodeState;
  }

  /** `ip netns exec` becomes the node: it is the same process. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** At once, for one that is about to be ended itself. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async #answer(): Promise<string> {
    const { value, done } = await within(this.#answers.next(), ANSWER_MS, 'a node to answer');
    if (done === true) throw new Error(`a node ended: ${this.#said.join('').slice(-2000)}`);
    return value;
  }
}

/** One program, which starts in a fraction of the time of the source. */
async function programIn(folder: string): Promise<string> {
  const program = join(folder, 'node.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'division-node.fixture.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
  });
  return program;
}

interface Division {
  readonly seed: number;
  readonly apartMs: number;
  readonly around: string;
  readonly places: Places;
  readonly nodes: NodeProcess[];
  readonly result: DivisionResult;
  readonly say: (text: string) => void;
}

/** @param apartMs how long they are divided */
export async function divideNodes(
  seed: number,
  apartMs: number,
  say: (text: string) => void = () => {},
): Promise<DivisionResult> {
  removeLeftPlaces();
  const around = folderOfPlaces();
  const places = new Places();
  const nodes: NodeProcess[] = [];
  const result: DivisionResult = { converged: false, partitions: 0, problems: [] };
  const remove = () => {
    for (const node of nodes) node.kill();
    places.remove();
    rmSync(around, { recursive: true, force: true });
  };
  const interrupted = () => {
    remove();
    process.exit(130);
  };
  for (const signal of SIGNALS) process.once(signal, interrupted);
  try {
    const play = playDivision({ seed, apartMs, around, places, nodes, result, say });
    await within(play, TOTAL_MS + apartMs, 'all of it');
  } catch (error) {
    result.problems.push(String(error));
  } finally {
    await Promise.all(nodes.map((node) => node.end()));
    remove();
    for (const signal of SIGNALS) process.removeListener(signal, interrupted);
  }
  result.converged = result.problems.length === 0;
  return result;
}

async function playDivision(division: Division): Promise<void> {
  const { seed, apartMs, around, places, nodes, result, say } = division;
  const { problems } = result;
  const random = new Random(seed);
  const rate = Math.max(1, Math.min(RATE, Math.round((1000 * RECORDS) / apartMs)));
  const program = await programIn(around);
  const all = Array.from({ length: NODES }, (_, nth) => nth);
  const open = async (nth: number, peers: readonly number[]): Promise<void> => {
    const node = new NodeProcess(program, places, nth, join(around, `${nth}`), peers);
    nodes.push(node);
    await node.opened();
  };
  const states = () => Promise.all(nodes.map((node) => node.state()));
  /** @returns the last that was seen; and says so if it never held */
  const until = async (what: string, holds: (seen: readonly NodeState[]) => boolean) => {
    const began = performance.now();
    for (;;) {
      const asked = performance.now();
      const seen = await states();
      const seconds = Math.round((performance.now() - began) / 100) / 10;
      if (holds(seen)) {
        say(`${what}: after ${seconds} s, ${seen.map(({ count }) => count).join(', ')} records`);
        return seen;
      }
      if (performance.now() - began > PATIENCE_MS) {
        problems.push(`not within ${PATIENCE_MS / 1000} s: ${what}; ${JSON.stringify(seen)}`);
        return seen;
      }
      // To look costs a busy machine what it needs to come to what is looked for.
      await pause(Math.max(LOOK_MS, 2 * (performance.now() - asked)));
    }
  };
  for (const nth of all)
    await open(
      nth,
      all.filter((other) => other !== nth),
    );
  await until('all connected and alike', (seen) => seen.every(({ isSynchronised }) => isSynchronised));

  const apart = new Set(random.chance(0.5) ? [3, 4] : [random.between(0, 4)]);
  for (const nth of apart) places.move(nth, 'apart');
  result.partitions += 1;
  // Before that each would hold the other side's record for the later one, and suspect it.
  await until('nobody taken for alike', (seen) => !seen.some(({ isSynchronised }) => isSynchronised));
  say(`divided for ${apartMs / 1000} s, node ${[...apart].join(' and ')} from the others; all write`);
  await Promise.all(nodes.map((node) => node.write(rate)));
  // What is shown is looked at all the time: it may not go back.
  for (const end = performance.now() + apartMs; performance.now() < end; ) {
    await pause(Math.min(LOOKED_EVERY_MS, end - performance.now()));
    await states();
  }
  await Promise.all(nodes.map((node) => node.write(0)));
  const sides = await until('each side alike', (seen) => {
    const of = (isApart: boolean) => seen.filter((_, nth) => apart.has(nth) === isApart);
    return isAlike(of(true)) && isAlike(of(false));
  });
  if (isAlike(sides)) problems.push('the two sides were never apart');

  for (const nth of apart) places.move(nth, 'whole');
  const healed = await until('all alike', (seen) => isAlike(seen) && seen[0]!.count > sides[0]!.count);
  await open(NODES, all);
  const last = await until('the late one alike', isAlike);
  if (last[0]!.fingerprint !== healed[0]!.fingerprint) problems.push('records came or went at the end');
  if (last[0]!.conflicts === 0) problems.push('nothing was written by two owners');
  problems.push(...last.flatMap((state) => state.problems));
  result.state = last[0]!;
  const [changes, older] = (['changes', 'older'] as const).map((name) =>
    last.reduce((sum, state) => sum + state[name], 0),
  );
  if (changes === 0) problems.push('nothing else was ever shown first');
  say(
    `${last[0]!.conflicts} conflicts; ${changes} times another record came first, ${older} times an older one`,
  );
}

/** The same records, and of each conflict the same first. */
const isAlike = (states: readonly NodeState[]): boolean =>
  new Set(states.map(({ fingerprint, winners }) => `${fingerprint} ${winners}`)).size === 1;

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

async function within<T>(work: Promise<T>, milliseconds: number, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`waited ${milliseconds / 1000} s in vain for ${what}`)),
    milliseconds,
  );
  return await Promise.race([work, late.promise]).finally(() => clearTimeout(timer));
}

if (import.meta.main) {
  const began = performance.now();
  const say = (text: string) => printError(`  ${Math.round((performance.now() - began) / 1000)} s: ${text}`);
  printJson(await divideNodes(Number(process.argv[2]), MINUTES_MS, say));
  // Whatever is still waited for.
  process.exit();
}
