/** `app status`, `app ps` and `app logs`: how rollouts go on this host's node, and what runs there. */
import { NodeClient } from '../../host/node-client.ts';
import { nodeSettings, readEnvironment, watchSettings } from '../../host/relay/settings.ts';
import { print, printError, printJson } from '../../lib/daemon/terminal.ts';
import type { AppsStatus } from '../../lib/protocol/app-status.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { appId } from '../../lib/protocol/manifest.ts';
import { answer } from '../answers.ts';
import { containersOf, containerTable, manifestsIn } from '../app/containers.ts';
import { statusLines, statusObject } from '../app/status.ts';
import { type Arguments, type Command, narrationOptions, typed } from '../command.ts';
import { ContractView } from '../join/contract.ts';
import { relayStatus } from '../join/status.ts';
import { envFileOption } from './relay.ts';

const environmentOf = (args: Arguments) => readEnvironment(args.optional('env-file'), process.env);

export const status: Command = {
  name: 'app status',
  summary: "what the chain, this host's node and its relay say of each app, and where they differ",
  options: {
    'env-file': envFileOption,
    app: { value: 'NAME', help: 'this app only' },
    json: { help: 'prints one JSON object' },
  },
  async run(args) {
    const only = args.optional('app');
    if (only !== undefined) typed(() => appId(only));
    const settings = watchSettings(environmentOf(args));
    const contract = new ContractView(settings);
    const { head } = await contract.network();
    const chain = await contract.apps();
    const node = await orNothing('the node', new NodeClient(settings.nodeUrl).apps());
    const relay = await orNothing(
      'the relay',
      relayStatus(settings).then(({ apps }) => apps),
    );
    const lines = statusLines({ chain, node, relay }, only);
    if (lines.length === 0 && only !== undefined)
      throw new DstackError(
        'NO_APP',
        `neither the contract nor this host's node and relay have a manifest of an app ${only}`,
      );
    const { chainId, contract: address } = settings;
    if (args.flag('json'))
      return printJson({
        chainId,
        contract: address,
        block: head,
        ...statusObject({ chain, node, relay }, only),
      });
    print(`chain ${chainId} at block ${head}, contract ${address}`);
    print(...(lines.length > 0 ? lines : ['no apps']));
  },
};

export const ps: Command = {
  name: 'app ps',
  summary: "the containers of the apps on this host's node; --all shows those too that do not run",
  options: {
    'env-file': envFileOption,
    app: { value: 'NAME', help: 'this app only' },
    all: { help: 'those too that are to start, did not, or wait', short: 'a' },
    volume: {
      value: 'DIR',
      help: 'the host volume with the manifests, which name the containers; that of the settings when left out',
    },
    json: narrationOptions.json,
  },
  async run(args) {
    const only = args.optional('app');
    if (only !== undefined) typed(() => appId(only));
    const { nodeUrl, volume } = nodeSettings(environmentOf(args));
    const said = await new NodeClient(nodeUrl).apps();
    const rows = containersOf(said, manifestsIn(args.optional('volume') ?? volume)).filter(
      ({ app, state }) =>
        (only === undefined || app === only) && (args.flag('all') || ['running', 'ending'].includes(state)),
    );
    if (!args.flag('json')) print(...containerTable(rows));
    if (said.more > 0) printError(`the node has ${said.more} more apps, of which it says nothing`);
    answer(args, 'app ps', { containers: rows, more: said.more });
  },
};

export const logs: Command = {
  name: 'app logs',
  summary:
    'the last lines of an app that did not come up, ended or was not well, where its manifest makes them public',
  positionals: ['NAME'],
  options: { 'env-file': envFileOption, json: { help: 'prints one JSON object' } },
  async run(args) {
    const [app] = args.positionals as [string];
    typed(() => appId(app));
    const { apps } = await relayStatus(watchSettings(environmentOf(args)));
    if (apps === undefined)
      throw new DstackError(
        'NODE_APPS',
        'the relay does not know how the apps of its node stand: see its log',
      );
    const found = apps.apps.find((one) => one.app === app);
    if (found === undefined) throw new DstackError('NO_APP', `the node has no app ${app}`);
    const written = Object.entries(found.trouble?.logs ?? {});
    if (written.length === 0) {
      const why =
        found.trouble === undefined
          ? 'nothing is wrong with it'
          : 'no container with public logs is concerned';
      throw new DstackError('NO_LOGS', `there are no lines of ${app}: ${why}`);
    }
    const { code, message } = found.trouble!;
    if (args.flag('json')) return printJson({ app, code, message, logs: Object.fromEntries(written) });
    print(`${app}: ${code}: ${message}`);
    for (const [container, lines] of written) print(...lines.map((line) => `${container} | ${line}`));
  },
};

/** One of them may be down: then the others' word is all the more of use. */
async function orNothing(
  who: string,
  asked: Promise<AppsStatus | undefined>,
): Promise<AppsStatus | undefined> {
  try {
    return await asked;
  } catch (error) {
    printError(`${who} cannot be asked: ${codeOf(error)}: ${(error as Error).message}`);
    return undefined;
  }
}
