/**
 * `npm run demo`: does all set-up, then runs the whole network on this machine. `-- --once` checks itself and ends.
 * Plain JavaScript without dependencies, up to the last line.
 */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { demoOptions } from './demo/options.mjs';
import {
  buildImage,
  environment,
  installDebianPackages,
  installNpmPackages,
  node24,
  root,
} from './set-up.mjs';

const help = `npm run demo [-- OPTION]

Sets up what is missing, builds the image, and runs a whole network on this machine: a chain, two VMs, two relays, an app.
It stays until Ctrl-C. The first time it downloads 330 MB, takes 2.2 GB of disk and a quarter of an hour; 2 GB of memory per VM.

  --once         check itself, shut down; exit code 0 or 1; the last line is JSON
  --gossip WAY   how the relays exchange messages: http (the default) or records, over encrypted connections of their own
  --set-up-only  only what has to be installed and built
  --help         this`;

const started = Date.now();
if (process.argv.slice(2).some((argument) => ['--help', '-h'].includes(argument))) {
  console.log(help);
  process.exit(0);
}
let options;
try {
  options = demoOptions(process.argv.slice(2));
} catch (error) {
  console.error(`dstack: ${error.message}: npm run demo -- --help`);
  process.exit(2);
}

installDebianPackages();
installNpmPackages();
const warm = existsSync(join(root, 'build/image-sim/image.json'));
const imageSeconds = buildImage('sim');
if (options.setUpOnly) process.exit(0);

const child = spawn(
  node24,
  ['--disable-warning=ExperimentalWarning', join(root, 'scripts/demo/main.ts'), ...process.argv.slice(2)],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...environment(),
      DSTACK_DEMO_STARTED: String(started),
      DSTACK_DEMO_IMAGE_SECONDS: String(imageSeconds),
      DSTACK_DEMO_IMAGE_WARM: String(warm),
    },
  },
);
// The demo itself shuts down on Ctrl-C; this process only waits for it.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
