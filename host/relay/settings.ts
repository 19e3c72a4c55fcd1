/**
 * The settings of a host: one file of `NAME=value` lines (host.env.example documents each), overridden by the process's
 * environment. Misspelt names in the file are refused, not ignored.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';
import type { CollateralSettings } from '../collateral/sources.ts';
import {
  type Environment,
  isSet,
  type Name,
  nearest,
  settings,
  take,
  type ValueOf,
} from './settings-table.ts';
import { requireDialled } from './validators.ts';

/** What QEMU's user network leads to the loopback of where QEMU runs. */
const LOOPBACK_SEEN_BY_VMS = '10.0.2.2';

export type { Environment };

/** What the relay needs to serve one network. */
export interface NetworkSettings {
  rpcUrl: string;
  chainId: number;
  contract: Address;
  /** Blocks on top of an event or transaction before it counts. */
  confirmations: number;
  pollMs: number;
  /** A file with the private key in hex; readable by its owner only. */
  gasKeyFile: string;
  maxFeeGwei: number;
  feeBumpSeconds: number;
  lowBalanceEth: number;
  /** The node port of the guest, as this host reaches it. */
  nodeUrl: string;
  /** The guest's website, as this host reaches it. */
  siteUrl: string;
  stateDir: string;
  /** This host's network.json, which the relay serves from its archive once it is there; absent without a VM volume. */
  networkJson?: string;
  /**
   * The host's volume, if its files of apps are given to other relays; `fetch`: and what a rollout needs is taken from them.
   * Absent: neither.
   */
  appFiles?: { volume: string; fetch: boolean };
  gossipListen: ValueOf<'DSTACK_GOSSIP_LISTEN'>;
  gossipPeers: string[];
  /** How messages travel as records, beside HTTP; absent: they do not. */
  records?: {
    listen?: ValueOf<'DSTACK_RECORDS_LISTEN'>;
    peers: ValueOf<'DSTACK_RECORDS_PEERS'>;
  };
  /** How messages travel as calldata; absent: they do not. `after`: the blocks for which others are waited for, before anything is paid for. */
  calldata?: { after: number };
}

/** What the relay needs. */
export interface RelaySettings extends NetworkSettings {
  adminListen: ValueOf<'DSTACK_ADMIN_LISTEN'>;
  /** Where the relay gets collateral, in the form that host/collateral takes; absent: nowhere. */
  collateral?: CollateralSettings;
  logLevel: ValueOf<'DSTACK_LOG_LEVEL'>;
  /** Networks beside the one above; the state directory above keeps the payers' queue for all of them. */
  furtherNetworks?: readonly NetworkSettings[];
}

/** What starting this host's VM needs, in the form that host/vm takes. */
export interface VmSettings {
  imageFolder: string;
  hostVolume: string;
  stateFolder: string;
  platformStateFile: string;
  /** Absent: the image's default shape. */
  shape?: { cpus: number; memoryMiB: number };
  ports: { tls: number; http: number; replicator: number; store?: number };
  /** Where visitors come to, to be passed on with their addresses; absent: nowhere. */
  visitors?: ValueOf<'DSTACK_VM_VISITORS_LISTEN'>;
  /** Where validators listen for the VM's signer; absent: nowhere. */
  validators?: ValueOf<'DSTACK_VM_VALIDATORS'>;
  /** A network namespace for QEMU alone, and which TCP ports of this host's loopback are reached from it; absent: the host's. */
  ownNetwork?: { loopbackPorts: readonly number[] };
  dataDisk?: { path: string; createMiB?: number };
}

/**
 * @throws SETTINGS, naming the first setting that is missing or invalid or that two networks can't share, or a file of
 * DSTACK_FURTHER_NETWORKS that can't be read
 */
export function relaySettings(environment: Environment): RelaySettings {
  const own = networkSettings(environment);
  const further = take(environment, 'DSTACK_FURTHER_NETWORKS').map((file) =>
    furtherNetwork(file, environment),
  );
  requireDistinct([own, ...further]);
  return {
    ...own,
    adminListen: take(environment, 'DSTACK_ADMIN_LISTEN'),
    collateral: collateralSettings(environment),
    logLevel: take(environment, 'DSTACK_LOG_LEVEL'),
    ...(further.length > 0 && { furtherNetworks: further }),
  };
}

