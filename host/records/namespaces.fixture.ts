/** Network namespaces for tests, each at a port of one of two switches. They are named after the process that made them. Needs root and `ip`. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PREFIX = 'dstack-division-';

/** Why it can't be done here; undefined where it can. */
export function whyNoDivision(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces';
  const name = `${PREFIX}${process.pid}-try`;
  try {
    ip('netns', 'add', name);
    try {
      ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
      ip('-n', name, 'link', 'add', 'bridge', 'type', 'bridge');
    } finally {
      ip('netns', 'del', name);
    }
    return undefined;
  } catch {
    return 'no network namespaces can be made here';
  }
}

const ip = (...args: string[]): string => execFileSync('ip', args, { stdio: 'pipe', encoding: 'utf8' });

export const addressOf = (nth: number): string => `10.77.0.${nth + 1}`;

export class Places {
  readonly #prefix = `${PREFIX}${process.pid}-${Date.now() % 100_000}`;
  readonly #switch = `${this.#prefix}-s`;
  readonly #made: string[] = [];

  constructor() {
    this.#add(this.#switch);
    for (const bridge of ['whole', 'apart']) {
      ip('-n', this.#switch, 'link', 'add', bridge, 'type', 'bridge');
      ip('-n', this.#switch, 'link', 'set', bridge, 'up');
    }
  }

  name(nth: number): string {
    return `${this.#prefix}-${nth}`;
  }

  add(nth: number): void {
    const name = this.name(nth);
    this.#add(name);
    ip(
      '-n',
      this.#switch,
      'link',
      'add',
      `port${nth}`,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      name,
    );
    ip('-n', this.#switch, 'link', 'set', `port${nth}`, 'master', 'whole', 'up');
    ip('-n', name, 'address', 'add', `${addressOf(nth)}/24`, 'dev', 'eth0');
    for (const device of ['lo', 'eth0']) ip('-n', name, 'link', 'set', device, 'up');
  }

  move(nth: number, bridge: 'whole' | 'apart'): void {
    ip('-n', this.#switch, 'link', 'set', `port${nth}`, 'master', bridge);
  }

  /** As often as one likes. */
  remove(): void {
    for (const name of this.#made.splice(0)) ip('netns', 'del', name);
  }

  #add(name: string): void {
    ip('netns', 'add', name);
    this.#made.push(name);
  }
}

/** A folder that is named after this process too. */
export const folderOfPlaces = (): string => mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));

/** Namespaces and folders of processes that are gone: killed, they could remove nothing. What ran in them ended with its maker's pipe. */
export function removeLeftPlaces(): void {
  for (const name of readdirSync(tmpdir())) {
    const maker = name.startsWith(PREFIX) ? /^(\d+)-/.exec(name.slice(PREFIX.length))?.[1] : undefined;
    if (maker !== undefined && !isRunning(Number(maker)))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  for (const [name, maker] of ip('netns', 'list').matchAll(new RegExp(`^${PREFIX}(\\d+)-\\S+`, 'gm')))
    if (!isRunning(Number(maker))) ip('netns', 'del', name);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
