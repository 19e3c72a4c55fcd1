/**
 * The agent's HTTP server: guards, then who asks, then whether its manifest grants that, then the body, and the answer from the other
 * daemons for exactly that app.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TSchema } from 'typebox';
import type { Log } from '../../lib/daemon/log.ts';
import { HTTP_CHECKS, limitConnections } from '../../lib/daemon/server-limits.ts';
import { BODY_MAX_BYTES, type Operation, operations } from '../../lib/protocol/agent-api.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { type AgentApi, appId } from '../../lib/protocol/manifest.ts';
import type { AppFolderRequest } from '../../lib/protocol/sockets.ts';
import { attestationDigest } from '../../lib/protocol/typed-data.ts';
import type { Caller, Callers, Origin } from '../callers.ts';
import { answers } from './answers.ts';
import { bodyOf, parseBody } from './body.ts';
import { ecosystemCalls } from './ecosystem.ts';
import { assertPlain, HOST, parseQuestion, type Question } from './guards.ts';
import { openApi } from './openapi.ts';
import { PacedSocket } from './paced-socket.ts';
import { Refusals } from './refusals.ts';
import { SharedTime } from './shared-time.ts';
import type { Siblings } from './siblings.ts';
import { Turns } from './turns.ts';

interface Answer {
  type: 'text/plain; charset=utf-8' | 'application/octet-stream' | 'application/json';
  body: Uint8Array | string;
}

/** Something that can be asked for. */
interface Route {
  /** How it is called in a refusal and in the log. */
  readonly name: string;
  readonly words: readonly AgentApi[] | 'any';
  readonly request?: TSchema;
  answer(caller: Caller, asked: unknown, siblings: Siblings): Promise<Answer>;
  /** How a refusal is told. */
  refuse(code: string, message: string): Answer;
}

const statuses: Record<string, number> = {
  METHOD: 405,
  NO_ROUTE: 404,
  WRONG_HOST: 421,
  FORWARDED_REQUEST: 403,
  UNKNOWN_CALLER: 403,
  APP_SUPERSEDED: 403,
  API_NOT_GRANTED: 403,
  RAW_QUOTES_OFF: 403,
  BAD_TAG: 400,
  BAD_DATA: 400,
  BAD_BODY: 400,
  BAD_ALGORITHM: 400,
  SIGN_DIGEST: 400,
  CERTIFICATE_VALIDITY: 400,
  CERTIFICATE_NAME: 400,
  BODY_CUT: 400,
  BODY_TOO_LARGE: 413,
  BODY_TYPE: 415,
  TOO_MANY_REQUESTS: 429,
  EVENTS_CLOSED: 501,
};

/** What all containers of one app may have at once, and all apps together: an app leaves room for the others, whatever it does. */
const CONNECTIONS = { connections: 512, perSource: 64 };
/** How long it may take to read an answer. Milliseconds. */
const TAKEN_WITHIN = 10_000;

/** The word of a manifest's `api` that lets a container ask. What `/attest` signs is told to whoever may have it signed. */
const granting: Record<Question['kind'], AgentApi> = {
  info: 'info',
  getkey: 'key',
  attest: 'attest',
  appdata: 'attest',
};