/** What it takes to look at a node, its relay and the contract: no account, and no folder of the relay's. */
export type WatchSettings = Pick<
  RelaySettings,
  'rpcUrl' | 'chainId' | 'contract' | 'maxFeeGwei' | 'nodeUrl' | 'adminListen'
>;

/** @throws SETTINGS, naming the first setting that is missing or invalid */
export const watchSettings = (environment: Environment): WatchSettings => ({
  rpcUrl: take(environment, 'DSTACK_RPC_URL'),
  chainId: take(environment, 'DSTACK_CHAIN_ID'),
  contract: take(environment, 'DSTACK_CONTRACT'),
  maxFeeGwei: take(environment, 'DSTACK_MAX_FEE_GWEI'),
  ...nodeSettings(environment),
  adminListen: take(environment, 'DSTACK_ADMIN_LISTEN'),
});

/** What it takes to look at a node alone: its port, and the host volume where there is one. @throws SETTINGS */
export const nodeSettings = (environment: Environment): { nodeUrl: string; volume?: string } => ({
  nodeUrl: take(environment, 'DSTACK_NODE_URL'),
  ...(isSet(environment, 'DSTACK_VM_VOLUME_DIR') && { volume: take(environment, 'DSTACK_VM_VOLUME_DIR') }),
});

function networkSettings(environment: Environment): NetworkSettings {
  return {
    rpcUrl: take(environment, 'DSTACK_RPC_URL'),
    chainId: take(environment, 'DSTACK_CHAIN_ID'),
    contract: take(environment, 'DSTACK_CONTRACT'),
    confirmations: take(environment, 'DSTACK_CONFIRMATIONS'),
    pollMs: take(environment, 'DSTACK_POLL_MS'),
    gasKeyFile: take(environment, 'DSTACK_GAS_KEY_FILE'),
    maxFeeGwei: take(environment, 'DSTACK_MAX_FEE_GWEI'),
    feeBumpSeconds: take(environment, 'DSTACK_FEE_BUMP_SECONDS'),
    lowBalanceEth: take(environment, 'DSTACK_LOW_BALANCE_ETH'),
    nodeUrl: take(environment, 'DSTACK_NODE_URL'),
    siteUrl: isSet(environment, 'DSTACK_SITE_URL')
      ? take(environment, 'DSTACK_SITE_URL')
      : `https://127.0.0.1:${take(environment, 'DSTACK_VM_TLS_PORT')}`,
    stateDir: take(environment, 'DSTACK_STATE_DIR'),
    ...(isSet(environment, 'DSTACK_VM_VOLUME_DIR') && {
      networkJson: join(take(environment, 'DSTACK_VM_VOLUME_DIR'), 'network.json'),
      ...appFilesOf(environment),
    }),
    gossipListen: take(environment, 'DSTACK_GOSSIP_LISTEN'),
    gossipPeers: take(environment, 'DSTACK_GOSSIP_PEERS'),
    ...recordsOf(environment),
    ...(isSet(environment, 'DSTACK_CALLDATA_AFTER') && {
      calldata: { after: take(environment, 'DSTACK_CALLDATA_AFTER') },
    }),
  };
}

function recordsOf(environment: Environment): Pick<NetworkSettings, 'records'> {
  const peers = take(environment, 'DSTACK_RECORDS_PEERS');
  const isListening = isSet(environment, 'DSTACK_RECORDS_LISTEN');
  if (peers.length === 0 && !isListening) return {};
  return {
    records: { peers, ...(isListening && { listen: take(environment, 'DSTACK_RECORDS_LISTEN') }) },
  };
}

function appFilesOf(environment: Environment): Pick<NetworkSettings, 'appFiles'> {
  const use = take(environment, 'DSTACK_APP_FILES');
  if (use === 'none') return {};
  return { appFiles: { volume: take(environment, 'DSTACK_VM_VOLUME_DIR'), fetch: use === 'share' } };
}

function collateralSettings(environment: Environment): CollateralSettings {
  const url = take(environment, 'DSTACK_PCS_URL');
  return {
    ...(url !== 'none' && {
      pcs: {
        url,
        update: take(environment, 'DSTACK_PCS_UPDATE'),
        ...(isSet(environment, 'DSTACK_PCS_ROOT_CRL_URL') && {
          rootCrlUrl: take(environment, 'DSTACK_PCS_ROOT_CRL_URL'),
        }),
      },
    }),
    ...(isSet(environment, 'DSTACK_COLLATERAL_DIR') && {
      folder: take(environment, 'DSTACK_COLLATERAL_DIR'),
    }),
  };
}

