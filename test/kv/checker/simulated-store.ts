/**
 * Histories of a store that is only simulated: correct, or with one fault. What the checker is tested with.
 */
import { Random } from '../../torture/random.ts';
import {
  type Answer,
  type Comparison,
  type Entry,
  isReadOnly,
  type Operation,
  type Result,
} from './history.ts';
import { randomOperation } from './random-operation.ts';

/**
 * `stale`: a read is answered from the past. `lost`: a write is answered and forgotten. `twice`: a write happens once more, later.
 * `reordered`: a write is answered first, and happens after later ones. `blind`: comparisons come out true whatever is there.
 */
export const faults = ['stale', 'lost', 'twice', 'reordered', 'blind'] as const;
export type Fault = (typeof faults)[number];

export interface Simulation {
  readonly seed: number;
  readonly clients: number;
  /** Of each client. */
  readonly operations: number;
  readonly keys: number;
  /** The part of operations that are not answered, half of which happen. */
  readonly unanswered: number;
  readonly fault?: Fault;
  /** The part of operations that the fault befalls. */
  readonly rate?: number;
}

interface Planned extends Operation {
  readonly happens: number;
  readonly isLost: boolean;
}
type Full = Required<Entry>;
export type Entries = ReadonlyMap<string, Full>;

export function simulate(simulation: Simulation): Operation[] {
  const random = new Random(simulation.seed);
  const { fault, rate = 0.2 } = simulation;
  const planned = Array.from({ length: simulation.clients }, (_, client) => plan(simulation, client, random));
  const effects = planned.flat().sort((a, b) => a.happens - b.happens);
  const past: Entries[] = [new Map()];
  const late: Planned[] = [];
  let revision = 1;
  const happen = (one: Planned, from: Entries, comparisons = one.comparisons): Answer => {
    const { answer, entries } = execute({ ...one, comparisons }, from, revision);
    if (entries !== from) {
      past.push(entries);
      revision = answer.revision!;
    }
    return answer;
  };
  const history = effects.map((one): Operation => {
    const { happens, isLost, ...operation } = one;
    const now = past.at(-1)!;
    while (late.length > 0 && late[0]!.happens < happens) happen(late.shift()!, past.at(-1)!);
    if (isLost) return operation;
    const isRead = isReadOnly(one);
    const struck = fault !== undefined && random.chance(rate);
    let answer: Answer;
    if (struck && fault === 'stale' && isRead)
      answer = execute(one, past[Math.max(0, past.length - random.between(6, 16))]!, revision).answer;
    else if (struck && !isRead && (fault === 'lost' || fault === 'reordered')) {
      answer = execute(one, now, revision).answer;
      if (fault === 'reordered') late.push({ ...one, happens: happens + 60 });
    } else {
      answer = happen(one, past.at(-1)!, struck && fault === 'blind' ? [] : one.comparisons);
      if (struck && fault === 'twice' && !isRead) late.push({ ...one, happens: happens + 60 });
    }
    return one.returned === Number.POSITIVE_INFINITY ? operation : { ...operation, answer };
  });
  return history.sort((a, b) => a.called - b.called);
}

/** One client's operations, one after the other; what it writes is written once. */
function plan({ operations, keys, unanswered }: Simulation, client: number, random: Random): Planned[] {
  const list: Planned[] = [];
  let time = random.between(0, 10);
  for (let n = 0; n < operations; n += 1) {
    const happens = time + random.between(1, 20) + random.next();
    const isUnanswered = random.chance(unanswered);
    const returned = isUnanswered ? Number.POSITIVE_INFINITY : happens + random.between(1, 20);
    const what = randomOperation(random, keys, `${client}.${n}`);
    list.push({
      ...what,
      client,
      called: time,
      happens,
      returned,
      isLost: isUnanswered && random.chance(0.5),
    });
    time = (isUnanswered ? happens + 20 : returned) + random.between(1, 10);
  }
  return list;
}

/** The answer of a correct store, and the entries after it (the same map when nothing changed). */
export function execute(
  { comparisons, success, failure }: Pick<Operation, 'comparisons' | 'success' | 'failure'>,
  before: Entries,
  revision: number,
): { answer: Answer; entries: Entries } {
  const holds = (comparison: Comparison): boolean => {
    const entry = before.get(comparison.key);
    if (comparison.target === 'value') return entry?.value === comparison.equals;
    return (entry?.[comparison.target] ?? 0) === comparison.equals;
  };
  const succeeded = comparisons.every(holds);
  const entries = new Map(before);
  const next = revision + 1;
  let changed = false;
  const results = (succeeded ? success : failure).map((one): Result => {
    if (one.kind === 'list') {
      const listed = [...entries].filter(([key]) => key.startsWith(one.key));
      return { kind: 'list', entries: Object.fromEntries(listed) };
    }
    const entry = entries.get(one.key);
    if (one.kind === 'get') return entry ? { kind: 'get', entry } : { kind: 'get' };
    if (one.kind === 'delete') {
      changed ||= entries.delete(one.key);
      return { kind: 'delete', deleted: entry ? 1 : 0 };
    }
    changed = true;
    const { version, create } = entry ?? { version: 0, create: next };
    entries.set(one.key, { value: one.value, version: version + 1, create, mod: next });
    return { kind: 'put' };
  });
  return {
    answer: { succeeded, revision: changed ? next : revision, results },
    entries: changed ? entries : before,
  };
}
