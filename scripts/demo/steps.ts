/** Progress for people: each step says what it does and how long it took. */
import { print } from '../../lib/daemon/terminal.ts';

const started = performance.now();

export const seconds = (since: number): number => Math.round((performance.now() - since) / 100) / 10;

export function say(text: string): void {
  print(`[${seconds(started).toFixed(1).padStart(6)} s] ${text}`);
}

/** Runs one step; its failure names it. */
export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  say(`${what} …`);
  const begin = performance.now();
  try {
    const result = await work();
    say(`${what}: done in ${seconds(begin)} s`);
    return result;
  } catch (error) {
    say(`${what}: FAILED after ${seconds(begin)} s`);
    throw error;
  }
}

export class CheckFailed extends Error {}

export function ensure(condition: boolean, what: string): void {
  if (!condition) throw new CheckFailed(`check failed: ${what}`);
  say(`ok  ${what}`);
}

/** Polls `look` until it returns something; prints a note now and then meanwhile. */
export async function waitFor<T>(
  what: string,
  look: () => Promise<T | undefined>,
  withinSeconds: number,
  why: () => string = () => '',
  possible: () => boolean = () => true,
): Promise<T> {
  const begin = performance.now();
  let noted = begin;
  for (;;) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    if (!possible()) throw new CheckFailed(`the VM ended while waiting for ${what}`);
    if (seconds(begin) > withinSeconds)
      throw new CheckFailed(`waited ${withinSeconds} s in vain for ${what}. ${why()}`);
    if (seconds(noted) >= 10) {
      noted = performance.now();
      say(`    still waiting for ${what} (${Math.round(seconds(begin))} s) ${why()}`.trimEnd());
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