/** What a further network's file need not repeat: chain and payer. Everything else is each network's own. */
const INHERITED: readonly Name[] = [
  'DSTACK_RPC_URL',
  'DSTACK_CHAIN_ID',
  'DSTACK_CONFIRMATIONS',
  'DSTACK_POLL_MS',
  'DSTACK_GAS_KEY_FILE',
  'DSTACK_MAX_FEE_GWEI',
  'DSTACK_FEE_BUMP_SECONDS',
  'DSTACK_LOW_BALANCE_ETH',
];

/** The process's environment does not override it: that is about the first network. */
function furtherNetwork(file: string, first: Environment): NetworkSettings {
  const own = readEnvironment(file, {});
  if (isSet(own, 'DSTACK_FURTHER_NETWORKS')) {
    throw new DstackError('SETTINGS', `${file} names further networks itself: name all of them in one file`);
  }
  const inherited = INHERITED.filter((name) => !isSet(own, name)).map((name) => [name, first[name]]);
  try {
    return networkSettings({ ...own, ...Object.fromEntries(inherited) });
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    throw new DstackError(error.code, `${file}: ${error.message}`, { cause: error });
  }
}

/** What no two networks of one relay may have in common. */
function requireDistinct(networks: readonly NetworkSettings[]): void {
  const own: Record<string, (network: NetworkSettings) => string | undefined> = {
    DSTACK_CONTRACT: ({ chainId, contract }) => `${addressKey(contract)} on chain ${chainId}`,
    DSTACK_STATE_DIR: ({ stateDir }) => resolve(stateDir),
    DSTACK_NODE_URL: ({ nodeUrl }) => nodeUrl,
    // Its network.json is of one network, and each removes the drafts of files that its own contract does not name.
    DSTACK_VM_VOLUME_DIR: ({ networkJson }) => networkJson && resolve(dirname(networkJson)),
    DSTACK_GOSSIP_LISTEN: ({ gossipListen: { host, port } }) => (port === 0 ? undefined : `${host}:${port}`),
    DSTACK_RECORDS_LISTEN: ({ records: { listen: { host, port = 0 } = {} } = {} }) =>
      port === 0 ? undefined : `${host}:${port}`,
  };
  for (const [name, ownOf] of Object.entries(own)) {
    const seen = new Set<string>();
    for (const value of networks.map(ownOf)) {
      if (value === undefined) continue;
      if (seen.has(value)) {
        throw new DstackError('SETTINGS', `${name} is ${value} for two networks; each needs its own`);
      }
      seen.add(value);
    }
  }
}

/** @throws SETTINGS as above */
export function vmSettings(environment: Environment): VmSettings {
  const shaped = isSet(environment, 'DSTACK_VM_CPUS') || isSet(environment, 'DSTACK_VM_MEMORY_MIB');
  return {
    imageFolder: take(environment, 'DSTACK_VM_IMAGE_DIR'),
    hostVolume: take(environment, 'DSTACK_VM_VOLUME_DIR'),
    stateFolder: take(environment, 'DSTACK_VM_STATE_DIR'),
    platformStateFile: take(environment, 'DSTACK_VM_PLATFORM_FILE'),
    ports: {
      tls: take(environment, 'DSTACK_VM_TLS_PORT'),
      http: take(environment, 'DSTACK_VM_HTTP_PORT'),
      replicator: take(environment, 'DSTACK_VM_NODE_PORT'),
      ...(isSet(environment, 'DSTACK_VM_STORE_PORT') && { store: take(environment, 'DSTACK_VM_STORE_PORT') }),
    },
    ...(isSet(environment, 'DSTACK_VM_VISITORS_LISTEN') && {
      visitors: take(environment, 'DSTACK_VM_VISITORS_LISTEN'),
    }),
    ...(isSet(environment, 'DSTACK_VM_VALIDATORS') && { validators: validatorsIn(environment) }),
    ...(take(environment, 'DSTACK_VM_NETWORK') === 'own' && {
      ownNetwork: { loopbackPorts: loopbackPorts(environment) },
    }),
    ...(shaped && {
      shape: {
        cpus: take(environment, 'DSTACK_VM_CPUS'),
        memoryMiB: take(environment, 'DSTACK_VM_MEMORY_MIB'),
      },
    }),
    ...(isSet(environment, 'DSTACK_VM_DATA_DISK') && {
      dataDisk: {
        path: take(environment, 'DSTACK_VM_DATA_DISK'),
        ...(isSet(environment, 'DSTACK_VM_DATA_DISK_MIB') && {
          createMiB: take(environment, 'DSTACK_VM_DATA_DISK_MIB'),
        }),
      },
    }),
  };
}

