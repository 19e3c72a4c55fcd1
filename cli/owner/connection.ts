/** How an owner's command reaches the chain: which chain, which endpoints, and how many of them have to agree. */
import { readFileSync } from 'node:fs';
import { isAddress as hasRightChecksum } from 'ethers';
import { type ChainClient, chainClient, type Head } from '../../lib/chain/chain-client.ts';
import { type NetworkReader, networkReader } from '../../lib/chain/network-reader.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Address, isAddress, sameAddress, ZERO_ADDRESS } from '../../lib/protocol/hex.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../lib/protocol/network-config.ts';
import { decodeEip712Domain, encodeEip712Domain } from '../../lib/protocol/network-contract.ts';
import { type Arguments, type Option, UsageError } from '../command.ts';
import { chainName } from './chains.ts';
import { isOurCode } from './code.ts';
import { Endpoints } from './endpoints.ts';

export const chainOptions = {
  rpc: {
    value: 'URL',
    help: 'JSON-RPC endpoint; give several, of which a majority has to agree. With --network-json they are not believed, only sent to',
    env: 'DSTACK_RPC_URL',
    multiple: true,
  },
  'chain-id': { value: 'NUMBER', help: "the chain's id; else that of network.json", env: 'DSTACK_CHAIN_ID' },
  'network-json': {
    value: 'FILE',
    help: 'network.json: everything is read from its endpoints, by its quorum',
    env: 'DSTACK_NETWORK_JSON',
  },
  'trust-one-endpoint': {
    help: 'believe a single endpoint that is not on this machine, such as your own node',
  },
} satisfies Record<string, Option>;

export const contractOption: Option = {
  value: 'ADDRESS',
  help: "the network's contract; else that of network.json",
  env: 'DSTACK_CONTRACT',
};

/** The chain, before there is a contract. */
export interface ChainConnection {
  readonly chainId: number;
  readonly endpoints: Endpoints;
  readonly urls: readonly string[];
  readonly chain: ChainClient;
  /** Whose word it was, such as `2 of a.example, b.example, c.example`, to be shown. */
  readonly sources: string;
}

/** A network's contract on it. */
export interface NetworkConnection extends ChainConnection {
  readonly contract: Address;
  readonly reader: NetworkReader;
  /** Whether its code is that of this release. */
  readonly isOurCode: boolean;
  call(data: string, at: Head): Promise<string>;
}

/** @throws USAGE, ONE_ENDPOINT, NETWORK_CONFIG, RPC_WRONG_CHAIN, CHAIN_OTHER_GENESIS, CHAIN_UNREACHABLE */
export async function connectChain(
  args: Arguments,
  contract: Address = ZERO_ADDRESS,
): Promise<ChainConnection> {
  const file = networkJsonOf(args);
  const chainId = chainIdOf(args, file);
  const given = urlsOf(args);
  const urls = file?.endpoints ?? given;
  if (urls.length === 0) {
    throw new UsageError('--rpc is missing (or DSTACK_RPC_URL in the environment), and so is --network-json');
  }
  const quorum = file?.quorum ?? Math.floor(urls.length / 2) + 1;
  requireMoreThanOne(args, urls, quorum);
  const endpoints = await Endpoints.open({
    chainId,
    contract,
    urls,
    quorum,
    sendTo: given.length > 0 ? given : urls,
  });
  const chain = chainClient({
    config: { chainId, endpoints: [...urls], quorum, confirmation: { depth: 0 } },
  });
  const sources = `${quorum} of ${endpoints.names.join(', ')}`;
  return { chainId, endpoints, urls, chain, sources };
}

/**
 * @param option which one gives the contract
 * @throws as above; NETWORK_MISSING for an address without code, or with another contract than a network's
 */
export async function connectNetwork(args: Arguments, option = 'contract'): Promise<NetworkConnection> {
  const contract = contractOf(args, option);
  const connection = await connectChain(args, contract);
  const { chainId, endpoints, chain } = connection;
  const code = await endpoints.code(contract);
  if (code === '0x') {
    throw new DstackError('NETWORK_MISSING', `there is no code at ${contract} on ${chainName(chainId)}`);
  }
  const call = (data: string, at: Head) => chain.call(contract, data, at);
  await requireDomain(
    await call(encodeEip712Domain(), await chain.head()).catch(noNetwork),
    chainId,
    contract,
  );
  return {
    ...connection,
    contract,
    reader: networkReader(chain, contract),
    isOurCode: isOurCode(code),
    call,
  };

  function noNetwork(cause: unknown): never {
    // A contract without it reverts, which the reader can't tell from an endpoint that does not answer.
    if (!/revert/i.test((cause as Error).message)) throw cause;
    throw new DstackError(
      'NETWORK_MISSING',
      `what is at ${contract} is not a network's contract: it has no EIP-712 domain`,
      {
        cause,
      },
    );
  }
}

/** Checks what the contract itself says its signatures are for. @throws NETWORK_MISSING */
export function requireDomain(answer: string, chainId: number, contract: Address): void {
  let domain: ReturnType<typeof decodeEip712Domain>;
  try {
    domain = decodeEip712Domain(answer);
  } catch (cause) {
    throw new DstackError('NETWORK_MISSING', `what is at ${contract} is not a network's contract`, { cause });
  }
  const { name, version, verifyingContract } = domain;
  const isOurs =
    name === 'Dstack' &&
    version === '1' &&
    domain.chainId === BigInt(chainId) &&
    sameAddress(verifyingContract, contract);
  if (isOurs) return;
  throw new DstackError(
    'NETWORK_MISSING',
    `what is at ${contract} is not a network's contract on chain ${chainId}: it signs as ${name} ${version} of ${verifyingContract} on chain ${domain.chainId}`,
  );
}

