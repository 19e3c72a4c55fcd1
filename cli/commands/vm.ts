/** `vm run`: this host's VM, in the foreground. */
import { readEnvironment, vmSettings } from '../../host/relay/settings.ts';
import { startVm } from '../../host/vm/vm.ts';
import { QUOTE_VERSIONS, SIMULATED_CONDITIONS } from '../../lib/attestation/simulated/conditions.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { printJson } from '../../lib/daemon/terminal.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Arguments, type Command, UsageError } from '../command.ts';
import { writeHints } from '../host-hints.ts';
import { envFileOption } from './relay.ts';
import { checkCommand } from './vm-check.ts';

const run: Command = {
  name: 'vm run',
  summary: 'boots the VM and stays until it ends',
  options: {
    'env-file': envFileOption,
    role: {
      value: 'bootstrap|join',
      help: 'what the node does if the network lets it',
      default: 'join',
    },
    'quote-version': {
      value: QUOTE_VERSIONS.join('|'),
      help: "of the simulated platform's quotes: 4 with TD report 1.0, 5 with 1.5",
      default: '4',
    },
    simulate: {
      value: SIMULATED_CONDITIONS.join('|'),
      help: 'the state of the simulated platform, to see a network refuse it',
      default: 'ordinary',
    },
    'create-disk': {
      help: 'let the VM format its data disk if that is blank; DSTACK_VM_DATA_DISK_MIB makes a new one',
    },
  },
  async run(args) {
    const simulated = {
      quoteVersion: oneOf(args, 'quote-version', QUOTE_VERSIONS),
      condition: oneOf(args, 'simulate', SIMULATED_CONDITIONS),
    };
    const settings = vmSettings(readEnvironment(args.optional('env-file'), process.env));
    const { hostVolume, validators } = settings;
    await writeHints(hostVolume, args.text('role'), args.flag('create-disk'), validators);
    const vm = await startVm({
      ...settings,
      simulated,
      log: (message) => printJson({ msg: message }),
    });
    const { pid, ports, consoleLog, platformId, accelerator } = vm;
    printJson({
      msg: 'VM runs',
      time: Date.now(),
      pid,
      ports,
      consoleLog,
      platform: platformId,
      accelerator,
    });
    const ended = await Promise.race([vm.exited, stopSignal().then(() => undefined)]);
    if (ended === undefined) await vm.stop();
    else
      throw new DstackError(
        'VM_ENDED',
        `the VM powered off (exit code ${ended.code}); its console log is ${consoleLog}`,
      );
  },
};

function oneOf<Choice extends string | number>(
  args: Arguments,
  name: string,
  choices: readonly Choice[],
): Choice {
  const choice = choices.find((candidate) => String(candidate) === args.text(name));
  if (choice === undefined)
    throw new UsageError(`--${name} takes ${choices.join(', ')}, not ${args.text(name)}`);
  return choice;
}

export const vmCommands: readonly Command[] = [run, checkCommand];
