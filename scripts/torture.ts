/**
 * `npm run torture`: relays, gossip and replicators under stress, for as long as you like.
 *
 *   npm run torture -- [--rounds N] [--seed S] [--only SECTION[,SECTION]] [--jobs N] [--resume]
 *
 * Sections: `kills` (relays of both sides and the owner's commands killed at the points where they act on the outside),
 * `reorgs`, `rpc` (endpoints that stall, limit, lie and forget), `races` (two onboarders, relays killed at random),
 * `orphans` (the node that answered is gone before the secret is sealed), `fees`
 * (spikes, evictions, an empty account, someone else with the gas key), `gossip` (spoiled and forged copies of requests, floods,
 * held connections, registrations that nobody published), all with real processes, round by round; `mesh` (gossip alone, among relays of
 * one process: parts cut off from each other, and liars among their peers); and, only
 * when named, `division` (five nodes of records in network namespaces, divided for minutes while all write; needs root), `store` (kv, its
 * etcd or both killed twenty times a round under concurrent clients, the ledger compared with etcd's events after each; 50 rounds are
 * 1,000 kills), `records`
 * (nodes of records killed a hundred times a round while they take records in; 10 rounds are 1,000 kills), `alike`
 * (random requests of two hostile namespaces of the store, compared with two bare etcds), `contract` (contracts/fuzz.ts, N hundred
 * sequences), `defences` (npm run defences) and `signer` (a million requests to signers of one key, test/torture/signing.ts).
 *
 * A round is made from its section and a seed, which is printed; `--only SECTION --seed S --rounds 1` plays one again. The
 * choices are then the same, but the timing depends on the machine. Progress is saved in `.state/torture.json` after each round
 * (each `--jobs` rounds); `--resume` goes on from there. Exits 1 if a network did not converge, a request was onboarded twice, a purpose got two
 * transactions, a nonce is stuck, an acknowledged write of the store is lost, its history is not linearizable, its ledger is
 * another than that of etcd's events, or it is not alike.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Type } from 'typebox';
import { writeDurably } from '../lib/daemon/durable-file.ts';
import { print } from '../lib/daemon/terminal.ts';
import { Count, parseJson, Strict } from '../lib/protocol/schema.ts';

const root = join(import.meta.dirname, '..');
const STATE_FILE = join(root, '.state/torture.json');
const PLAYED = ['kills', 'reorgs', 'rpc', 'races', 'orphans', 'fees', 'gossip', 'mesh'];
const STORE = ['store', 'alike'];
const RECORDS = ['records', 'division'];
const SPAWNED = ['contract', 'defences', 'signer'];
/** A round takes under a minute on an idle machine; one of nodes of records minutes, and its own limit is shorter than this. */
const ROUND_TIMEOUT_MS = 300_000;
const RECORDS_TIMEOUT_MS = 1_200_000;
/** For a round that is told to end to remove what it made. */
const REMOVED_WITHIN_MS = 15_000;
const MAX_BYTES = 1024 * 1024;

/** What a round counts. */
const CountNames = [
  'kills',
  'reorgs',
  'races',
  'spikes',
  'lies',
  'strangers',
  'partitions',
  'doubleOnboards',
  'doublePurposes',
  'stuckNonces',
  'lostWrites',
] as const;
/** Of these, what was done to the network. */
const DEEDS = ['kills', 'reorgs', 'races', 'spikes', 'lies', 'strangers', 'partitions'] as const;
const FigureNames = ['rounds', ...CountNames, 'notConverged'] as const;
type Figures = Record<(typeof FigureNames)[number], number>;
const StateSchema = Strict({
  seed: Count,
  rounds: Count,
  /** Rounds at a time. */
  jobs: Count,
  sections: Type.Array(Type.String({ maxLength: 20 }), { maxItems: 12 }),
  /** Rounds that are done. */
  next: Count,
  figures: Strict(Object.fromEntries(FigureNames.map((name) => [name, Count]))),
  failures: Type.Array(Type.String({ maxLength: 4000 })),
});
/** A round says what it counts; the store has no nonces, and a relay no writes. */
const VerdictSchema = Type.Object({
  ...(Object.fromEntries(CountNames.map((name) => [name, Type.Optional(Count)])) as Record<
    (typeof CountNames)[number],
    Type.TOptional<typeof Count>
  >),
  converged: Type.Boolean(),
  problems: Type.Array(Type.String()),
});
interface State {
  seed: number;
  rounds: number;
  jobs: number;
  sections: string[];
  next: number;
  figures: Figures;
  failures: string[];
}

