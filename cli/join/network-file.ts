/**
 * The network.json that the VM will measure. It can't be written from host.env: its bytes hash to a config that the owner allowed,
 * including the endpoints as the VMs reach them. So it is taken from where the operator says, else from the host volume, else from
 * a gossip peer, by HTTP or by records, which keeps it in its archive. A peer is not trusted: its bytes must have the hash in the name, be for this contract
 * and be allowed by it.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import type { Address as RecordsAddress } from '../../host/records/wire/address.ts';
import { archivedConfig } from '../../host/relay/archive.ts';
import { dropDrafts, writeDurably } from '../../lib/daemon/durable-file.ts';
import { to0x, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { sameAddress } from '../../lib/protocol/hex.ts';
import {
  CONFIG_MAX_BYTES,
  configHash,
  type Flavour,
  parseNetworkConfig,
} from '../../lib/protocol/network-config.ts';
import { parseJson } from '../../lib/protocol/schema.ts';
import type { Domain } from '../../lib/protocol/typed-data.ts';
import { download } from '../download.ts';
import { RecordsArchive } from '../records-archive.ts';
import type { Reason } from './narrator.ts';

/** A peer that lists more configs of one network than this is not asked for the rest. */
const MAX_CONFIGS = 32;
/** For all that a relay by records is asked. Milliseconds. */
const TIMEOUT_MS = 20_000;
const LIST_MAX_BYTES = 256 * 1024;
const ListSchema = Type.Object({ records: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 1000 }) });

export interface NetworkFileOptions {
  /** A file or an http(s) URL that the operator gave. */
  readonly source: string | undefined;
  /** The host volume. */
  readonly volume: string;
  /** Relays' base URLs. */
  readonly peers: readonly string[];
  /** Relays by records. */
  readonly records: readonly RecordsAddress[];
  readonly network: Domain;
  readonly flavour: Flavour;
  /** @param config 0x-prefixed */
  isAllowed(config: string): Promise<boolean>;
}

export interface NetworkFile {
  readonly bytes: Uint8Array;
  /** 0x-prefixed. */
  readonly config: string;
  /** Where it is from, to be shown. */
  readonly origin: string;
}

/**
 * The file, or why there is none yet.
 * @throws NETWORK_JSON_MISSING when there is nowhere to take it from, NETWORK_JSON_OTHER for another network's file, NETWORK_CONFIG
 *   for one that this image would refuse, NETWORK_JSON_AMBIGUOUS when peers have several, NETWORK_JSON_FETCH for a bad URL
 */
export async function findNetworkFile(options: NetworkFileOptions): Promise<NetworkFile | Reason> {
  const { source, volume, peers, records } = options;
  if (source !== undefined) {
    const bytes = /^https?:\/\//.test(source)
      ? await download(source, CONFIG_MAX_BYTES, 'NETWORK_JSON_FETCH')
      : await given(source);
    return accepted(bytes, source, options);
  }
  const path = join(volume, 'network.json');
  const present = await readFile(path).catch(absent);
  if (present !== undefined) return accepted(present, path, options);
  if (peers.length + records.length === 0) {
    throw new DstackError(
      'NETWORK_JSON_MISSING',
      `there is no ${path}, and no peer to take it from: give --network-json FILE or URL, or set DSTACK_GOSSIP_PEERS or DSTACK_RECORDS_PEERS`,
    );
  }
  return fromPeers(options);
}

/** Puts it where the VM reads it: atomically, and readable for the VM's daemons. */
export async function placeNetworkFile(volume: string, file: NetworkFile): Promise<string> {
  const path = join(volume, 'network.json');
  await mkdir(volume, { recursive: true });
  dropDrafts(volume);
  writeDurably(path, file.bytes, 0o644);
  return path;
}

function accepted(bytes: Uint8Array, origin: string, options: NetworkFileOptions): NetworkFile {
  const { chainId, contract } = parseNetworkConfig(bytes, options.flavour);
  const { network } = options;
  if (chainId !== network.chainId || !sameAddress(contract, network.contract)) {
    throw new DstackError(
      'NETWORK_JSON_OTHER',
      `${origin} is for contract ${contract} on chain ${chainId}, not for ${network.contract} on ${network.chainId}`,
    );
  }
  return { bytes, config: to0x(configHash(bytes)), origin };
}

