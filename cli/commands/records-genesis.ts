/** `records genesis …`: a network's beginning, which says for ever what belongs to it. */
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { defaultGenesis } from '../../host/records/service/default-network.ts';
import {
  MAX_GENESIS_FILE_BYTES,
  makeGenesis,
  parseGenesis,
} from '../../host/records/service/genesis-file.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { createDurably } from '../../lib/daemon/durable-file.ts';
import { makePrivate } from '../../lib/daemon/private-file.ts';
import { print } from '../../lib/daemon/terminal.ts';
import { toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { AMENDABLE, amendmentOf, type Genesis } from '../../lib/protocol/records/genesis.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, typed, UsageError } from '../command.ts';
import { parseDuration, showDuration } from '../duration.ts';
import { reachNode } from '../records/client.ts';
import { folderOf, meantNetwork, networkOption, parseUrl, pathOption } from '../records/folder.ts';
import { ownerNamed, parseOwner, writerOf } from '../records/owners.ts';
import { writeRecord } from '../records/write.ts';

const DAY = 86_400;

const words = {
  contact: { value: 'WORDS', help: 'whom to write to about it' },
  comment: { value: 'WORDS', help: 'what it is for' },
} as const;

const make: Command = {
  name: 'records genesis make',
  summary: 'begins a network: writes its genesis to a new file, which every node of it starts from',
  options: {
    ...pathOption,
    name: { value: 'WORDS', help: 'what the network is called', required: true },
    ...words,
    owner: { value: 'NAME', help: 'its founder, an owner of this folder (default: the default owner)' },
    amendable: {
      value: 'WORD',
      help: `${AMENDABLE.join(', ')}: what the founder may change later`,
      multiple: true,
    },
    authority: {
      value: 'OWNER',
      help: 'who certifies others: a name of this folder, or a key',
      multiple: true,
    },
    'certificate-required': { help: 'work lets nobody in, only a certificate' },
    'min-links': { value: 'N', help: 'so many earlier records does each link to', default: '2' },
    'max-value': { value: 'BYTES', help: 'of a record', default: '1024' },
    drift: { value: 'TIME', help: 'how far clocks may be apart', default: '60s' },
    'bytes-per-solution': {
      value: 'N',
      help: 'what a solution pays for: of 16 a small record takes a core about a second',
      default: '16',
    },
    private: {
      help: 'makes a secret too, in FILE.secret: without it no node connects, and no name can be guessed',
    },
    out: { value: 'FILE', help: 'the new file', required: true },
    ...narrationOptions,
  },
  async run(args) {
    const folder = folderOf(args);
    const name = args.text('name');
    const rules = {
      version: 1 as const,
      name,
      contact: args.optional('contact') ?? '',
      comment: args.optional('comment') ?? '',
      amendable: args.list('amendable').map(requireAmendable),
      minLinks: numberOf(args, 'min-links'),
      maxValue: numberOf(args, 'max-value'),
      drift: parseDuration('--drift', args.text('drift'), DAY) * 1_000,
      bytesPerSolution: numberOf(args, 'bytes-per-solution'),
      authorities: args.list('authority').map((text) => parseOwner(folder, text)),
      certificateRequired: args.flag('certificate-required'),
    };
    const founder = writerOf(folder, args.optional('owner'));
    const bytes = typed(() => makeGenesis(rules, founder.seed, Date.now()));
    const file = resolve(args.text('out'));
    const secret = args.flag('private') ? `${file}.secret` : null;
    createOrRefuse(file, bytes);
    if (secret !== null && !makePrivate(secret, toHex(randomBytes(32)))) throw exists(secret);
    const { genesis } = parseGenesis(bytes);
    narration(args)(
      ...linesOf(genesis),
      `file       ${file}: \`records node start --genesis ${file}\` begins a node`,
      ...(secret === null ? [] : [`secret     ${secret}: for the network's members alone`]),
    );
    answer(args, 'records genesis make', {
      network: toHex(genesis.id),
      owner: founder.key,
      rules: genesis.rules,
      file,
      secret,
    });
  },
};

const show: Command = {
  name: 'records genesis show',
  summary: 'what a genesis file says, or the built-in genesis: the network, its founder, its rules',
  positionals: ['[FILE]'],
  options: { json: narrationOptions.json },
  async run(args) {
    const [file] = args.positionals;
    const { genesis, records } = parseGenesis(
      file === undefined
        ? defaultGenesis()
        : readBounded(resolve(file), { maxBytes: MAX_GENESIS_FILE_BYTES, pipes: true }),
    );
    if (!args.flag('json')) print(...linesOf(genesis), `records    ${records.length}`);
    answer(args, 'records genesis show', {
      network: toHex(genesis.id),
      owner: toHex(genesis.owner),
      rules: genesis.rules,
      records: records.length,
    });
  },
};

const amend: Command = {
  name: 'records genesis amend',
  summary: 'says the words anew that the network lets its founder change',
  options: {
    ...pathOption,
    ...networkOption,
    url: { value: 'URL', help: 'nodes to ask, instead of those of the folder', multiple: true },
    name: { value: 'WORDS', help: 'what the network is called' },
    ...words,
    owner: { value: 'NAME', help: 'its founder (default: the default owner)' },
    ...narrationOptions,
  },
  async run(args) {
    const said = Object.fromEntries(
      AMENDABLE.flatMap((word) => (args.optional(word) === undefined ? [] : [[word, args.text(word)]])),
    );
    if (Object.keys(said).length === 0)
      throw new UsageError(`nothing is said anew: ${AMENDABLE.map((word) => `--${word}`).join(', ')}`);
    const folder = folderOf(args);
    const chosen = args.optional('owner');
    const owner = chosen === undefined ? writerOf(folder, undefined) : ownerNamed(folder, chosen);
    const client = await reachNode(folder, args.list('url').map(parseUrl), meantNetwork(args, folder));
    if (owner.key !== toHex(client.genesis.owner))
      throw new DstackError(
        'RECORDS_AUTHORITY',
        `only the founder of the network, ${toHex(client.genesis.owner)}, changes its words`,
      );
    const value = utf8(JSON.stringify(said));
    requireGood(value, client.genesis);
    const id = await writeRecord(client, { type: 'genesis', names: [], value }, owner.seed, {
      noWork: true,
      say: () => {},
    });
    narration(args)(`record  ${id}`);
    answer(args, 'records genesis amend', { id, network: toHex(client.genesis.id) });
  },
};

/** As every node will judge it. @throws RECORD_AMENDMENT */
function requireGood(value: Uint8Array, { rules }: Genesis): void {
  amendmentOf({ value: { kind: 'whole', bytes: value } } as Parameters<typeof amendmentOf>[0], rules);
}

function requireAmendable(text: string): (typeof AMENDABLE)[number] {
  const word = AMENDABLE.find((one) => one === text);
  if (word !== undefined) return word;
  throw new UsageError(`--amendable is ${AMENDABLE.join(', ')}, each by itself, not ${text}`);
}

function numberOf(args: Arguments, option: string): number {
  const text = args.text(option);
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`--${option} is a number, not ${text}`);
}

