/**
 * What concurrent clients saw of a store: each operation with when it was called and answered. Every operation is a transaction, as in
 * etcd: comparisons, and the steps of either branch. A plain read or write has no comparisons and one step.
 */

/** Of a key: what an answer says of it. Revisions may be left out of a history, and then only values are compared. */
export interface Entry {
  readonly value: string;
  readonly create?: number;
  readonly mod?: number;
  readonly version?: number;
}

export type Step =
  | { readonly kind: 'get'; readonly key: string }
  /** All keys of a partition; `key` is what they begin with. */
  | { readonly kind: 'list'; readonly key: string }
  | { readonly kind: 'put'; readonly key: string; readonly value: string }
  | { readonly kind: 'delete'; readonly key: string };

export type Comparison =
  | { readonly key: string; readonly target: 'value'; readonly equals: string }
  | { readonly key: string; readonly target: 'create' | 'mod' | 'version'; readonly equals: number };

/** What a step's answer said: the entry, or none; all entries; nothing; how many were deleted. */
export type Result =
  | { readonly kind: 'get'; readonly entry?: Entry }
  | { readonly kind: 'list'; readonly entries: Readonly<Record<string, Entry>> }
  | { readonly kind: 'put' }
  | { readonly kind: 'delete'; readonly deleted: number };

export interface Answer {
  readonly succeeded: boolean;
  /** Of the answer's header; left out together with the entries' revisions. */
  readonly revision?: number;
  readonly results: readonly Result[];
}

export interface Operation {
  readonly client: number;
  /** Any clock that all clients share. */
  readonly called: number;
  /** `Infinity` when no answer came: it may have happened at any time since, or never. */
  readonly returned: number;
  readonly comparisons: readonly Comparison[];
  readonly success: readonly Step[];
  readonly failure: readonly Step[];
  /** Missing exactly when no answer came. */
  readonly answer?: Answer;
}

export const isWrite = ({ kind }: Step): boolean => kind === 'put' || kind === 'delete';

/** Whether neither branch changes anything: without an answer such an operation says nothing. */
export const isReadOnly = ({ success, failure }: Pick<Operation, 'success' | 'failure'>): boolean =>
  ![...success, ...failure].some(isWrite);

/** The part of a key that says which partition it is of: operations of different partitions are judged apart. */
export const partitionOf = (key: string): string => key.slice(0, key.indexOf('/') + 1);

/** As if the store had no revisions: what is left must be linearizable by values alone. */
export function withoutRevisions(history: readonly Operation[]): Operation[] {
  const bare = ({ value }: Entry): Entry => ({ value });
  const strip = (result: Result): Result => {
    if (result.kind === 'get') return result.entry ? { kind: 'get', entry: bare(result.entry) } : result;
    if (result.kind !== 'list') return result;
    const entries = Object.entries(result.entries).map(([key, entry]) => [key, bare(entry)]);
    return { kind: 'list', entries: Object.fromEntries(entries) };
  };
  return history.map((operation) =>
    operation.answer === undefined
      ? operation
      : {
          ...operation,
          answer: {
            succeeded: operation.answer.succeeded,
            results: operation.answer.results.map(strip),
          },
        },
  );
}
