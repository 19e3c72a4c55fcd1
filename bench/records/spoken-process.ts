/** A process that answers each line that it is told by one of JSON. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { AS_A_NODE } from './files.ts';

export class SpokenProcess<Answer> {
  readonly #child;
  readonly #answers: AsyncIterator<string>;

  constructor(program: string, ...args: readonly string[]) {
    this.#child = spawn(process.execPath, [...AS_A_NODE.flags, program, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...AS_A_NODE.env },
    });
    this.#child.stdin.on('error', () => {});
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async answer(): Promise<Answer> {
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error('the node ended');
    return JSON.parse(value) as Answer;
  }

  ask(line: string): Promise<Answer> {
    this.#child.stdin.write(`${line}\n`);
    return this.answer();
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}
