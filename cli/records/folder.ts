/** The folder of a person's records: what `npx dstack records` knows (client.json, owners), and the folder of the node that runs there. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type Static, Type } from 'typebox';
import { defaultNetwork } from '../../host/records/service/default-network.ts';
import { keyIn, runningOf, secretOf } from '../../host/records/service/home.ts';
import { requireAddress } from '../../host/records/wire/address.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { takeFolder } from '../../lib/daemon/sole-holder.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';
import { type Arguments, typed, UsageError } from '../command.ts';

const CLIENT_FILE = 'client.json';
const MAX_CLIENT_BYTES = 65_536;
const MOST = 64;
/** For another command that changes it; what one does meanwhile takes no time. Milliseconds. */
const CHANGED_WITHIN = 10_000;
const LOOK_AGAIN = 20;

const Client = Strict({
  version: Type.Literal(1),
  /** The network that these nodes were of when one was first asked: another is not taken for it. */
  network: Type.Optional(HexOf(32)),
  /** Nodes that are asked, the first that answers. */
  urls: Type.Array(Type.String({ maxLength: 300 }), { maxItems: MOST }),
  /** Owners whose suspicions count. */
  oracles: Type.Array(HexOf(32), { maxItems: MOST }),
  /** The name of the owner that writes unless another is named. */
  owner: Type.Optional(Type.String({ maxLength: 64 })),
});
export type Client = Static<typeof Client>;
export type Network = NonNullable<Client['network']>;

export const pathOption = {
  path: {
    value: 'DIR',
    help: `the folder of owners, settings and the node (default ${defaultFolder()})`,
    env: 'DSTACK_RECORDS_PATH',
  },
} as const;

export function folderOf(args: Pick<Arguments, 'optional'>): string {
  return resolve(args.optional('path') ?? defaultFolder());
}

/** A node of root's is one of the machine's. */
function defaultFolder(): string {
  return process.geteuid?.() === 0 ? '/var/lib/dstack/records' : join(homedir(), '.dstack/records');
}

export const nodeFolder = (folder: string): string => join(folder, 'node');
/** A folder like any other, of a network of its own. */
export const testFolder = (folder: string): string => join(folder, 'localtest');

/** @throws RECORDS_CLIENT */
export function clientOf(folder: string): Client {
  const path = join(folder, CLIENT_FILE);
  if (!existsSync(path)) return { version: 1, urls: [], oracles: [] };
  const text = readBounded(path, { maxBytes: MAX_CLIENT_BYTES }).toString('utf8');
  return parseJson(Client, text, 'RECORDS_CLIENT', path, MAX_CLIENT_BYTES);
}

/**
 * Changes what is known, one command after the other: of two at once the later would undo the earlier, the network that the folder is of among it.
 * @param change of what is there now; what it throws leaves that as it is
 * @throws RECORDS_CLIENT, RECORDS_CLIENT_BUSY
 */
export async function changeClient(folder: string, change: (client: Client) => Client): Promise<Client> {
  makeFolder(folder, 0o700);
  const release = await takeClient(folder);
  try {
    const client = change(clientOf(folder));
    writeDurably(join(folder, CLIENT_FILE), `${JSON.stringify(client, null, 2)}\n`, 0o600);
    return client;
  } finally {
    release();
  }
}

async function takeClient(folder: string): Promise<() => void> {
  for (const until = performance.now() + CHANGED_WITHIN; performance.now() < until; ) {
    const release = await takeFolder(folder, 'records-client');
    if (release !== undefined) return release;
    await setTimeout(LOOK_AGAIN);
  }
  throw new DstackError(
    'RECORDS_CLIENT_BUSY',
    `another command has been changing ${join(folder, CLIENT_FILE)} for ${CHANGED_WITHIN / 1000} s; try again when it has ended`,
  );
}

/** Nodes to ask: the one of this folder if it runs, then the others in their order. */
export function urlsOf(folder: string): string[] {
  return [...new Set([...ownUrl(folder), ...clientOf(folder).urls])];
}

/** Of the node of this folder, if it runs. */
export function ownUrl(folder: string): string[] {
  const url = runningOf(nodeFolder(folder))?.url;
  return url === undefined ? [] : [url];
}

export const networkOption = {
  network: {
    value: 'ID',
    help: 'the network of a folder that has none yet (default: the built-in one)',
    env: 'DSTACK_RECORDS_NETWORK',
  },
} as const;

/**
 * The network that is meant: the folder's own, else the one that is named, else the built-in one.
 * @throws USAGE; RECORDS_NETWORK_OTHER for one that the folder is not of
 */
export function meantNetwork(args: Pick<Arguments, 'optional'>, folder: string): Network {
  const named = args.optional('network');
  const network = named === undefined ? undefined : (toHex(typed(() => fromHex(named, 32))) as Network);
  const known = clientOf(folder).network;
  if (network !== undefined && known !== undefined && network !== known)
    throw new DstackError(
      'RECORDS_NETWORK_OTHER',
      `${folder} is of network ${known}, and not of ${network}; use another folder for that (--path)`,
    );
  return known ?? network ?? (defaultNetwork as Network);
}

export const secretOption = {
  secret: {
    value: 'FILE',
    help: 'the secret of a private network (default: that of the node in the folder)',
    env: 'DSTACK_RECORDS_SECRET',
  },
} as const;

/** Of a private network. @throws KEY_FILE, the file system's own errors */
export function givenSecret(args: Arguments, folder: string): Uint8Array | undefined {
  const file = args.optional('secret');
  return file === undefined ? secretOf(nodeFolder(folder)) : keyIn(resolve(file));
}

/** `http://HOST:PORT` or `https://HOST`, without a path. @throws USAGE */
export function parseUrl(text: string): string {
  if (URL.canParse(text)) {
    const { protocol, origin, username, password, pathname, search, hash } = new URL(text);
    const isPlain = username + password + search + hash === '' && pathname === '/';
    if (/^https?:$/.test(protocol) && isPlain) return origin;
  }
  throw new UsageError(`a node's URL is like http://127.0.0.1:9980, not ${text}`);
}

/** @throws USAGE */
export function parsePlace(what: string, text: string): { host: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([\da-fA-F:.]+)\]|([\w.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535) throw new UsageError(`${what} is HOST:PORT, not ${text}`);
  typed(() => requireAddress({ host, port }, 0));
  return { host, port };
}
