/** `records …`: a replicated store of small signed records, and the node that keeps them. */
import { resolve } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { print, printBytes, printError } from '../../lib/daemon/terminal.ts';
import { utf8 } from '../../lib/protocol/encoding.ts';
import { MAX_TIMESTAMP } from '../../lib/protocol/records/format.ts';
import { type NameSpace, nameKeys } from '../../lib/protocol/records/names.ts';
import { looksLikeParts, partListOf } from '../../lib/protocol/records/part-list.ts';
import { MINUTE } from '../../lib/protocol/records/pulse.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { parseDuration } from '../duration.ts';
import { type Client, reachNode, spaceOf } from '../records/client.ts';
import {
  changeClient,
  clientOf,
  folderOf,
  givenSecret,
  meantNetwork,
  networkOption,
  parseUrl,
  pathOption,
  secretOption,
} from '../records/folder.ts';
import { parseOwner, writerOf } from '../records/owners.ts';
import { MAX_FILE_BYTES, needsParts, readParts, writeParts } from '../records/parts.ts';
import { isUnchanged, keepPulsing, ownRecord, requireOwnRecord, sendPulse } from '../records/pulse.ts';
import { findRecords, type Seen } from '../records/read.ts';
import { parseSelections, textOf } from '../records/selectors.ts';
import { writeRecord } from '../records/write.ts';
import { diskCommands } from './records-disk.ts';
import { genesisCommands } from './records-genesis.ts';
import { recordNodeCommands } from './records-node.ts';
import { ownerCommands } from './records-owner.ts';

const MAX_PASSPHRASE_BYTES = 4_096;
/** Seconds. */
const LONGEST_PULSE = 7 * 86_400;

const atNode = {
  ...pathOption,
  ...networkOption,
  ...secretOption,
  url: {
    value: 'URL',
    help: 'nodes to ask, the first that answers, instead of those of the folder',
    multiple: true,
  },
} as const;
const maskOption = {
  mask: { value: 'FILE', help: 'a passphrase that values are masked by, instead of the first name' },
} as const;

const urlsIn = (args: Arguments): string[] => args.list('url').map(parseUrl);

const get: Command = {
  name: 'records get',
  summary: 'what is written under all of these names: NAME, NAME#7, NAME#3#9, NAME# (all ordinals)',
  positionals: ['NAME…'],
  options: {
    ...atNode,
    ...maskOption,
    open: { help: 'records that have more names than these, too' },
    from: { value: 'TIME', help: 'records from this time on: a date, or seconds since 1970' },
    to: { value: 'TIME', help: 'records up to this time' },
    sort: { value: 'trust|weight|time', help: 'which of several candidates is first', default: 'trust' },
    raw: { help: 'the values alone, as they are, one after the other' },
    json: narrationOptions.json,
  },
  async run(args) {
    const selections = parseSelections(args.positionals);
    const [from, to] = [timeOf(args, 'from'), timeOf(args, 'to')];
    const order = orderOf(args.text('sort'));
    if (args.flag('raw') && args.flag('json'))
      throw new UsageError('--raw and --json are two ways to print: take one');
    const folder = folderOf(args);
    const secret = givenSecret(args, folder);
    const client = await reachNode(folder, urlsIn(args), meantNetwork(args, folder));
    const space = spaceOf(client, secret);
    const maskKey = maskKeyOf(args, space);
    const { sets, isCut } = await findRecords(client, {
      selections,
      space,
      oracles: clientOf(folder).oracles,
      isOpen: args.flag('open'),
      ...(maskKey && { maskKey }),
      ...(from !== undefined && { from }),
      ...(to !== undefined && { to }),
    });
    if (isCut)
      printError(
        'There is more than a node looks at for one answer: ask for fewer ordinals, or a shorter time.',
      );
    if (sets.length === 0) {
      printError('Nothing is there.');
      process.exitCode = 1;
    }
    const ordered = sets.map((set) => (order === undefined ? set : set.toSorted(order)));
    if (args.flag('raw')) {
      for (const [first] of ordered) await printBytes(await wholeOf(client, first!));
    } else if (!args.flag('json')) printAll(linesOf(ordered.map(([first]) => first!)));
    answer(args, 'records get', {
      network: Buffer.from(client.genesis.id).toString('hex'),
      sets: ordered.map((set) => set.map(objectOf)),
      isCut,
    });
  },
};

