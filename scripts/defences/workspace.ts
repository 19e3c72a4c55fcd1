/**
 * A copy of this tree in which a defence can be taken out and a test run. A copy is needed because daemons run from their
 * sources. It contains what git tracks or would add.
 */
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type Edit, FUZZ, type Mutation } from './mutation.ts';

const execute = promisify(execFile);

/** A test that ran, by its full name; `said` is the first line of its failure. */
export interface Ran {
  readonly title: string;
  readonly passed: boolean;
  readonly said: string;
}

/** One vitest run takes seconds; a hung one must not hold up the rest. */
const TEST_LIMIT_MS = 240_000;
/** A broken contract is mostly noticed within a few sequences; one that passes this many counts as not noticed. */
const FUZZ_OPTIONS = ['--source', '--sequences', '200', '--seed', '2026', '--coverage', '0', '--json'];
const FUZZ_LIMIT_MS = 900_000;
/** What `contracts/build.ts` writes. */
const GENERATED = ['contracts/bindings.ts', 'lib/protocol/network-contract.ts'];

/** Every file that git tracks or would add, relative to `root`. */
export function sourceFiles(root: string): string[] {
  const listed = spawnSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], { cwd: root });
  return listed.stdout
    .toString()
    .split('\0')
    .filter((file) => !['', 'node_modules', '.cache'].includes(file));
}

export class Workspace {
  readonly #root: string;
  readonly #copy: string;

  constructor(root: string, copy: string) {
    this.#root = root;
    this.#copy = copy;
    for (const file of sourceFiles(root)) {
      mkdirSync(dirname(join(copy, file)), { recursive: true });
      cpSync(join(root, file), join(copy, file), { verbatimSymlinks: true });
    }
    // What was installed and built is linked, since it is only read.
    for (const made of ['node_modules', '.cache', 'build/tool-root']) {
      mkdirSync(dirname(join(copy, made)), { recursive: true });
      if (existsSync(join(root, made))) symlinkSync(join(root, made), join(copy, made));
    }
  }

  /**
   * Runs `action` without the defence; puts everything back.
   * @throws Error when the text to remove is not there once, or the contract no longer compiles
   */
  async without<T>({ edits, test }: Mutation, action: () => Promise<T>): Promise<T> {
    const touched = new Set(edits.map(({ file }) => file));
    // The fuzz compiles the source itself.
    const compiled = test.file !== FUZZ.file && [...touched].some((file) => file.endsWith('.sol'));
    try {
      for (const edit of edits) this.#apply(edit);
      if (compiled) await execute(process.execPath, ['contracts/build.ts'], { cwd: this.#copy });
      return await action();
    } finally {
      for (const file of [...touched, ...(compiled ? GENERATED : [])]) {
        cpSync(join(this.#root, file), join(this.#copy, file));
      }
    }
  }

  /** Runs the tests of a file that a pattern names, or the fuzz. Empty when the file did not load. */
  async test({ file, name }: Mutation['test']): Promise<Ran[]> {
    if (file === FUZZ.file) return this.#fuzz();
    const report = join(this.#copy, 'report.json');
    rmSync(report, { force: true });
    const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project=processes', file];
    const options = ['-t', name, '--reporter=json', `--outputFile.json=${report}`];
    // The tests are meant to fail: the exit code says no more than the report.
    await execute(process.execPath, [...vitest, ...options], {
      cwd: this.#copy,
      maxBuffer: 64 * 1024 * 1024,
      timeout: TEST_LIMIT_MS,
    }).catch(() => {});
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
      testResults: {
        assertionResults: { status: string; fullName: string; failureMessages: string[] }[];
      }[];
    };
    return testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status === 'passed' || status === 'failed')
      .map(({ status, fullName, failureMessages }) => ({
        title: fullName,
        passed: status === 'passed',
        said: firstLine(failureMessages[0] ?? ''),
      }));
  }

  /** @throws Error when the contract does not compile or cannot be deployed: the fuzz then prints no figures */
  async #fuzz(): Promise<Ran[]> {
    const { stdout } = await execute(process.execPath, [FUZZ.file, ...FUZZ_OPTIONS], {
      cwd: this.#copy,
      timeout: FUZZ_LIMIT_MS,
    }).catch((error: { stdout: string }) => error);
    const { failure } = JSON.parse(stdout.trim().split('\n').at(-1)!) as {
      failure?: { number: number; message: string };
    };
    const title = failure === undefined ? FUZZ.name : `${FUZZ.name}, number ${failure.number}`;
    return [
      { title, passed: failure === undefined, said: firstLine(`the fuzz noticed: ${failure?.message}`) },
    ];
  }

  #apply({ file, find, replace }: Edit): void {
    const path = join(this.#copy, file);
    const parts = readFileSync(path, 'utf8').split(find);
    if (parts.length !== 2) {
      throw new Error(
        `${file} holds ${JSON.stringify(find)} ${parts.length - 1} times, not once: update the table`,
      );
    }
    writeFileSync(path, parts.join(replace));
  }
}

/** The first line of a failure, without colours and stack. */
function firstLine(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what colour codes are made of
  const plain = message.replace(/\u001b\[[0-9;]*m/g, '');
  const line = plain.split('\n').find((each) => each.trim() !== '') ?? '';
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}
