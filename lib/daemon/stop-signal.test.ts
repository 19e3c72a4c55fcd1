import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, onTestFinished, test, vi } from 'vitest';

/** A process that puts things in order for as long as it is not told to go on, and what it says. */
async function started(): Promise<{ child: ChildProcess; said: string[] }> {
  const module = join(import.meta.dirname, 'stop-signal.ts');
  const program = `
    import { once } from 'node:events';
    import { stopSignal } from ${JSON.stringify(module)};
    const stopped = stopSignal();
    setInterval(() => {}, 1000);
    console.log('runs');
    console.log(await stopped);
    await once(process.stdin, 'data');
    console.log('clean');
    process.exit(0);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const said: string[] = [];
  const lines = createInterface(child.stdout!).on('line', (line) => said.push(line));
  await once(lines, 'line');
  return { child, said };
}

/** Of two signals at once, either may come first: the system gives each to any thread. */
const heard = (said: string[], ...either: string[]): Promise<void> =>
  vi.waitFor(() => expect(either.some((line) => said.includes(line))).toBe(true), 60_000);

test.each([
  ['SIGINT', 'SIGINT'],
  ['SIGTERM', 'SIGTERM'],
  ['SIGINT', 'SIGTERM'],
] as const)('%s and %s at once are one: the process ends in order', async (first, second) => {
  const { child, said } = await started();
  const ended = once(child, 'exit');
  child.kill(first);
  child.kill(second);
  await heard(said, first, second);
  child.stdin!.write('go on');
  expect(await ended).toEqual([0, null]);
  expect(said).toContain('clean');
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('a second %s, later, ends it at once', async (signal, code) => {
  const { child, said } = await started();
  const ended = once(child, 'exit');
  child.kill(signal);
  await heard(said, signal);
  await new Promise((resolve) => setTimeout(resolve, 800));
  child.kill(signal);
  expect(await ended).toEqual([code, null]);
  expect(said).not.toContain('clean');
});
