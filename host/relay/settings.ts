/**
 * The settings of a host: one file of `NAME=value` lines (host.env.example documents each), overridden by the process's
 * environment. Misspelt names in the file are refused, not ignored.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, addressKey } from '../../lib/protocol/hex.ts';
import { ValidatorsSchema } from '../../lib/protocol/network-config.ts';
import { guestPorts } from '../../lib/protocol/ports.ts';
import { Address0x, Strict } from '../../lib/protocol/schema.ts';
import type { CollateralSettings } from '../collateral/sources.ts';
import { requireDialled } from './validators.ts';

/** One setting: how its text is parsed, which values are valid, and the text that is used when it is absent. */
interface Setting<T extends TSchema> {
  schema: T;
  parse(text: string): unknown;
  fallback: string | undefined;
}

function setting<T extends TSchema>(
  schema: T,
  parse: (text: string) => unknown,
  fallback?: string,
): Setting<T> {
  return { schema, parse, fallback };
}

const Url = Type.String({ pattern: '^https?://[^\\s]+$', maxLength: 500 });
const SiteUrl = Type.String({ pattern: '^https://[^\\s/?#@]+$', maxLength: 300 });
const Path = Type.String({ minLength: 1, maxLength: 4096 });
/** What QEMU's user network leads to the loopback of where QEMU runs. */
const LOOPBACK_SEEN_BY_VMS = '10.0.2.2';
const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Listen = Strict({
  host: Type.String({ minLength: 1, maxLength: 255 }),
  port: Type.Integer({ minimum: 0, maximum: 65535 }),
});
const Whole = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });
const Level = Type.Union([
  Type.Literal('debug'),
  Type.Literal('info'),
  Type.Literal('warn'),
  Type.Literal('error'),
  Type.Literal('silent'),
]);

const AppFileUse = Type.Union([Type.Literal('share'), Type.Literal('serve'), Type.Literal('none')]);

/** Intel's Provisioning Certification Service. */
const INTEL_PCS = 'https://api.trustedservices.intel.com';

/** Every setting there is. */
const settings = {
  DSTACK_RPC_URL: setting(Url, text),
  DSTACK_CHAIN_ID: setting(Whole(1, Number.MAX_SAFE_INTEGER), number),
  DSTACK_CONTRACT: setting(Address0x, text),
  DSTACK_CONFIRMATIONS: setting(Whole(0, 1000), number, '2'),
  DSTACK_POLL_MS: setting(Whole(50, 60_000), number, '1000'),
  DSTACK_GAS_KEY_FILE: setting(Path, text),
  DSTACK_MAX_FEE_GWEI: setting(Type.Number({ exclusiveMinimum: 0, maximum: 100_000 }), number, '100'),
  DSTACK_FEE_BUMP_SECONDS: setting(Whole(1, 3600), number, '45'),
  DSTACK_LOW_BALANCE_ETH: setting(Type.Number({ minimum: 0, maximum: 1000 }), number, '0.01'),
  DSTACK_NODE_URL: setting(Url, withoutSlash, `http://127.0.0.1:${guestPorts.replicator}`),
  DSTACK_SITE_URL: setting(SiteUrl, withoutSlash),
  DSTACK_STATE_DIR: setting(Path, text),
  DSTACK_GOSSIP_LISTEN: setting(Listen, listen, '127.0.0.1:7610'),
  DSTACK_GOSSIP_PEERS: setting(Type.Array(Url, { maxItems: 64, uniqueItems: true }), list, ' '),
  DSTACK_ADMIN_LISTEN: setting(Listen, listen, '127.0.0.1:7611'),
  DSTACK_PCS_URL: setting(Type.Union([Url, Type.Literal('none')]), withoutSlash, INTEL_PCS),
  DSTACK_PCS_ROOT_CRL_URL: setting(Url, text),
  DSTACK_PCS_UPDATE: setting(Type.Union([Type.Literal('standard'), Type.Literal('early')]), text, 'standard'),
  DSTACK_COLLATERAL_DIR: setting(Path, text),
  DSTACK_FURTHER_NETWORKS: setting(Type.Array(Path, { maxItems: 32, uniqueItems: true }), list, ' '),
  DSTACK_APP_FILES: setting(AppFileUse, text, 'share'),
  DSTACK_LOG_LEVEL: setting(Level, text, 'info'),
  DSTACK_VM_IMAGE_DIR: setting(Path, text),
  DSTACK_VM_VOLUME_DIR: setting(Path, text),
  DSTACK_VM_STATE_DIR: setting(Path, text),
  DSTACK_VM_PLATFORM_FILE: setting(Path, text),
  DSTACK_VM_CPUS: setting(Whole(1, 256), number),
  DSTACK_VM_MEMORY_MIB: setting(Whole(512, 1024 * 1024), number),
  DSTACK_VM_NODE_PORT: setting(Port, number, String(guestPorts.replicator)),
  DSTACK_VM_TLS_PORT: setting(Port, number, '8443'),
  DSTACK_VM_HTTP_PORT: setting(Port, number, '8080'),
  DSTACK_VM_VISITORS_LISTEN: setting(Listen, listen),
  DSTACK_VM_VALIDATORS: setting(ValidatorsSchema, validators),
  DSTACK_VM_NETWORK: setting(Type.Union([Type.Literal('own'), Type.Literal('shared')]), text, 'shared'),
  DSTACK_VM_LOOPBACK_PORTS: setting(Type.Array(Port, { maxItems: 32, uniqueItems: true }), numbers, ' '),
  DSTACK_VM_DATA_DISK: setting(Path, text),
  DSTACK_VM_DATA_DISK_MIB: setting(Whole(64, 64 * 1024 * 1024), number),
} as const;
type Name = keyof typeof settings;
type ValueOf<N extends Name> = Static<(typeof settings)[N]['schema']>;

