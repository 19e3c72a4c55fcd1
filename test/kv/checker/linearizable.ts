/**
 * Whether a history is linearizable (Herlihy & Wing): whether each operation can have happened at one moment between its call and its
 * answer. The search is Wing & Gong's, with Lowe's memory of what was tried ("Testing for linearizability", 2017): the first
 * operations that nobody preceded are tried one after the other, and a set of operations that led to the same state once is not
 * tried again. Partitions are judged apart, which loses nothing: linearizability is a local property.
 */
import { isReadOnly, type Operation, partitionOf } from './history.ts';
import { emptyState, type State, stateKey, step } from './model.ts';

export type Verdict =
  | { readonly linearizable: true }
  /** With the longest order that was possible, and what could not follow it. */
  | {
      readonly linearizable: false;
      readonly partition: string;
      readonly order: readonly Operation[];
      readonly stuck: readonly Operation[];
    };

/** Steps of the search for one partition: far more than a history of a working store takes. */
const BUDGET = 5_000_000;

/** @throws Error when it is not decided after `budget` steps: then the history is too concurrent */
export function checkHistory(history: readonly Operation[], budget = BUDGET): Verdict {
  for (const [partition, operations] of partitions(history)) {
    const verdict = new Search(operations, budget).run();
    if (verdict !== undefined) return { linearizable: false, partition, ...verdict };
  }
  return { linearizable: true };
}

/** @throws Error for an operation of two partitions, or of none */
function partitions(history: readonly Operation[]): Map<string, Operation[]> {
  const found = new Map<string, Operation[]>();
  for (const operation of history) {
    const { comparisons, success, failure } = operation;
    const keys = [...comparisons, ...success, ...failure].map(({ key }) => key);
    const names = new Set(keys.map(partitionOf));
    const [name] = names;
    if (name === undefined || names.size !== 1)
      throw new Error(`an operation is of ${names.size} partitions: ${keys.join(', ')}`);
    if (operation.answer === undefined && isReadOnly(operation)) continue;
    const list = found.get(name) ?? [];
    list.push(operation);
    found.set(name, list);
  }
  return found;
}

/** A call or an answer, in a list in the order of time. */
interface Node {
  readonly index: number;
  /** The answer, if this is a call. */
  readonly answer?: Node;
  previous?: Node | undefined;
  next?: Node | undefined;
}

class Search {
  readonly #operations: readonly Operation[];
  readonly #head: Node = { index: -1 };
  readonly #tried = new Set<string>();
  /** For a name of a set of operations: the exclusive or of its members'. */
  readonly #names: readonly (readonly [number, number])[];
  #budget: number;
  #longest: number[] = [];

  constructor(operations: readonly Operation[], budget: number) {
    this.#operations = operations;
    this.#budget = budget;
    let seed = 0x9e3779b9;
    const random = () => {
      seed = Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) + 0x6d2b79f5;
      return (seed ^ (seed >>> 13)) | 0;
    };
    this.#names = operations.map(() => [random(), random()]);
    this.#list();
  }

  /** Returns nothing when an order was found. */
  run(): { order: Operation[]; stuck: Operation[] } | undefined {
    const chosen: { call: Node; state: State; others: State[] }[] = [];
    let state = emptyState;
    let name: readonly [number, number] = [0, 0];
    let remaining = this.#operations.filter(({ returned }) => returned !== Number.POSITIVE_INFINITY).length;
    let at = this.#head.next;
    const take = (call: Node, before: State, states: State[]): boolean => {
      const mixed = this.#mix(name, call.index);
      while (states.length > 0) {
        const next = states.shift()!;
        const key = `${mixed[0]} ${mixed[1]} ${stateKey(next)}`;
        if (this.#tried.has(key)) continue;
        this.#tried.add(key);
        chosen.push({ call, state: before, others: states });
        [state, name] = [next, mixed];
        lift(call);
        if (this.#isAnswered(call)) remaining -= 1;
        if (chosen.length > this.#longest.length) this.#longest = chosen.map((one) => one.call.index);
        return true;
      }
      return false;
    };
    // What was not answered may not have happened, so the answered ones are enough.
    while (remaining > 0) {
      if (this.#budget-- <= 0)
        throw new Error(`not decided: ${this.#operations.length} operations of one partition are too many`);
      if (at?.answer !== undefined) {
        const states = step(state, this.#operations[at.index]!);
        at = take(at, state, states) ? this.#head.next : at.next;
        continue;
      }
      // The answer of one that is not in the order yet, or the end: nothing else can come before it. Back.
      const last = chosen.pop();
      if (last === undefined) return this.#failure();
      unlift(last.call);
      if (this.#isAnswered(last.call)) remaining += 1;
      [state, name] = [last.state, this.#mix(name, last.call.index)];
      at = take(last.call, last.state, last.others) ? this.#head.next : last.call.next;
    }
    return undefined;
  }

  #isAnswered({ index }: Node): boolean {
    return this.#operations[index]!.answer !== undefined;
  }

  #mix(name: readonly [number, number], index: number): [number, number] {
    const own = this.#names[index]!;
    return [name[0] ^ own[0], name[1] ^ own[1]];
  }

  /** At the same moment calls come before answers: then both orders are allowed. */
  #list(): void {
    const events = this.#operations.flatMap((operation, index) => {
      const answer: Node = { index };
      return [
        { time: operation.called, rank: 0, node: { index, answer } },
        { time: operation.returned, rank: 1, node: answer },
      ];
    });
    events.sort((a, b) => (a.time === b.time ? a.rank - b.rank : a.time < b.time ? -1 : 1));
    let last = this.#head;
    for (const { node } of events as { node: Node }[]) {
      node.previous = last;
      last.next = node;
      last = node;
    }
  }

  #failure(): { order: Operation[]; stuck: Operation[] } {
    const order = this.#longest.map((index) => this.#operations[index]!);
    const left = this.#operations.filter((operation) => !order.includes(operation));
    const end = Math.min(...left.map(({ returned }) => returned));
    return { order, stuck: left.filter(({ called }) => called <= end) };
  }
}

/** Takes a call and its answer out of the list. They keep their places for `unlift`. */
function lift(call: Node): void {
  for (const node of [call, call.answer!]) {
    node.previous!.next = node.next;
    if (node.next) node.next.previous = node.previous;
  }
}

function unlift(call: Node): void {
  for (const node of [call.answer!, call]) {
    node.previous!.next = node;
    if (node.next) node.next.previous = node;
  }
}
