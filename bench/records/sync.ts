/** Nodes that are connected: two that differ by ten records, and one that has nothing yet. Each is a process of its own. */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { round } from './files.ts';
import { APART } from './make.ts';
import { SpokenProcess } from './spoken-process.ts';
import type { WireState } from './wire-node.ts';

export interface PairFigures {
  readonly pairMs: number;
  /** Both ways, beside the records that the two lacked. */
  readonly pairBytes: number;
  /** Of the one that took more. */
  readonly pairMoreMiB: number;
}

type Node = SpokenProcess<WireState>;

/** Nodes that end with what is done with them. */
async function withNodes<T>(
  around: string,
  use: (open: (name: string) => Promise<[Node, WireState]>) => Promise<T>,
) {
  const nodes: Node[] = [];
  try {
    return await use(async (name) => {
      const program = join(import.meta.dirname, 'wire-node.ts');
      const node: Node = new SpokenProcess(program, join(around, name), join(around, 'genesis'));
      nodes.push(node);
      return [node, await node.answer()];
    });
  } finally {
    await Promise.all(nodes.map((node) => node.end()));
  }
}

/** @param folder of a node with all records, which stays as it is */
export async function benchPair(around: string, folder: string): Promise<PairFigures> {
  for (const name of ['one', 'two']) cpSync(folder, join(around, name), { recursive: true });
  return await withNodes(around, async (open) => {
    const [[one, { port }], [two]] = [await open('one'), await open('two')];
    const half = APART / 2;
    const apart = join(around, 'apart');
    const before = [await one.ask(`add ${apart} 0 ${half}`), await two.ask(`add ${apart} ${half} ${half}`)];
    const all = before[0]!.records + half;
    const dialled = await two.ask(`dial ${port} ${all}`);
    const other = await settled(one, all);
    const records = before.reduce((sum, { addedBytes }) => sum + addedBytes, 0);
    const more = [other, dialled].map(({ peakMiB }, nth) => peakMiB - before[nth]!.residentMiB);
    return {
      pairMs: round(dialled.ms),
      pairBytes: dialled.wireBytes - records,
      pairMoreMiB: Math.max(0, round(Math.max(...more))),
    };
  }).finally(() => {
    for (const name of ['one', 'two']) rmSync(join(around, name), { recursive: true, force: true });
  });
}

async function settled(node: Node, records: number): Promise<WireState> {
  for (;;) {
    const state = await node.ask('state');
    if (state.records >= records) return state;
  }
}

export interface FreshFigures {
  readonly seconds: number;
  /** Of the one that began with nothing. */
  readonly cpuSeconds: number;
  readonly bytesPerRecord: number;
}

/** One that has nothing, and fetches so many. */
export async function benchFresh(around: string, count: number): Promise<FreshFigures> {
  return await withNodes(around, async (open) => {
    const [giver, { port }] = await open('giver');
    const { records } = await giver.ask(`add ${join(around, 'records')} 0 ${count}`);
    const [fresh, { cpuSeconds }] = await open('fresh');
    const done = await fresh.ask(`dial ${port} ${records}`);
    return {
      seconds: round(done.ms / 1000),
      cpuSeconds: round(done.cpuSeconds - cpuSeconds),
      bytesPerRecord: Math.round(done.wireBytes / records),
    };
  }).finally(() => {
    for (const name of ['giver', 'fresh']) rmSync(join(around, name), { recursive: true, force: true });
  });
}