const set: Command = {
  name: 'records set',
  summary: 'writes VALUE, the last word, under all of the names before it: NAME or NAME#7',
  positionals: ['NAME…', '[VALUE]'],
  options: {
    ...atNode,
    ...maskOption,
    file: { value: 'FILE', help: 'the value, in place of the last word; - is standard input' },
    public: { help: 'the value is for everybody, not only for who knows the first name' },
    owner: { value: 'NAME', help: 'who writes it (default: the default owner)' },
    pulse: { help: 'writes nothing if this is the value already, and says that it still holds' },
    'pulse-every': { value: 'AGE', help: 'then says so each 5m, or so, until Ctrl-C' },
    nowork: { help: 'does no work: writes with a certificate, or fails' },
    ...narrationOptions,
  },
  async run(args) {
    const file = args.optional('file');
    const words = file === undefined ? args.positionals.slice(0, -1) : args.positionals;
    if (words.length === 0)
      throw new UsageError('`records set` takes names and, after them, a value (or --file)');
    if (args.flag('public') && args.optional('mask') !== undefined)
      throw new UsageError('--mask hides the value, and --public shows it: take one');
    const every = pulseEvery(args, 'pulse-every');
    const selections = parseSelections(words);
    const range = selections.findIndex(({ from, to }) => from !== to);
    if (range >= 0)
      throw new UsageError(`a record has one ordinal of a name, and ${words[range]} is several`);
    const folder = folderOf(args);
    const owner = writerOf(folder, args.optional('owner'));
    const secret = givenSecret(args, folder);
    const value = file === undefined ? utf8(args.positionals.at(-1)!) : await valueIn(file);
    const client = await reachNode(folder, urlsIn(args), meantNetwork(args, folder));
    const space = spaceOf(client, secret);
    const names = selections.map(({ name, from }) => ({ keys: nameKeys(name, space), ordinal: from }));
    const maskKey = maskKeyOf(args, space);
    const mask = maskKey === undefined ? { name: names[0]!.keys } : { key: maskKey };
    const say = narration(args);
    const told = async (id: string, pulse: number | null) => {
      say(
        `${owner.name}  ${owner.key}`,
        `record  ${id}${pulse === null ? '' : '  (unchanged, and still holds)'}`,
      );
      const network = Buffer.from(client.genesis.id).toString('hex');
      const at = pulse === null ? null : new Date(pulse * MINUTE).toISOString();
      answer(args, 'records set', { id, owner: owner.key, network, url: client.url, pulse: at });
      if (every !== undefined) await keepPulsing(client, id, owner, { every, say: printError });
    };
    if (args.flag('pulse')) {
      const own = await ownRecord(client, { selections, space, ...(maskKey && { maskKey }) }, owner);
      if (isUnchanged(own, value)) return await told(own.id, (await sendPulse(client, own.id, owner)).minute);
    }
    const noWork = args.flag('nowork');
    const progress = args.flag('quiet') ? say : printError;
    const { maxValue } = client.genesis.rules;
    const written =
      file === undefined || !needsParts(value, maxValue)
        ? value
        : await writeParts(client, value, {
            seed: owner.seed,
            maskKey: args.flag('public') ? undefined : (maskKey ?? names[0]!.keys.maskKey),
            noWork,
            say: progress,
          });
    const draft = { type: 'datum' as const, names, value: written, ...(!args.flag('public') && { mask }) };
    const id = await writeRecord(client, draft, owner.seed, {
      noWork,
      say: progress,
    });
    await told(id, null);
  },
};

