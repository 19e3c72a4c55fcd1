/** `records node …`: the node that keeps a network's records, and what it is told. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pino } from 'pino';
import { defaultGenesis, defaultNetwork } from '../../host/records/service/default-network.ts';
import {
  MAX_GENESIS_FILE_BYTES,
  makeGenesis,
  parseGenesis,
} from '../../host/records/service/genesis-file.ts';
import { createHome, hasRecords, keepPeer, keyIn } from '../../host/records/service/home.ts';
import { paths, type StatusReply } from '../../host/records/service/messages.ts';
import { type Place, RecordsService } from '../../host/records/service/service.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { stopSignal } from '../../lib/daemon/stop-signal.ts';
import { logLines, print } from '../../lib/daemon/terminal.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { LONGEST_AGE, parseDuration } from '../duration.ts';
import { genesisBytes, statusOf, tellNode, tokenFor } from '../records/client.ts';
import {
  changeClient,
  clientOf,
  folderOf,
  nodeFolder,
  ownUrl,
  parsePlace,
  parseUrl,
  pathOption,
  testFolder,
  urlsOf,
} from '../records/folder.ts';
import { freshSeed, ownerNamed } from '../records/owners.ts';

const LEVELS = ['error', 'warn', 'info', 'debug'];
const MINUTE = 60_000;

const start: Command = {
  name: 'records node start',
  summary: 'runs a node, in the foreground: keeps all records of a network, and answers who asks',
  options: {
    ...pathOption,
    genesis: {
      value: 'FILE',
      help: 'the network, for a folder that has none yet (default: the built-in one)',
    },
    secret: {
      value: 'FILE',
      help: 'the secret of a private network, with --genesis',
      env: 'DSTACK_RECORDS_SECRET',
    },
    listen: { value: 'HOST:PORT', help: 'where other nodes connect', default: '0.0.0.0:9908' },
    http: {
      value: 'HOST:PORT',
      help: 'where its API is; anywhere but on the loopback, for everybody',
      default: '127.0.0.1:9980',
    },
    name: {
      value: 'NAME',
      help: 'a name under which the API is asked, besides addresses and localhost',
      multiple: true,
    },
    oracle: { value: 'OWNER', help: 'an owner of this folder that publishes what the node suspects' },
    'discard-after': {
      value: 'AGE',
      help: 'throws values away that their owners have replaced and that are older, such as 90d: at the start, and once a day',
    },
    localtest: { help: 'a network of its own in DIR/localtest, for tests: no other node, next to no work' },
    'log-level': { value: 'LEVEL', help: LEVELS.join(', '), default: 'info' },
  },
  async run(args) {
    const isTest = args.flag('localtest');
    const files = [args.optional('genesis'), args.optional('secret')];
    if (isTest && files.some((file) => file !== undefined))
      throw new UsageError('--localtest has a network of its own: leave out --genesis and --secret');
    const [listen, http] = (['listen', 'http'] as const).map((name) =>
      parsePlace(`--${name}`, args.text(name)),
    );
    const names = args.list('name').map(requireHostName);
    const folder = isTest ? testFolder(folderOf(args)) : folderOf(args);
    const options = {
      folder: nodeFolder(folder),
      http: http!,
      names,
      log: logOf(args),
      ...networkOf(files, folder, isTest),
    };
    const oracle = args.optional('oracle');
    const age = args.optional('discard-after');
    const discardAfter =
      age === undefined ? undefined : 1_000 * parseDuration('--discard-after', age, LONGEST_AGE);
    const stopped = stopSignal();
    const service = await RecordsService.start({
      ...options,
      ...(!isTest && { listen: listen as Place }),
      ...(discardAfter !== undefined && { discardAfter }),
      ...(oracle !== undefined && { oracle: ownerNamed(folder, oracle).seed }),
    });
    // A folder's network is that of its own node.
    const network = service.node.network as NonNullable<ReturnType<typeof clientOf>['network']>;
    await changeClient(folder, (client) => ({ ...client, network }));
    options.log.info(
      {
        network,
        url: service.url,
        records: service.node.count,
        ...service.wire,
        ...(isTest && { path: folder }),
      },
      'the node runs',
    );
    try {
      await stopped;
    } finally {
      await service.close();
    }
  },
};

function networkOf([genesis, secret]: readonly (string | undefined)[], folder: string, isTest: boolean) {
  const isThere = hasRecords(nodeFolder(folder));
  if (isTest) return isThere ? {} : { genesis: testGenesis() };
  // A secret is of a network that its founder made; and who asked nodes of another one means that.
  const known = clientOf(folder).network ?? defaultNetwork;
  if (!isThere && genesis === undefined && secret === undefined && known === defaultNetwork)
    return { genesis: defaultGenesis() };
  return {
    ...(genesis !== undefined && {
      genesis: new Uint8Array(
        readBounded(resolve(genesis), { maxBytes: MAX_GENESIS_FILE_BYTES, pipes: true }),
      ),
    }),
    ...(secret !== undefined && { secret: keyIn(resolve(secret)) }),
  };
}

/** Every record costs one solution, whatever its size; nobody has the founder's key. */
function testGenesis(): Uint8Array {
  const words = { name: 'local test', contact: '', comment: 'a network of one node', amendable: [] };
  const rules = { minLinks: 1, maxValue: 65_536, drift: MINUTE, bytesPerSolution: 1 << 20 };
  return makeGenesis(
    { version: 1, ...words, ...rules, authorities: [], certificateRequired: false },
    freshSeed(),
    Date.now(),
  );
}

