/** What one client does next: reads, writes and comparisons of few keys, so that clients meet. */
import type { Random } from '../../torture/random.ts';
import type { Comparison, Operation, Step } from './history.ts';

/** Modification revisions that this client saw last. */
export type Seen = ReadonlyMap<string, number>;

/** `keys` are of partitions of two each; `value` has to be one that is written only once. */
export function randomOperation(
  random: Random,
  keys: number,
  value: string,
  seen: Seen = new Map(),
): Pick<Operation, 'comparisons' | 'success' | 'failure'> {
  const partition = `${random.between(0, Math.max(0, Math.ceil(keys / 2) - 1))}/`;
  const names = keys > 1 ? ['0', '1'] : ['0'];
  const key = partition + random.pick(names);
  const plain = (...success: Step[]) => ({ comparisons: [], success, failure: [] });
  const kind = random.between(0, 99);
  if (kind < 25) return plain({ kind: 'get', key });
  if (kind < 32) return plain({ kind: 'list', key: partition });
  if (kind < 55) return plain({ kind: 'put', key, value });
  if (kind < 64) return plain({ kind: 'delete', key });
  if (kind < 72) return plain(...names.map((name): Step => ({ kind: 'put', key: partition + name, value })));
  const comparison: Comparison =
    kind < 86
      ? { key, target: 'mod', equals: seen.get(key) ?? 0 }
      : { key, target: 'version', equals: random.between(0, 2) };
  return {
    comparisons: [comparison],
    success: [{ kind: 'put', key, value }],
    failure: [{ kind: 'get', key }],
  };
}
