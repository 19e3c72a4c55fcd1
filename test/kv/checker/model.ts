/**
 * etcd's rules for one partition of keys, as a checker needs them: which states an operation may lead to, given what its answer said.
 *
 * A write whose answer never came has a revision that nobody knows. Its entry then holds "some revision after R" (as -R - 1), until an
 * answer names it. So an operation may lead to several states.
 */
import type { Comparison, Entry, Operation, Result, Step } from './history.ts';

interface Kept {
  readonly value: string;
  readonly version: number;
  /** Negative: not known, but later than `-1 - it`. */
  readonly create: number;
  readonly mod: number;
}

/** A state is never changed; `revision` is the highest that an answer has named so far. */
export interface State {
  readonly entries: ReadonlyMap<string, Kept>;
  readonly revision: number;
}

export const emptyState: State = { entries: new Map(), revision: 0 };

/** Equal for equal states. */
export function stateKey({ entries, revision }: State): string {
  const keys = [...entries.keys()].sort();
  const each = keys.map((key) => {
    const { value, version, create, mod } = entries.get(key)!;
    return `${key}\t${value}\t${version}\t${create}\t${mod}`;
  });
  return `${revision}\n${each.join('\n')}`;
}

/** The states after this operation, where its answer allows any. */
export function step(state: State, operation: Operation): State[] {
  const { answer } = operation;
  if (answer?.revision !== undefined && answer.revision < state.revision) return [];
  const branches = answer === undefined ? [true, false] : [answer.succeeded];
  return branches.flatMap((succeeded) => {
    const assumed = assume(state, operation.comparisons, succeeded);
    if (assumed === undefined) return [];
    const after = perform(assumed, succeeded ? operation.success : operation.failure, answer);
    return after === undefined ? [] : [after];
  });
}

/** The state, if the comparisons can come out like that in it; with what that says of revisions that were not known. */
function assume(state: State, comparisons: readonly Comparison[], succeeded: boolean): State | undefined {
  const entries = new Map(state.entries);
  let [certain, open] = [true, false];
  for (const comparison of comparisons) {
    const kept = entries.get(comparison.key);
    if (comparison.target === 'value') certain &&= kept?.value === comparison.equals;
    else {
      const actual = kept?.[comparison.target] ?? 0;
      if (actual >= 0) certain &&= actual === comparison.equals;
      else if (comparison.equals <= -1 - actual) certain = false;
      else {
        open = true;
        entries.set(comparison.key, { ...kept!, [comparison.target]: comparison.equals });
      }
    }
  }
  if (succeeded) return certain ? { ...state, entries } : undefined;
  // With one that nobody knows the comparison may have failed; that its revision is another one is not kept.
  return !certain || open ? state : undefined;
}

function perform(before: State, steps: readonly Step[], answer: Operation['answer']): State | undefined {
  const entries = new Map(before.entries);
  const known = answer?.revision;
  const changes = steps.some((one) => one.kind === 'put' || (one.kind === 'delete' && entries.has(one.key)));
  // Each change has a revision of its own, after all that were named.
  if (changes && known !== undefined && known <= before.revision) return undefined;
  const revision = known ?? -1 - before.revision;
  for (const [n, one] of steps.entries()) {
    const result = answer?.results[n];
    if (answer !== undefined && result?.kind !== one.kind) return undefined;
    if (!happen(entries, one, result, revision)) return undefined;
  }
  return { entries, revision: known ?? before.revision };
}

/** Changes `entries` as the step does. Returns whether its result says the same. */
function happen(
  entries: Map<string, Kept>,
  one: Step,
  result: Result | undefined,
  revision: number,
): boolean {
  if (one.kind === 'put') {
    const old = entries.get(one.key);
    const create = old?.create ?? revision;
    entries.set(one.key, { value: one.value, version: (old?.version ?? 0) + 1, create, mod: revision });
    return true;
  }
  if (one.kind === 'delete') {
    const deleted = entries.delete(one.key) ? 1 : 0;
    return result === undefined || (result.kind === 'delete' && result.deleted === deleted);
  }
  if (result === undefined) return true;
  const seen = new Map<string, Entry>();
  if (result.kind === 'get' && one.kind === 'get' && result.entry) seen.set(one.key, result.entry);
  if (result.kind === 'list') for (const [key, entry] of Object.entries(result.entries)) seen.set(key, entry);
  const expected = one.kind === 'get' ? [one.key].filter((key) => entries.has(key)) : [...entries.keys()];
  if (seen.size !== expected.length) return false;
  return expected.every((key) => {
    const bound = agree(entries.get(key)!, seen.get(key), revision);
    if (bound !== undefined) entries.set(key, bound);
    return bound !== undefined;
  });
}

/** What is known of the entry once it was seen so, unless it cannot have been. */
function agree(kept: Kept, seen: Entry | undefined, revision: number): Kept | undefined {
  if (seen === undefined || seen.value !== kept.value) return undefined;
  if (seen.version !== undefined && seen.version !== kept.version) return undefined;
  const create = agreeOn(kept.create, seen.create, revision);
  const mod = agreeOn(kept.mod, seen.mod, revision);
  return create === undefined || mod === undefined ? undefined : { ...kept, create, mod };
}

function agreeOn(kept: number, seen: number | undefined, revision: number): number | undefined {
  if (seen === undefined) return kept;
  if (kept >= 0) return kept === seen ? kept : undefined;
  return seen > -1 - kept && seen <= revision ? seen : undefined;
}