function logOf(args: Arguments) {
  const level = args.text('log-level');
  if (!LEVELS.includes(level)) throw new UsageError(`--log-level is ${LEVELS.join(', ')}, not ${level}`);
  return pino({ level, base: { service: 'records' } }, logLines);
}

function requireHostName(name: string): string {
  if (/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(name)) return name.toLowerCase();
  throw new UsageError(`--name is a host name, not ${name}`);
}

const connect: Command = {
  name: 'records node connect',
  summary:
    'has the node of this folder keep a connection to another: its place, and its key as `node status` shows it there',
  positionals: ['HOST:PORT', 'KEY'],
  options: { ...pathOption, ...narrationOptions },
  async run(args) {
    const [place = '', key = ''] = args.positionals;
    const { host, port } = parsePlace('the first argument', place);
    const peer = { host, port, key: toHex(typed(() => fromHex(key, 32))) };
    const folder = folderOf(args);
    if (port === 0) throw new UsageError('a node listens at no port 0');
    await tellNode(runningUrl(folder), nodeFolder(folder), paths.connect, peer);
    narration(args)(`The node dials ${place} now and whenever it is not connected.`);
    answer(args, 'records node connect', { peer });
  },
};

const bootstrap: Command = {
  name: 'records node bootstrap',
  summary:
    'begins a node of the network that the node at URL is of: takes its genesis, and has it for a peer',
  positionals: ['URL'],
  options: {
    ...pathOption,
    network: {
      value: 'ID',
      help: 'the network that it must be; without it, it is shown, and is for you to compare',
    },
    secret: { value: 'FILE', help: 'the secret of a private network', env: 'DSTACK_RECORDS_SECRET' },
    ...narrationOptions,
  },
  async run(args) {
    const url = parseUrl(args.positionals[0]!);
    const wanted = args.optional('network');
    const network = wanted === undefined ? undefined : toHex(typed(() => fromHex(wanted, 32)));
    const file = args.optional('secret');
    const secret = file === undefined ? undefined : keyIn(resolve(file));
    const folder = folderOf(args);
    const node = nodeFolder(folder);
    if (hasRecords(node))
      throw new DstackError('RECORDS_EXISTS', `${node} has a network already; use another folder (--path)`);
    const status = await statusOf(url);
    if (network !== undefined && status.network !== network)
      throw new DstackError(
        'RECORDS_NETWORK_OTHER',
        `${url} is a node of network ${status.network}, not ${network}`,
      );
    if (status.isPrivate && secret === undefined)
      throw new DstackError(
        'RECORDS_SECRET',
        `the network of ${url} is a private one; give its secret (--secret)`,
      );
    if (!status.isPrivate && secret !== undefined)
      throw new DstackError('RECORDS_SECRET', `the network of ${url} is a public one; leave --secret out`);
    createHome(node, await genesisOf(url, status), secret);
    const peer = peerAt(url, status);
    if (peer !== undefined) keepPeer(node, peer);
    await changeClient(folder, (client) => ({
      ...client,
      network: status.network,
      urls: [...new Set([...client.urls, url])],
    }));
    narration(args)(
      `network  ${status.network}  ${status.name}`,
      ...(wanted === undefined
        ? ['Compare that with what somebody you trust says: whoever is at the URL could have named another.']
        : []),
      peer === undefined
        ? 'No node can connect there: name a peer by `records node connect`.'
        : `peer     ${peer.host}:${peer.port}`,
      '`records node start` fetches its records.',
    );
    answer(args, 'records node bootstrap', {
      network: status.network,
      name: status.name,
      peer: peer ?? null,
    });
  },
};

