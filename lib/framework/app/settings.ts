/**
 * What `dstack dev` tells the two processes of an app, and what their operators tell them elsewhere, by environment variables. In a VM the
 * enclave's are in the manifest, which the contract names: its endpoints are measured with it.
 */
import { readFileSync } from 'node:fs';
import { codeOf, DstackError, messageOf } from '../../protocol/errors.ts';
import { type Address, chainHex, parseAddress, parseHex } from '../../protocol/hex.ts';
import type { NetworkConfig } from '../../protocol/network-config.ts';
import type { AppDomain } from './answer.ts';

const DEPTH_MAX = 200;
const POLL_MIN_MS = 50;

type Environment = Readonly<Record<string, string | undefined>>;

export interface EnclaveSettings {
  /** CHAIN_ID and APP_CONTRACT. */
  readonly app: AppDomain;
  /**
   * RPC_URLS (with commas between), RPC_QUORUM (all of them by default), RPC_DEPTH (blocks; 0 by default). Without RPC_URLS undefined: the node
   * reads the chain (`nodeChain`).
   */
  readonly chain: Pick<NetworkConfig, 'chainId' | 'endpoints' | 'quorum' | 'confirmation'> | undefined;
  /** ENCLAVE_PORT; 8080 by default. */
  readonly port: number;
  /** VISITORS_PORT, of the open routes; undefined for none. */
  readonly visitorsPort: number | undefined;
  /** ENCLAVE_HOST; every address by default, since in a VM the container's network is its own. */
  readonly host: string;
  /** ENCLAVE_DATA: a folder on the encrypted disk. */
  readonly data: string;
}

/** @throws SETTINGS, ADDRESS_INVALID */
export function enclaveSettings(env: Environment): EnclaveSettings {
  const chainId = numberIn(env, 'CHAIN_ID');
  const port = portIn(env, 'ENCLAVE_PORT', 8080);
  const visitorsPort = env.VISITORS_PORT ? portIn(env, 'VISITORS_PORT') : undefined;
  if (visitorsPort === port)
    throw new DstackError('SETTINGS', `VISITORS_PORT is ${port}, as ENCLAVE_PORT, where hosts ask`);
  return {
    app: { chainId, contract: contractIn(env) },
    chain: env.RPC_URLS ? chainIn(env, chainId) : undefined,
    port,
    visitorsPort,
    host: env.ENCLAVE_HOST || '0.0.0.0',
    data: textIn(env, 'ENCLAVE_DATA'),
  };
}

function chainIn(env: Environment, chainId: number): EnclaveSettings['chain'] {
  const endpoints = endpointsIn(env, 'RPC_URLS');
  const quorum = numberIn(env, 'RPC_QUORUM', endpoints.length);
  if (quorum < 1 || quorum > endpoints.length)
    throw new DstackError(
      'SETTINGS',
      `RPC_QUORUM is ${quorum}, of ${endpoints.length} endpoints in RPC_URLS`,
    );
  const depth = numberIn(env, 'RPC_DEPTH', 0);
  // The contract takes an answer from one of its last 256 blocks, and the transaction needs some too.
  if (depth > DEPTH_MAX)
    throw new DstackError('SETTINGS', `RPC_DEPTH is ${depth}: ${DEPTH_MAX} at most, or no answer is settled`);
  return { chainId, endpoints, quorum, confirmation: { depth } };
}

export interface HostSettings {
  readonly app: AppDomain;
  /** RPC_URL. */
  readonly rpcUrl: string;
  /** Of the file GAS_KEY_FILE, which holds 32 bytes of hex. */
  readonly privateKey: string;
  /** ENCLAVE_URL. */
  readonly enclaveUrl: string;
  /** HOST_DATA: a folder. */
  readonly data: string;
  /** START_BLOCK: that of the contract; 0 by default. */
  readonly startBlock: number;
  /** CONFIRMATIONS; 1 by default. */
  readonly confirmations: number;
  /** POLL_MS; 2,000 by default, 50 at least. */
  readonly pollInterval: number;
}

/** @throws SETTINGS, ADDRESS_INVALID */
export function hostSettings(env: Environment): HostSettings {
  return {
    app: { chainId: numberIn(env, 'CHAIN_ID'), contract: contractIn(env) },
    rpcUrl: urlIn('RPC_URL', textIn(env, 'RPC_URL')),
    privateKey: keyIn(env),
    enclaveUrl: urlIn('ENCLAVE_URL', textIn(env, 'ENCLAVE_URL'), ['http:']),
    data: textIn(env, 'HOST_DATA'),
    startBlock: numberIn(env, 'START_BLOCK', 0),
    confirmations: numberIn(env, 'CONFIRMATIONS', 1),
    // At 0 it would ask without a pause.
    pollInterval: Math.max(POLL_MIN_MS, numberIn(env, 'POLL_MS', 2_000)),
  };
}

/** Each counts once for the quorum: one that is named twice would outvote the others. */
function endpointsIn(env: Environment, name: string): string[] {
  const urls = textIn(env, name)
    .split(',')
    .map((url) => urlIn(name, url.trim()));
  if (new Set(urls.map((url) => new URL(url).href)).size < urls.length)
    throw new DstackError('SETTINGS', `${name} names an endpoint twice`);
  return urls;
}

function urlIn(name: string, url: string, protocols = ['http:', 'https:']): string {
  const protocol = URL.canParse(url) ? new URL(url).protocol : '';
  if (protocols.includes(protocol)) return url;
  throw new DstackError(
    'SETTINGS',
    `${name} has to begin with ${protocols.map((one) => `${one}//`).join(' or ')}, not ${JSON.stringify(url.slice(0, 80))}`,
  );
}

function portIn(env: Environment, name: string, otherwise?: number): number {
  const port = numberIn(env, name, otherwise);
  if (port >= 1 && port <= 65_535) return port;
  throw new DstackError('SETTINGS', `${name} has to be a port, 1 to 65535, not ${port}`);
}

function keyIn(env: Environment): string {
  const file = textIn(env, 'GAS_KEY_FILE');
  try {
    return chainHex(parseHex(readFileSync(file, 'utf8').trim(), 32));
  } catch (cause) {
    // What is in it is said nowhere.
    if (codeOf(cause).startsWith('ENCODING_'))
      throw new DstackError('SETTINGS', `GAS_KEY_FILE holds no 32 bytes of hex: ${file}`);
    throw new DstackError('SETTINGS', `GAS_KEY_FILE can't be read: ${messageOf(cause)}`, { cause });
  }
}

const contractIn = (env: Environment): Address => parseAddress(textIn(env, 'APP_CONTRACT'));

function textIn(env: Environment, name: string): string {
  const text = env[name];
  if (text === undefined || text === '')
    throw new DstackError('SETTINGS', `the environment variable ${name} is missing`);
  return text;
}

function numberIn(env: Environment, name: string, otherwise?: number): number {
  if (otherwise !== undefined && (env[name] ?? '') === '') return otherwise;
  const text = textIn(env, name);
  if (!/^\d{1,15}$/.test(text))
    throw new DstackError(
      'SETTINGS',
      `${name} has to be a whole number, not ${JSON.stringify(text.slice(0, 40))}`,
    );
  return Number(text);
}
