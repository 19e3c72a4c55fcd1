/** What an app gets of its node: keys, signatures and quotes that are its own, by its bridge or its socket, and no more than its manifest grants. */
import { type Mutation, one } from '../mutation.ts';

const API = 'guest/agent/agent-api.test.ts';
const TURNS = 'guest/agent/turns.test.ts';
const SERVER = 'guest/agent/server.ts';
const BODY = 'guest/agent/body.ts';
const REFUSALS = 'guest/agent/refusals.ts';
const TIME = 'guest/agent/shared-time.ts';
const PACED = 'guest/agent/paced-socket.ts';
const DOOR = 'guest/agent/door.ts';
const DOORS = 'guest/agent/door.test.ts';
const CALLERS = 'guest/callers.ts';
const SOCKETS = 'guest/agent/app-sockets.ts';
const KEYS = ['lib/protocol/app-keys.ts', 'lib/protocol/app-keys.test.ts'] as const;
const ROUTES = 'guest/replicator/app-routes.test.ts';
const QUOTES = 'guest/replicator/app-quotes.ts';

export const agentRules: readonly Mutation[] = [
  one(
    'agent',
    "the app of a container's socket",
    [CALLERS, 'app === socketOf.app &&', ''],
    [API, 'is who asks'],
  ),
  one(
    'agent',
    "the container of a container's socket",
    [CALLERS, 'container === socketOf.container', "container !== ''"],
    [API, 'each container of an app'],
  ),
  one(
    'agent',
    "the manifest of a container's socket",
    [CALLERS, 'manifestHash === socketOf.manifestHash', "manifestHash !== ''"],
    [API, 'each container of an app'],
  ),
  one(
    'agent',
    "the closed folder of all apps' sockets",
    [SOCKETS, '    chmodSync(root, 0o700);\n', ''],
    [API, 'is for the container alone'],
  ),
  one(
    'agent',
    'that an agent puts its socket into the folder that is there',
    [SOCKETS, '      if (api.length > 0)\n', '      if (api.length > 9)\n'],
    [API, 'is in the same folder after the agent was started again'],
  ),
  one(
    'agent',
    "counting an app's sockets with its bridge",
    [SERVER, "ownerOf(socket)?.gateway ?? socket.localAddress ?? ''", "socket.localAddress ?? 'a socket'"],
    [API, 'has 64 connections over its bridge and its socket together'],
  ),
  one(
    'agent',
    'one thing at a time for an app',
    [SERVER, 'return doing.inTurn(app, async () => {', 'return Promise.resolve().then(async () => {'],
    [API, 'what costs a processor'],
  ),
  one(
    'agent',
    "an app's rest after what was done for it",
    ['guest/agent/turns.ts', 'Math.min(REST * (over() + BESIDE), LONGEST_REST)', '1'],
    [TURNS, 'an app has a fifth of the time'],
  ),
  one(
    'agent',
    'a bound of what a connection gives in a turn',
    [PACED, 'const SLICE = 2 * 1024;', 'const SLICE = 2 ** 30;'],
    [TURNS, 'a connection gives two kilobytes in a turn'],
  ),
  one(
    'agent',
    "turns of an app's connections",
    [SERVER, 'reading.inTurn(app, action);', 'Promise.resolve().then(action);'],
    ['guest/agent/agent.test.ts', 'has so many bytes waiting'],
  ),
  one(
    'agent',
    'that a connection is begun in turn',
    [SERVER, '    void inTurn(() => {', '    void Promise.resolve().then(() => {'],
    ['guest/agent/agent.test.ts', 'a connection is begun in a turn'],
  ),
  one(
    'agent',
    'that what something leads to at once counts with it',
    ['guest/agent/turns.ts', '      process.nextTick(() => {', '      queueMicrotask(() => {'],
    [TURNS, 'what something leads to at once counts'],
  ),
  one(
    'agent',
    'one request at a time of a connection',
    [PACED, 'return this.#unanswered?.complete !== true && ', 'return '],
    [API, 'sends the next requests before it is answered'],
  ),
  one(
    'agent',
    'that a turn gives a connection one request',
    [PACED, 'this.#bodyLeft || this.#toEmptyLine(all)', 'all.length'],
    [TURNS, 'a turn gives one request'],
  ),
  one(
    'agent',
    'that a body is given by its length, and nothing behind it',
    [PACED, "Number(request.headers['content-length'] ?? 0)", '0'],
    [TURNS, 'a turn gives one request'],
  ),
  one(
    'agent',
    'that nothing is done for who does not wait for it',
    [SERVER, 'if (request.socket.destroyed) throw', 'if (request.socket.closed === undefined) throw'],
    [API, 'has 64 requests under way, also those'],
  ),
  one(
    'agent',
    'that who waits is looked at again when its turn comes',
    [SERVER, '      const caller = await callers.identify(origin, 0);\n', '      const caller = before;\n'],
    [API, 'waits for its turn until it is none'],
  ),
  one(
    'agent',
    'that an answer is taken, or the connection closed',
    [SERVER, 'setTimeout(() => response.destroy(), TAKEN_WITHIN)', 'setTimeout(() => {}, TAKEN_WITHIN)'],
    [API, 'an answer that is not taken'],
  ),
  one(
    'agent',
    "that no app's own data is quoted as the node's word about it",
    ['guest/replicator/siblings.ts', '      requireUnreserved(data);\n', ''],
    [ROUTES, 'an app has nothing quoted that is'],
  ),
  one(
    'agent',
    'a bound of the requests that an app has under way',
    ['guest/agent/turns.ts', 'const REQUESTS = 64;', 'const REQUESTS = 640;'],
    [API, 'has 64 requests under way, also those'],
  ),
  one(
    'agent',
    "that a container's socket is opened whatever is with another's",
    [SOCKETS, '.catch((error) => problems.push(error))', ''],
    [API, 'that can not be opened keeps no other from it'],
  ),
  one(
    'agent',
    'the type of content of a body',
    [
      BODY,
      "if (!/^application\\/json *(;|$)/i.test(request.headers['content-type'] ?? ''))",
      'if (!request)',
    ],
    [API, 'sends more than may be signed'],
  ),
  one(
    'agent',
    'the bound of a body without a length',
    [BODY, 'request.iterator({ destroyOnReturn: false }), BODY_MAX_BYTES)', 'request, 2 ** 30)'],
    [API, 'sends more than may be signed'],
  ),
  one(
    'agent',
    'the word for quotes, where a certificate carries one',
    ['guest/agent/ecosystem.ts', "quoted && !api.includes('quote')", "quoted && !api.includes('key')"],
    [API, 'a certificate with a quote needs'],
  ),
  one(
    'agent',
    'that emitEvent is no success to the client',
    [SERVER, "code === 'EVENTS_CLOSED'", "code === ''"],
    [API, 'emitEvent has an answer that is no JSON'],
  ),
  one(
    'agent',
    'answers in ASCII',
    [SERVER, '/[\\u0080-\\uffff]/g', '/[\\uffff]/g'],
    [API, 'every operation answers in its own form'],
  ),
  one(
    'agent',
    'what version 1 of a manifest may ask for, when a word is added',
    [
      'lib/protocol/manifest.ts',
      "['rw', 'internet', FIRST_API] as const",
      "['rw', 'internet', AGENT_API] as const",
    ],
    ['lib/protocol/manifest.test.ts', 'version 2 may ask to sign and to quote'],
  ),
  one(
    'agent',
    "the place of the agent's socket",
    ['lib/protocol/manifest.ts', 'COVERED.some((other) => isWithin(path, other)) ||', ''],
    ['lib/protocol/manifest.test.ts', 'refuses a tmpfs over /var/run/dstack'],
  ),
  one(
    'agent',
    "that a container only reads the agent's folder",
    ['guest/kubernethes/podman.ts', `:\${AGENT_PATH}:ro,`, `:\${AGENT_PATH}:rw,`],
    ['guest/kubernethes/podman.test.ts', "the agent's folder is mounted to read"],
  ),
  one(
    'agent',
    'a key of its own for each type',
    ['lib/protocol/keys.ts', 'const typed = [...path, utf8(type)];', 'const typed = path;'],
    [KEYS[1], 'one tag has a key for each type'],
  ),
  one(
    'agent',
    'chain and contract in what the network key says of an app',
    [KEYS[0], 'uint64(chainId), fromHex(contract, 20), appId(app)', 'appId(app)'],
    [KEYS[1], 'a chain leads to the network key'],
  ),
  one(
    'agent',
    'the purpose in what vouches for a key',
    [KEYS[0], `keccak256(utf8(\`\${purpose}:`, `keccak256(utf8(\`:`],
    [KEYS[1], 'a chain leads to the network key'],
  ),
  one(
    'agent',
    'that the network key signs no word of an app',
    [
      'guest/replicator/secret.ts',
      'recoverable(sign(purposeLinkDigest(purpose, publicKey), identity))',
      'recoverable(signed(purposeLinkDigest(purpose, publicKey)))',
    ],
    [ROUTES, 'keys and their chains are those of the vectors'],
  ),
  one(
    'agent',
    "the app's statement in its quotes",
    [
      QUOTES,
      'over(appReportData(app, manifestHash, data))',
      'over(data.length === 64 ? data : appReportData(app, manifestHash, data))',
    ],
    [ROUTES, "an app's quote is over its own statement"],
  ),
  one(
    'agent',
    'that raw quotes are for one app',
    [QUOTES, 'if (app !== rawQuotes) {', 'if (app === undefined) {'],
    [ROUTES, 'report data of its own choice'],
  ),
  one(
    'agent',
    'that events lead to the register that they are shown for',
    [QUOTES, 'if (!bytesEqual(value, body[', 'if (bytesEqual(zeroRegister(), body['],
    [ROUTES, 'the events lead to the registers'],
  ),
  one(
    'agent',
    'that no quote is given while the chain stands still',
    [
      'guest/replicator/siblings.ts',
      '      requireFresh();\n      const data = ',
      '      requireFresh.name;\n      const data = ',
    ],
    [ROUTES, 'nothing is quoted or certified'],
  ),
  one(
    'agent',
    'raw quotes in the evidence of a website',
    [
      'lib/protocol/report-data.ts',
      '      ...(report.rawQuotes === undefined ? [] : [utf8(report.rawQuotes)]),\n',
      '',
    ],
    ['lib/protocol/site-evidence.test.ts', 'rawQuotes: in what is quoted'],
  ),
  one(
    'agent',
    'that many short things of an app are a long one',
    ['guest/agent/turns.ts', 'this.#owed.set(app, owed - whole);', 'this.#owed.set(app, 0);'],
    [TURNS, 'many short things are a long one'],
  ),
  one(
    'agent',
    'the names that a port is asked by',
    ['guest/agent/guards.ts', "(hosts !== 'any' && !hosts.includes(host)) || ", ''],
    ['cli/commands/agent.test.ts', 'to no name that a web page could have'],
  ),
  one(
    'agent',
    'a bound of the values in a body',
    [BODY, 'if (hasMoreValues(text, BODY_MAX_VALUES))', 'if (!text)'],
    [API, 'sends more values than any call has'],
  ),
  one(
    'agent',
    'that an app which connects in a loop finds nobody for a moment',
    [DOOR, 'if (this.#mayEnter() || this.#isShut) return;', 'if (this.#mayEnter) return;'],
    [DOORS, 'who connects again and again finds nobody'],
  ),
  one(
    'agent',
    "counting an app's connections at all of its doors",
    [DOOR, 'this.mayEnter(options.app())', 'this.mayEnter(String(Math.random()))'],
    [DOORS, 'the doors of an app are counted together'],
  ),
  one(
    'agent',
    'a bound of what an app rests after something that took long',
    ['guest/agent/turns.ts', 'const LONGEST_REST = 400;', 'const LONGEST_REST = 4_000;'],
    [TURNS, 'an app has a fifth of the time'],
  ),
  one(
    'agent',
    'that an app which goes on with what is refused is read seldom',
    [REFUSALS, 'if (!this.#limit.take(app)) this.#rest(app, REST);', 'this.#limit.take(app);'],
    ['guest/agent/refusals.test.ts', 'who goes on is read seldom'],
  ),
  one(
    'agent',
    'that an app has a bound of refusals of its own',
    [REFUSALS, 'this.#limit.take(app)', "this.#limit.take('')"],
    ['guest/agent/refusals.test.ts', 'who goes on is read seldom'],
  ),
  one(
    'agent',
    'counting what is refused',
    [SERVER, 'if (status !== undefined && !socket.destroyed) refusals.count(socket.app);', ''],
    [API, 'is counted for each refusal'],
  ),
  one(
    'agent',
    'counting connections without use as refusals',
    [SERVER, 'if (!paced.hasAnswered) refusals.count(app);', ''],
    [API, 'is counted for each refusal'],
  ),
  one(
    'agent',
    'the rest of an app that was refused too often',
    [
      'guest/agent/turns.ts',
      'Math.max(this.#owed.get(app) ?? 0, rest)',
      'Math.min(this.#owed.get(app) ?? 0, rest)',
    ],
    [TURNS, 'an app that is to rest does so'],
  ),
  one(
    'agent',
    'what is charged beside what can be seen',
    ['guest/agent/turns.ts', 'const BESIDE = 0.1;', 'const BESIDE = 0;'],
    [TURNS, 'many short things are a long one'],
  ),
  one(
    'agent',
    'that an app does not rest for what was done for another',
    [TIME, '      this.#countedTo = now;\n      return now - began;', '      return now - began;'],
    [TURNS, 'an app does not rest for what is done for others'],
  ),
  one(
    'agent',
    'that an endless body is not read after its answer',
    [SERVER, "...(hasMore(request) && { connection: 'close' }),", ''],
    [API, 'sends a body without end'],
  ),
  one(
    'agent',
    'that who still sends does not lose the last answer',
    [PACED, 'this.#unanswered?.complete === false ?', 'this.#unanswered === null ?'],
    [TURNS, 'what still comes after the last answer'],
  ),
  one(
    'agent',
    'a bound of what is dropped after the last answer',
    [PACED, 'if (this.#dropped >= DROPPED) this.destroy();', ''],
    [TURNS, 'what still comes after the last answer'],
  ),
  one(
    'agent',
    'how long is waited for who does not close after the last answer',
    [PACED, 'setTimeout(() => this.destroy(), DROPPED_FOR)', 'setTimeout(() => {}, DROPPED_FOR)'],
    [TURNS, 'who sends no more after the last answer'],
  ),
  one(
    'agent',
    'that a path is taken apart into few parts',
    ['guest/agent/guards.ts', "url.split('/', 5)", "url.split('/')"],
    ['guest/agent/agent.test.ts', 'a path of thousands of slashes'],
  ),
  one(
    'agent',
    "counting an app's connections at the bridge that it has now",
    [SOCKETS, 'app: () => opened.of.gateway,', 'app: () => of.gateway,'],
    [API, 'of an app that came back on another bridge'],
  ),
  one(
    'agent',
    'that one of all unknown containers has kubernethes asked',
    [CALLERS, 'if (performance.now() - this.#askedAt >= BETWEEN) await', 'await'],
    ['guest/agent/agent.test.ts', 'many that kubernethes does not know'],
  ),
];
