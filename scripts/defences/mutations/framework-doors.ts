/** The doors into an app's container: what a host, a visitor, the app itself or an endpoint can do by them. */
import { type Mutation, one } from '../mutation.ts';

const PORT = 'guest/replicator/node-port.ts';
const REQUESTS = 'guest/kubernethes/app-requests.ts';
const READS = 'guest/replicator/chain-reads.ts';
const CHAIN = 'lib/chain/chain-client.ts';
const ROUTER = 'lib/framework/app/router.ts';
const SEARCH = 'lib/framework/host/request-search.ts';
const ANSWER = 'lib/daemon/http-answer.ts';
const answers = 'lib/daemon/http-answer.test.ts';
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
    'that who is asked and switches protocols holds up nobody',
    [ANSWER, "reject(new NoAnswer('another protocol'));", ''],
    [answers, '^what is no answer, as '],
  ),
  one(
    'framework',
    'the bound on interim responses',
    [ANSWER, 'if (interim > INTERIM_MAX)', 'if (interim < 0)'],
    [answers, '^what is no answer, as '],
  ),
  one(
    'framework',
    'that an endpoint of the chain, and an enclave, is asked so',
    [
      'lib/chain/json-rpc.ts',
      'const answer = answerTo(req);',
      "const answer = new Promise<IncomingMessage>((resolve, reject) => req.on('response', resolve).on('error', reject));",
    ],
    ['lib/framework/host/enclave-client.test.ts', '^an endpoint of the chain, or an enclave'],
  ),
  one(
    'framework',
    'the depth of JSON that is read',
    [
      'lib/daemon/http-body.ts',
      'if (isDeeper(value, LEVELS_MAX))',
      'if (isDeeper(value, 0) && LEVELS_MAX < 0)',
    ],
    [port, '^JSON that is nested deeper'],
  ),
  one(
    'framework',
    'that a body that grows on the way is the host’s fault',
    [PORT, 'if (bytesAsJson(body) > APP_CALL_MAX_BYTES)', 'if (bytesAsJson(body) < 0)'],
    [port, '^a body that grows on the way'],
  ),
  one(
    'framework',
    'that an answer that grows on the way is the app’s fault',
    [REQUESTS, 'if (bytesAsJson(value) <= APP_CALL_MAX_BYTES) return value;', 'return value;'],
    [requests, '^an app that answers what grows$'],
  ),
  one(
    'framework',
    'that an app answers with a status of HTTP',
    [REQUESTS, 'if (statusCode >= 200 && statusCode <= 599) return statusCode;', 'return statusCode;'],
    [requests, '^an app that answers a status that is none$'],
  ),
  one(
    'framework',
    'that an app refuses with a status of a refusal',
    [PORT, 'if (status < 400 || status > 599)', 'if (status < 0)'],
    [port, '^an app that refuses with status 302'],
  ),
  one(
    'framework',
    'the bound on visitors at once',
    [ROUTER, 'if (this.#visitors >= VISITORS_MAX)', 'if (this.#visitors < 0)'],
    ['lib/framework/app/router.test.ts', '^visitors are answered a few at a time'],
  ),
  one(
    'framework',
    'that two contracts of one app have not the same chance',
    [ROUTER, 'update(lengthPrefixed(request))', 'update(request[2]!)'],
    ['lib/framework/app/router.test.ts', '^two contracts of one app'],
  ),
  one(
    'framework',
    "that apps' calls leave the node's own some connections",
    [READS, 'export const CONNECTIONS = 16;', 'export const CONNECTIONS = 4;'],
    [reads, '^calls that an endpoint takes its time for'],
  ),
  one(
    'framework',
    'that a search begins where the chain ends',
    [SEARCH, 'Math.min(search.to, head)', 'search.to'],
    ['lib/framework/host/request-search.test.ts', '^a head far beyond the chain'],
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
    'that an endpoint that never answers makes no read slow',
    [CHAIN, 'grace ??= setTimeout(nowDecided, GRACE);', 'grace ??= undefined;'],
    ['lib/chain/chain-client.test.ts', '^one that never answers makes no read'],
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
