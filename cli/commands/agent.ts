/** `agent dev`: the agent API for who writes an app, without a VM. */
import { join, resolve } from 'node:path';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { print, printError } from '../../lib/daemon/terminal.ts';
import { AppName, check } from '../../lib/protocol/schema.ts';
import { appFrom, appNamed } from '../agent/app.ts';
import { openFolder } from '../agent/folder.ts';
import { networkFrom, simulatedNetwork, simulatedNode } from '../agent/node.ts';
import { serveAgent } from '../agent/serve.ts';
import { type Arguments, type Command, typed, UsageError } from '../command.ts';
import { repository } from '../repository.ts';

const dev: Command = {
  name: 'agent dev',
  summary:
    'serves the agent API on this machine, for who writes an app: throwaway keys, a simulated platform',
  options: {
    app: { value: 'NAME', help: 'whose keys they are; it may ask everything (default app)' },
    manifest: { value: 'FILE', help: 'instead: the app and what it may ask, as in a VM' },
    container: { value: 'NAME', help: 'which container of the manifest, where several may ask' },
    network: { value: 'FILE', help: 'the network.json that it shows; without it, one that is nowhere' },
    'raw-quotes': { help: 'quotes over report data of its own, as rawQuotes of network.json gives' },
    data: {
      value: 'DIR',
      help: 'where its secret and its socket are',
      default: join(repository, '.state/agent'),
    },
    listen: { value: 'HOST:PORT', help: 'a port on the loopback besides the socket, as 127.0.0.1:8090' },
  },
  async run(args) {
    const { app, networkJson, port } = asked(args);
    const stopped = stopSignal();
    const data = resolve(args.text('data'));
    const secret = await openFolder(data);
    const node = simulatedNode(secret, networkJson);
    printError(
      'WARNING: this agent is not in a VM. Its keys follow from a secret that lies on this disk, its platform is simulated, and nothing that it',
      'WARNING: signs or quotes proves anything. Whoever reaches its socket or its port has the keys. For development only.',
    );
    const agent = await serveAgent({ app, node, data, port, log: { debug: answered, warn: refused } });
    print(
      `app          ${app.app}, container ${app.container}, which may ask: ${app.api.join(', ')}`,
      `network key  ${node.info.networkKey}, of no contract`,
      `socket       ${agent.socket}`,
      ...(agent.url === undefined
        ? []
        : [`port         ${agent.url}: whoever is on this machine may ask there`]),
      '',
      'An app finds it by',
      `  export DSTACK_SIMULATOR_ENDPOINT=${agent.socket}`,
      `  docker run --volume ${agent.folder}:/var/run/dstack:ro …`,
    );
    try {
      await stopped;
    } finally {
      await agent.close();
    }
  },
};

/** @throws USAGE and what the files are refused with */
function asked(args: Arguments) {
  const [manifest, network] = [args.optional('manifest'), args.optional('network')];
  const [name, container] = [args.optional('app'), args.optional('container')];
  if (manifest !== undefined && name !== undefined)
    throw new UsageError('--manifest names the app: leave out --app');
  if (manifest === undefined && container !== undefined)
    throw new UsageError('--container is one of a --manifest');
  if (network !== undefined && args.flag('raw-quotes'))
    throw new UsageError('--network says by its rawQuotes who has raw quotes: leave out --raw-quotes');
  const port = portOf(args.optional('listen'));
  const app =
    manifest === undefined
      ? appNamed(typed(() => check(AppName, name ?? 'app', 'APP_NAME', '--app')))
      : appFrom(manifest, container);
  return {
    app,
    port,
    networkJson:
      network === undefined
        ? simulatedNetwork(args.flag('raw-quotes') ? app.app : undefined)
        : networkFrom(network),
  };
}

/** Anywhere else than on the loopback strangers would have the keys. @throws USAGE */
function portOf(listen: string | undefined): number | undefined {
  if (listen === undefined) return undefined;
  const port = Number(/^(?:127\.0\.0\.1|localhost):(\d{1,5})$/.exec(listen)?.[1]);
  if (!(port <= 65_535))
    throw new UsageError(
      `--listen takes 127.0.0.1:PORT, since everybody who reaches it has the keys; not ${listen}`,
    );
  return port;
}

const answered = (fields: object): void => print(`answered ${(fields as { path?: string }).path}`);
const refused = (fields: object, message: string): void =>
  printError(`${message} (${(fields as { code?: string }).code ?? 'no code'})`);

export const agentCommands: readonly Command[] = [dev];
