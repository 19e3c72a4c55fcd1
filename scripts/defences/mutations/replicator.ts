/** What the replicator does under fire: chains that stall or disagree, clocks, answers that do not come. */
import { type Mutation, one } from '../mutation.ts';

const replicator = 'test/trust/replicator.test.ts';
const chainTime = 'test/trust/chain-time.test.ts';
const chainClient = 'lib/chain/chain-client.test.ts';
const CHAIN_CLIENT = 'lib/chain/chain-client.ts';
const CHAIN_CLOCK = 'lib/chain/chain-clock.ts';

export const replicatorRules: readonly Mutation[] = [
  one(
    'replicator',
    'the end of trust in a chain that stands still',
    [CHAIN_CLOCK, 'if (behind > STALE_AFTER_SECONDS) {', 'if (behind < 0) {'],
    [replicator, 'with no new block for an hour'],
  ),
  one(
    'replicator',
    'that a head which is read is not stale',
    [CHAIN_CLIENT, '      clock.now();\n', ''],
    [chainClient, 'a chain that halts for hours'],
  ),
  one(
    'replicator',
    'that headers which crawl do not slow the clock',
    [CHAIN_CLOCK, ', this.#read() ?? 0);', ');'],
    [chainClient, 'new blocks with timestamps that crawl'],
  ),
  one(
    'replicator',
    'that a head needs a quorum near it',
    [
      'lib/chain/chain-heads.ts',
      'claim.number >= number && claim.number <= number + near.blocks',
      'claim.number >= number',
    ],
    ['lib/chain/chain-heads.test.ts', 'a block too far'],
  ),
  one(
    'replicator',
    'that the times of a head need a quorum near them',
    ['lib/chain/chain-heads.ts', 'other >= time && other <= time + seconds', 'other >= time'],
    [chainClient, '^one endpoint whose newest block'],
  ),
  one(
    'replicator',
    'that an accepted head never goes down',
    [CHAIN_CLIENT, 'confirmed < lowest() ? sameAgain(confirmed) : block(confirmed)', 'block(confirmed)'],
    [chainTime, 'the state before a rollout, all of them old'],
  ),
  one(
    'replicator',
    'that a claimed time is held against the block that is agreed on',
    [CHAIN_CLIENT, 'depth === 0 && head.timestamp + near.seconds < claim.timestamp', 'depth < 0'],
    [chainClient, 'a time that is claimed of an old block'],
  ),
  one(
    'replicator',
    "that only a later epoch's key wipes a secret",
    [
      'guest/replicator/node.ts',
      'network.epoch > current.keys.epoch && !isZero(network.networkKey)',
      'network.epoch >= 0',
    ],
    [chainTime, 'wipes nothing'],
  ),
  one(
    'replicator',
    'that a manifest is read anew before it is started',
    ['guest/kubernethes/app.ts', '(await this.#readAgain()).get(this.name) !== hash', 'hash === undefined'],
    ['guest/kubernethes/supervisor.test.ts', 'files that took their time'],
  ),
  one(
    'replicator',
    "that two versions never write to an app's disk at once",
    [
      'guest/kubernethes/app.ts',
      "finished !== true && (plan.data === 'rw' || names.has(plan.name)),",
      "finished !== true && plan.data === 'none',",
    ],
    ['guest/kubernethes/supervisor.test.ts', 'old down before new up'],
  ),
  one(
    'replicator',
    'that a new version is healthy before the front leaves the old one',
    [
      'guest/kubernethes/containers.ts',
      'if (wrong === undefined && (isProbed',
      'if (wrong !== null && (isProbed',
    ],
    ['guest/kubernethes/rollout.test.ts', 'one that does not become healthy changes nothing'],
  ),
  one(
    'replicator',
    'that a daemon which starts again goes on from where the machine was',
    [CHAIN_CLIENT, 'accepted?.number ?? from?.block ?? 0', 'accepted?.number ?? 0'],
    [chainClient, 'a process that is started again'],
  ),
  one(
    'replicator',
    'the quorum',
    [CHAIN_CLIENT, 'best === undefined || best.agreeing < quorum', 'best === undefined'],
    [chainClient, '^two that differ'],
  ),
  one(
    'replicator',
    "judging by the chain's time",
    [
      'guest/replicator/onboard.ts',
      'const now = new Date(reader.chain.now() * 1000);',
      'const now = new Date();',
    ],
    [replicator, "what ends, ends by the chain's time"],
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
    ['guest/replicator/node.ts', '      if (!network.onboarded) warnAlone();\n', ''],
    [replicator, 'a network of one says so'],
  ),
];