/** @throws SETTINGS */
function validatorsIn(environment: Environment): ValueOf<'DSTACK_VM_VALIDATORS'> {
  const found = take(environment, 'DSTACK_VM_VALIDATORS');
  requireDialled(found);
  return found;
}

/** What is listed, and the validators that the VM is told to find there. @throws SETTINGS */
function loopbackPorts(environment: Environment): number[] {
  const validators = isSet(environment, 'DSTACK_VM_VALIDATORS') ? validatorsIn(environment) : [];
  const here = validators.filter(({ address }) => address === LOOPBACK_SEEN_BY_VMS).map(({ port }) => port);
  return [...new Set([...take(environment, 'DSTACK_VM_LOOPBACK_PORTS'), ...here])];
}

/**
 * Reads a settings file and lays the environment over it.
 * @throws SETTINGS for a file that can't be read, a line that is not `NAME=value`, a name that does not exist or is there twice
 */
export function readEnvironment(path: string | undefined, environment: Environment): Environment {
  const fromFile = path === undefined ? {} : parseEnvFile(readSettingsFile(path), path);
  const unknown = Object.keys(fromFile).find((name) => !Object.hasOwn(settings, name));
  if (unknown !== undefined) {
    const meant = nearest(unknown);
    const hint = meant === undefined ? 'see host.env.example' : `did you mean ${meant}?`;
    throw new DstackError('SETTINGS', `${path} sets ${unknown}, which does not exist; ${hint}`);
  }
  // The environment also holds variables of others, so only known names are taken from it.
  const known = Object.keys(settings).filter((name) => environment[name] !== undefined);
  return { ...fromFile, ...Object.fromEntries(known.map((name) => [name, environment[name]])) };
}

/** `NAME=value` lines, `#` comments, empty lines; a value may stand in quotes. Nothing is expanded, no name is there twice. @throws SETTINGS */
export function parseEnvFile(content: string, file = 'the settings'): Record<string, string> {
  const found: Record<string, string> = {};
  const lines: Record<string, number> = {};
  for (const [index, raw] of content.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"'#]*))\s*(?:#.*)?$/.exec(line);
    if (match === null) {
      throw new DstackError(
        'SETTINGS',
        `line ${index + 1} of ${file} is not NAME=value: ${line.slice(0, 60)}`,
      );
    }
    const name = match[1]!;
    if (Object.hasOwn(lines, name)) {
      throw new DstackError(
        'SETTINGS',
        `line ${index + 1} of ${file} sets ${name}, as line ${lines[name]} does: leave one of them out`,
      );
    }
    lines[name] = index + 1;
    found[name] = match[2] ?? match[3] ?? match[4] ?? '';
  }
  return found;
}

/**
 * The private key in the gas key file, 0x-prefixed.
 * @throws GAS_KEY when it is missing, readable by others, or not 32 bytes of hex. The message never quotes it.
 */
export function readGasKey(path: string): string {
  return readKeyFile(path, 'GAS_KEY', 'the gas key');
}

/**
 * A private key from a file that nobody else may read: 0x and 64 hex digits.
 * @param what whose key it is, for the messages, which never hold the key itself
 * @throws an error with `code`
 */
export function readKeyFile(path: string, code: string, what: string): string {
  let content: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    content = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    const { code: reason } = cause as NodeJS.ErrnoException;
    throw new DstackError(code, `cannot read ${what} file ${path}: ${reason}`, { cause });
  }
  if ((mode & 0o077) !== 0) {
    throw new DstackError(code, `others may read ${what} file ${path}: chmod 600 it`);
  }
  if (!/^(0x)?[0-9a-fA-F]{64}$/.test(content)) {
    throw new DstackError(code, `${path} does not hold a private key: 64 hex digits are expected`);
  }
  return content.startsWith('0x') ? content : `0x${content}`;
}

function readSettingsFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('SETTINGS', `cannot read the settings in ${path}: ${code}`, { cause });
  }
}
