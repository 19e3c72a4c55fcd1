/** Where a node keeps records: nothing acknowledged is lost, nothing that is damaged is taken for whole, and who is believed. */
import { type Mutation, rowsOf } from '../mutation.ts';

const at = (file: string, test = file) =>
  [`host/records/${file}.ts`, `host/records/${test}.test.ts`] as const;
const row = rowsOf('records');

const LOG = at('log');
const FORMAT = at('log-format', 'log');
const NODE = at('node');
const INDEX = at('index', 'query');
const QUERY = at('query');

export const recordNodeRules: readonly Mutation[] = [
  row(
    'the sync before an acknowledgement',
    at('log', 'node'),
    'await this.#file.sync();',
    '',
    'is acknowledged and shown when it is on the disk',
  ),
  row(
    'that the end of the log is made sound before anything is written after it',
    at('log', 'node'),
    '      ftruncateSync(this.#handle.fd, this.#end);\n      settle(this.#handle.fd, this.#group, this.#end);\n',
    '',
    'cuts off what was written in vain',
  ),
  row(
    'that only a full disk is gone on with',
    NODE,
    'if (isForRoom(this.#stopped)) this.#awaitRoom();',
    'this.#awaitRoom();',
    'that fails otherwise stays as it is',
  ),
  row(
    'what was in the log and could not be found, after a full disk',
    NODE,
    'const arrived = this.#store.goOn();',
    'const arrived = index.count - index.count;',
    'where it could not be found',
  ),
  row(
    'that who offers again waits for the disk too',
    NODE,
    "|| (verdict.kind === 'known' && this.#members.has(verdict.id))",
    '',
    'is acknowledged and shown when it is on the disk',
  ),
  row(
    'the end of intake after a failure',
    LOG,
    'if (this.#failure !== undefined) throw this.#failure;',
    '',
    'nothing is written any more',
  ),
  row(
    'writing the last group once more at a start',
    LOG,
    'settle(handle.fd, group, end);',
    '',
    'is written once more at the next start',
  ),
  row(
    'that a damaged middle is no torn end',
    LOG,
    'reader.size > end && reader.nextEntry(end + 1, true) !== undefined',
    'reader.size < end',
    'at any byte, is refused',
  ),
  row(
    'the size of what can be unfinished',
    LOG,
    'reader.size - end > MAX_GROUP_BYTES',
    'reader.size < end',
    'longer than what is written at once',
  ),
  row(
    'what entries take besides their records',
    LOG,
    '=> ENTRY_HEAD_BYTES + record.length',
    '=> record.length',
    'in the largest group, of the smallest records',
  ),
  row('what the index knows of the log', LOG, 'end < trusted', 'end < 0', 'or an end that is missing'),
  row(
    'the salt of a log',
    FORMAT,
    'this.#seed = crc32c(salt);',
    'this.#seed = salt.length;',
    'bytes in a record that look like an entry',
  ),
  row(
    'the place of an entry',
    FORMAT,
    'crc32c(this.#place, this.#seed)',
    'this.#seed',
    'an entry that is where it was not written',
  ),
  row(
    'that no log is made over another file',
    LOG,
    'linkSync(draft, path);',
    'rmSync(path, { force: true }); linkSync(draft, path);',
    'a log is its owner',
  ),
  row(
    'no log through a link',
    LOG,
    'constants.O_RDWR | constants.O_NOFOLLOW',
    'constants.O_RDWR',
    'a log is its owner',
  ),
  row(
    'the sum of a record that is read',
    at('log', 'node'),
    'head?.length === length ? this.#format.record(bytes, head) : undefined',
    'head && bytes.subarray(ENTRY_HEAD_BYTES)',
    'whose bytes changed',
  ),
  row(
    'one node in a folder',
    at('folder', 'node'),
    'if (release !== undefined) return release;',
    'return release ?? (() => {});',
    'is one node',
  ),
  row(
    'a copy of what was offered',
    at('pending', 'node'),
    'bytes: bytes.slice()',
    'bytes',
    'belongs to the node',
  ),
  row(
    'the memory of refused bytes',
    NODE,
    "if (error.code !== 'RECORD_LIMBO_FULL') this.#refusals.remember(bytes, refusal);",
    '',
    'is judged once',
  ),
  row(
    'suspicion of who came second',
    INDEX,
    '(this.#isCollider(record, owner) && synchronised ? COLLIDER : 0)',
    '0',
    'the one seen first is shown first',
  ),
  row(
    'that two names of a record may begin alike',
    at('index'),
    'INSERT OR IGNORE INTO names',
    'INSERT INTO names',
    'whose keys begin alike',
  ),
  row(
    'revocation in what is shown',
    QUERY,
    'isRevoked: known',
    'isRevoked: false',
    'what a revoked certificate let in',
  ),
  row(
    'links to what is trusted alone',
    at('links', 'query'),
    '&& isTrusted(index, row)',
    '',
    'stands on trusted tips',
  ),
  row(
    'that values which nobody has replaced are kept',
    at('discard', 'prune'),
    'newest !== undefined && !isReplaced(row, record, newest)',
    'newest === null',
    'those alone that their owner has replaced, unless more is asked for',
  ),
  row(
    'that what was thrown away is not taken again',
    at('index', 'prune'),
    'lacksValue: (state & (PRUNED | DISCARDED)) === PRUNED,',
    'lacksValue: (state & PRUNED) === PRUNED,',
    'is asked of no peer, and not taken from one',
  ),
  row(
    'that nothing is written while the log is written anew',
    at('node', 'prune'),
    'Promise<Verdict> {\n    while (this.#pruning !== undefined) await this.#pruning;',
    'Promise<Verdict> {',
    'records that come meanwhile are taken after it',
  ),
  row(
    'that the log is exchanged whole',
    at('compact', 'prune'),
    '    if (isExchanged) renameSync(former, path);',
    '',
    'where the index can’t be changed, log and index are as they were',
  ),
  row(
    'that a pulse is its owner’s',
    ['lib/protocol/records/pulse.ts', 'lib/protocol/records/pulse.test.ts'],
    'if (isSigned(pulseMessage(id, minute), signature, owner)) return;',
    'if (isSigned(pulseMessage(id, minute), signature, owner) || owner.length > 0) return;',
    'is good by the owner of its record alone, for its record and its minute',
  ),
  row(
    'that of pulses the latest counts',
    at('pulses'),
    'minute <= (this.of(id)?.minute ?? -1)',
    'minute < 0',
    'of each record the latest counts',
  ),
  row(
    'no pulses of the future',
    at('pulses'),
    'minute > minuteOf(now() + drift)',
    'minute > 2 ** 40',
    'of each record the latest counts',
  ),
  row(
    'the end of who gives pulses that are none',
    at('wire/pulse-exchange', 'wire/pulses'),
    "if (codeOf(cause) === 'RECORDS_STOPPED') return;",
    "if (codeOf(cause) !== '') return;",
    'a peer that gives a pulse which is none is not spoken to',
  ),
  row(
    'pulses judged where they are read',
    ['cli/records/read.ts', 'cli/records/lying.test.ts'],
    "if (hasCode(error, 'RECORD_PULSE')) throw lying",
    "if (hasCode(error, 'RECORD_PULSE') && url === '') throw lying",
    'a node that lies, by another’s pulse, is named',
  ),
  row('the bound of an answer', QUERY, '|| limit > MOST_RECORDS', '', 'up to a limit'),
];