async function main(): Promise<boolean> {
  const state = startingState();
  const what = `${state.sections.join(', ')}; seed ${state.seed}`;
  print(`torture: ${what}; rounds ${state.next} to ${state.rounds - 1}`);
  const started = performance.now();
  while (state.next < state.rounds) {
    const batch = Array.from(
      { length: Math.min(state.jobs, state.rounds - state.next) },
      (_, n) => state.next + n,
    );
    const failures = await Promise.all(batch.map((number) => play(state, number)));
    state.failures.push(
      ...failures.flatMap((failure) => (failure === undefined ? [] : [failure.slice(0, 4000)])),
    );
    state.figures.rounds += batch.length;
    state.next += batch.length;
    save(state);
  }
  report(state, performance.now() - started);
  return state.failures.length === 0;
}

/** One round, by its number. Returns what failed. */
function play(state: State, number: number): Promise<string | undefined> {
  const section = state.sections[number % state.sections.length]!;
  const seed = (state.seed + number) >>> 0;
  return SPAWNED.includes(section)
    ? runSpawned(section, seed)
    : playRound(state.figures, section, seed, number);
}

/** @throws Error for an option that makes no sense, or when there is nothing to resume */
function startingState(): State {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '10' },
      seed: { type: 'string', default: String(Math.floor(Date.now() / 1000)) },
      jobs: { type: 'string', default: '1' },
      only: { type: 'string', default: PLAYED.join(',') },
      resume: { type: 'boolean', default: false },
    },
  });
  if (values.resume)
    return parseJson(
      StateSchema,
      readFileSync(STATE_FILE, 'utf8'),
      'TORTURE_STATE',
      STATE_FILE,
      MAX_BYTES,
    ) as State;
  const sections = values.only.split(',');
  const known = [...PLAYED, ...STORE, ...RECORDS, ...SPAWNED];
  const unknown = sections.find((section) => !known.includes(section));
  if (unknown !== undefined) throw new Error(`--only takes ${known.join(', ')}, not ${unknown}`);
  const [seed, rounds, jobs] = [values.seed, values.rounds, values.jobs].map((text) => {
    if (!/^\d{1,10}$/.test(text)) throw new Error(`${text} is not a whole number`);
    return Number(text);
  }) as [number, number, number];
  const figures = Object.fromEntries(FigureNames.map((name) => [name, 0])) as Figures;
  return { seed, rounds, jobs: Math.max(1, jobs), sections, next: 0, figures, failures: [] };
}

/** Each round is a process of its own, so that whatever it leaves behind ends with it. Returns what failed. */
async function playRound(
  figures: Figures,
  section: string,
  seed: number,
  number: number,
): Promise<string | undefined> {
  const started = performance.now();
  const again = `npm run torture -- --only ${section} --seed ${seed} --rounds 1`;
  const isOfRecords = RECORDS.includes(section);
  const { output, ended } = await run([...programOf(section), String(seed)], {
    timeout: isOfRecords ? RECORDS_TIMEOUT_MS : ROUND_TIMEOUT_MS,
    // It takes minutes, and says what it does.
    isHeard: isOfRecords,
  });
  const line = output.trim().split('\n').at(-1) ?? '';
  const seconds = Math.round((performance.now() - started) / 1000);
  if (ended !== 0 || !line.startsWith('{')) {
    figures.notConverged += 1;
    print(
      `round ${number}: ${section}, seed ${seed}, ${seconds} s: NO VERDICT (${ended})`,
      ...output.slice(-3000).split('\n'),
      `  ${again}`,
    );
    return `${again}: no verdict`;
  }
  const verdict = parseJson(VerdictSchema, line, 'TORTURE_VERDICT', 'the verdict of a round', MAX_BYTES);
  for (const name of CountNames) figures[name] += verdict[name] ?? 0;
  if (!verdict.converged) figures.notConverged += 1;
  const { problems } = verdict;
  const did = DEEDS.flatMap((name) => ((verdict[name] ?? 0) > 0 ? [`${verdict[name]} ${name}`] : []));
  const good = verdict.converged && problems.length === 0;
  // Before its verdict a round of the store says what it did.
  if (STORE.includes(section)) did.push(...output.trim().split('\n').slice(0, -1));
  print(
    `round ${number}: ${section}, seed ${seed}, ${seconds} s: ${did.join(', ')}: ${good ? 'good' : 'FAILED'}`,
  );
  if (good) return undefined;
  print(...problems, `  ${again}`);
  return `${again}: ${problems.join('; ')}`;
}

