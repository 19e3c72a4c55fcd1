/** Point 13, of files that relays ask each other for by records: each part is judged by a digest, and the chain says what is asked for. */
import { rowsOf } from '../mutation.ts';

const row = rowsOf(13);

const PARTS = ['lib/protocol/sha256-parts.ts', 'lib/protocol/sha256-parts.test.ts'] as const;
const ASKING = ['host/records/wire/asking.ts', 'host/records/wire/asking.test.ts'] as const;
const FILES_TEST = 'host/relay/files-by-records.test.ts';
const ITEM = ['host/relay/archived-item.ts', 'host/relay/archive-courier.test.ts'] as const;
const COURIER = ['host/relay/archive-courier.ts', 'host/relay/archive-courier.test.ts'] as const;

export const relayFiles = [
  row(
    'that a part ends in what is known of the one behind it',
    PARTS,
    '  requireSame(stateAfter(part.state, part.bytes), next);\n',
    '',
    '^whatever of a part is another',
  ),
  row(
    'that a file begins with the state that SHA-256 begins with',
    PARTS,
    'if (index === 0) requireSame(state, FIRST_STATE);',
    'if (index < 0) requireSame(state, FIRST_STATE);',
    '^whatever of a part is another',
  ),
  row(
    'judging each part as it comes',
    ['host/relay/asked-parts.ts', FILES_TEST],
    '    judged(asked, () => requirePartBefore(part, index, state));\n',
    '',
    '^a liar that gives another part, by a byte',
  ),
  row(
    'the most of a piece, before it is asked for',
    ['host/relay/files-by-records.ts', FILES_TEST],
    'if (length <= most) return;',
    'if (length <= Infinity) return;',
    '^an image that is larger than any',
  ),
  row(
    'how many questions of a peer wait',
    ASKING,
    'if (this.#waiting.length + this.#answering >= MAX_ASKS) {',
    'if (this.#waiting.length >= 2 ** 20) {',
    '^who asks more than may wait',
  ),
  row(
    'that answers were asked for',
    ASKING,
    "throw new DstackError('SYNC_UNASKED', 'the peer answers what it was not asked');",
    'return false;',
    '^who answers what it was not asked',
  ),
  row(
    'how many versions of one thing a relay names',
    COURIER,
    'nth > this.#bounds.versionsKept ||',
    'nth < 0 ||',
    '^who names versions of one thing without end',
  ),
  row(
    'how long one relay keeps the archive from asking others',
    COURIER,
    'if (performance.now() > this.#until)',
    'if (performance.now() > Infinity)',
    '^a relay that gives a name now and then',
  ),
  row(
    'that a part of an archived file is as large as it may be',
    COURIER,
    ' || !isWhole)',
    ' || at > length)',
    '^a file that comes in parts of a byte',
  ),
  row(
    'how many answers to one request are taken of one relay',
    COURIER,
    'if (beside >= most - 1) return false;',
    'if (beside >= Infinity) return false;',
    '^forged answers of a former epoch',
  ),
  row(
    'that a piece is read once for all who ask for it at once',
    ['host/relay/pieces.ts', FILES_TEST],
    '      // By now another may have asked for it, and have its pieces read.\n      known = this.#known.get(name);\n      if (known?.tag !== tag) known = { tag, pieces };\n',
    '      known = { tag, pieces };\n',
    '^however many ask at once for a piece',
  ),
  row(
    'that names lead nowhere but into the archive',
    ['host/relay/archive.ts', 'host/relay/archive.test.ts'],
    'if (!ARCHIVED_NAME.test(name) || !existsSync(path)) return undefined;',
    'if (!existsSync(path)) return undefined;',
    '^a part of a file is given by its name',
  ),
  row(
    'that what comes is what its name says',
    ITEM,
    'if (nameOf(message) !== item.name) throw another(item);',
    '',
    '^another request in the place of one',
  ),
  row(
    'that only what the chain shows as answered is archived',
    ITEM,
    "return (await chain.request(item.subject)).state === 'answered';",
    'return true;',
    '^what the chain does not name is not taken',
  ),
  row(
    "that another relay's requests are as good as gossip's",
    ITEM,
    'if (withCheckedEvidence(message) !== message)',
    'if (message.node === undefined)',
    '^a version that is what its name says',
  ),
  row(
    'how many names a relay may have that nobody needs',
    COURIER,
    'if (strangers > this.#bounds.strangers) {',
    'if (strangers > 10 * this.#bounds.strangers) {',
    '^what the chain does not name is not taken',
  ),
  row(
    'how many versions of one thing a relay may give',
    COURIER,
    'if (taken >= most || kept.length + taken >= versionsKept) return false;',
    '',
    '^of one thing a relay gives two versions',
  ),
  row(
    'that a part is whole',
    PARTS,
    'if (part.bytes.length !== PART_BYTES) throw mismatch();',
    '',
    '^whatever of a part is another',
  ),
  row(
    'judging the last part by the digest',
    ['host/relay/asked-parts.ts', FILES_TEST],
    'judged(asked, () => requireLastPart(found, found.length, fromHex(asked.piece, 32)));',
    '',
    '^a liar about the last part',
  ),
  row(
    'the check of the whole that came by records',
    ['host/relay/app-courier.ts', FILES_TEST],
    '      await check(made, hash);\n',
    '',
    '^what a disk lost of a draft',
  ),
  row(
    'that nobody asks where nobody answers',
    ASKING,
    "if (this.#host.desk === undefined) throw new DstackError('SYNC_ASKS', 'this node answers no questions');",
    'if (this.#host.desk === undefined) return;',
    '^who asks more than may wait',
  ),
  row(
    "the network's signature of answers that another relay archived",
    ITEM,
    'if (onChain.epoch === view.epoch) checkAnswerSignature(domain, message, view.networkKey);',
    '',
    '^a version that is what its name says',
  ),
  row(
    'how many network.jsons of a relay the chain is asked of',
    COURIER,
    '++configs > this.#bounds.configs',
    '++configs > Infinity',
    '^of the network.jsons that a relay names',
  ),
  row(
    'that the parts of an archived file are of one file',
    COURIER,
    'part.length !== length || length > most',
    'length > most',
    '^a file of many parts comes whole',
  ),
];
