/**
 * Five nodes of records in network namespaces that are divided while all of them write, under the same names, and put together again; then one more
 * comes: a round of `npm run torture -- --only division`, and seconds of it in the tests. Needs root and `ip`.
 *
 *     node host/records/division.fixture.ts SEED
 *
 * The last line that it prints is its verdict as JSON.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { printJson } from '../../lib/daemon/terminal.ts';
import { Random } from '../../test/torture/random.ts';
import type { NodeState } from './division-node.fixture.ts';

const NODES = 5;
const PORT = 7613;
const MINUTES_MS = 120_000;
/** Records that each node writes, in all and in a second at most: what all show first is looked at again and again. */
const RECORDS = 400;
const RATE = 20;
const PATIENCE_MS = 90_000;

export interface DivisionResult {
  converged: boolean;
  partitions: number;
  problems: string[];
  /** What all agree on in the end. */
  state?: NodeState;
}

/** Why it can't be done here; undefined where it can. */
export function whyNoDivision(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  const name = `dstack-try-${process.pid}`;
  try {
    ip('netns', 'add', name);
    try {
      ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
      ip('-n', name, 'link', 'add', 'bridge', 'type', 'bridge');
    } finally {
      ip('netns', 'del', name);
    }
    return undefined;
  } catch {
    return 'no network namespaces can be made here';
  }
}

const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' });
const addressOf = (nth: number): string => `10.77.0.${nth + 1}`;

/** Namespaces, each at a port of one of two switches. */
class Places {
  readonly #prefix = `dstack-${process.pid}-${Date.now() % 100_000}`;
  readonly #switch = `${this.#prefix}-s`;
  readonly #made: string[] = [];

  constructor() {
    this.#add(this.#switch);
    for (const bridge of ['whole', 'apart']) {
      ip('-n', this.#switch, 'link', 'add', bridge, 'type', 'bridge');
      ip('-n', this.#switch, 'link', 'set', bridge, 'up');
    }
  }

  name(nth: number): string {
    return `${this.#prefix}-${nth}`;
  }

  add(nth: number): void {
    const name = this.name(nth);
    this.#add(name);
    ip(
      '-n',
      this.#switch,
      'link',
      'add',
      `port${nth}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      name,
    );
    ip('-n', this.#switch, 'link', 'set', `port${nth}`, 'master', 'whole', 'up');
    ip('-n', name, 'address', 'add', `${addressOf(nth)}/24`, 'dev', 'eth0');
    for (const device of ['lo', 'eth0']) ip('-n', name, 'link', 'set', device, 'up');
  }

  move(nth: number, bridge: 'whole' | 'apart'): void {
    ip('-n', this.#switch, 'link', 'set', `port${nth}`, 'master', bridge);
  }

  remove(): void {
    for (const name of this.#made) ip('netns', 'del', name);
  }

  #add(name: string): void {
    ip('netns', 'add', name);
    this.#made.push(name);
  }
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

  async #answer(): Promise<string> {
    const { value, done } = await this.#answers.next();
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

/** @param apartMs how long they are divided */
export async function divideNodes(seed: number, apartMs: number): Promise<DivisionResult> {
  const random = new Random(seed);
  const rate = Math.max(1, Math.min(RATE, Math.round((1000 * RECORDS) / apartMs)));
  const around = mkdtempSync(join(tmpdir(), 'dstack-division-'));
  const program = await programIn(around);
  const places = new Places();
  const nodes: NodeProcess[] = [];
  const problems: string[] = [];
  const result: DivisionResult = { converged: false, partitions: 0, problems };
  const all = Array.from({ length: NODES }, (_, nth) => nth);
  const open = async (nth: number, peers: readonly number[]): Promise<void> => {
    const node = new NodeProcess(program, places, nth, join(around, `${nth}`), peers);
    nodes.push(node);
    await node.opened();
  };
  const states = () => Promise.all(nodes.map((node) => node.state()));
  /** @returns the last that was seen; and says so if it never held */
  const until = async (what: string, holds: (seen: readonly NodeState[]) => boolean) => {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const seen = await states();
      if (holds(seen)) return seen;
      if (performance.now() > deadline) {
        problems.push(`not within ${PATIENCE_MS / 1000} s: ${what}; ${JSON.stringify(seen)}`);
        return seen;
      }
      await pause(300);
    }
  };
  try {
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
    await Promise.all(nodes.map((node) => node.write(rate)));
    await pause(apartMs);
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
    result.converged = problems.length === 0;
  } catch (error) {
    problems.push(String(error));
  } finally {
    await Promise.all(nodes.map((node) => node.end()));
    places.remove();
    rmSync(around, { recursive: true, force: true });
  }
  return result;
}

/** The same records, and of each conflict the same first. */
const isAlike = (states: readonly NodeState[]): boolean =>
  new Set(states.map(({ fingerprint, winners }) => `${fingerprint} ${winners}`)).size === 1;

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

if (import.meta.main) printJson(await divideNodes(Number(process.argv[2]), MINUTES_MS));
