/** What the replicator does under fire: chains that stall or disagree, clocks, answers that do not come. */
import { type Mutation, one } from '../mutation.ts';

const replicator = 'test/trust/replicator.test.ts';
const chainClient = 'lib/framework/chain-client.test.ts';
const CHAIN_CLIENT = 'lib/framework/chain-client.ts';

export const replicatorRules: readonly Mutation[] = [
  one(
    'replicator',
    'the end of trust in a chain that stands still',
    [CHAIN_CLIENT, 'if (passed > STALE_AFTER_SECONDS) {', 'if (passed < 0) {'],
    [replicator, 'with no new block for an hour'],
  ),
  one(
    'replicator',
    'the quorum',
    [CHAIN_CLIENT, 'best === undefined || best.agreeing < quorum', 'best === undefined'],
    [chainClient, '^two that differ'],
  ),
  one(
    'replicator',
    'that the clock is never behind an agreed block',
    [CHAIN_CLIENT, 'Math.max(head.timestamp, times[quorum - 1]!)', 'times[quorum - 1]!'],
    [chainClient, '^one endpoint whose newest block'],
  ),
  one(
    'replicator',
    'that no few endpoints move the clock ahead',
    [CHAIN_CLIENT, 'times[quorum - 1]!', 'times[0]!'],
    [chainClient, '^one endpoint whose newest block'],
  ),
  one(
    'replicator',
    'judging by the chain’s time',
    [
      'guest/replicator/onboard.ts',
      'const now = new Date(reader.chain.now() * 1000);',
      'const now = new Date();',
    ],
    [replicator, 'what ends, ends by the chain’s time'],
  ),
  one(
    'replicator',
    'asking anew when an answer is withheld',
    [
      'guest/replicator/own-request.ts',
      'return monotonic() - open.answeredAt < ANSWER_WITHIN_MS;',
      'return true;',
    ],
    [replicator, 'an answer that is withheld'],
  ),
  one(
    'replicator',
    'the warning of a network of one',
    ['guest/replicator/node.ts', '      warnAlone();\n', ''],
    [replicator, 'a network of one says so'],
  ),
];