export type Environment = Readonly<Record<string, string | undefined>>;

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
  ports: { tls: number; http: number; replicator: number };
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
    },
    ...(isSet(environment, 'DSTACK_VM_VISITORS_LISTEN') && {
      visitors: take(environment, 'DSTACK_VM_VISITORS_LISTEN'),
    }),
    ...(isSet(environment, 'DSTACK_VM_VALIDATORS') && { validators: validatorsIn(environment) }),
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

/** What is listed, and the validators that the VM is told to find there. */
function loopbackPorts(environment: Environment): number[] {
  const validators = isSet(environment, 'DSTACK_VM_VALIDATORS')
    ? take(environment, 'DSTACK_VM_VALIDATORS')
    : [];
  const here = validators.filter(({ address }) => address === LOOPBACK_SEEN_BY_VMS).map(({ port }) => port);
  return [...new Set([...take(environment, 'DSTACK_VM_LOOPBACK_PORTS'), ...here])];
}

/**
 * Reads a settings file and lays the environment over it.
 * @throws SETTINGS for a file that can't be read, a line that is not `NAME=value`, or a name that does not exist
 */
export function readEnvironment(path: string | undefined, environment: Environment): Environment {
  const fromFile = path === undefined ? {} : parseEnvFile(readSettingsFile(path));
  const unknown = Object.keys(fromFile).find((name) => !Object.hasOwn(settings, name));
  if (unknown !== undefined) {
    throw new DstackError('SETTINGS', `${path} sets ${unknown}, which does not exist; see host.env.example`);
  }
  // The environment also holds variables of others, so only known names are taken from it.
  const known = Object.keys(settings).filter((name) => environment[name] !== undefined);
  return { ...fromFile, ...Object.fromEntries(known.map((name) => [name, environment[name]])) };
}

/** `NAME=value` lines, `#` comments, empty lines; a value may stand in quotes. Nothing is expanded. @throws SETTINGS */
export function parseEnvFile(content: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [index, raw] of content.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"'#]*))\s*(?:#.*)?$/.exec(line);
    if (match === null) {
      throw new DstackError(
        'SETTINGS',
        `line ${index + 1} of the settings is not NAME=value: ${line.slice(0, 60)}`,
      );
    }
    found[match[1]!] = match[2] ?? match[3] ?? match[4] ?? '';
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

/** An empty value counts as absent, as in a shell. */
function isSet(environment: Environment, name: Name): boolean {
  return (environment[name] ?? '') !== '';
}

function take<N extends Name>(environment: Environment, name: N): ValueOf<N> {
  const { schema, parse, fallback } = settings[name];
  const given = environment[name] || fallback;
  if (given === undefined)
    throw new DstackError('SETTINGS', `${name} is not set; host.env.example says what it is`);
  const value = parse(given);
  if (!Value.Check(schema, value)) {
    throw new DstackError(
      'SETTINGS',
      `${name} can't be ${JSON.stringify(given)}; host.env.example says what it is`,
    );
  }
  return value as ValueOf<N>;
}

function readSettingsFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('SETTINGS', `cannot read the settings in ${path}: ${code}`, { cause });
  }
}

function text(value: string): string {
  return value;
}

function withoutSlash(value: string): string {
  return value.replace(/\/+$/, '');
}

function number(value: string): unknown {
  return /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
}

function list(value: string): string[] {
  return value
    .split(',')
    .map((item) => withoutSlash(item.trim()))
    .filter((item) => item !== '');
}

function numbers(value: string): unknown[] {
  return list(value).map(number);
}

/** `127.0.0.1:7610`, `[::1]:7610` */
function listen(value: string): unknown {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(value);
  return match === null ? value : { host: match[1] ?? match[2], port: Number(match[3]) };
}

function validatorsIn(environment: Environment): ValueOf<'DSTACK_VM_VALIDATORS'> {
  const found = take(environment, 'DSTACK_VM_VALIDATORS');
  requireDialled(found);
  return found;
}

/** `chain-1=10.0.2.2:26659,chain-2=192.0.2.1:26659` */
function validators(value: string): unknown[] {
  return list(value).map((item) => {
    const match = /^([^=]+)=([^:]+):(\d{1,5})$/.exec(item);
    return match === null ? item : { chain: match[1], address: match[2], port: Number(match[3]) };
  });
}
