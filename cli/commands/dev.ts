/** `dev`: an app on a local chain and a simulated node, for who writes it. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Type } from 'typebox';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print, printError } from '../../lib/daemon/terminal.ts';
import { AppName, parseJson } from '../../lib/protocol/schema.ts';
import { type Command, typed, UsageError } from '../command.ts';
import { startDev } from '../dev/dev.ts';

const MANIFEST_MAX_BYTES = 64 * 1024;
const Manifest = Type.Object({ name: AppName });

const dev: Command = {
  name: 'dev',
  summary: 'runs an app on a local chain and a simulated node, and starts again what changes',
  options: {
    dir: { value: 'DIR', help: "the app's folder, as `create` makes it", default: '.' },
    port: { value: 'PORT', help: "the enclave's, on the loopback", default: '8080' },
    test: { help: "runs the app's tests there, and ends with their exit code" },
  },
  async run(args) {
    const folder = resolve(args.text('dir'));
    const app = nameOf(folder);
    const port = Number(args.text('port'));
    if (!(Number.isInteger(port) && port > 0 && port <= 65_535))
      throw new UsageError(`--port is a number from 1 to 65535, not ${args.text('port')}`);
    const stopped = stopSignal();
    printError(
      'For development only: nothing that this chain, this node or this network says proves anything.',
    );
    const running = await startDev({ folder, app, port });
    try {
      if (args.flag('test')) {
        const ended = new AbortController();
        stopped.then(() => ended.abort());
        process.exitCode = await running.test(ended.signal);
      } else {
        print('', 'Ctrl-C ends it; a changed file starts again what it belongs to.');
        await stopped;
      }
    } finally {
      await running.stop();
    }
  },
};

/** @throws USAGE, APP_FOLDER */
function nameOf(folder: string): string {
  const file = join(folder, 'package.json');
  if (!existsSync(file))
    throw new UsageError(
      `${folder} has no package.json: npx dstack create NAME makes an app, --dir names its folder`,
    );
  return typed(() => parseJson(Manifest, readFileSync(file, 'utf8'), 'APP_FOLDER', file, MANIFEST_MAX_BYTES))
    .name;
}

export const devCommands: readonly Command[] = [dev];