/** Only ASCII: the ecosystem's client counts characters where the length is in bytes. */
const json = (value: object): Answer => ({
  type: 'application/json',
  body: JSON.stringify(value).replace(
    /[\u0080-\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`,
  ),
});
const refusal = (code: string, message: string): Answer => json({ code, message });

const routes: ReadonlyMap<string, Route> = new Map([
  ...Object.entries(operations as Record<string, Operation>).map(
    ([name, { method, path, word, request }]): [string, Route] => [
      `${method} ${path}`,
      {
        name: path,
        words: word === 'any' ? 'any' : [word],
        ...(method === 'POST' ? { request } : {}),
        answer: async (caller, asked, siblings) =>
          json(await answers[name as 'key'](caller, asked as never, siblings)),
        refuse: refusal,
      },
    ],
  ),
  ...ecosystemCalls.map(({ path, words, request, answer }): [string, Route] => [
    `POST ${path}`,
    {
      ...{ name: path, words, request },
      answer: async (caller, asked, siblings) => json(await answer(caller, asked as never, siblings)),
      refuse: (code, message) =>
        code === 'EVENTS_CLOSED'
          ? { type: 'text/plain; charset=utf-8', body: `${code}: ${message}` }
          : json({ error: `${code}: ${message}`, code }),
    },
  ]),
  [
    'GET /openapi.json',
    {
      ...{ name: '/openapi.json', words: 'any' as const },
      answer: async () => json(openApi()),
      refuse: refusal,
    },
  ],
]);
const routesByLetters: ReadonlyMap<string, string> = new Map(
  [...routes.keys()].map((key) => [key.toLowerCase(), key]),
);
/** What was meant by a path that is nowhere: by one with a query, a slash at its end, or other letters. */
function nearestTo(method: string, url: string): string | undefined {
  const [path = ''] = url.slice(0, 64).split('?', 1);
  return routesByLetters.get(`${method} ${path.endsWith('/') ? path.slice(0, -1) : path}`.toLowerCase());
}
const methodsOf = (path: string): readonly string[] =>
  ['GET', 'POST'].filter((method) => routes.has(`${method} ${path}`));

/**
 * The server, not yet listening.
 * @param ownerOf whose socket a connection came by; undefined for one from a bridge
 * @param hosts what a request from a bridge may be for
 */
export function agentServer(
  callers: Callers,
  siblings: Siblings,
  log: Log<'debug' | 'warn'>,
  ownerOf: (socket: Socket) => AppFolderRequest | undefined = () => undefined,
  hosts: () => readonly string[] = () => [HOST],
): Server {
  let count = 0;
  const time = new SharedTime();
  const doing = new Turns(time.together);
  /** Beside what is done: bytes are taken also while an app waits for an answer. */
  const reading = new Turns(time.alone);
  const refusals = new Refusals((app, rest) => reading.restAtLeast(app, rest));
  /** An app by the gateway of its bridge, at which all its containers arrive and nobody else. A socket counts by the same. */
  const appOf = (socket: Socket): string => ownerOf(socket)?.gateway ?? socket.localAddress ?? '';
  const isSaid = sayings(() => performance.now());
  const options = { ...HTTP_CHECKS, maxHeaderSize: 16 * 1024, keepAliveTimeout: 5_000 };

  async function answer(
    request: IncomingMessage,
    { app, origin }: PacedSocket,
    route: Route,
  ): Promise<{ app: string; reply: Answer }> {
    const before = await callers.identify(origin);
    assertGranted(before, route);
    const text = route.request === undefined ? undefined : await bodyOf(request);
    return doing.inTurn(app, async () => {
      if (request.socket.destroyed) throw new DstackError('CALLER_GONE', 'nobody waits for the answer');
      // While it waited its time may have ended. Others of its app wait behind it, and not for one that is gone.
      const caller = await callers.identify(origin, 0);
      const asked = text === undefined ? undefined : parseBody(route.request!, text);
      return { app: caller.app, reply: await route.answer(caller, asked, siblings) };
    });
  }

  const server = createServer(options, (request, response) => {
    const socket = pacedOf(request);
    socket.asks(request);
    response.once('close', () => socket.answered());
    count += 1;
    const id = `${count}`;
    let route: Route | undefined;
    const { origin } = socket;
    const isOwn = 'socketOf' in origin;

    const answered = doing.atMost(socket.app, async () => {
      assertPlain(request, isOwn ? 'any' : hosts());
      route = routeOf(request);
      return answer(request, socket, route);
    });
    answered.then(
      ({ app, reply }) => {
        log.debug({ request: id, app, path: route?.name }, 'answered');
        send(request, response, 200, reply);
      },
      (error: unknown) => {
        const code = codeOf(error);
        const from = isOwn ? origin.socketOf.app : origin.remote;
        if (!isSaid(`${code} ${from}`))
          log.warn({ request: id, code, from }, `refused: ${(error as Error).message}`);
        const message = error instanceof DstackError ? error.message : "see the node's log";
        const status = statuses[code];
        // Of a connection that is gone that is counted when it closes.
        if (status !== undefined && !socket.destroyed) refusals.count(socket.app);
        // Ask again when a sibling is away or not ready yet, but not after a refusal.
        send(request, response, status ?? 503, (route?.refuse ?? refusal)(code, message));
      },
    );
  });

  // Who expects what nobody knows is answered like everybody (RFC 9110, section 10.1.1), and counts like everybody.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));

  // In Node's own place, which would read without end.
  const [serve] = server.listeners('connection') as [(this: Server, stream: Duplex) => void];
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    if (socket.destroyed) return;
    const app = appOf(socket);
    const inTurn = (action: () => void) => reading.inTurn(app, action);
    const paced = new PacedSocket(socket, { app, origin: originOf(socket, ownerOf(socket)) }, inTurn);
    // To be told of it costs as much as a request: who connects again and again has no more than its share either.
    void inTurn(() => {
      if (paced.destroyed) return;
      // One that was not begun is none: who is read seldom has connections that are closed for having waited.
      paced.once('close', () => {
        if (!paced.hasAnswered) refusals.count(app);
      });
      serve.call(server, paced);
    });
  });
  limitConnections(server, { ...CONNECTIONS, sourceOf: appOf });
  return server;
}

const pacedOf = ({ socket }: IncomingMessage): PacedSocket => socket as Duplex as PacedSocket;

const originOf = ({ remoteAddress, localAddress }: Socket, socketOf: AppFolderRequest | undefined): Origin =>
  socketOf === undefined ? { remote: remoteAddress, local: localAddress } : { socketOf };

/** An app chooses how often it asks, and what: the same refusal of the same container is said once in a while. Milliseconds. */
const SAID_FOR = 60_000;
/** How many are remembered; there are as many addresses, and a dozen codes. */
const SAID = 10_000;

/** Whether something was said lately; it counts as said from now on. Exported for its test. */
export function sayings(now: () => number): (what: string) => boolean {
  const said = new Map<string, number>();
  return (what) => {
    const before = said.get(what);
    if (before !== undefined && now() - before < SAID_FOR) return true;
    if (said.size >= SAID) said.clear();
    said.set(what, now());
    return false;
  };
}

/** @throws METHOD, NO_ROUTE, BAD_TAG, BAD_DATA */
function routeOf({ method = '', url = '' }: IncomingMessage): Route {
  const found = routes.get(`${method} ${url}`);
  if (found !== undefined) return found;
  const [allowed] = methodsOf(url);
  const nearest = nearestTo(method, url);
  if (nearest !== undefined)
    throw new DstackError('NO_ROUTE', `the agent has ${nearest}, spelled exactly so and without a query`);
  // What is nowhere is said to be nowhere, by whatever method.
  const question = allowed === undefined ? parseQuestion(url) : undefined;
  if (question === undefined || method !== 'GET')
    throw new DstackError(
      'METHOD',
      `the agent answers ${allowed ?? 'GET'} there, not ${method.slice(0, 10)}`,
    );
  return {
    name: `/${question.kind}`,
    words: [granting[question.kind]],
    answer: (caller, _, siblings) => answerQuestion(question, caller, siblings),
    refuse: refusal,
  };
}

/** @throws API_NOT_GRANTED */
function assertGranted({ app, api }: Caller, { name, words }: Route): void {
  const missing = words === 'any' ? [] : words.filter((word) => !api.includes(word));
  if (missing.length === 0 && api.length > 0) return;
  const needs = missing.length === 0 ? 'a word' : `"${missing.join('", "')}"`;
  throw new DstackError(
    'API_NOT_GRANTED',
    `the manifest of ${app} does not let this container ask for ${name}: its api needs ${needs}`,
  );
}

async function answerQuestion(question: Question, caller: Caller, siblings: Siblings): Promise<Answer> {
  const { app, manifestHash } = caller;
  switch (question.kind) {
    case 'getkey': {
      const { key } = await siblings.appKey(app, question.tag);
      return { type: 'text/plain; charset=utf-8', body: key };
    }
    case 'attest': {
      const { signature } = await siblings.attest(app, question.tag, toHex(question.data));
      return { type: 'application/octet-stream', body: fromHex(signature) };
    }
    case 'appdata': {
      const { chainId, contract } = await siblings.info();
      const attestation = { app: appId(app), tag: question.tag, data: question.data };
      const digest = attestationDigest({ chainId, contract }, attestation);
      return { type: 'application/octet-stream', body: digest };
    }
    case 'info': {
      const [info, disk] = await Promise.all([siblings.info(), siblings.disk()]);
      return json({ app, manifestHash, ...info, disk: { state: disk.state, diskId: disk.diskId } });
    }
  }
}

/** Whether there is more of a request than may be read of its body, or nobody knows how much. */
const hasMore = ({ complete, headers }: IncomingMessage): boolean =>
  !complete && !(Number(headers['content-length']) <= BODY_MAX_BYTES);

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  { type, body }: Answer,
): void {
  const paced = pacedOf(request);
  paced.hasAnswered ||= !paced.destroyed;
  // A container that is gone takes none, and its connections would count towards its app until TCP gives them up.
  const timer = setTimeout(() => response.destroy(), TAKEN_WITHIN);
  response.once('close', () => clearTimeout(timer));
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 429 && { 'retry-after': '1' }),
    // The rest of it is dropped as bytes.
    ...(hasMore(request) && { connection: 'close' }),
  });
  response.end(body);
  // What is left of the body is read: it is before the next request.
  request.resume();
}
