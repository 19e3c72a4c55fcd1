/** Point 13, of gossip that travels as records: what a peer sends costs itself, and is a message in one form or none. */
import { rowsOf } from '../mutation.ts';

const row = rowsOf(13);

const STORE = ['host/gossip/message-store.ts', 'host/gossip/records-hostile.test.ts'] as const;
const RECORDS = ['host/gossip/message-records.ts', 'host/gossip/records-hostile.test.ts'] as const;
const CARRIER = ['host/gossip/records-carrier.ts', 'host/gossip/records-hostile.test.ts'] as const;
const HONEST = 'host/gossip/records-carrier.test.ts';

export const gossipRecords = [
  row(
    'that forged messages use up the credit of where they come from',
    STORE,
    '      charges.check(source);\n',
    '',
    '^who sends what no honest relay passes on',
  ),
  row(
    'that keys of records count as their address',
    CARRIER,
    "sourceOf(address.replace(/:\\d+$/, ''))",
    'key',
    '^good messages of one address',
  ),
  row(
    'that what is of no use is asked for slowly',
    STORE,
    'rest > 0 && (await pause(rest))',
    'rest > Infinity && (await pause(rest))',
    '^what is of no use is asked for slowly',
  ),
  row(
    'that what was of no use is not asked for again',
    ['host/gossip/message-store.ts', HONEST],
    'const USELESS_MS = 600_000;',
    'const USELESS_MS = 0;',
    '^what is not held any more is no record any more',
  ),
  row(
    'that the record of a message has one form',
    RECORDS,
    'if (toHex(this.#idOf(value, links)) !== toHex(recordId(record))) throw otherForm();',
    '',
    '^a message that says the same in another way',
  ),
  row(
    'that a record holds the canonical form of its message',
    STORE,
    'if (idOf(value) !== messageId)',
    "if (messageId === '')",
    '^a message that says the same in another way',
  ),
  row(
    'that a part is kept while a message has it',
    STORE,
    'if (messages.size === 0) this.#parts.delete(part);',
    'this.#parts.delete(part);',
    '^a message keeps its parts',
  ),
  row(
    'the bound on messages of one peer whose parts do not come',
    STORE,
    'if (own.size > MAX_IN_PARTS)',
    'if (own.size > Infinity)',
    '^a message in parts of which some do not come',
  ),
  row(
    'asking for what is on chain and not held',
    ['host/gossip/records-carrier.ts', HONEST],
    'this.#wire.reconcile();',
    '',
    '^what is on chain and not here any more',
  ),
  row(
    'that a peer of the settings which dials is one',
    ['host/gossip/records-carrier.ts', HONEST],
    'if (peer.key !== undefined) this.#sources.set(peer.key, nameOf(peer));',
    '{}',
    '^a peer that is named by its key is one',
  ),
  row(
    'that nothing is logged of strangers',
    ['host/gossip/records-carrier.ts', HONEST],
    ' || !this.peers.includes(peer)',
    '',
    '^a peer whose key is not',
  ),
  row(
    'that what the log does not hold any more is no record',
    ['host/gossip/message-store.ts', HONEST],
    '      this.#members.delete(id);\n',
    '',
    '^what is not held any more is no record any more',
  ),
];