/** @throws RECORDS_EXISTS */
function createOrRefuse(path: string, bytes: Uint8Array): void {
  try {
    createDurably(path, bytes, 0o644);
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? exists(path) : error;
  }
}

function exists(path: string): DstackError {
  return new DstackError(
    'RECORDS_EXISTS',
    `${path} is there already, and may be all that is left of a network; choose another --out`,
  );
}

function linesOf({ id, owner, rules }: Genesis): string[] {
  const {
    name,
    contact,
    comment,
    amendable,
    minLinks,
    maxValue,
    drift,
    bytesPerSolution,
    authorities,
    certificateRequired,
  } = rules;
  return [
    `network    ${toHex(id)}  ${name}`,
    `founder    ${toHex(owner)}`,
    ...(contact === '' ? [] : [`contact    ${contact}`]),
    ...(comment === '' ? [] : [`comment    ${comment}`]),
    `amendable  ${amendable.join(', ') || 'nothing'}`,
    `rules      ${minLinks} links, values up to ${maxValue} bytes, drift ${showDuration(drift / 1_000)}`,
    certificateRequired
      ? 'writing    by certificate only'
      : `writing    by work (a solution for each ${bytesPerSolution} bytes)${authorities.length > 0 ? ' or certificate' : ''}`,
    ...authorities.map((key) => `authority  ${key}`),
  ];
}

export const genesisCommands: readonly Command[] = [make, show, amend];