const pulse: Command = {
  name: 'records pulse',
  summary: 'says that what an owner wrote under all of these names still holds, without writing it again',
  positionals: ['NAME…'],
  options: {
    ...atNode,
    owner: { value: 'NAME', help: 'who wrote it (default: the default owner)' },
    every: { value: 'AGE', help: 'again each 5m, or so, until Ctrl-C' },
    ...narrationOptions,
  },
  async run(args) {
    const selections = parseSelections(args.positionals);
    const every = pulseEvery(args, 'every');
    const folder = folderOf(args);
    const owner = writerOf(folder, args.optional('owner'));
    const secret = givenSecret(args, folder);
    const client = await reachNode(folder, urlsIn(args), meantNetwork(args, folder));
    const { id } = await requireOwnRecord(client, { selections, space: spaceOf(client, secret) }, owner);
    const { isNew, minute } = await sendPulse(client, id, owner);
    const at = new Date(minute * MINUTE).toISOString();
    narration(args)(`record  ${id}`, isNew ? `still holds, at ${at}` : `has a pulse of ${at} already`);
    answer(args, 'records pulse', { id, owner: owner.key, pulse: at, isNew });
    if (every !== undefined) await keepPulsing(client, id, owner, { every, say: printError });
  },
};

/** Seconds. @throws USAGE */
function pulseEvery(args: Arguments, option: string): number | undefined {
  const text = args.optional(option);
  if (text === undefined) return undefined;
  const every = parseDuration(`--${option}`, text, LONGEST_PULSE);
  if (every >= MINUTE / 1_000) return every;
  throw new UsageError(`--${option} is 1m at least: a pulse says a minute`);
}

/** A list in client.json, as commands show and change it. */
const changing = { ...pathOption, ...narrationOptions } as const;
const listing = { ...pathOption, json: narrationOptions.json } as const;

function urlCommand(
  verb: 'add' | 'delete' | 'default',
  summary: string,
  change: (urls: string[], url: string) => string[],
): Command {
  return {
    name: `records url ${verb}`,
    summary,
    positionals: ['URL'],
    options: changing,
    async run(args) {
      const url = parseUrl(args.positionals[0]!);
      const folder = folderOf(args);
      const { urls } = await changeClient(folder, (client) => {
        if (verb === 'delete' && !client.urls.includes(url))
          throw new UsageError(`${url} is none of: ${client.urls.join(', ') || 'none'}`);
        return { ...client, urls: change(client.urls, url) };
      });
      narration(args)(`asked first to last: ${urls.join(', ') || 'no node'}`);
      answer(args, `records url ${verb}`, { urls });
    },
  };
}

/** No lines are not an empty one. */
function printAll(lines: readonly string[]): void {
  if (lines.length > 0) print(...lines);
}

const without = <Text extends string>(list: readonly Text[], one: Text): Text[] =>
  list.filter((other) => other !== one);

const urlCommands: readonly Command[] = [
  {
    name: 'records url list',
    summary: 'the nodes that are asked, the first one first',
    options: listing,
    async run(args) {
      const { urls } = clientOf(folderOf(args));
      if (!args.flag('json')) printAll(urls);
      answer(args, 'records url list', { urls });
    },
  },
  urlCommand('add', 'asks this node after the others', (urls, url) => [...without(urls, url), url]),
  urlCommand('delete', 'asks this node no more', without),
  urlCommand('default', 'asks this node first', (urls, url) => [url, ...without(urls, url)]),
];

function oracleCommand(verb: 'add' | 'delete', summary: string): Command {
  return {
    name: `records oracle ${verb}`,
    summary,
    positionals: ['OWNER'],
    options: changing,
    async run(args) {
      const folder = folderOf(args);
      const key = parseOwner(folder, args.positionals[0]!);
      const { oracles } = await changeClient(folder, (client) => {
        const rest = without(client.oracles, key);
        if (verb === 'delete' && rest.length === client.oracles.length)
          throw new UsageError(`${key} is no oracle here`);
        return { ...client, oracles: verb === 'add' ? [...rest, key] : rest };
      });
      narration(args)(`believed: ${oracles.join(', ') || 'nobody'}`);
      answer(args, `records oracle ${verb}`, { oracles });
    },
  };
}

const oracleCommands: readonly Command[] = [
  {
    name: 'records oracle list',
    summary: 'the owners whose suspicions count, besides what the node itself saw',
    options: listing,
    async run(args) {
      const { oracles } = clientOf(folderOf(args));
      if (!args.flag('json')) printAll(oracles);
      answer(args, 'records oracle list', { oracles });
    },
  },
  oracleCommand('add', 'believes this owner when it suspects a record'),
  oracleCommand('delete', 'does not ask this owner any more'),
];

