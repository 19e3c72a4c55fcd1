/** Where a Node process's time went, by the profile that `--cpu-prof` wrote: of each file, and of the engine itself. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const root = resolve(import.meta.dirname, '../..');
const LINES = 25;

/** Lines of a table, of the largest profile in the folder. */
export function profileOf(folder: string): string[] {
  const [file] = readdirSync(folder)
    .filter((name) => name.endsWith('.cpuprofile'))
    .map((name) => join(folder, name))
    .sort((a, b) => statSync(b).size - statSync(a).size);
  if (file === undefined) return ['no profile was written'];
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const files = new Map<string, number>();
  const functions = new Map<string, number>();
  let busy = 0;
  for (const [n, id] of samples.entries()) {
    const { functionName, url } = frames.get(id)!;
    if (functionName === '(idle)') continue;
    const time = timeDeltas[n] ?? 0;
    busy += time;
    const where = placeOf(url, functionName);
    files.set(where, (files.get(where) ?? 0) + time);
    const what = `${functionName || '(anonymous)'}, ${where}`;
    functions.set(what, (functions.get(what) ?? 0) + time);
  }
  const table = (title: string, times: ReadonlyMap<string, number>): string[] => [
    `| ${title} | of its busy time |`,
    '|---|---:|',
    ...[...times]
      .sort(([, a], [, b]) => b - a)
      .slice(0, LINES)
      .map(([name, time]) => `| ${name} | ${((100 * time) / busy).toFixed(1)} % |`),
  ];
  return [
    `kv was busy for ${(busy / 1e6).toFixed(1)} s`,
    '',
    ...table('file', files),
    '',
    ...table('function', functions),
  ];
}

function placeOf(url: string, functionName: string): string {
  if (url.startsWith('file://')) {
    const path = relative(root, url.slice('file://'.length));
    return /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? path;
  }
  return url === '' ? `(engine) ${functionName.startsWith('(') ? functionName : 'native'}` : url;
}
