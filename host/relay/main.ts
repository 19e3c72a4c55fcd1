/**
 * The relay: the host process that watches the chain, pays gas and carries bytes between its own nodes and their
 * networks. Its gas key is the only secret it holds, and it decides nothing.
 *
 *   node host/relay/main.ts [--env-file host.env] [--key-file gas.key]
 *
 * `runRelay` puts the parts together: one NetworkService per network, one payer per gas key and chain, one admin port.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Logger, pino } from 'pino';
import { Metrics } from '../../lib/daemon/metrics.ts';
import { logLines, printError } from '../../lib/daemon/terminal.ts';
import { type HostEndpoint, sharedEndpoint } from '../../lib/framework/endpoint/rpc.ts';
import { openStore, type Store } from '../../lib/framework/store.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, addressKey, sameAddress } from '../../lib/protocol/hex.ts';
import { collateralDesk } from '../collateral/attach.ts';
import { collateralSources } from '../collateral/sources.ts';
import { Dashboard } from '../dashboard/dashboard.ts';
import { LogTail } from '../dashboard/log-tail.ts';
import { redactor, secretsOfUrl } from '../dashboard/redact.ts';
import { Payers } from './payers.ts';
import { adminServer } from './server.ts';
import { NetworkService, type RelayStatus } from './service.ts';
import {
  type NetworkSettings,
  type RelaySettings,
  readEnvironment,
  readGasKey,
  relaySettings,
} from './settings.ts';

export type { RelayStatus } from './service.ts';

export interface Relay {
  /** Base URL for the peers of the first network, the one of host.env itself. */
  readonly gossipUrl: string;
  /** The same for every network, in the order of the settings. */
  readonly gossipUrls: readonly string[];
  readonly adminUrl: string;
  /** @param contract of one of its networks; the first one's by default */
  status(contract?: Address): RelayStatus;
  /** Stops everything; what is unfinished goes on at the next start with the same state directories. */
  close(): Promise<void>;
}

/**
 * Starts a relay; resolves once it serves.
 * @param lines where its log goes, JSON lines; standard output by default
 * @throws GAS_KEY, SETTINGS, STORE_OPEN (another relay has a state directory), or the listeners' own errors
 */
export async function runRelay(
  settings: RelaySettings,
  lines: { write(line: string): void } = logLines,
): Promise<Relay> {
  const networks: readonly NetworkSettings[] = [settings, ...(settings.furtherNetworks ?? [])];
  const redact = redactor(secretsOf(settings, networks));
  const tail = new LogTail(redact);
  const log = loggerOf(settings, lines, tail);
  const metrics = new Metrics();
  const stores: Store[] = [];
  const services: NetworkService[] = [];
  let payers: Payers | undefined;
  let dashboard: Dashboard | undefined;
  let operatorSide: ReturnType<typeof adminServer> | undefined;

  async function close(): Promise<void> {
    dashboard?.close();
    await Promise.all(services.map((service) => service.stop()));
    await payers?.stop();
    await operatorSide?.close();
    for (const store of stores) store.close();
  }

  try {
    for (const { stateDir } of networks) stores.push(openStore(join(stateDir, 'relay.sqlite')));
    payers = new Payers({ store: stores[0]!, metrics, log });
    // What is known about a platform is the same for every network.
    const cacheDir = join(settings.stateDir, 'collateral');
    const collateral = collateralDesk(collateralSources({ ...settings.collateral, cacheDir }, log));
    const endpoints = new Map<string, HostEndpoint>();
    for (const [index, network] of networks.entries()) {
      const endpoint = endpoints.get(network.rpcUrl) ?? sharedEndpoint(network.rpcUrl);
      endpoints.set(network.rpcUrl, endpoint);
      services.push(
        new NetworkService({
          settings: network,
          store: stores[index]!,
          chain: payers.chainOf(network, endpoint),
          collateral,
          metrics: metrics.of({ contract: addressKey(network.contract) }),
          redact,
          log: networks.length === 1 ? log : log.child({ contract: network.contract }),
        }),
      );
    }
    dashboard = new Dashboard({ networks: services.map((service) => service.dashboard), tail });
    operatorSide = adminServer({ services, metrics, log, hostName: settings.adminListen.host, dashboard });
    const gossipUrls = await Promise.all(services.map((service) => service.listen()));
    const adminUrl = await operatorSide.listen(settings.adminListen);
    payers.start();
    for (const [index, service] of services.entries()) {
      service.start();
      const { contract, chainId } = networks[index]!;
      const { gasAddress, recordsAddress: records } = service.status();
      const fields = { gossip: gossipUrls[index], records, admin: adminUrl, gasAddress, contract, chainId };
      log.info(fields, 'the relay is running');
    }
    const status = (contract = settings.contract) =>
      (services.find((service) => sameAddress(service.contract, contract)) ?? services[0]!).status();
    return { gossipUrl: gossipUrls[0]!, gossipUrls, adminUrl, status, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Its lines go where they should, and to the dashboard. */
function loggerOf(
  { logLevel: level }: RelaySettings,
  lines: { write(line: string): void },
  tail: LogTail,
): Logger {
  const write = (line: string): void => {
    lines.write(line);
    tail.write(line);
  };
  return pino({ level, base: { service: 'relay' } }, { write });
}

/** What no line that a browser shows may have in it: keys, and the parts of endpoints' URLs in which providers put theirs. */
function secretsOf({ collateral }: RelaySettings, networks: readonly NetworkSettings[]): readonly string[] {
  const { pcs } = collateral ?? {};
  const urls = [pcs?.url, pcs?.rootCrlUrl, ...networks.map(({ rpcUrl }) => rpcUrl)];
  return [
    ...networks.map(({ gasKeyFile }) => readGasKey(gasKeyFile)),
    ...urls.flatMap((url) => (url === undefined ? [] : secretsOfUrl(url))),
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { 'env-file': { type: 'string' }, 'key-file': { type: 'string' } },
  });
  const keyFile = values['key-file'];
  const environment = readEnvironment(values['env-file'], {
    ...process.env,
    ...(keyFile === undefined ? {} : { DSTACK_GAS_KEY_FILE: keyFile }),
  });
  const relay = await runRelay(relaySettings(environment));
  const stop = once(() => relay.close());
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

/** A second signal must not start a second shutdown. */
function once<T>(action: () => T): () => T {
  let done: { result: T } | undefined;
  return () => {
    done ??= { result: action() };
    return done.result;
  };
}

if (import.meta.main) {
  main().catch((error) => {
    printError(JSON.stringify({ level: 'fatal', code: codeOf(error), msg: (error as Error).message }));
    process.exitCode = 1;
  });
}
