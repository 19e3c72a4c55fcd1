/** What keeps the requests of an author's contract in their order, each settled once, whatever a host does. */
import { type Mutation, rowsOf } from '../mutation.ts';

const row = rowsOf('framework');
const CONTRACT = ['contracts/EnclaveApp.sol', 'test/framework/lies.test.ts'] as const;
const ENCLAVE = ['lib/framework/app/router.ts', 'test/framework/lies.test.ts'] as const;
const ROUTER = ['lib/framework/app/router.ts', 'lib/framework/app/router.test.ts'] as const;
const PROOFS = ['lib/framework/app/existence.ts', 'test/framework/lies.test.ts'] as const;
const LOOP = ['lib/framework/event-loop.ts', 'lib/framework/event-loop.test.ts'] as const;
const ANSWERS = '^the contract takes an answer as the enclave gave it';
const PROVEN = '^what a host proves of storage';

export const frameworkRules: readonly Mutation[] = [
  row(
    'that the contract settles the next request only',
    CONTRACT,
    'if (sequence != _settled + 1) revert',
    'if (sequence == 0) revert',
    '^asked twice at once',
  ),
  row(
    'that an answer is for exactly that request',
    CONTRACT,
    'if (hash != _requests[sequence]) revert',
    'if (hash == 0) revert',
    ANSWERS,
  ),
  row(
    'that the block of an answer is of this chain',
    CONTRACT,
    'if (answer.blockHash == 0 || blockhash(answer.blockNumber) != answer.blockHash) {',
    'if (answer.blockHash == 0) {',
    ANSWERS,
  ),
  row(
    "the network's word for an answer",
    CONTRACT,
    'if (!network.verifyAttestation(app, TAG, abi.encode(keccak256(attested)), v, r, s)) revert NotAttested();',
    '',
    ANSWERS,
  ),
  row(
    "the bound of a request's data",
    CONTRACT,
    'if (data.length > DATA_MAX) revert DataTooLong(data.length);',
    '',
    '^a request with more data',
  ),
  row(
    "the enclave's look at which request is next on chain",
    ENCLAVE,
    'if (!sameHex(hash, progress.next))',
    "if (hash === '')",
    '^the enclave answers the request that is next on chain',
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
    "lengthPrefixed([utf8('bid'), utf8(String(chainId)), fromHex(contract, 20), fromHex(bidder, 20)])",
    "lengthPrefixed([utf8('bid'), utf8(String(chainId)), fromHex(contract, 20)])",
    '^the second highest is the price',
  ),
  row(
    'that a bid is sealed for one chain',
    ['templates/auction/bids.ts', 'test/framework/auction.test.ts'],
    'utf8(String(chainId)), ',
    '',
    '^the second highest is the price',
  ),
  row(
    'that a bid below the reserve does not count',
    ['templates/auction/enclave/auction.ts', 'test/framework/auction.test.ts'],
    'wei >= reserve) offers',
    'wei > 0n) offers',
    '^a bid below the reserve',
  ),
  row(
    'that bids that were lost or made up are read anew',
    ['templates/auction/host/bid-book.ts', 'test/framework/auction.test.ts'],
    'return sameHex(hashOfBids(kept), hash) ? kept : this.#shown(chain);',
    'return kept;',
    '^bids that an endpoint made up',
  ),
  row(
    'that nobody abandons an auction before its time is over',
    ['templates/auction/contracts/App.sol', 'test/framework/auction.test.ts'],
    'if (block.timestamp < endsAt || settled) revert TooEarly();',
    'if (settled) revert TooEarly();',
    '^deposits come back',
  ),
  row(
    'that no deposit is below the reserve',
    ['templates/auction/contracts/App.sol', 'test/framework/auction.test.ts'],
    'msg.value >= RESERVE && deposits',
    'msg.value > 0 && deposits',
    '^deposits come back',
  ),
  row(
    'that a refused deposit says nothing of what its sender has',
    ['templates/transfers/enclave/transfers.ts', 'test/framework/transfers.test.ts'],
    'if (ledger.isTooLittle(wei))',
    'if (ledger.isTooLittle(ledger.of(sender) + wei))',
    '^nobody takes up room with dust',
  ),
  row(
    'that dust takes up no room of the transfers',
    ['templates/transfers/enclave/ledger.ts', 'test/framework/transfers.test.ts'],
    'if (this.isTooLittle(has - wei)) return false;',
    '',
    '^nobody takes up room with dust',
  ),
  row(
    'that what is sealed for the transfers is of one chain',
    ['templates/transfers/messages.ts', 'test/framework/transfers.test.ts'],
    'lengthPrefixed([utf8(String(chainId)), fromHex(contract, 20)])',
    'lengthPrefixed([utf8(String(chainId > 0)), fromHex(contract, 20)])',
    '^what is sealed on one chain',
  ),
  row(
    'that a signature that asks for a balance ends',
    ['templates/transfers/enclave/transfers.ts', 'test/framework/transfers.test.ts'],
    'if (until < block.timestamp || until > block.timestamp + QUERY_MAX_S)',
    'if (until < 0)',
    '^what an account has signed ends',
  ),
  row(
    'that a host shows no older balances of the transfers',
    ['templates/transfers/enclave/transfers.ts', 'test/framework/transfers.test.ts'],
    'if (!sameHex(hashOf(state), hash))',
    "if (hash === '0x')",
    '^a host that shows balances',
  ),
  row(
    'that a transfer is all or nothing',
    ['templates/transfers/enclave/ledger.ts', 'test/framework/transfers.test.ts'],
    'if (wei > has) return false;',
    '',
    '^balances move whole',
  ),
  row(
    'the bound on accounts of the transfers',
    ['templates/transfers/enclave/ledger.ts', 'test/framework/transfers.test.ts'],
    'if (before === undefined && wei > 0n && this.#balances.size === ACCOUNTS_MAX) return false;',
    '',
    '^balances move whole',
  ),
  row(
    'that a signature has one form',
    ['lib/framework/app/personal-signature.ts', 'test/framework/transfers.test.ts'],
    'if (vs[0]! & 0x80) throw',
    'if (vs.length === 0) throw',
    '^who signed a text',
  ),
];
