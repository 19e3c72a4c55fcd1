/** The relay before an endpoint and an enclave that answer anything. */
import { type Mutation, one } from '../mutation.ts';

const LOOP = 'lib/framework/event-loop.ts';
const LOOP_TEST = 'lib/framework/event-loop.test.ts';

export const relayRules: readonly Mutation[] = [
  one(
    'relay',
    'asking for fewer blocks when an endpoint finds them too many',
    ['lib/chain/log-reader.ts', 'asked === 1 || !isTooMuch(error)', 'asked >= 1'],
    ['lib/chain/log-reader.test.ts', '^it asks for less also'],
  ),
  one(
    'relay',
    'reading the last blocks again',
    [LOOP, 'known + 1 - reread', 'known + 1'],
    [LOOP_TEST, '^an endpoint whose logs come later'],
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
      'host/relay/transactions.ts',
      'if (!(error instanceof Retryable) || ENDS_THE_ROUND.includes(error.code)) throw error;',
      'if (error instanceof Error) throw error;',
    ],
    ['host/relay/refusals.test.ts', '^an entry whose estimate'],
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
];
