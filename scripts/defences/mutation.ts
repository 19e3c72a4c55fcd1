/**
 * One defence, as the text that implements it: what is removed or weakened, and the test that must then fail. The text must
 * occur exactly once, or the runner refuses it; locate.ts finds it when it has moved to another file.
 */

export interface Edit {
  /** From the repository's root: where the text was when the row was written. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/**
 * A point under "Trust" in docs/threat-model.md, 1 to 13; one of the replicator's cases in test/trust/README.md; the image: its
 * network, and what it is made from; the audit; the owner's commands; the relay; what a stranger may believe of a
 * website; the website's front; how apps end and what is told of them; what an app
 * gets of its agent; the requests of an author's own contract; what a client of the store reaches; a validator's signer; the format of records, where a node keeps them and how
 * nodes exchange them; or what the contract's fuzz has to notice.
 */
export type Point =
  | number
  | 'replicator'
  | 'image'
  | 'audit'
  | 'owner'
  | 'relay'
  | 'site'
  | 'front'
  | 'apps'
  | 'agent'
  | 'framework'
  | 'store'
  | 'signer'
  | 'records'
  | 'fuzz';

export interface Mutation {
  readonly point: Point;
  /** The defence that is removed, in a few words. */
  readonly removes: string;
  readonly edits: readonly Edit[];
  readonly test: {
    readonly file: string;
    /** A regular expression over test names. */
    readonly name: string;
  };
}

/** Stands in a row for the contract's fuzz, which is a program and not a test. */
export const FUZZ = { file: 'contracts/fuzz.ts', name: 'random sequences' };

/** A mutation of one edit: `[file, find, replace]`, seen by `[test file, pattern of its name]`. */
export const one = (
  point: Point,
  removes: string,
  [file, find, replace]: readonly [string, string, string],
  [testFile, name]: readonly [string, string],
): Mutation => ({ point, removes, edits: [{ file, find, replace }], test: { file: testFile, name } });

/** Rows of one point: what the text becomes in its file, and the test that sees it. */
export const rowsOf =
  (point: Point) =>
  (
    removes: string,
    [file, test]: readonly [string, string],
    find: string,
    replace: string,
    name: string,
  ): Mutation =>
    one(point, removes, [file, find, replace], [test, name]);
