/** Point 13, of gossip that travels as calldata: what strangers publish is bounded, and what this host pays for too. */
import { rowsOf } from '../mutation.ts';

const row = rowsOf(13);

const READER = ['host/gossip/calldata/reader.ts', 'host/gossip/calldata/reader.test.ts'] as const;
const PUBLICATIONS = ['host/gossip/calldata/publications.ts', READER[1]] as const;
const BYTES = ['host/gossip/calldata/message-bytes.ts', READER[1]] as const;
const SENDER = ['host/gossip/calldata/sender.ts', 'host/gossip/calldata/sender.test.ts'] as const;

export const gossipCalldata = [
  row(
    'that so many publications of one request are read in a block',
    READER,
    ' || one >= this.#limits.perSubject',
    '',
    '^junk costs a call each',
  ),
  row(
    'that a publication is read once, across restarts',
    READER,
    ' || this.#options.ledger.hasRead(subject, transaction)',
    '',
    '^junk costs a call each',
  ),
  row(
    'that each publisher is read before any a second time',
    READER,
    'had(one) < had(best)',
    'had(one) < 0',
    '^a publisher who floods',
  ),
  row(
    'that so many publications wait to be read',
    READER,
    'if (room <= 0) {',
    'if (room <= -Infinity) {',
    '^what is beyond the room',
  ),
  row(
    'that a publication is about what its event says',
    READER,
    'if (exchange.subjectOf(value) !== publication.subject)',
    "if (exchange.subjectOf(value) === '')",
    '^a message about something else',
  ),
  row(
    'that a publication is a call of the contract itself',
    PUBLICATIONS,
    'found.to === undefined || !sameAddress(found.to, publicationsAddress)',
    'found.to === undefined',
    '^a message about something else',
  ),
  row(
    'that a published message unpacks to no more than one may have',
    BYTES,
    ', { maxOutputLength: MAX_BYTES }',
    '',
    '^a message that unpacks to more',
  ),
  row(
    'that a publication is paid for once, across restarts',
    SENDER,
    "if (isSent && transactions.status(purpose)?.state !== 'failed') return;",
    '',
    '^the own request is paid for',
  ),
  row(
    'that a host publishes so many messages for others',
    SENDER,
    '{ burst: 16,',
    '{ burst: 1_600,',
    '^however many ask',
  ),
  row(
    'that what may be paid for others is used up by nothing but what is paid',
    SENDER,
    "if (isNew && !this.#forOthers.has('', 1)) continue;",
    "if (isNew && !this.#forOthers.take('')) continue;",
    '^while what can be sent is waited for',
  ),
  row(
    'that publishing an answer makes nobody pay',
    SENDER,
    ' && reader.published(subject).has(REQUEST)',
    '',
    '^who publishes an answer has nobody pay',
  ),
  row(
    'that few of many hosts pay for the same answer',
    SENDER,
    'Math.min(1, TURNS / nodes())',
    'Math.min(1, TURNS / Math.min(1, nodes()))',
    '^however many hosts there are',
  ),
  row(
    'that a copy of a request is no answer to it',
    SENDER,
    '.some((type) => type !== message.type)',
    '.some(() => true)',
    '^it is published with all its parts',
  ),
  row(
    'that of several requests the one of which least was read is read first',
    READER,
    'place: subject === first ? -1 : had(subject)',
    'place: subject === first ? -1 : Math.min(0, had(subject))',
    '^whoever has many requests',
  ),
  row(
    'that nothing is published to an address without code',
    SENDER,
    'if (!(await this.#deployed())) return;',
    'await this.#deployed();',
    '^nothing is sent to an address without code',
  ),
  row(
    'that what is old is forgotten behind any number of rows',
    ['host/gossip/calldata/ledger.ts', 'host/gossip/calldata/ledger.test.ts'],
    'if (ids.length < PAGE) return;',
    'if (ids.length < Infinity) return;',
    '^what is old is forgotten',
  ),
];
