/** The relay before an endpoint and an enclave that answer anything. */
import { type Mutation, one } from '../mutation.ts';

const LOOP = 'lib/framework/event-loop.ts';
const COURIER = 'host/relay/app-courier.ts';
const COURIER_TEST = 'host/relay/app-courier.test.ts';
const LOOP_TEST = 'lib/framework/event-loop.test.ts';

export const relayRules: readonly Mutation[] = [
  one(
    'relay',
    'that a look at a request which took too long hands nothing over beside the next one',
    ['host/relay/onboard-handler.ts', 'context.signal?.throwIfAborted();', ''],
    ['host/relay/onboard-handler.test.ts', '^a look that nobody waits for any more'],
  ),
  one(
    'relay',
    'asking for fewer blocks when an endpoint finds them too many',
    ['lib/chain/log-reader.ts', 'asked === 1 || !isTooMuch(error)', 'asked >= 1'],
    ['lib/chain/log-reader.test.ts', '^it asks for less also'],
  ),
  one(
    'relay',
    'asking for fewer blocks when they have more events than are taken at once',
    [
      'lib/framework/endpoint/rpc.ts',
      "throw new Retryable('RPC_TOO_LARGE', what);",
      "throw new Retryable('RPC_MALFORMED', what);",
    ],
    ['host/relay/endpoints.test.ts', '^more events than are taken at once'],
  ),
  one(
    'relay',
    'reading blocks that say that they have no event once all the same',
    [LOOP, '|| to - this.#readTo >= reread', ''],
    [LOOP_TEST, '^an endpoint whose blocks are wrong'],
  ),
  one(
    'relay',
    'reading again after a re-org blocks that have shown their events',
    [
      'lib/framework/event-reader.ts',
      "looking at its last blocks again');\n      this.#shown.clear();",
      "looking at its last blocks again');",
    ],
    [LOOP_TEST, '^after a re-org blocks are read again although'],
  ),
  one(
    'relay',
    'believing no filter of an endpoint that was wrong about one',
    [LOOP, 'this.#trustsQuiet = false;', ''],
    [LOOP_TEST, '^an endpoint whose blocks are wrong'],
  ),
  one(
    'relay',
    "that no times of an endpoint's blocks make the relay wait for long",
    [
      'lib/framework/endpoint/heads.ts',
      'Math.min(WAIT_MAX, ...this.#intervals)',
      'Math.min(...this.#intervals)',
    ],
    ['lib/framework/endpoint/heads.test.ts', '^an endpoint whose times'],
  ),
  one(
    'relay',
    'reading the last blocks again',
    [LOOP, 'Math.min(known, safe) + 1 - reread', 'Math.min(known, safe) + 1'],
    [LOOP_TEST, '^an endpoint whose logs come later'],
  ),
  one(
    'relay',
    'the bound on events that wait for what never comes',
    ['lib/framework/event-loop.ts', ' && this.#parked.count() <= this.#options.maxParked', ''],
    ['lib/framework/event-loop.test.ts', '^an endpoint that invents events without end'],
  ),
  one(
    'relay',
    'the bound on events that are remembered as handled',
    ['lib/framework/event-reader.ts', 'nth < surplus || ', ''],
    ['lib/framework/event-loop.test.ts', '^an endpoint that invents events without end'],
  ),
  one(
    'relay',
    'the bound on requests that an endpoint says are on chain',
    [
      'host/gossip/kept-subjects.ts',
      'if (this.#subjects.size <= most) return [];',
      'if (most > 0) return [];',
    ],
    ['host/gossip/message-log.test.ts', '^of more subjects than a chain can have'],
  ),
  one(
    'relay',
    'going past a block whose events the endpoint never gives',
    [
      'lib/framework/event-reader.ts',
      'if (now() - refused.since < REFUSED_MS || block >= this.#safe) throw error;',
      'throw error;',
    ],
    ['host/relay/endpoints.test.ts', '^a block whose events the endpoint never gives'],
  ),
  one(
    'relay',
    'that nothing is left out while the endpoint refuses the next block too',
    ['lib/framework/event-reader.ts', 'await source.logs(block + 1, block + 1, this.#topics);', ''],
    ['host/relay/endpoints.test.ts', '^while an endpoint refuses each block'],
  ),
  one(
    'relay',
    'that an event with much data holds up no page of blocks',
    ['lib/framework/endpoint/rpc.ts', 'Type.String({ minLength: LOG_DATA_MAX + 1 }),', ''],
    ['host/relay/endpoints.test.ts', '^an event with more data than is stored'],
  ),
  one(
    'relay',
    'that entries of no block are no events, and no reason to refuse the others',
    [
      'lib/framework/endpoint/rpc.ts',
      'return blockNumber !== null && removed !== true;',
      'return removed !== blockNumber || true;',
    ],
    ['host/relay/endpoints.test.ts', '^entries of no block yet'],
  ),
  one(
    'relay',
    'that a block which there never was sets no pace',
    ['host/relay/answer-turns.ts', ' || head < this.#seen.head', ''],
    ['host/relay/answer-turns.test.ts', '^an endpoint that claimed blocks'],
  ),
  one(
    'relay',
    'the check of what a handler wants done',
    [LOOP, 'return this.#checked(effects, handler.name);', 'return effects;'],
    [LOOP_TEST, '^an effect that is none'],
  ),
  one(
    'relay',
    "that one transaction's trouble is its own",
    [
      'lib/framework/transactions/transactions.ts',
      'if (!(error instanceof Retryable) || ENDS_THE_ROUND.includes(error.code)) throw error;',
      'if (error instanceof Error) throw error;',
    ],
    ['lib/framework/transactions/refusals.test.ts', '^an entry whose estimate'],
  ),
  one(
    'relay',
    'that an endpoint which has a transaction already has taken it',
    [
      'lib/chain/rpc-errors.ts',
      '/\\balready ?(known|imported)\\b|^(?:.*: ?)?known transaction\\b/i',
      '/^already known$/i',
    ],
    ['lib/chain/rpc-errors.test.ts', 'nown transaction'],
  ),
  one(
    'relay',
    'that nobody but the payer sends a transaction again',
    ['lib/chain/json-rpc.ts', 'isStale && !once', 'isStale'],
    ['lib/chain/json-rpc.test.ts', '^a transaction is not'],
  ),
  one(
    'relay',
    "the check of a peer's files before they are put there",
    [COURIER, '      await check(draft, hash);\n', ''],
    [COURIER_TEST, 'a peer that sends another layer'],
  ),
  one(
    'relay',
    'that a peer which sent something else is left alone',
    [
      COURIER,
      'if (error instanceof Lie) this.#left.set(peer, performance.now() + this.#bounds.leftFor);',
      '',
    ],
    [COURIER_TEST, 'a peer that sends another layer'],
  ),
  one(
    'relay',
    'the least that has to come of a file in a while',
    [COURIER, 'if (size - before < LEAST)', 'if (size < before)'],
    [COURIER_TEST, 'a peer that gives a byte now and then'],
  ),
  one(
    'relay',
    "the most of a peer's file",
    [COURIER, 'if (whole > maxBytes)', 'if (whole < 0)'],
    [COURIER_TEST, 'a peer that sends 2 GiB'],
  ),
  one(
    'relay',
    "that of the operator's files none but drafts are removed",
    ['host/relay/app-files.ts', '|| !entry.isFile()) return [];', ') return [];'],
    [COURIER_TEST, 'a draft that nothing would go on with'],
  ),
  one(
    'relay',
    'that a draft is kept while a manifest is missing that may need it',
    [COURIER, 'if (manifests.length === hashes.length) {', 'if (hashes.length >= 0) {'],
    [COURIER_TEST, 'while a manifest is missing'],
  ),
  one(
    'relay',
    'how many files one source is sent at once',
    [
      'host/relay/sending.ts',
      'if (has >= limits.perSource || all >= limits.sending)',
      'if (all >= limits.sending)',
    ],
    [COURIER_TEST, 'one source gets so many files at once'],
  ),
  one(
    'relay',
    "the hash of a layer of a peer's",
    ['lib/archives/archive.ts', '  if (actual !== digest) {', "  if (actual === '') {"],
    [COURIER_TEST, 'a peer that sends another layer'],
  ),
  one(
    'relay',
    'that no peer is left for an image that no node runs',
    [COURIER, '        if (!(error instanceof ImageRefused)) throw error;\n', '        throw error;\n'],
    [COURIER_TEST, 'is the fault of no peer'],
  ),
  one(
    'relay',
    'that a peer which failed is asked after the others',
    [COURIER, '.sort((a, b) => failedAt(a) - failedAt(b))', ''],
    [COURIER_TEST, 'a peer that takes its time holds up one file'],
  ),
  one(
    'relay',
    'that a peer without a file takes away nothing that another gave of it',
    [COURIER, 'const has = await draftOf(draft);', 'await begins();\n    const has = await draftOf(draft);'],
    [COURIER_TEST, 'a peer that does not have a file takes away nothing'],
  ),
];
