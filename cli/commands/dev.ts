/** `dev`: an app on a local chain and a simulated node, for who writes it. */
import { resolve } from 'node:path';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print, printError } from '../../lib/daemon/terminal.ts';
import { type Arguments, type Command, typed, UsageError } from '../command.ts';
import { nameOfApp } from '../dev/app-folder.ts';
import { type Dev, startDev } from '../dev/dev.ts';
import { startVmDev, type VmDev } from '../dev/vm/vm-dev.ts';

const dev: Command = {
  name: 'dev',
  summary: 'runs an app on a local chain and a simulated node, and starts again what changes',
  options: {
    dir: { value: 'DIR', help: "the app's folder, as `create` makes it", default: '.' },
    port: { value: 'PORT', help: "the enclave's, on the loopback", default: '8080' },
    test: { help: "runs the app's tests there, and ends with their exit code" },
    vm: {
      help: "runs the enclave in a container of a VM in place of this machine's processes: of a clone, with its image",
    },
    image: { value: 'DIR', help: "with --vm: an image's folder, in place of the clone's build/image-sim" },
    archive: {
      value: 'FILE',
      help: "with --vm: the container as `docker save` writes it, in place of one built from the app's Dockerfile",
    },
  },
  async run(args) {
    const port = Number(args.text('port'));
    if (!(Number.isInteger(port) && port > 0 && port <= 65_535))
      throw new UsageError(`--port is a number from 1 to 65535, not ${args.text('port')}`);
    refuseUnused(args);
    const folder = resolve(args.text('dir'));
    const app = typed(() => nameOfApp(folder));
    const ended = new AbortController();
    const stopped = stopSignal().then(() => ended.abort());
    printError(
      'For development only: nothing that this chain, this node or this network says proves anything.',
    );
    const running: VmDev & Partial<Dev> = args.flag('vm')
      ? await inVm(args, { folder, app, stopped: ended.signal })
      : await startDev({ folder, app, port, stopped: ended.signal });
    try {
      if (args.flag('test') && running.test !== undefined) {
        process.exitCode = await running.test(ended.signal);
        return;
      }
      print('', 'Ctrl-C ends it; a changed file starts again what it belongs to.');
      const why = await Promise.race([stopped, running.failed]);
      if (why !== undefined && !ended.signal.aborted) throw why;
    } finally {
      await running.stop();
    }
  },
};

/** @throws USAGE */
function refuseUnused(args: Arguments): void {
  const [vm, without] = [args.flag('vm'), args.flag('vm') ? ['test', 'port'] : ['image', 'archive']];
  const unused = without.filter((name) => args.isTyped(name)).map((name) => `--${name}`);
  if (unused.length > 0)
    throw new UsageError(
      `${unused.join(' and ')} ${vm ? 'has no meaning with --vm' : 'is for --vm alone'}: leave it out`,
    );
}

async function inVm(args: Arguments, app: { folder: string; app: string; stopped: AbortSignal }) {
  const [image, archive] = ['image', 'archive']
    .map((name) => args.optional(name))
    .map((path) => path && resolve(path));
  return startVmDev({ ...app, image, archive });
}

export const devCommands: readonly Command[] = [dev];