/** @throws NETWORK_JSON_OTHER when network.json names another network */
export function requireSameNetwork(
  config: Pick<NetworkConfig, 'chainId' | 'contract'>,
  network: { readonly chainId: number; readonly contract: Address },
  file: string,
): void {
  if (config.chainId === network.chainId && sameAddress(config.contract, network.contract)) {
    return;
  }
  throw new DstackError(
    'NETWORK_JSON_OTHER',
    `${file} is for contract ${config.contract} on chain ${config.chainId}, not for ${network.contract} on ${network.chainId}`,
  );
}

function networkJsonOf(args: Arguments): NetworkConfig | undefined {
  const file = args.optional('network-json');
  // Whether plain http is allowed is for the image that boots with it to say.
  return file === undefined ? undefined : parseOwnersConfig(readGiven('--network-json', file), file);
}

/** A network.json that the owner reads by, writes or allows. @throws NETWORK_CONFIG, also when a server is in it twice */
export function parseOwnersConfig(bytes: Uint8Array, file: string): NetworkConfig {
  const config = parseNetworkConfig(bytes, 'sim');
  const twice = sameEndpoint(config.endpoints);
  if (twice === undefined) return config;
  throw new DstackError('NETWORK_CONFIG', `${file}: ${twice}`);
}

/**
 * A file that the command line names; `-` is standard input. Node's own message does not name a directory that is given for one.
 * @throws FILE, USAGE
 */
export function readGiven(what: string, file: string): Buffer {
  requireNamed(what, file);
  try {
    return readFileSync(file === '-' ? 0 : file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new DstackError('FILE', `cannot read ${file} (${what}): ${code}`, { cause });
  }
}

/** A name that another command was to say, in quotes of a shell, is empty when that failed. @throws USAGE */
export function requireNamed(what: string, file: string): void {
  if (file === '')
    throw new UsageError(`the name of a file (${what}) is empty: did the command fail that was to say it?`);
}

/** The checksum of mixed case (EIP-55) is checked, which finds most mistyped digits; names are not resolved. @throws USAGE */
export function requireAddress(option: string, text: string): Address {
  const address = text.startsWith('0x') ? text : `0x${text}`;
  if (isAddress(address) && hasRightChecksum(address)) return address;
  throw new UsageError(
    `${/^[A-Z]/.test(option) ? option : `--${option}`} takes an address, 40 hex digits with a right checksum, not ${text.slice(0, 100)}`,
  );
}

/** Never by name: what an address stands for is not for an endpoint to say. */
export function contractOf(args: Arguments, option: string): Address {
  const config = networkJsonOf(args);
  const text = args.optional(option) ?? config?.contract;
  if (text === undefined) {
    throw new UsageError(
      `--${option} is missing (or DSTACK_CONTRACT in the environment), and so is --network-json`,
    );
  }
  const contract = requireAddress(option, text);
  if (config !== undefined) {
    requireSameNetwork(config, { chainId: chainIdOf(args, config), contract }, args.text('network-json'));
  }
  return contract;
}

/** The chain id that the owner gave, never one that an endpoint gave. @throws USAGE, NETWORK_CONFIG */
export function chainIdOf(args: Arguments, file = networkJsonOf(args)): number {
  const text = args.optional('chain-id');
  if (text === undefined) {
    if (file !== undefined) return file.chainId;
    throw new UsageError(
      '--chain-id is missing (or DSTACK_CHAIN_ID in the environment), and so is --network-json',
    );
  }
  if (!/^[1-9][0-9]{0,14}$/.test(text)) throw new UsageError(`--chain-id takes a whole number, not ${text}`);
  return Number(text);
}

/** From the command line, else from the environment, where several are separated by commas. */
function urlsOf(args: Arguments): readonly string[] {
  const given = args.list('rpc').length > 0 ? args.list('rpc') : (args.optional('rpc')?.split(',') ?? []);
  const urls = given.map((url) => url.trim());
  for (const url of urls) {
    if (!/^https?:\/\/[^\s]+$/.test(url) || !URL.canParse(url)) {
      throw new UsageError(`--rpc takes an http(s) URL, not ${JSON.stringify(url.slice(0, 100))}`);
    }
  }
  const twice = sameEndpoint(urls);
  if (twice === undefined) return urls;
  throw new UsageError(`--rpc: ${twice}`);
}

/**
 * Two of these URLs that lead to one server, as a message; undefined when there are none. It would have two votes. Different
 * names of one server can't be told, so it is still the owner who chooses endpoints of different companies.
 */
export function sameEndpoint(urls: readonly string[]): string | undefined {
  const servers = urls.map(serverOf);
  const at = servers.findIndex((server, index) => servers.indexOf(server) !== index);
  if (at < 0) return undefined;
  return `${servers[at]} is given twice, under two spellings or paths, and would count as two endpoints: give each server once`;
}

/** Host and port: without scheme, user, path, upper case and a full name's last dot. */
function serverOf(url: string): string {
  const { hostname, port } = new URL(url);
  const name = isOnThisMachine(url) ? 'localhost' : hostname.replace(/\.$/, '');
  // The default ports of http and https are the same server's.
  return port === '' || port === '80' || port === '443' ? name : `${name}:${port}`;
}

/** @throws ONE_ENDPOINT */
function requireMoreThanOne(args: Arguments, urls: readonly string[], quorum: number): void {
  const [only] = urls;
  if (quorum > 1 || args.flag('trust-one-endpoint') || isOnThisMachine(only!)) return;
  throw new DstackError(
    'ONE_ENDPOINT',
    `${new URL(only!).host} alone would be believed: give --network-json, or several --rpc of different companies, or a node on this machine (or --trust-one-endpoint if it is your own)`,
  );
}

function isOnThisMachine(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
