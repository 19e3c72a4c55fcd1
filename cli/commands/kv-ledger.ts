/** `kv receipt …`, `kv audit`: what anyone can check of the store's ledger. Only `get`, and an audit of a URL, need a connection. */
import { realpathSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { writeDurably } from '../../lib/daemon/durable-file.ts';
import { print, printError } from '../../lib/daemon/terminal.ts';
import { auditLog, fetchHead, requireContinues, requireContinuesFrom } from '../../lib/ledger/audit.ts';
import { type Checkpoint, openCheckpoint } from '../../lib/ledger/checkpoint.ts';
import { receiptInAnswer } from '../../lib/ledger/lskv.ts';
import { type NoteKey, parseVerifierKey } from '../../lib/ledger/note.ts';
import {
  hasValue,
  MAX_RECEIPT_BYTES,
  type ProvenReceipt,
  parseReceipt,
  verifyReceipt,
} from '../../lib/ledger/receipt.ts';
import { bytesEqual, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseUniqueJson } from '../../lib/protocol/json.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narrationOptions, typed, UsageError } from '../command.ts';
import { auditKey, auditKeyOptions, type Network } from '../kv/audit-key.ts';
import { LogCopy, MAX_HEAD_BYTES } from '../kv/log-copy.ts';
import { keyOptions, logKey } from '../kv/log-key.ts';
import { logSource } from '../kv/log-source.ts';
import { clientOptions, httpClient, urlOf } from '../kv/store-client.ts';

/** etcd takes smaller ones only. */
const MAX_VALUE_BYTES = 4 * 1024 * 1024;
const MAX_REVISION = 2n ** 63n - 1n;

const get: Command = {
  name: 'kv receipt get',
  summary: 'asks a store for the receipt of a revision, or of what a key is now',
  positionals: ['URL'],
  options: {
    revision: { value: 'NUMBER', help: "the revision, as the write's answer says" },
    key: {
      value: 'KEY',
      help: 'instead: the receipt of what this key is now, which says that it was current',
    },
    out: { value: 'FILE', help: 'where to write it; printed by default' },
    json: { help: 'prints one JSON object with the receipt, and where it was written' },
    ...clientOptions,
  },
  async run(args) {
    const [base] = args.positionals as [string];
    const [revision, key] = [args.optional('revision'), args.optional('key')];
    if ((revision === undefined) === (key === undefined))
      throw new UsageError('say --revision NUMBER or --key KEY');
    if (revision !== undefined && !isRevision(revision))
      throw new UsageError(`--revision takes a number from 1 to 2^63 - 1, not ${revision}`);
    const body = JSON.stringify(
      key === undefined ? { revision } : { key: Buffer.from(key).toString('base64') },
    );
    const store = urlOf(base);
    const url = new URL('/v3/receipt/get_receipt', store);
    const reply = await httpClient(store, args)({ url, body, maxBytes: 4 * MAX_RECEIPT_BYTES });
    const receipt = receiptInAnswer(parseUniqueJson(reply.toString()));
    const out = args.optional('out');
    parseReceipt(receipt);
    if (out !== undefined) writeWhole(out, receipt);
    else if (!args.flag('json')) print(...receipt.split('\n'));
    answer(args, 'kv receipt get', { receipt, file: out ?? null });
    printError('Not verified: `npx dstack kv receipt verify` does that.');
  },
};

const verify: Command = {
  name: 'kv receipt verify',
  summary:
    'says what a receipt proves, offline; exits 1 when it proves nothing, or something else than asked',
  positionals: ['RECEIPT'],
  options: {
    ...keyOptions,
    namespace: {
      value: 'PREFIX',
      help: 'whose keys it has to show: a/APP/ for an app, d/DAEMON/, o/ for the owner',
    },
    key: { value: 'KEY', help: 'the key that it has to be about' },
    value: { value: 'VALUE', help: 'the value that it has to have been put to' },
    'value-file': { value: 'FILE', help: 'the same, from a file' },
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const [file] = args.positionals as [string];
    const log = logKey(args);
    const [key, value] = [args.optional('key'), args.optional('value')];
    const valueFile = args.optional('value-file');
    if (value !== undefined && valueFile !== undefined)
      throw new UsageError('--value and --value-file say the same: leave one out');
    const wanted =
      value !== undefined
        ? utf8(value)
        : valueFile !== undefined
          ? readBounded(valueFile, { maxBytes: MAX_VALUE_BYTES, pipes: true })
          : undefined;
    const proven = verifyReceipt(textOf(file, MAX_RECEIPT_BYTES), log.name, [log]);
    requireNamespace(proven, args.optional('namespace'));
    requireAsked(proven, key, wanted);
    if (!args.flag('json')) print(...asText(proven));
    answer(args, 'kv receipt verify', asJson(proven));
  },
};

const audit: Command = {
  name: 'kv audit',
  summary:
    'checks a whole log against its signed head, the head against an earlier one, and whose its key is; exits 1 at the first fault',
  positionals: ['URL-OR-FOLDER'],
  options: {
    ...auditKeyOptions,
    head: { value: 'FILE', help: 'a signed head from before: the log has to continue it' },
    'head-vkey': {
      value: 'KEY',
      help: 'the verifier key of that head, where it is of the log of before a restore',
    },
    'save-head': { value: 'FILE', help: 'where to keep the head for the next time, once all is well' },
    copy: { value: 'FOLDER', help: 'keeps what is fetched there: a copy that can be audited offline' },
    ...clientOptions,
    json: { help: 'prints one JSON object' },
    quiet: narrationOptions.quiet,
  },
  async run(args) {
    const [where] = args.positionals as [string];
    const [earlier, saved] = [args.optional('head'), args.optional('save-head')];
    if (earlier === undefined && args.optional('head-vkey') !== undefined)
      throw new UsageError('--head-vkey is of --head: say which head too');
    // An audit may take an hour, at the end of which this would be too late to say.
    if (saved !== undefined) requireWritable(saved);
    const source = logSource(where, args);
    const { key: log, network, notChecked } = await auditKey(args, source);
    const before = earlier === undefined ? undefined : earlierHead(args, earlier, log);
    const folder = args.optional('copy');
    const copy = folder === undefined ? undefined : new LogCopy(folder);
    const copied = copy?.head;
    const fetch = copy?.keeping(source) ?? source;
    const head = await fetchHead(fetch, log.name, [log]);
    if (before !== undefined) await requireContinuesFrom(fetch, before, head);
    // What it says that it began with is in it.
    for (const begun of head.continues ?? []) await requireContinues(fetch, begun, head);
    // The tiles of another log may lie beside those of the copy without meeting them.
    if (copied !== undefined) await requireContinues(fetch, openCheckpoint(copied, log.name, [log]), head);
    let readable = 0;
    await auditLog(fetch, head, {
      onLeaf: (leaf) => {
        readable += leaf.readable.length;
      },
    });
    copy?.finish(head.note, network?.evidence);
    if (saved !== undefined) writeWhole(saved, head.note);
    const found = {
      origin: head.origin,
      revisions: head.size,
      root: toHex(head.root),
      time: head.time ?? null,
      readable,
      continues: (head.continues ?? []).map(({ origin, size }) => ({ origin, revisions: size })),
      network: network === undefined ? null : networkJson(network),
      notChecked,
    };
    if (!args.flag('json')) {
      print(
        `log        ${head.origin}`,
        ...(network === undefined ? [] : networkLines(network)),
        `revisions  ${head.size}, of which ${readable} events are readable`,
        `root       ${toHex(head.root)}`,
        ...(head.time === undefined ? [] : [`signed at  ${isoTime(head.time)}, by the chain's clock`]),
        ...found.continues.map(
          ({ origin, revisions }) =>
            `restored   from a backup: it begins with ${revisions} revisions of ${origin}`,
        ),
        ...notChecked.map((what) => `unchecked  ${what}`),
        earlier === undefined ? 'SOUND' : 'SOUND, and it continues the earlier head',
      );
    }
    answer(args, 'kv audit', found);
  },
};

function networkLines({ contract, sources, steps, measurement, platform, status }: Network): string[] {
  return [
    `network    ${contract}, by the word of ${sources}`,
    ...steps.map(({ name, outcome, detail }) => `  ${outcome.padEnd(8)} ${name.padEnd(18)} ${detail}`),
    `key        of a machine with measurement ${measurement}, platform ${platform}, TCB ${status}`,
  ];
}

const networkJson = ({ evidence: _, ...shown }: Network) => shown;

/** A head that was kept. @throws USAGE, VKEY_INVALID, NOTE_*, CHECKPOINT_* */
function earlierHead(args: Arguments, file: string, log: NoteKey): Checkpoint {
  const text = args.optional('head-vkey');
  const key = text === undefined ? log : typed(() => parseVerifierKey(text));
  return openCheckpoint(textOf(file, MAX_HEAD_BYTES), key.name, [key]);
}

/** A key of the same name may be in any other app. @throws RECEIPT_OTHER_NAMESPACE */
function requireNamespace({ namespace }: ProvenReceipt, wanted: string | undefined): void {
  if (wanted === undefined) return;
  if (!/^(?:o|[ad]\/[^/]+)\/$/.test(wanted))
    throw new UsageError(`--namespace takes a/APP/, d/DAEMON/ or o/, not ${wanted}`);
  if (namespace !== wanted)
    throw new DstackError(
      'RECEIPT_OTHER_NAMESPACE',
      namespace === undefined
        ? `the receipt shows no key, and so none of ${wanted}`
        : `the receipt shows keys of ${namespace}, not of ${wanted}`,
    );
}

/** @throws RECEIPT_OTHER_KEY, RECEIPT_OTHER_VALUE */
function requireAsked(
  { events }: ProvenReceipt,
  key: string | undefined,
  value: Uint8Array | undefined,
): void {
  const about = key === undefined ? events : events.filter(({ ownKey }) => bytesEqual(ownKey, utf8(key)));
  if (key !== undefined && about.length === 0) {
    throw new DstackError('RECEIPT_OTHER_KEY', `the receipt shows nothing of the key ${JSON.stringify(key)}`);
  }
  if (value !== undefined && !about.some((event) => hasValue(event, value))) {
    throw new DstackError('RECEIPT_OTHER_VALUE', 'the receipt shows no put of that value');
  }
}

const BASIS = {
  put: 'a put, the whole of it',
  delete: 'a delete, the whole of it',
  events: 'the events shown; not what was asked for, compared or answered',
} as const;

function asText(proven: ProvenReceipt): string[] {
  const { revision, namespace, events, basis, size, time, root, leaf, current } = proven;
  return [
    `revision   ${revision}, in a log of ${size}`,
    `namespace  ${namespace ?? 'none: no event is shown'}`,
    `root       ${toHex(root)}`,
    ...(time === undefined ? [] : [`signed at  ${isoTime(time)}, by the chain's clock`]),
    `proves     ${BASIS[basis]}`,
    ...events.map(
      ({ type, ownKey, valueHash, lease }) =>
        `${type.padEnd(10)} ${JSON.stringify(Buffer.from(ownKey).toString())}` +
        (type === 'put' ? `, value's SHA-256 ${toHex(valueHash)}` : '') +
        (lease === 0n ? '' : `, lease ${lease}`),
    ),
    ...(events.length < leaf.count
      ? [`and        ${leaf.count - events.length} events that are not shown`]
      : []),
    ...(current === undefined
      ? []
      : [`current    at revision ${current.revision}, by the store's signed word`]),
    'PROVEN',
  ];
}

function asJson(proven: ProvenReceipt) {
  const { revision, namespace, events, basis, size, time, root, leaf, current } = proven;
  return {
    revision: `${revision}`,
    namespace: namespace ?? null,
    basis,
    size,
    root: toHex(root),
    time: time ?? null,
    eventsInRevision: leaf.count,
    events: events.map(({ index, type, ownKey, valueHash, lease, version, createRevision }) => ({
      index,
      type,
      key: Buffer.from(ownKey).toString('base64'),
      ...(type === 'put' ? { valueHash: toHex(valueHash) } : {}),
      lease: `${lease}`,
      version: `${version}`,
      createRevision: `${createRevision}`,
    })),
    currentAt: current === undefined ? null : `${current.revision}`,
  };
}

const isoTime = (seconds: number): string => new Date(seconds * 1_000).toISOString();

const isRevision = (text: string): boolean => /^[1-9]\d{0,18}$/.test(text) && BigInt(text) <= MAX_REVISION;

const textOf = (file: string, maxBytes: number): string =>
  readBounded(file, { maxBytes, pipes: true }).toString();

/** @throws FILE_KIND, and the file system's own errors */
function requireWritable(file: string): void {
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true)
    throw new DstackError('FILE_KIND', `${file} is a folder, not a file`);
  statSync(dirname(file));
}

/** A head that was kept is lost if a disk that is full leaves half of the new one. A pipe or a device is written to, never replaced. */
function writeWhole(file: string, text: string): void {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat !== undefined && !stat.isFile()) writeFileSync(file, text);
  else writeDurably(stat === undefined ? file : realpathSync(file), text);
}

export const kvLedgerCommands: readonly Command[] = [get, verify, audit];
