/** A node, as its user asks it. It is believed nothing that a record does not show: what it gives is judged here as any node judges it. */

import type { Static, TSchema } from 'typebox';
import { httpBytes, httpJson } from '../../host/http-json.ts';
import { defaultNetwork } from '../../host/records/service/default-network.ts';
import { tokenOf } from '../../host/records/service/home.ts';
import {
  LinksReply,
  OwnerReply,
  PostReply,
  PulseReply,
  paths,
  QueryReply,
  type QueryRequest,
  StatusReply,
} from '../../host/records/service/messages.ts';
import { toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { decodeRecord, encodeRecord, MAX_RECORD_BYTES } from '../../lib/protocol/records/codec.ts';
import type { DagRecord } from '../../lib/protocol/records/format.ts';
import { type Genesis, genesisOf } from '../../lib/protocol/records/genesis.ts';
import { verifyAlone } from '../../lib/protocol/records/membership.ts';
import type { NameSpace } from '../../lib/protocol/records/names.ts';
import type { Pulse } from '../../lib/protocol/records/pulse.ts';
import { check } from '../../lib/protocol/schema.ts';
import { changeClient, clientOf, type Network, nodeFolder, urlsOf } from './folder.ts';

/** Milliseconds. */
const TIMEOUT = 30_000;
/** An answer's records have up to 16 MiB, and base64 is longer by a third. */
const MAX_ANSWER = 32 << 20;

export interface Client {
  readonly url: string;
  readonly genesis: Genesis;
  /** Whether its names are keyed by a secret, as the node says. */
  readonly isPrivate: boolean;
  query(request: QueryRequest): Promise<QueryReply>;
  links(): Promise<Static<typeof LinksReply>>;
  owner(key: string): Promise<OwnerReply>;
  /** One record, as the node gives it: whoever asks looks at which it is. @throws RECORDS_NO_RECORD, RECORDS_ANSWER */
  record(id: string): Promise<DagRecord>;
  /** @returns whether it is news to the node */
  pulse(pulse: Pulse): Promise<boolean>;
  /** @returns its identity */
  post(record: DagRecord): Promise<string>;
}

/**
 * The first node that answers as one does, of the network that is meant; the folder is of that one from then on.
 * @param given instead of those of the folder
 * @throws RECORDS_NO_NODE, RECORDS_NETWORK_OTHER; where there is but one, what is wrong with it, such as RECORDS_ANSWER
 */
export async function reachNode(folder: string, given: readonly string[], meant: Network): Promise<Client> {
  const urls = given.length > 0 ? given : urlsOf(folder);
  const failures: DstackError[] = [];
  for (const url of urls) {
    try {
      const status = await statusOf(url);
      await requireSameNetwork(folder, url, status.network, meant);
      return clientAt(url, await genesisAt(url, status.network), status.isPrivate);
    } catch (error) {
      if (!(error instanceof DstackError) || !/^(HTTP_|RECORDS_(ANSWER|RATE)$)/.test(error.code)) throw error;
      failures.push(error);
    }
  }
  const [only] = failures;
  if (only !== undefined && failures.length === 1 && only.code !== 'HTTP_UNREACHABLE') throw only;
  throw new DstackError(
    'RECORDS_NO_NODE',
    urls.length === 0
      ? 'there is no node to ask: start one (`records node start`), or name one (`records url add URL`)'
      : `no node answers: ${failures.map(({ message }) => message).join('; ')}`,
  );
}

/**
 * Where names mean something. Under the wrong secret nothing would be found; and by names that are not keyed, whoever stores them could guess them.
 * @throws RECORDS_SECRET
 */
export function spaceOf({ url, genesis, isPrivate }: Client, secret: Uint8Array | undefined): NameSpace {
  if (isPrivate && secret === undefined)
    throw new DstackError(
      'RECORDS_SECRET',
      `the network of ${url} is a private one; give its secret (--secret)`,
    );
  if (!isPrivate && secret !== undefined)
    throw new DstackError(
      'RECORDS_SECRET',
      `a secret is given, and ${url} is a node of a public network; leave it out`,
    );
  return { network: genesis.id, ...(secret && { secret }) };
}

/** @param token for what only the node's operator is told. @throws HTTP_…, RECORDS_ANSWER */
export async function statusOf(url: string, token?: string): Promise<StatusReply> {
  return await ask(url, paths.status, StatusReply, { ...(token !== undefined && { token }) });
}

/** The genesis record of a network, whoever gives it. @throws HTTP_…, RECORDS_ANSWER */
export async function genesisBytes(url: string, network: string): Promise<Uint8Array> {
  const { status, bytes } = await httpBytes({
    url: `${url}${paths.rawRecord}/${network}`,
    timeout: TIMEOUT,
    maxBytes: MAX_RECORD_BYTES,
  });
  if (status !== 200)
    throw lying(url, `answered HTTP ${status} when it was asked for the genesis of its network`);
  return new Uint8Array(bytes);
}

/** What the operator of the node in a folder tells it. @throws what the node refuses it with */
export async function tellNode(url: string, nodeFolder: string, path: string, body: object): Promise<void> {
  await ask(url, path, undefined, { body, token: tokenOf(nodeFolder) });
}

export const tokenFor = (folder: string): string => tokenOf(nodeFolder(folder));

async function genesisAt(url: string, network: string): Promise<Genesis> {
  const bytes = await genesisBytes(url, network);
  return believing(url, () => {
    const record = decodeRecord(bytes);
    const genesis = genesisOf(record);
    if (toHex(genesis.id) !== network)
      throw lying(url, 'gave another record than the genesis of its network');
    verifyAlone(record, genesis);
    return genesis;
  });
}

function clientAt(url: string, genesis: Genesis, isPrivate: boolean): Client {
  return {
    url,
    genesis,
    isPrivate,
    query: (body) => ask(url, paths.query, QueryReply, { body }),
    links: () => ask(url, paths.links, LinksReply),
    owner: (key) => ask(url, `${paths.owner}/${key}`, OwnerReply),
    async record(id) {
      const answered = await httpBytes({
        url: `${url}${paths.rawRecord}/${id}`,
        timeout: TIMEOUT,
        maxBytes: MAX_RECORD_BYTES,
      });
      if (answered.status !== 200)
        throw new DstackError('RECORDS_NO_RECORD', `${url} does not give record ${id}; ask another node`);
      return judgedBytes(url, genesis, new Uint8Array(answered.bytes));
    },
    async pulse({ id, minute, signature }) {
      const body = { id, minute, signature: toHex(signature) };
      return (await ask(url, paths.pulse, PulseReply, { body })).isNew;
    },
    async post(record) {
      const body = { record: Buffer.from(encodeRecord(record)).toString('base64') };
      return (await ask(url, paths.post, PostReply, { body })).id;
    },
  };
}

async function requireSameNetwork(
  folder: string,
  url: string,
  network: StatusReply['network'],
  meant: Network,
): Promise<void> {
  let { network: known } = clientOf(folder);
  if (known === undefined && network !== meant)
    throw new DstackError(
      'RECORDS_NETWORK_OTHER',
      `${url} is a node of network ${network}, and ${meant === defaultNetwork ? 'no other than the built-in one' : meant} was asked for; if you mean that one, say so (--network ${network})`,
    );
  // Of two commands that ask for the first time, the later goes by what the earlier found.
  if (known === undefined) {
    const client = await changeClient(folder, (now) => ({ ...now, network: now.network ?? network }));
    known = client.network;
  }
  if (known === network) return;
  throw new DstackError(
    'RECORDS_NETWORK_OTHER',
    `${url} is a node of network ${network}, and ${folder} is of ${known}; use another folder for that (--path)`,
  );
}

interface Asked {
  readonly body?: object;
  readonly token?: string;
}

async function ask<T extends TSchema>(
  url: string,
  path: string,
  schema: T | undefined,
  asked?: Asked,
): Promise<Static<T>>;
async function ask(
  url: string,
  path: string,
  schema: TSchema | undefined,
  { body, token }: Asked = {},
): Promise<unknown> {
  const { status, value } = await httpJson({
    url: url + path,
    ...(body !== undefined && { body }),
    ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    timeout: TIMEOUT,
    maxBytes: MAX_ANSWER,
  });
  if (status === 200)
    return schema === undefined ? value : check(schema, value, 'RECORDS_ANSWER', `the answer of ${url}`);
  const { code, message } = (value ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && /^[A-Z][A-Z_]{1,60}$/.test(code))
    throw new DstackError(code, `${url}: ${String(message).slice(0, 500)}`);
  throw new DstackError(
    'RECORDS_ANSWER',
    `${url} answered HTTP ${status} and no reason; is it a node of records?`,
  );
}

/** A record that a node gave. @throws RECORDS_ANSWER unless it can be a member */
export function judged(url: string, genesis: Genesis, base64: string): DagRecord {
  return judgedBytes(url, genesis, new Uint8Array(Buffer.from(base64, 'base64')));
}

function judgedBytes(url: string, genesis: Genesis, bytes: Uint8Array): DagRecord {
  return believing(url, () => {
    const record = decodeRecord(bytes);
    verifyAlone(record, genesis);
    return record;
  });
}

function believing<T>(url: string, judge: () => T): T {
  try {
    return judge();
  } catch (cause) {
    if (!(cause instanceof DstackError) || cause.code === 'RECORDS_ANSWER') throw cause;
    throw new DstackError(
      'RECORDS_ANSWER',
      `${url} gave a record that is none: ${cause.message}; ask another node`,
      { cause },
    );
  }
}

export function lying(url: string, what: string): DstackError {
  return new DstackError('RECORDS_ANSWER', `${url} ${what}; ask another node`);
}
