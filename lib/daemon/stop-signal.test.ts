import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';

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
  const said: string[] = [];
  const lines = createInterface(child.stdout!).on('line', (line) => said.push(line));
  await once(lines, 'line');
  return { child, said };
}

const heard = async (said: string[], line: string): Promise<void> => {
  while (!said.includes(line)) await new Promise((resolve) => setTimeout(resolve, 20));
};

test.each([
  ['SIGINT', 'SIGINT'],
  ['SIGTERM', 'SIGTERM'],
  ['SIGINT', 'SIGTERM'],
] as const)('%s and %s at once are one: the process ends in order', async (first, second) => {
  const { child, said } = await started();
  const ended = once(child, 'exit');
  child.kill(first);
  child.kill(second);
  await heard(said, first);
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
