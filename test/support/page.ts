/**
 * A page whose commands are run: its fenced blocks of `sh`, in their order, as a reader would paste them. A word after `sh` says what a
 * block needs besides (`docker`, `buildah`, `node`, `container`, `vm`), or what happened before it (`signed`); a `text` block after one is what it prints, in this order,
 * indented somehow and possibly with other lines in between, where `…` stands for anything.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { inBuildahRoot, layBuildahRoot } from '../../app-example/tool-chroot.ts';
import { node24 } from './network.ts';

const root = join(import.meta.dirname, '../..');
/** From the guest's packages, statically linked: all that an image of busybox needs. */
const BUSYBOX = join(root, '.cache/kernel-root/usr/bin/busybox');
const APPLETS = ['sh', 'cat', 'cut', 'echo', 'httpd', 'printf', 'sed', 'sha256sum', 'sleep', 'wget'];

/** For one block, milliseconds. */
const PATIENCE = 600_000;

export type Needs = 'docker' | 'buildah' | 'node' | 'container' | 'vm' | 'signed' | undefined;

export interface Block {
  readonly needs: Needs;
  readonly script: string;
  /** What it prints. */
  readonly shows: string | undefined;
}

export function blocksOf(page: string): readonly Block[] {
  const source = readFileSync(join(root, page), 'utf8');
  const found = [...source.matchAll(/^```(\w+)(?: (\w+))?\n([\s\S]*?)^```$/gm)];
  return found.flatMap(([, language, needs, script], at) => {
    const next = found[at + 1];
    const shows = next?.[1] === 'text' ? next[3] : undefined;
    return language === 'sh' ? [{ needs: needs as Needs, script: script!, shows }] : [];
  });
}

/** Where a page's reader is: a folder, with the programs that they have. */
export interface Shell {
  readonly folder: string;
  run(block: Block, env: Readonly<Record<string, string>>): Promise<void>;
}

/** One who builds images, too. */
export interface Reader extends Shell {
  leave(): void;
}

/** @param folder for the reader's files; it is made. @param programs further ones, by name, each a script of the shell */
export function reader(folder: string, programs: Readonly<Record<string, string>> = {}): Reader {
  const images = layBuildahRoot();
  const buildah = `exec '${node24}' '${import.meta.filename}' '${images}' "$PWD" "$@"`;
  const here = shell(folder, { buildah, ...programs });
  layBusybox(images, join(folder, '.busybox'));
  return { ...here, leave: () => rmSync(images, { recursive: true, force: true }) };
}

/** The same for pages on which nothing is built. */
export function shell(folder: string, programs: Readonly<Record<string, string>> = {}): Shell {
  const bin = join(folder, '.bin');
  mkdirSync(bin, { recursive: true });
  const scripts = {
    npx: `[ "$1" = dstack ] || exit 127; shift; exec '${node24}' --disable-warning=ExperimentalWarning -- '${join(root, 'cli/main.ts')}' "$@"`,
    ...programs,
  };
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  return {
    folder,
    async run({ script, shows }, env) {
      // What is printed on either, in the order in which a reader sees it.
      const child = spawn('bash', ['-euo', 'pipefail', '-c', `exec 2>&1\n${script}`], {
        cwd: folder,
        env: { PATH: `${bin}:${process.env.PATH}`, ...env },
        stdio: ['ignore', 'pipe', 'inherit'],
        // A page waits for as long as it takes.
        timeout: PATIENCE,
      });
      const [said] = await Promise.all([text(child.stdout), once(child, 'close')]);
      if (child.exitCode !== 0) throw new Error(`exit code ${child.exitCode} of\n${script}\n${said}`);
      if (shows !== undefined && !shown(said, shows))
        throw new Error(`${said}\nis not\n${shows}\nof\n${script}`);
    },
  };
}

/** What the pages' images begin with, under the name by which a registry has another build of it. */
function layBusybox(images: string, files: string): void {
  // A second page is read where the first one was.
  rmSync(files, { recursive: true, force: true });
  mkdirSync(join(files, 'bin'), { recursive: true });
  copyFileSync(BUSYBOX, join(files, 'bin/busybox'));
  for (const name of APPLETS) symlinkSync('busybox', join(files, 'bin', name));
  const buildah = (...args: string[]) => inBuildahRoot(images, files, args);
  const container = buildah('from', 'scratch');
  buildah('copy', '--quiet', container, '/work', '/');
  buildah('config', '--env', 'PATH=/bin', container);
  buildah('commit', '--quiet', container, 'docker.io/library/busybox:stable');
}

function shown(said: string, lines: string): boolean {
  const patterns = lines
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .trimStart()
        .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
        .replaceAll('…', '.*'),
    );
  return new RegExp(`^ *${patterns.join('$[^]*^ *')}$`, 'm').test(said);
}

/** `buildah` of a reader: a program of its own, because the reader's shell starts it. */
if (import.meta.main) {
  const [images, folder, ...args] = process.argv.slice(2) as [string, string, ...string[]];
  process.stdout.write(`${inBuildahRoot(images, folder, args)}\n`);
}
