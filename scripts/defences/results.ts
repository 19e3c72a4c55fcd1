/**
 * Results, kept in build/defences/ so that an interrupted run goes on where it stopped. A result is valid for exactly one state of
 * the sources: its name is a hash over them and the mutation.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import type { Mutation } from './mutation.ts';
import { mutations } from './mutations.ts';
import { type Ran, sourceFiles } from './workspace.ts';

export interface Result {
  /** `seen` alone counts. UNSEEN: the test still passes. BROKEN: nothing can be said, and `said` is why. */
  readonly verdict: 'seen' | 'UNSEEN' | 'BROKEN';
  /** The test that failed. */
  readonly test: string;
  /** What it said. */
  readonly said: string;
}

/** Files that no test of the table depends on: other tests, and what is not part of the product. */
const guards = new Set(mutations.map(({ test }) => test.file));
const IRRELEVANT = /^(docs|bench|auditing|scripts|app-example|test\/vm)\/|\.md$|\.test\.ts$/;
const isInput = (file: string): boolean => guards.has(file) || !IRRELEVANT.test(file);

export class Results {
  readonly #folder: string;
  readonly #sources: string;

  constructor(root: string) {
    this.#folder = join(root, 'build/defences');
    const hash = createHash('sha256');
    for (const file of sourceFiles(root).sort()) {
      if (!isInput(file) || !existsSync(join(root, file))) continue;
      const content = createHash('sha256').update(readFileSync(join(root, file)));
      hash.update(`${file}\0${content.digest('hex')}\n`);
    }
    this.#sources = hash.digest('hex');
    mkdirSync(this.#folder, { recursive: true });
  }

  find(mutation: Mutation): Result | undefined {
    return this.#read<Result>(JSON.stringify(mutation));
  }

  /** Keeps only what was seen: the rest is worth another try. */
  keep(mutation: Mutation, result: Result): void {
    if (result.verdict === 'seen') this.#write(JSON.stringify(mutation), result);
  }

  /** The result of the mutation's test with every defence in place; removals with the same test share it. */
  findControl({ test }: Mutation): Ran[] | undefined {
    return this.#read<Ran[]>(`control ${JSON.stringify(test)}`);
  }

  keepControl({ test }: Mutation, control: readonly Ran[]): void {
    this.#write(`control ${JSON.stringify(test)}`, control);
  }

  #read<T>(subject: string): T | undefined {
    const path = this.#path(subject);
    return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as T) : undefined;
  }

  #write(subject: string, value: unknown): void {
    writeDurably(this.#path(subject), JSON.stringify(value));
  }

  #path(subject: string): string {
    const hash = createHash('sha256').update(this.#sources).update(subject);
    return join(this.#folder, `${hash.digest('hex')}.json`);
  }
}
