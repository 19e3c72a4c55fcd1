/** The doors into an app's container: what a host, a visitor, the app itself or an endpoint can do by them. */
import { type Mutation, one } from '../mutation.ts';

const PORT = 'guest/replicator/node-port.ts';
const REQUESTS = 'guest/kubernethes/app-requests.ts';
const READS = 'guest/replicator/chain-reads.ts';
const CHAIN = 'lib/chain/chain-client.ts';
const ROUTER = 'lib/framework/app/router.ts';
const MANIFEST = 'lib/protocol/manifest.ts';
const port = 'guest/replicator/node-port.test.ts';
const requests = 'guest/kubernethes/app-requests.test.ts';
const reads = 'guest/replicator/chain-reads.test.ts';

export const frameworkDoorRules: readonly Mutation[] = [
  one(
    'framework',
    'that a host asks an app at a path of plain segments, and nothing else',
    [PORT, ' || !new RegExp(APP_CALL_PATH).test(path)', ''],
    [port, 'request/\\.\\./status is no path of an app$'],
  ),
  one(
    'framework',
    'the form of what an app refuses by',
    [PORT, "check(RefusalSchema, value, 'APP_REPLY', what)", 'value as never'],
    [port, '^a refusal of an app that has not the form'],
  ),
  one(
    'framework',
    'that what apps are asked counts beside what nodes are',
    [
      PORT,
      'route: (rest, body) => askApp(rest, body, reports)',
      'route: (rest, body) => bounded(() => askApp(rest, body, reports))',
    ],
    [port, '^apps that do not answer hold up no other call'],
  ),
  one(
    'framework',
    'the bound on what one app is asked at once',
    [REQUESTS, 'own >= AT_ONCE.ofOne || ', ''],
    [requests, '^an app that is asked without end'],
  ),
  one(
    'framework',
    'the bound on what all apps are asked at once',
    [REQUESTS, ' || (own > 0 && this.#all >= AT_ONCE.ofAll)', ''],
    [requests, '^all apps together have sixteen'],
  ),
  one(
    'framework',
    "the bound on an app's answer",
    [REQUESTS, 'readText(response, APP_CALL_MAX_BYTES)', 'readText(response, Number.MAX_SAFE_INTEGER)'],
    [requests, '^an app that answers too much$'],
  ),
  one(
    'framework',
    'that an app that switches protocols gives no answer',
    [REQUESTS, 'reject(otherProtocol);', ''],
    [requests, '^an app that answers another protocol$'],
  ),
  one(
    'framework',
    "the bound on apps' calls of contracts",
    [READS, 'if (underWay >= AT_ONCE)', 'if (underWay < 0)'],
    [reads, '^calls under way are bounded'],
  ),
  one(
    'framework',
    "the bound on a contract's answer to an app",
    [READS, 'if (answer.length > 2 * CHAIN_REPLY_MAX_BYTES)', 'if (answer.length < 0)'],
    [reads, "^a contract's answer has a bound"],
  ),
  one(
    'framework',
    'that a quorum has to say that a contract refuses a call',
    [CHAIN, 'if (reverted >= quorum)', 'if (reverted >= 1)'],
    ['lib/chain/chain-client.test.ts', '^that a contract refuses a call'],
  ),
  one(
    'framework',
    "that visitors take up no turn of a contract's requests",
    [ROUTER, '.filter(([, one]) => one.isOpen || !isOpen)', ''],
    ['lib/framework/app/router.test.ts', '^visitors have the open routes'],
  ),
  one(
    'framework',
    'that one container of an app answers hosts',
    [MANIFEST, '  assertRequests(manifest);\n', ''],
    ['lib/protocol/manifest.test.ts', 'two are refused$'],
  ),
];
