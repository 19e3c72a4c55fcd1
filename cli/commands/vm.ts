/** `vm run`: this host's VM, in the foreground. */
import { readEnvironment, vmSettings } from '../../host/relay/settings.ts';
import { startVm } from '../../host/vm/vm.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Command } from '../command.ts';
import { writeHints } from '../host-hints.ts';
import { untilStopped } from '../until-stopped.ts';
import { envFileOption } from './relay.ts';

const run: Command = {
  name: 'vm run',
  summary: 'boots the VM and stays until it ends',
  options: {
    'env-file': envFileOption,
    role: {
      value: 'bootstrap|join',
      help: 'what the node is to do while the network lets it',
      default: 'join',
    },
    'create-disk': {
      help: 'let the VM format its data disk if that is blank; DSTACK_VM_DATA_DISK_MIB makes a new one',
    },
  },
  async run(args) {
    const settings = vmSettings(readEnvironment(args.optional('env-file'), process.env));
    await writeHints(settings.hostVolume, args.text('role'), args.flag('create-disk'));
    const vm = await startVm({
      ...settings,
      log: (message) => console.log(JSON.stringify({ msg: message })),
    });
    const { pid, ports, consoleLog, platformId, accelerator } = vm;
    console.log(
      JSON.stringify({
        msg: 'VM runs',
        time: Date.now(),
        pid,
        ports,
        consoleLog,
        platform: platformId,
        accelerator,
      }),
    );
    const ended = await Promise.race([vm.exited, untilStopped().then(() => undefined)]);
    if (ended === undefined) await vm.stop();
    else
      throw new DstackError(
        'VM_ENDED',
        `the VM powered off (exit code ${ended.code}); its console log is ${consoleLog}`,
      );
  },
};

export const vmCommands: readonly Command[] = [run];
