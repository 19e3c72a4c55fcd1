/**
 * Where the text of a removal is. The table names the file that it was in when the row was written; if the code has
 * moved since, it is found by its text, so that moving a file does not break the table.
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Edit, Mutation } from './mutation.ts';
import { sourceFiles } from './workspace.ts';

const PRODUCT = /^(lib|guest|host|cli|contracts|sdk|templates|app-example)\//;
const NO_PRODUCT = /\.test\.ts$|\.md$|^contracts\/(bindings\.ts|fuzz)/;

/** Finds texts in a tree; reads it once. */
export class Locator {
  readonly #texts: ReadonlyMap<string, string>;

  constructor(root: string) {
    const files = sourceFiles(root).filter((file) => PRODUCT.test(file) && !NO_PRODUCT.test(file));
    this.#texts = new Map(files.map((file) => [file, readText(join(root, file))]));
  }

  /** The mutation with each edit's file as it is now. @throws Error when a text is not there exactly once */
  locate(mutation: Mutation): Mutation {
    return { ...mutation, edits: mutation.edits.map((edit) => ({ ...edit, file: this.#placeOf(edit) })) };
  }

  #placeOf({ file, find }: Edit): string {
    if (count(this.#texts.get(file) ?? '', find) === 1) return file;
    const holders = [...this.#texts].filter(([, text]) => text.includes(find)).map(([path]) => path);
    const sameName = holders.filter((path) => basename(path) === basename(file));
    const places = holders.length === 1 ? holders : sameName;
    if (places.length === 1 && count(this.#texts.get(places[0]!)!, find) === 1) return places[0]!;
    throw new Error(
      `${JSON.stringify(find)}, formerly in ${file}, is now in ${holders.length === 0 ? 'no file' : holders.join(', ')}, and not exactly once: update the table`,
    );
  }
}

const count = (text: string, part: string): number => text.split(part).length - 1;

/** A file that git lists but that was deleted from the tree is empty. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
