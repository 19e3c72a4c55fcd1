/** What the store's ledger proves, to whom, and what stops it. */
import { type Mutation, one } from '../mutation.ts';

const TREE = ['lib/ledger/merkle.ts', 'lib/ledger/merkle.test.ts'] as const;
const NOTE = ['lib/ledger/note.ts', 'lib/ledger/note.test.ts'] as const;
const LEAF = ['lib/ledger/leaf.ts', 'lib/ledger/leaf.test.ts'] as const;
const RECEIPT = ['lib/ledger/receipt.ts', 'lib/ledger/receipt.test.ts'] as const;
const AUDIT = ['lib/ledger/audit.ts', 'lib/ledger/audit.test.ts'] as const;
const KEY = ['lib/protocol/ledger-evidence.ts', 'lib/protocol/ledger-evidence.test.ts'] as const;
const LEDGER = ['guest/kv/ledger/ledger.ts', 'guest/kv/ledger/ledger.test.ts'] as const;
const FILES = 'guest/kv/ledger/log-files.ts';
const RECEIPTS = 'guest/kv/ledger/receipts.ts';

/** A row of the store: what the text becomes in its file, and the test that sees it. */
const row = (
  removes: string,
  [file, test]: readonly [string, string],
  find: string,
  replace: string,
  name: string,
): Mutation => one('store', removes, [file, find, replace], [test, name]);