/** By a passphrase, as a name gives a key: stretched, and of this network alone. */
function maskKeyOf(args: Arguments, space: NameSpace): Uint8Array | undefined {
  const file = args.optional('mask');
  if (file === undefined) return undefined;
  const text = readBounded(resolve(file), { maxBytes: MAX_PASSPHRASE_BYTES, pipes: true })
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (text === '') throw new UsageError(`${file} is empty: it holds the passphrase of --mask`);
  return nameKeys(utf8(text), space).maskKey;
}

/** What is written, also where it is in parts. */
async function wholeOf(client: Client, { value, maskKey }: Seen): Promise<Uint8Array> {
  if (value === undefined) return new Uint8Array();
  const list = partListOf(value, client.genesis.rules.maxValue);
  return list === undefined ? value : await readParts(client, list, maskKey);
}

async function valueIn(file: string): Promise<Uint8Array> {
  if (file !== '-')
    return new Uint8Array(readBounded(resolve(file), { maxBytes: MAX_FILE_BYTES, pipes: true }));
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_FILE_BYTES) throw new UsageError(`a value has up to ${MAX_FILE_BYTES} bytes; split it`);
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** Milliseconds since 1970. @throws USAGE */
function timeOf(args: Arguments, option: string): number | undefined {
  const text = args.optional(option);
  if (text === undefined) return undefined;
  const time = /^\d{1,12}$/.test(text) ? Number(text) * 1_000 : Date.parse(text);
  if (Number.isInteger(time) && time >= 0 && time <= MAX_TIMESTAMP) return time;
  throw new UsageError(`--${option} is a date, as 2026-01-31T12:00:00Z, or seconds since 1970, not ${text}`);
}

/** Undefined for the node's own order. @throws USAGE */
function orderOf(text: string): ((a: Seen, b: Seen) => number) | undefined {
  if (text === 'trust') return undefined;
  if (text === 'weight') return (a, b) => (b.weight ?? 0) - (a.weight ?? 0);
  if (text === 'time') return (a, b) => b.timestamp - a.timestamp;
  throw new UsageError(`--sort is trust, weight or time, not ${text}`);
}

/** `value | selectors`, in columns. */
function linesOf(records: readonly Seen[]): string[] {
  const rows = records.map((record) => ({
    value: shownValue(record),
    selectors: record.selectors.map(({ name, ordinal }) =>
      ordinal === undefined ? name : `${name}#${ordinal}`,
    ),
  }));
  const width = Math.min(60, Math.max(0, ...rows.map(({ value }) => value.length)));
  return rows.map(({ value, selectors }, at) => {
    const doubt = records[at]!.trust === 0 ? '  (nobody believes it)' : '';
    return `${value.padEnd(width)} | ${selectors.join(' ')}${doubt}`;
  });
}

function shownValue({ value, unreadable }: Seen): string {
  if (value !== undefined && looksLikeParts(value)) return '(a file: --raw)';
  if (value === undefined) return `(${unreadable})`;
  return textOf(value) ?? `0x${Buffer.from(value).toString('hex')}`;
}

function objectOf({
  id,
  bytes,
  owner,
  timestamp,
  selectors,
  value,
  unreadable,
  trust,
  localTrust,
  oracleTrust,
  weight,
  since,
  pulse,
}: Seen) {
  return {
    id,
    size: bytes.length,
    record: Buffer.from(bytes).toString('base64'),
    owner,
    signed: new Date(timestamp).toISOString(),
    selectors: selectors.map(({ name, ordinal }) => ({
      name,
      ordinal: ordinal === undefined ? null : `${ordinal}`,
    })),
    text: value === undefined ? null : (textOf(value) ?? null),
    value: value === undefined ? null : Buffer.from(value).toString('base64'),
    unreadable: unreadable ?? null,
    trust,
    localTrust,
    oracleTrust: oracleTrust ?? null,
    weight: weight ?? null,
    since: since === undefined ? null : new Date(since).toISOString(),
    pulse: pulse === undefined ? null : new Date(pulse).toISOString(),
  };
}

export const recordsCommands: readonly Command[] = [
  get,
  set,
  pulse,
  ...recordNodeCommands,
  ...ownerCommands,
  ...urlCommands,
  ...oracleCommands,
  ...genesisCommands,
  ...diskCommands,
];
