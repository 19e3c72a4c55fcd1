/** `records prune` and `records rebuild`: what becomes of a node's files while it does not run. */
import { resolve } from 'node:path';
import type { PruneChoice } from '../../host/records/discard.ts';
import { RecordsNode } from '../../host/records/node.ts';
import { rebuildRecords } from '../../host/records/rebuild.ts';
import { MAX_GENESIS_FILE_BYTES, parseGenesis } from '../../host/records/service/genesis-file.ts';
import { readBounded } from '../../lib/daemon/bounded-file.ts';
import { MAX_VALUE_BYTES } from '../../lib/protocol/records/format.ts';
import { nameKeys } from '../../lib/protocol/records/names.ts';
import { ordinalRanges } from '../../lib/protocol/records/ordinals.ts';
import { answer } from '../answers.ts';
import { type Arguments, type Command, narration, narrationOptions, UsageError } from '../command.ts';
import { LONGEST_AGE, parseDuration } from '../duration.ts';
import { folderOf, givenSecret, nodeFolder, pathOption, secretOption } from '../records/folder.ts';
import { parseOwner } from '../records/owners.ts';
import { parseSelections } from '../records/selectors.ts';

const prune: Command = {
  name: 'records prune',
  summary:
    'throws values away that their owners have replaced, under these names or all, and gives the space back; the node must not run',
  positionals: ['[NAME…]'],
  options: {
    ...pathOption,
    ...secretOption,
    'older-than': { value: 'AGE', help: 'those alone that are older, such as 90d' },
    'at-least': { value: 'BYTES', help: 'those alone of so many bytes or more' },
    owner: {
      value: 'OWNER',
      help: 'those alone of this owner: a name of the folder, or a key',
      multiple: true,
    },
    current: { help: 'also those that nobody has replaced: they are shown as thrown away from then on' },
    'dry-run': { help: 'says how many these are, and changes nothing' },
    undo: { help: 'asks peers again for all values that were thrown away here, once the node runs' },
    ...narrationOptions,
  },
  async run(args) {
    const folder = folderOf(args);
    const [say, isTrial] = [narration(args), args.flag('dry-run')];
    const choose = choiceOf(args, folder);
    const node = await RecordsNode.open(nodeFolder(folder));
    try {
      if (args.flag('undo')) {
        const wanted = await node.wantAgain();
        say(`${wanted} values are asked of peers once the node runs.`);
        answer(args, 'records prune', { discarded: 0, bytes: 0, before: null, after: null, wanted });
        return;
      }
      const choice = choose(node.genesis.id);
      const { discarded, bytes, ...log } = isTrial
        ? { ...(await node.prunable(choice)), before: null, after: null }
        : await node.prune(choice, true);
      if (log.before === null) say(`${discarded} values of ${bytes} bytes would be thrown away.`);
      else say(`${discarded} values are thrown away; the log had ${log.before} bytes and has ${log.after}.`);
      answer(args, 'records prune', { discarded, bytes, ...log, wanted: 0 });
    } finally {
      await node.close();
    }
  },
};

/** @throws USAGE */
function choiceOf(args: Arguments, folder: string): (network: Uint8Array) => PruneChoice {
  const [age, size] = [args.optional('older-than'), args.optional('at-least')];
  const owners = args.list('owner').map((text) => parseOwner(folder, text).toString());
  const isBounded = args.positionals.length + owners.length > 0 || age !== undefined || size !== undefined;
  if (args.flag('undo') && (isBounded || args.flag('current') || args.flag('dry-run')))
    throw new UsageError('--undo is of all that was thrown away: it stands alone');
  if (args.flag('current') && !isBounded)
    throw new UsageError('--current alone would throw away all there is: name what, or how old or large');
  if (size !== undefined && (!/^\d{1,6}$/.test(size) || Number(size) > MAX_VALUE_BYTES))
    throw new UsageError(`--at-least is a number of bytes up to ${MAX_VALUE_BYTES}, not ${size}`);
  const seconds = age === undefined ? undefined : parseDuration('--older-than', age, LONGEST_AGE);
  const selections = parseSelections(args.positionals);
  const secret = givenSecret(args, folder);
  return (network) => ({
    ...(seconds !== undefined && { before: Date.now() - seconds * 1_000 }),
    ...(size !== undefined && { atLeast: Number(size) }),
    ...(owners.length > 0 && { owners }),
    ...(selections.length > 0 && {
      names: selections.map(({ name, from, to }) => {
        const { claimKey, ordinalKey } = nameKeys(name, { network, ...(secret && { secret }) });
        return { claimKey, tags: ordinalRanges(ordinalKey, from, to) };
      }),
    }),
    ...(args.flag('current') && { current: true }),
  });
}

const rebuild: Command = {
  name: 'records rebuild',
  summary:
    'makes a new log from what is sound in a damaged one, which is kept beside it; the node must not run',
  options: {
    ...pathOption,
    genesis: { value: 'FILE', help: 'the genesis of the network, where the log has lost it' },
    ...narrationOptions,
  },
  async run(args) {
    const file = args.optional('genesis');
    const genesis =
      file === undefined
        ? undefined
        : parseGenesis(readBounded(resolve(file), { maxBytes: MAX_GENESIS_FILE_BYTES })).records[0];
    const { records, dropped, unreadable, damaged } = await rebuildRecords(
      nodeFolder(folderOf(args)),
      genesis,
    );
    narration(args)(
      `${records} records are in the new log; other nodes have the rest, if anybody has it.`,
      `${dropped} sound ones stood on lost ones, and ${unreadable} bytes can't be read; the damaged log is ${damaged}.`,
    );
    answer(args, 'records rebuild', { records, dropped, unreadable, damaged });
  },
};

export const diskCommands: readonly Command[] = [prune, rebuild];
