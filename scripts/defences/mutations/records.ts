/** The record store's format: one encoding, one form of a signature, names, masks, membership, work, and who is shown first. */
import { type Mutation, rowsOf } from '../mutation.ts';

const FOLDER = 'lib/protocol/records';
const at = (file: string, test: string) => [`${FOLDER}/${file}.ts`, `${FOLDER}/${test}.test.ts`] as const;
const row = rowsOf('records');

const FORMAT = at('format', 'codec');
const ED25519 = at('strict-ed25519', 'signatures');
const SIGNATURES = at('signatures', 'signatures');
const MASK = at('mask', 'names');
const MEMBERSHIP = at('membership', 'membership');
const INTAKE = at('intake', 'intake');
const WORK = at('work', 'work');
const SEED = at('identity', 'work');

export const recordRules: readonly Mutation[] = [
  row('each link once', FORMAT, '(items[i - 1]!, item) >= 0', '(items[i - 1]!, item) > 0', 'a link twice is'),
  row(
    'one form of a signature',
    ED25519,
    '|| !isBelow(signature.subarray(32), GROUP_ORDER)',
    '',
    'a second S that fits',
  ),
  row(
    'no keys under which anyone signs',
    ED25519,
    'SMALL_ORDER_Y.has(toHex(y))',
    'y.length === 0',
    'keys of small order',
  ),
  row('one form of a key', ED25519, '!isBelow(y, FIELD)', 'y.length === 0', 'keys of small order'),
  row(
    'the proof that a name is known',
    SIGNATURES,
    '!isSignedStrictly(claimed, claims[i]!, claimKey)',
    'i === claims.length',
    'cannot write under it',
  ),
  row(
    'the commitment to one key',
    MASK,
    '!timingSafeEqual(commitment, written)',
    'commitment.length !== written.length',
    'says by its commitment',
  ),
  {
    point: 'records',
    removes: 'the tie of a masked value to its record',
    edits: [
      { file: MASK[0], find: 'nonce, encodeHead(head)).encrypt(value)', replace: 'nonce).encrypt(value)' },
      { file: MASK[0], find: 'nonce, encodeHead(head));', replace: 'nonce);' },
    ],
    test: { file: MASK[1], name: 'opens in its own record only' },
  },
  row(
    'claims under the work',
    SEED,
    'lengthPrefixed(claims), uint64(difficulty)',
    'uint64(difficulty)',
    'is for this record',
  ),
  row(
    'the difficulty under the work',
    SEED,
    'lengthPrefixed(claims), uint64(difficulty)',
    'lengthPrefixed(claims)',
    'is for this record',
  ),
  row(
    'the target of the work',
    WORK,
    '!isBelowTarget(seed, nonce, solution, difficulty) || ',
    '',
    'is harder by its difficulty',
  ),
  row('the price of bytes', MEMBERSHIP, 'permit.difficulty < price', 'price < 0', 'has a permit'),
  row(
    'authorities alone certify and revoke',
    MEMBERSHIP,
    'if (!isAuthority(owner, genesis)) {',
    'if (owner.length === 0) {',
    'says what its type says',
  ),
  row(
    'the certificate is the owner’s',
    MEMBERSHIP,
    'toHex(certificate.subject) !== toHex(owner)',
    'owner.length === 0',
    'a certificate of another owner',
  ),
  row(
    'the bound of backdating over all ancestors',
    MEMBERSHIP,
    'Math.max(timestamp, ...dependenciesOf(record).map((id) => factsOf(id)!.newest))',
    'timestamp',
    'a chain goes back by one drift',
  ),
  row(
    'the end of a certificate',
    MEMBERSHIP,
    'timestamp < notBefore || timestamp > notAfter',
    'timestamp < notBefore',
    'a certificate is judged',
  ),
  row(
    'a room for each peer in limbo',
    INTAKE,
    'used.records + 1 > this.#room.records',
    'used.records < 0',
    'a peer fills its own room',
  ),
  row(
    'the value of who first came without',
    INTAKE,
    "isLacking && record.value.kind === 'whole'",
    "isLacking && record.value.kind === 'pruned'",
    'a copy without its value',
  ),
  row(
    'trust before weight',
    at('conflicts', 'conflicts'),
    'b.trust - a.trust || b.weight - a.weight',
    'b.weight - a.weight || b.trust - a.trust',
    'the trusted one',
  ),
  row(
    'that one owner’s records are ranked however many they are',
    at('conflicts', 'conflicts'),
    'own.reduce((most, { weight }) => Math.max(most, weight), 0)',
    'Math.max(...own.map(({ weight }) => weight))',
    'found among however many',
  ),
  row(
    'that who changes a value keeps its place before a later owner',
    at('conflicts', 'conflicts'),
    'a.since - b.since',
    'a.timestamp - b.timestamp',
    'of equal weight who came first, also once it has written anew',
  ),
  row(
    'that a record is a member with all that waited for it, however much that is',
    INTAKE,
    'for (const heir of this.#readyAfter(id)) queue.push(heir);',
    'queue.push(...this.#readyAfter(id));',
    'however many waited for one',
  ),
];
