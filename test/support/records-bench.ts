/** Nodes as processes, and commands, for the tests of `records …`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { readArguments, UsageError } from '../../cli/command.ts';
import { recordsCommands } from '../../cli/commands/records.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Running, startDstack } from './cli.ts';

const WAIT = 120_000;

export interface Node {
  readonly path: string;
  readonly url: string;
  readonly running: Running;
  /** In order. */
  stop(): Promise<number | null>;
  /** As a loss of power. */
  kill(): Promise<void>;
}

export interface Said {
  readonly exit: number;
  /** Of the error, if there is one. */
  readonly code: string | undefined;
  readonly out: string;
  readonly err: string;
}

/** Folders that are gone, and nodes that are ended, by `close`. */
export class Bench {
  readonly folder = mkdtempSync(join(tmpdir(), 'dstack-records-cli-'));
  readonly #nodes: Running[] = [];

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Starts the node of a folder, at free ports of the loopback. */
  async start(name: string, ...more: string[]): Promise<Node> {
    const path = this.path(name);
    const places = ['--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];
    const running = startDstack(['records', 'node', 'start', '--path', path, ...places, ...more]);
    this.#nodes.push(running);
    let ended: number | null | undefined;
    void running.ended.then(({ code }) => {
      ended = code;
    });
    await vi.waitFor(
      () =>
        expect(ended !== undefined || running.text().includes('the node runs'), running.text()).toBe(true),
      WAIT,
    );
    const line = running
      .text()
      .split('\n')
      .find((text) => text.includes('the node runs'));
    if (line === undefined) throw new Error(running.text());
    return {
      path,
      url: (JSON.parse(line) as { url: string }).url,
      running,
      stop: async () => {
        running.child.kill('SIGINT');
        return (await running.ended).code;
      },
      kill: async () => {
        running.child.kill('SIGKILL');
        await running.ended;
      },
    };
  }

  /** A command in this process, with the folder of that name; as `npx dstack` would end. */
  async run(name: string, ...words: string[]): Promise<Said> {
    const line = words.join(' ');
    const command = recordsCommands.find((one) => `records ${line} `.startsWith(`${one.name} `))!;
    const own = 'path' in command.options ? ['--path', this.path(name)] : [];
    const rest = words.slice(command.name.split(' ').length - 1);
    const [out, err] = [process.stdout, process.stderr].map((stream) => {
      const parts: Buffer[] = [];
      const spy = vi.spyOn(stream, 'write').mockImplementation((part, ...more) => {
        parts.push(Buffer.from(part as Buffer));
        for (const one of more) if (typeof one === 'function') (one as () => void)();
        return true;
      });
      return { spy, text: () => Buffer.concat(parts).toString() };
    });
    const before = process.exitCode;
    process.exitCode = 0;
    let failure: unknown;
    try {
      await command.run(readArguments(command, [...own, ...rest]));
    } catch (error) {
      failure = error;
    } finally {
      for (const { spy } of [out!, err!]) spy.mockRestore();
    }
    const exit = failure === undefined ? Number(process.exitCode) : failure instanceof UsageError ? 2 : 1;
    process.exitCode = before;
    const said = {
      exit,
      code: failure === undefined ? undefined : codeOf(failure),
      out: out!.text(),
      err: err!.text(),
    };
    return failure === undefined || codeOf(failure) !== 'INTERNAL'
      ? said
      : { ...said, err: String((failure as Error).stack) };
  }

  /** One that must succeed: what it printed. */
  async ok(name: string, ...words: string[]): Promise<string> {
    const said = await this.run(name, ...words);
    expect(said, words.join(' ')).toMatchObject({ exit: 0, code: undefined });
    return said.out;
  }

  async json<T = Record<string, never>>(name: string, ...words: string[]): Promise<T> {
    return JSON.parse(await this.ok(name, ...words, '--json')) as T;
  }

  async close(): Promise<void> {
    for (const { child } of this.#nodes) child.kill('SIGKILL');
    await Promise.all(this.#nodes.map(({ ended }) => ended));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
