/** `create`: a folder with a new app in it. */
import { resolve } from 'node:path';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { type Command, typed, UsageError } from '../command.ts';
import { checkName, createApp, TEMPLATES } from '../dev/create.ts';

const create: Command = {
  name: 'create',
  summary: 'makes a folder with a new app: its contract, enclave, host and tests',
  positionals: ['NAME'],
  options: {
    template: {
      value: 'TEMPLATE',
      help: `what it begins with: ${TEMPLATES.join(', ')}`,
      default: TEMPLATES[0],
    },
  },
  async run(args) {
    const name = typed(() => checkName(args.positionals[0]));
    const template = TEMPLATES.find((one) => one === args.text('template'));
    if (template === undefined)
      throw new UsageError(`--template is one of ${TEMPLATES.join(', ')}; not ${args.text('template')}`);
    const folder = resolve(name);
    const stopped = new AbortController();
    stopSignal().then(() => stopped.abort());
    await createApp(folder, name, template, stopped.signal);
    print(
      `${folder} has a contract, an enclave, a host and tests (template ${template}).`,
      '',
      `  cd ${name}`,
      '  npm run dev      a local chain, a simulated node, and the app on them',
      "  npm test         the same for the app's tests",
    );
  },
};

export const createCommands: readonly Command[] = [create];