export const storeLedger: readonly Mutation[] = [
  row('the earlier root of a consistency proof', TREE, 'bytesEqual(fr, firstRoot) && ', '', 'wrong root1'),
  row('the later root of a consistency proof', TREE, ' && bytesEqual(sr, secondRoot)', '', 'wrong root2'),
  row(
    'the signature of a head',
    NOTE,
    "if (!verifySignature('ed25519', utf8(parsed.text), signature, key.publicKey)) {",
    'if (signature.length === 0) {',
    'several signatures',
  ),
  row('that a note is signed at all', NOTE, 'if (signed === 0) {', 'if (signed < 0) {', 'several signatures'),
  row(
    "a verifier key's hash",
    NOTE,
    "if (Buffer.from(keyIdOf(key)).toString('hex') !== id) {",
    "if (id === 'none') {",
    'verifier keys of another hash',
  ),
  row(
    'the log that a head is of',
    ['lib/ledger/checkpoint.ts', NOTE[1]],
    'if (checkpoint.origin !== origin) {',
    "if (origin === '') {",
    'a head names its network',
  ),
  row(
    'that an opened event is the one committed to',
    LEAF,
    ' || !bytesEqual(root, row)',
    '',
    'each event of any revision',
  ),
  row(
    'the salt of a commitment',
    LEAF,
    'readable.has(index) ? NO_SALT : salts.salt(revision, index), record)',
    'NO_SALT, record)',
    'nothing else tells equal keys',
  ),
  row(
    'that only public prefixes are readable',
    LEAF,
    'if (!isPublic(policy, key)) return;',
    '',
    'is what is under a public prefix',
  ),
  row(
    'that a readable event is the one committed to',
    LEAF,
    ' || !bytesEqual(rows[index]!, commitment(NO_SALT, bytes))',
    '',
    'is what the entry commits to',
  ),
  row(
    'that a readable lease is the one committed to',
    LEAF,
    'if (lease !== undefined && lease !== event.lease) {',
    'if (lease === -1n) {',
    'leases, when the policy says so',
  ),
  row(
    'the proof of a receipt',
    RECEIPT,
    'if (!verifyInclusion(receipt.index, head.size, hash, receipt.proof, head.root)) {',
    'if (head.size < 0) {',
    'another proof',
  ),
  row(
    "that a receipt's leaf is of its place",
    RECEIPT,
    'if (indexOf(leaf.revision) !== receipt.index) {',
    'if (receipt.index < 0) {',
    'another place',
  ),
  row(
    "that a receipt's events are its namespace's",
    RECEIPT,
    'if (!isWhole || !bytesEqual(event.key.subarray(0, namespace.length), namespace)) {',
    'if (!isWhole) {',
    'an event of another namespace',
  ),
  row(
    'that no part of a key is taken for its namespace',
    RECEIPT,
    'if (!isWhole || !bytesEqual(event.key.subarray(0, namespace.length), namespace)) {',
    'if (!bytesEqual(event.key.subarray(0, namespace.length), namespace)) {',
    'a namespace that is a part of one',
  ),
  row(
    'the revision of the word that a value was current',
    RECEIPT,
    'statement.modRevision !== revision || !isOfThis',
    '!isOfThis',
    'of another revision',
  ),
  row(
    'the key of the word that a value was current',
    RECEIPT,
    'statement.modRevision !== revision || !isOfThis',
    'statement.modRevision !== revision',
    'of another key',
  ),
  row(
    'that a head is no word about a value',
    ['lib/ledger/current.ts', RECEIPT[1]],
    '/current`;',
    '`;',
    'a head instead',
  ),
  row(
    'that a full tile is what the level above says',
    AUDIT,
    'if (!bytesEqual(edge.root(), hashAt(above.bytes, index % TILE_WIDTH))) {',
    'if (edge.size === 0) {',
    'a hash of a full tile',
  ),
  row(
    'that the tiles are those of the signed root',
    AUDIT,
    'if (!bytesEqual(foldRoots(edge.map(hashes)), root)) {',
    'if (size < 0) {',
    'a hash of the last tile',
  ),
  row(
    'that an entry is the one of its leaf',
    AUDIT,
    'if (!bytesEqual(leafHash(entry), hashAt(tile, at))) {',
    'if (at < 0) {',
    'a byte of an entry',
  ),
  row(
    'that the audited revisions are without a gap',
    AUDIT,
    'if (indexOf(leaf.revision) !== place) {',
    'if (place < 0) {',
    'a revision that is not the next',
  ),
  row(
    'that a head continues the earlier one',
    AUDIT,
    'if (!verifyConsistency(earlier.size, head.size, earlier.root, head.root, proof)) {',
    'if (proof.length < 0) {',
    'of a fork is not',
  ),
  row(
    'that a log is not rolled back',
    AUDIT,
    'if (head.size < earlier.size) {',
    'if (head.size < 0) {',
    'may not be the larger one',
  ),
  row(
    "the network key's signature for the ledger's key",
    KEY,
    'if (!sameAddress(signer, networkKey) || !sameAddress(evidence.networkKey, networkKey)) {',
    'if (!sameAddress(evidence.networkKey, networkKey)) {',
    'signed by another',
  ),
  row(
    "the quote in what the network key signs for the ledger's key",
    KEY,
    'quoted === undefined ? NO_QUOTE : sha256(fromHex(quoted.quote))',
    'NO_QUOTE',
    'another quote',
  ),
  row(
    'that no revision is left out of the ledger',
    LEDGER,
    'if (index !== expected) {',
    'if (index < 0) {',
    'one left out',
  ),
  row(
    'that leaves are on the disk before the head that is over them',
    [FILES, LEDGER[1]],
    '        await this.#disk.sync(file);\n',
    '',
    'whenever the power goes',
  ),
  row(
    'that a head is on the disk before it is acknowledged',
    [FILES, LEDGER[1]],
    "    await this.#disk.sync('heads');\n",
    '',
    'where the disk is asked for',
  ),
  row(
    'the sum of what is stored with a head',
    [FILES, LEDGER[1]],
    ' || !bytesEqual(sha256(body), bytes.subarray(0, SUM_BYTES))',
    '',
    'whenever the power goes',
  ),
  row(
    'that a start compares the tiles with the head',
    LEDGER,
    'await files.requireRoot(rootIn(head, size, options.signer));',
    'rootIn(head, size, options.signer);',
    'a leaf of a full tile',
  ),
  row(
    'that etcd is not behind the head',
    LEDGER,
    'if (engineRevision < covered) {',
    'if (engineRevision < 0n) {',
    'refuses an etcd that is behind',
  ),
  row(
    "that etcd's last revisions are those of the ledger",
    LEDGER,
    'if (!bytesEqual(known, hash))',
    'if (known.length === 0)',
    'has another past',
  ),
  row(
    'that nothing was compacted before it was in the ledger',
    LEDGER,
    'if (compacted > covered) {',
    'if (compacted < 0n) {',
    'refuses revisions that were compacted',
  ),
  row(
    'how much may be covered in memory alone',
    LEDGER,
    'Math.min(this.#edge.size, size + MAX_BEHIND)',
    'this.#edge.size',
    'waits for the disk when too much',
  ),
  row(
    "that a receipt is of the asker's namespace",
    [RECEIPTS, LEDGER[1]],
    'if (own.length === 0) throw none(revision);',
    '',
    'and to nobody else',
  ),
  row(
    'that a receipt is of keys that the user may read',
    [RECEIPTS, 'test/kv/receipts.test.ts'],
    '  mayRead(own.map((at) => keys[at]!));\n',
    '',
    'the user may not read',
  ),
];
