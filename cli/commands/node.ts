/** `node …`: what the operator of one node does. */
import { readEnvironment, relaySettings, vmSettings } from '../../host/relay/settings.ts';
import { startVm } from '../../host/vm/vm.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print, printJson } from '../../lib/daemon/terminal.ts';
import type { Arguments, Command, Option } from '../command.ts';
import { joinNetwork } from '../join/join.ts';
import { nodeReport } from '../join/status.ts';
import { requireAddress } from '../owner/connection.ts';
import { tablesOption } from '../production-measurement.ts';
import { readPublicKey } from '../release/signature.ts';
import { isRelease, verifyRelease } from '../release/verify.ts';
import { envFileOption } from './relay.ts';

const networkOption: Option = {
  value: 'ADDRESS',
  help: "the network's contract; without it DSTACK_CONTRACT of the settings",
};

const join: Command = {
  name: 'node join',
  summary: "brings this host's VM into a running network and keeps it there: VM and relay in one",
  options: {
    network: networkOption,
    'env-file': envFileOption,
    'network-json': {
      value: 'FILE|URL',
      help: "the network's network.json; without it the one in the volume, else a gossip peer's",
    },
    'create-disk': {
      help: 'let the VM format its data disk if that is blank; DSTACK_VM_DATA_DISK_MIB makes a new one',
    },
    image: {
      value: 'DIR',
      help: 'the image to boot, or a release, whose files are checked first; without it DSTACK_VM_IMAGE_DIR of the settings',
    },
    'release-key': { value: 'FILE', help: 'the public key that has to have signed the release' },
    tables: tablesOption,
    'once-joined': { help: 'end, VM and all, as soon as the node has joined' },
  },
  async run(args) {
    const settings = settingsOf(args);
    const relay = relaySettings(settings);
    const environment = await withImage(args, settings);
    const source = args.optional('network-json');
    const stop = new AbortController();
    void stopSignal().then(() => stop.abort());
    await joinNetwork(
      {
        relay,
        vm: vmSettings(environment),
        ...(source === undefined ? {} : { networkJson: source }),
        ...(args.optional('tables') === undefined ? {} : { tables: args.text('tables') }),
        createDisk: args.flag('create-disk'),
        onceJoined: args.flag('once-joined'),
      },
      { startVm, stop: stop.signal, print: (line) => print(line) },
    );
  },
};

/**
 * The settings, with the image that the command line names. A release is looked through before anything is begun: what is not
 * whole would only measure as something that nobody allowed.
 * @throws USAGE, and the codes of `verifyRelease`
 */
async function withImage(args: Arguments, settings: Environment): Promise<Environment> {
  const image = args.optional('image');
  const environment = image === undefined ? settings : { ...settings, DSTACK_VM_IMAGE_DIR: image };
  const folder = vmSettings(environment).imageFolder;
  const key = args.optional('release-key');
  if (key === undefined && !isRelease(folder)) return environment;
  const publicKey = key === undefined ? undefined : readPublicKey(key);
  const { measured, files } = await verifyRelease(folder, { publicKey, tables: args.optional('tables') });
  print(
    `release ${measured.release} in ${folder}: ${files} files as they were released${publicKey === undefined ? ', by whom was not checked (--release-key)' : `, signed by ${publicKey}`}`,
  );
  return environment;
}

type Environment = ReturnType<typeof readEnvironment>;

const status: Command = {
  name: 'node status',
  summary: "prints the state of this host's node in a paragraph, by its relay and the contract",
  options: { network: networkOption, 'env-file': envFileOption, json: { help: 'prints one JSON object' } },
  async run(args) {
    const { paragraph, object } = await nodeReport(relaySettings(settingsOf(args)));
    if (args.flag('json')) printJson(object);
    else print(paragraph);
  },
};

/** The settings, with the network that the command line names. */
function settingsOf(args: Arguments): Environment {
  const network = args.optional('network');
  const contract = network === undefined ? undefined : requireAddress('network', network);
  const environment = readEnvironment(args.optional('env-file'), process.env);
  return contract === undefined ? environment : { ...environment, DSTACK_CONTRACT: contract };
}

export const nodeCommands: readonly Command[] = [join, status];