async function genesisOf(url: string, { network }: StatusReply): Promise<Uint8Array> {
  const bytes = await genesisBytes(url, network);
  if (toHex(parseGenesis(bytes).genesis.id) === network) return bytes;
  throw new DstackError(
    'RECORDS_ANSWER',
    `${url} gave another genesis than that of its network; ask another node`,
  );
}

function peerAt(url: string, { wire }: StatusReply) {
  return wire === null
    ? undefined
    : { host: new URL(url).hostname.replace(/^\[|\]$/g, ''), port: wire.port, key: wire.key };
}

const status: Command = {
  name: 'records node status',
  summary:
    'how the node of this folder stands: network, records, peers, whether it has what they have; or the one at --url',
  options: {
    ...pathOption,
    url: { value: 'URL', help: 'another node, which says less of itself' },
    json: narrationOptions.json,
  },
  async run(args) {
    const folder = folderOf(args);
    const given = args.optional('url');
    const [own] = ownUrl(folder);
    const url = given === undefined ? (own ?? urlsOf(folder)[0] ?? runningUrl(folder)) : parseUrl(given);
    const status = await statusOf(url, url === own ? tokenFor(folder) : undefined);
    if (!args.flag('json')) print(...linesOf(url, status));
    const { connections = null, dialled = null, ...rest } = status;
    answer(args, 'records node status', { url, ...rest, connections, dialled });
    if (status.stopped !== null) process.exitCode = 1;
  },
};

function linesOf(url: string, status: StatusReply): string[] {
  const {
    network,
    name,
    contact,
    comment,
    isPrivate,
    records,
    isSynchronised,
    lacking,
    waiting,
    stopped,
    wire,
    peers,
  } = status;
  return [
    `node          ${url}`,
    `network       ${network}  ${name}${isPrivate ? ' (private)' : ''}`,
    ...(contact === '' ? [] : [`contact       ${contact}`]),
    ...(comment === '' ? [] : [`comment       ${comment}`]),
    `records       ${records}${waiting > 0 ? `, and ${waiting} that wait for others` : ''}`,
    `synchronised  ${isSynchronised ? 'yes' : `no${lacking > 0 ? `: ${lacking} records are to come` : ''}`}`,
    wire === null
      ? 'key           none: no node connects here'
      : `key           ${wire.key}, at port ${wire.port}`,
    `peers         ${peers}`,
    ...(status.connections ?? []).map(({ address, key, last }) => {
      const found =
        last === null ? 'not compared yet' : `lacked ${last.missingHere} here, ${last.missingThere} there`;
      return `  ${address}  ${key}  ${found}`;
    }),
    ...(stopped === null ? [] : [`STOPPED       ${stopped.code}: ${stopped.message}`]),
  ];
}

/** @throws RECORDS_NO_NODE */
function runningUrl(folder: string): string {
  const [url] = ownUrl(folder);
  if (url !== undefined) return url;
  const why = existsSync(nodeFolder(folder)) ? 'does not run' : 'is not there yet';
  throw new DstackError('RECORDS_NO_NODE', `the node of ${folder} ${why}: \`records node start\` runs it`);
}

export const recordNodeCommands: readonly Command[] = [start, connect, bootstrap, status];
