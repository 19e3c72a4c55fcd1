/** What one peer that lies costs a node, in each way of lying (lies.ts): the node is a process of its own, the liar this one. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cost } from './liar-node.ts';
import { LIES } from './lies.ts';
import { SpokenProcess } from './spoken-process.ts';

export interface LiarCost {
  readonly liar: string;
  readonly what: string;
  /** Of one core, over the whole time. */
  readonly cpuPercent: number;
  readonly cpuSeconds: number;
  readonly seconds: number;
  /** More than before it came, at most. */
  readonly memoryMiB: number;
  readonly diskBytes: number;
  /** How its connections ended, most often. */
  readonly end: string;
  readonly connections: number;
}

/** As often as one address may be connected, each with a key of its own. */
export async function costOfLiar(liar: string, seconds: number, connections: number): Promise<LiarCost> {
  const [what, lie] = LIES[liar]!;
  const around = mkdtempSync(join(tmpdir(), 'dstack-bench-liars-'));
  const folder = join(around, 'node');
  const node = new SpokenProcess<Cost>(join(import.meta.dirname, 'liar-node.ts'), folder);
  try {
    await node.ask('warm');
    const before = await node.ask('begin');
    const diskBefore = bytesIn(folder);
    const began = performance.now();
    let made = 0;
    let isOver = false;
    const lying = Array.from({ length: connections }, async () => {
      while (!isOver) {
        made += 1;
        const label = `${liar} ${made}`;
        // However it ends, it comes again.
        await lie({ port: before.port, network: before.network, label }).catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const after = await node.ask('end');
    const took = (performance.now() - began) / 1000;
    isOver = true;
    const [end = 'none'] = Object.entries(after.ends).toSorted(([, a], [, b]) => b - a)[0] ?? [];
    await node.end();
    await Promise.race([Promise.all(lying), new Promise((resolve) => setTimeout(resolve, 2_000))]);
    return {
      ...{ liar, what, end, connections: made },
      ...{ cpuSeconds: after.cpuSeconds - before.cpuSeconds, seconds: took },
      cpuPercent: Math.round((100 * (after.cpuSeconds - before.cpuSeconds)) / took),
      memoryMiB: Math.max(0, Math.round(after.peakMiB - before.residentMiB)),
      diskBytes: bytesIn(folder) - diskBefore,
    };
  } finally {
    await node.end();
    rmSync(around, { recursive: true });
  }
}

const bytesIn = (folder: string): number =>
  readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