async function fromPeers(options: NetworkFileOptions): Promise<NetworkFile | Reason> {
  const found = new Map<string, NetworkFile>();
  const failures: string[] = [];
  const ways: [string, () => Promise<NetworkFile[]>][] = [
    ...options.peers.map((peer): (typeof ways)[number] => [peer, () => ofPeer(peer, options)]),
    ...options.records.map((address): (typeof ways)[number] => [
      `records://${address.host}:${address.port}`,
      () => byRecords(address, options),
    ]),
  ];
  for (const [peer, ask] of ways) {
    try {
      for (const file of await ask()) found.set(file.config, file);
      if (found.size === 0) failures.push(`${peer} has none that the contract allows`);
    } catch (error) {
      if (!(error instanceof DstackError) || error.code.startsWith('RPC_')) throw error;
      failures.push(`${peer}: ${error.message}`);
    }
  }
  const [file, ...others] = found.values();
  if (file === undefined) {
    return {
      kind: 'network.json',
      text: `There is no network.json yet: no gossip peer gives one (${failures.join('; ')}). --network-json FILE or URL gives it otherwise.`,
    };
  }
  if (others.length > 0) {
    throw new DstackError(
      'NETWORK_JSON_AMBIGUOUS',
      `the network allows several: ${[...found.values()].map(({ config, origin }) => `${config} (${origin})`).join(', ')}. Choose one with --network-json URL`,
    );
  }
  return file;
}

/** What one peer has and the network allows now; the rest of its list is skipped. */
async function ofPeer(peer: string, options: NetworkFileOptions): Promise<NetworkFile[]> {
  const listed = await download(`${peer}/v1/records?after=config-`, LIST_MAX_BYTES, 'NETWORK_JSON_FETCH');
  const { records } = parseJson(
    ListSchema,
    new TextDecoder().decode(listed),
    'NETWORK_JSON_FETCH',
    'its list of records',
    LIST_MAX_BYTES,
  );
  const urlOf = (name: string) => `${peer}/v1/records/${name}`;
  return await allowedOf(records, (name) => download(urlOf(name), CONFIG_MAX_BYTES, 'NETWORK_JSON_FETCH'), {
    ...options,
    originOf: urlOf,
  });
}

/** The same, by records. */
async function byRecords(address: RecordsAddress, options: NetworkFileOptions): Promise<NetworkFile[]> {
  const archive = await RecordsArchive.open({
    ...{ address, domain: options.network, maxBytes: CONFIG_MAX_BYTES, code: 'NETWORK_JSON_FETCH' },
    until: AbortSignal.timeout(TIMEOUT_MS),
  });
  try {
    const { value: page } = await archive.pages('config-').next();
    return await allowedOf(page?.names ?? [], (name) => archive.file(name), {
      ...options,
      originOf: (name) => `records://${address.host}:${address.port}/${name}`,
    });
  } finally {
    await archive.close();
  }
}

/** Of a peer's names. @throws NETWORK_JSON_FETCH for a file that is not what its name says */
async function allowedOf(
  names: readonly string[],
  read: (name: string) => Promise<Uint8Array>,
  options: NetworkFileOptions & { originOf(name: string): string },
): Promise<NetworkFile[]> {
  const files: NetworkFile[] = [];
  for (const name of names.filter((name) => /^config-[0-9a-f]{64}\.json$/.test(name)).slice(0, MAX_CONFIGS)) {
    const bytes = await read(name);
    if (archivedConfig(toHex(configHash(bytes))) !== name) {
      throw new DstackError('NETWORK_JSON_FETCH', `what it serves as ${name} has another hash`);
    }
    const file = ifAccepted(bytes, options.originOf(name), options);
    if (file !== undefined && (await options.isAllowed(file.config))) files.push(file);
  }
  return files;
}

/** A relay may keep configs of other networks, or ones for another flavour; these are skipped. */
function ifAccepted(bytes: Uint8Array, origin: string, options: NetworkFileOptions): NetworkFile | undefined {
  try {
    return accepted(bytes, origin, options);
  } catch (error) {
    if (!(error instanceof DstackError)) throw error;
    return undefined;
  }
}

async function given(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new DstackError('NETWORK_JSON_MISSING', `cannot read ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
