/** The framework for authors of apps: what a contract's requests, its hosts and an author's own code can do to the line. */
import { type Mutation, one } from '../mutation.ts';

const CONTRACT = 'contracts/EnclaveApp.sol';
const ROUTER = 'lib/framework/app/router.ts';
const STORE = 'lib/framework/app/typed-store.ts';
const SETTINGS = 'lib/framework/app/settings.ts';
const LINE = 'lib/framework/host/app-line.ts';
const contract = 'test/framework/contract.test.ts';
const router = 'lib/framework/app/router.test.ts';
const store = 'lib/framework/app/typed-store.test.ts';
const settings = 'lib/framework/app/settings.test.ts';
const line = 'lib/framework/host/app-line.test.ts';

export const frameworkRules: readonly Mutation[] = [
  one(
    'apps',
    'that nothing is settled in the middle of another settlement',
    [CONTRACT, 'if (_settling) revert Settling();', ''],
    [contract, '^what an app calls'],
  ),
  one(
    'apps',
    'the gas that whoever settles has to leave the app',
    [CONTRACT, 'if (gasleft() < needed) revert GasTooLow(needed);', ''],
    [contract, '^whoever settles can not'],
  ),
  one(
    'apps',
    'the bound on requests that wait for their turn',
    [ROUTER, 'if (this.#waiting >= WAITING_MAX)', 'if (this.#waiting < 0)'],
    [router, '^no more wait'],
  ),
  one(
    'apps',
    'that a key of a store is a text',
    [STORE, '!key.isWellFormed() || ', ''],
    [store, '^a key is a text of its own'],
  ),
  one(
    'apps',
    'that an endpoint counts once for the quorum',
    [
      SETTINGS,
      'if (new Set(urls.map((url) => new URL(url).href)).size < urls.length)',
      'if (urls.length === 0)',
    ],
    [settings, '^the enclave does not start with RPC_URLS'],
  ),
  one(
    'apps',
    'the search for a request that an endpoint kept back, or the store lost',
    [LINE, 'const found = await this.#search.find(hash);', 'const found = undefined;'],
    [line, '^an endpoint that once says'],
  ),
  row(
    'that a request which is ahead waits',
    ENCLAVE,
    'if (sequence > progress.settled + 1)',
    'if (sequence > progress.settled + 99)',
    '^the enclave answers the request that is next on chain',
  ),
  row(
    'that only a refusal is attested as one',
    ROUTER,
    'if (error instanceof Refusal) return refused(error.code);',
    'if (error instanceof Error) return refused((error as Refusal).code);',
    '^a refusal is attested by its code',
  ),
  row(
    'that missing evidence is no refusal',
    ROUTER,
    'answering.evidence === undefined',
    'kind.length > 0',
    '^evidence that is missing',
  ),
  row(
    'that messages of errors stay in the enclave',
    ROUTER,
    'error instanceof DstackError ? error.message.slice(0, MESSAGE_MAX) : "see the enclave\'s log"',
    '(error as Error).message',
    '^a refusal is attested by its code',
  ),
  row(
    "a route's own bound",
    ROUTER,
    'maxBodyBytes: (key) => this.#routes.get(key)?.maxBytes ?? 0,',
    'maxBodyBytes: ANSWER_MAX_BYTES,',
    '^a route has its schemas',
  ),
  row(
    'that a proven header is that of its block',
    PROOFS,
    'if (!sameHex(hash, to0x(keccak256(fromHex(proof.header)))))',
    'if (proof.header.length === 0)',
    PROVEN,
  ),
  row(
    'that each node of a proof is the one that is referred to',
    PROOFS,
    'if (!bytesEqual(keccak256(bytes), hash))',
    'if (bytes.length === 0)',
    PROVEN,
  ),
  row(
    'that events of one key wait for each other',
    LOOP,
    'if (taken.has(line)) return false;',
    '',
    '^events of one key are worked on in their order',
  ),
  row(
    'that an event too large to be stored holds up no other',
    ['lib/framework/event-reader.ts', 'lib/framework/event-loop.test.ts'],
    'if (log.data.length > LOG_DATA_MAX) {',
    "if (log.data === '') {",
    '^an event with more data than can be stored',
  ),
  row(
    'that a host leaves no bid of the auction out',
    ['templates/auction/enclave/auction.ts', 'test/framework/auction.test.ts'],
    'if (bids.length !== count || !sameHex(hashOfBids(bids), bidsHash))',
    'if (bids.length > count)',
    '^a host that leaves a bid out',
  ),
  row(
    'that a bid is sealed for one bidder',
    ['templates/auction/bids.ts', 'test/framework/auction.test.ts'],
    "lengthPrefixed([utf8('bid'), fromHex(contract, 20), fromHex(bidder, 20)])",
    "lengthPrefixed([utf8('bid'), fromHex(contract, 20), fromHex(bidder.slice(0, 2), 0)])",
    '^the second highest is the price',
  ),
];