/** Its arguments but the seed. */
function programOf(section: string): string[] {
  if (section === 'mesh') return ['test/torture/mesh.ts'];
  if (section === 'records') return ['host/records/kills.fixture.ts'];
  if (section === 'division') return ['host/records/division.fixture.ts'];
  return [STORE.includes(section) ? 'test/kv/rounds.ts' : 'test/torture/round.ts', section];
}

/** Sections that are programs of their own, with their own figures. */
async function runSpawned(section: string, seed: number): Promise<string | undefined> {
  const args = {
    contract: ['contracts/fuzz.ts', '--sequences', '300', '--seed', String(seed), '--coverage', '0'],
    defences: ['scripts/defences.ts'],
    signer: ['test/torture/signing.ts', '1000000', String(seed)],
  }[section]!;
  const { output, ended } = await run(args);
  print(...output.trim().split('\n').slice(-5));
  print(`${section}, seed ${seed}: ${ended === 0 ? 'good' : 'FAILED'}`);
  return ended === 0 ? undefined : `${section}, seed ${seed}: node ${args.join(' ')}`;
}

/**
 * Runs a script of this tree to its end, in its own process group so that none of its processes outlives a timeout, or this process where that is told to
 * end: the group is told so first, and has a while to remove what it made.
 * @param isHeard what it says on standard error is seen at once
 */
function run(
  args: readonly string[],
  { timeout, isHeard = false }: { timeout?: number; isHeard?: boolean } = {},
): Promise<{ output: string; ended: number | string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', isHeard ? 'inherit' : 'pipe'],
    });
    const chunks: Buffer[] = [];
    for (const stream of [child.stderr, child.stdout])
      stream?.on('data', (chunk: Buffer) => chunks.push(chunk));
    const signal = (name: NodeJS.Signals) => {
      if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, name);
    };
    let killing: NodeJS.Timeout | undefined;
    const end = () => {
      signal('SIGTERM');
      killing ??= setTimeout(() => signal('SIGKILL'), REMOVED_WITHIN_MS);
    };
    const timer = timeout === undefined ? undefined : setTimeout(end, timeout);
    const interrupted = () => {
      end();
      child.once('close', () => process.exit(130));
    };
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, interrupted);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      clearTimeout(killing);
      for (const name of ['SIGINT', 'SIGTERM'] as const) process.removeListener(name, interrupted);
      resolve({ output: Buffer.concat(chunks).toString(), ended: code ?? signal ?? 'gone' });
    });
  });
}

/** Atomically: a run may be interrupted while it writes. */
function save(state: State): void {
  mkdirSync(dirname(STATE_FILE), { recursive: true });
  writeDurably(STATE_FILE, JSON.stringify(state, null, 2));
}

function report({ figures, failures, seed, sections }: State, milliseconds: number): void {
  print('', `${sections.join(', ')}; first seed ${seed}; ${Math.round(milliseconds / 1000)} s in this run`);
  print(
    `rounds ${figures.rounds}, kills ${figures.kills}, reorgs ${figures.reorgs}, races ${figures.races}, fee spikes ${figures.spikes}, lies ${figures.lies}, partitions ${figures.partitions}`,
  );
  print(`networks that did not converge: ${figures.notConverged}`);
  print(`double onboards: ${figures.doubleOnboards}`);
  print(`purposes with two transactions: ${figures.doublePurposes}`);
  print(`stuck nonces: ${figures.stuckNonces}`);
  print(`acknowledged writes lost: ${figures.lostWrites}`);
  for (const failure of failures) print(`FAILED: ${failure.split('\n')[0]}`);
}

process.exitCode = (await main()) ? 0 : 1;
