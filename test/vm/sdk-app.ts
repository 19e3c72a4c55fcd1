/** An app that has the ecosystem's client, as test/sdk has it. */
import { SDK_FOLDER } from '../support/sdk.ts';
import { layNodeApp } from './node-app.ts';

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
export const laySdkApp = (folder: string): void => layNodeApp(folder, SDK_FOLDER, SERVER, ['calls.mjs']);
