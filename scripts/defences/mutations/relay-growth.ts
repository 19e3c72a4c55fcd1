/** What keeps the work of a relay from growing with what strangers, payers and its endpoint can bring about. */
import { type Mutation, one } from '../mutation.ts';

const NETWORK = 'host/relay/network.ts';
const NETWORK_TEST = 'host/relay/network.test.ts';
const LOOP = 'lib/framework/event-loop.ts';
const LOOP_TEST = 'lib/framework/event-loop.test.ts';
const SEAL = 'host/relay/seal-handler.ts';
const SEAL_TEST = 'host/relay/seal-handler.test.ts';

export const relayGrowthRules: readonly Mutation[] = [
  one(
    'relay',
    'asking again for a block that was read in vain, whoever could wait for it',
    ['lib/framework/event-reader.ts', 'block <= this.#readTo || ', ''],
    ['lib/framework/event-loop.test.ts', '^a block that was read in vain'],
  ),
  one(
    'relay',
    'the bound on requests that are foreseen and never asked for',
    [NETWORK, 'if (this.#wanted.size <= MOST_FORESEEN) break;', 'break;'],
    [NETWORK_TEST, '^requests that are foreseen'],
  ),
  one(
    'relay',
    'that what is said after an event counts as confirmed only some blocks later',
    [NETWORK, 'this.#isQuietSince(before, number, topicsOf(before.view)) &&', ''],
    [NETWORK_TEST, '^what stays the same is read again'],
  ),
  one(
    'relay',
    'that a request of a key of before is not taken to be open',
    [NETWORK, '[networkTopics.Onboarded, networkTopics.Bootstrapped]', '[networkTopics.Onboarded]'],
    [NETWORK_TEST, '^a request surely is open'],
  ),
  one(
    'relay',
    'that an event alone, without a signed answer, ends nothing',
    [
      'host/relay/onboard-handler.ts',
      'if (isAnswered) return answered(requestHash, context);',
      'if (isSettled) return answered(requestHash, context);',
    ],
    ['host/relay/onboard-handler.test.ts', '^an event alone ends nothing'],
  ),
  one(
    'relay',
    'that only bytes which a signed answer names are taken for what was sealed',
    [SEAL, 'answers.includes(hashOfSealed(message))', 'hashOfSealed(message).length > 0'],
    [SEAL_TEST, '^bytes that a signed answer names'],
  ),
  one(
    'relay',
    'that answers whose requests nobody published cost no look at the chain and no place',
    [SEAL, 'if (!isKnown(requestHash)) {', 'if (requestHash.length === 0) {'],
    [SEAL_TEST, '^waits for the request, bytes that'],
  ),
  one(
    'relay',
    "the bound on requests that are looked for in a block's filter",
    ['host/relay/patience.ts', 'if (about.length > MANY) return 0;', ''],
    ['host/relay/patience.test.ts', '^who fills the log with requests'],
  ),
  one(
    'relay',
    'reading a block within a part of the window, whatever its filter names',
    ['host/relay/patience.ts', 'if (followed + 1 > window * PART) return 0;', ''],
    ['host/relay/patience.test.ts', '^no block is left for so long'],
  ),
  one(
    'relay',
    'reading after a restart what was left for later',
    ['lib/framework/event-reader.ts', ' && this.#readTo !== undefined;', ';'],
    [LOOP_TEST, '^who starts anew reads what was left'],
  ),
  one(
    'relay',
    'reading a block of which a handler can not say whether it can wait',
    ['lib/framework/unread-blocks.ts', '.catch(() => 0)', ''],
    [LOOP_TEST, '^a handler that can not say'],
  ),
  one(
    'relay',
    'that a block waits no longer by a clock that was set back',
    [
      'lib/framework/unread-blocks.ts',
      'Math.min(this.#since.get(block) ?? now(), now())',
      'this.#since.get(block) ?? now()',
    ],
    [LOOP_TEST, '^a clock that is set back'],
  ),
  one(
    'relay',
    'that an event waits no longer by a clock that was set back',
    [LOOP, ' || time > now + Math.max(WAIT_MAX_MS, BACKOFF_MAX_MS);', ';'],
    [LOOP_TEST, '^a clock that is set back'],
  ),
  one(
    'relay',
    'that an event is no younger than it was by a clock that was set back',
    [LOOP, 'if (job.firstSeen > now) {', 'if (job.firstSeen < 0) {'],
    [LOOP_TEST, '^a clock that is set back'],
  ),
  one(
    'relay',
    'reading the network again before something is refused by it',
    [
      NETWORK,
      'const mayHold = !isAnew || known?.readAt === head.number;',
      'const mayHold = isAnew || !isAnew;',
    ],
    [NETWORK_TEST, '^what an endpoint showed that was behind its head refuses'],
  ),
  one(
    'relay',
    'that what strangers have read again is read by itself as often as before',
    [NETWORK, 'if (isConfirmed && number - before.readAt >= again)', 'if (isConfirmed)'],
    [NETWORK_TEST, '^what an endpoint showed that was behind its head refuses'],
  ),
  one(
    'relay',
    'making room without a look at all that is kept',
    [
      'host/gossip/message-index.ts',
      'const [subject] = this.#kept.get(Math.max(...this.#kept.keys())) ?? [];',
      'const [subject] = [...this.#bySubject.keys()].filter((one) => this.#isKept(one)).toSorted((a, b) => this.about(b).length - this.about(a).length);',
    ],
    ['host/gossip/message-log.test.ts', '^who gives way is found'],
  ),
];

export const appListRules = [
  one(
    'apps',
    'giving up a list of apps that has more than a network can run',
    ['lib/protocol/app-list.ts', 'if (apps.length > MAX_APPS) break;', ''],
    ['guest/kubernethes/apps-reader.test.ts', '^a list without an end is given up'],
  ),
];
