/**
 * What hosts ask apps. The host is hostile, and so may the app be: of a request only a path of plain segments and a JSON body come
 * through, of an answer its status and its JSON, each of a bounded size, in a bounded time; and one app that does not answer, or is asked
 * without end, holds up no other.
 */
import { type IncomingMessage, request } from 'node:http';
import { answerTo, NoAnswer } from '../../lib/daemon/http-answer.ts';
import { bytesAsJson, parseJson, readText } from '../../lib/daemon/http-body.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { APP_CALL_MAX_BYTES, type AppCallReply } from '../../lib/protocol/sockets.ts';

/**
 * At once: of one app, and of all. What is more is told to come back. An app that has none under way always gets its first: otherwise
 * four apps that do not answer would take the door from all others. So there are at most `ofAll` and one for each app of the node.
 */
const AT_ONCE = { ofOne: 4, ofAll: 16 };
/** Milliseconds. Less than who asks this daemon waits. */
const WITHIN = 55_000;

export interface Place {
  readonly host: string;
  readonly port: number;
}

export class AppRequests {
  readonly #placeOf: (app: string) => Place;
  readonly #within: number;
  /** How many each app has under way. */
  readonly #busy = new Map<string, number>();
  #all = 0;

  /** @param placeOf of the container that answers. @throws why there is none */
  constructor(placeOf: (app: string) => Place, within = WITHIN) {
    this.#placeOf = placeOf;
    this.#within = within;
  }

  /** @throws what `placeOf` throws, APP_BUSY, APP_UNREACHABLE, APP_OVERDUE, APP_REPLY */
  async ask(app: string, path: string, body: unknown): Promise<AppCallReply> {
    const place = this.#placeOf(app);
    const own = this.#busy.get(app) ?? 0;
    if (own >= AT_ONCE.ofOne || (own > 0 && this.#all >= AT_ONCE.ofAll))
      throw new DstackError('APP_BUSY', `${app} has requests enough to answer: ask again later`);
    this.#busy.set(app, own + 1);
    this.#all += 1;
    try {
      return await exchange(app, place, path, body, this.#within);
    } finally {
      this.#all -= 1;
      const left = this.#busy.get(app)! - 1;
      if (left === 0) this.#busy.delete(app);
      else this.#busy.set(app, left);
    }
  }
}

async function exchange(
  app: string,
  { host, port }: Place,
  path: string,
  body: unknown,
  within: number,
): Promise<AppCallReply> {
  const signal = AbortSignal.timeout(within);
  const text = JSON.stringify(body ?? {});
  const headers = {
    // Of ours alone: nothing of a host's headers arrives.
    host: 'localhost',
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    connection: 'close',
  };
  try {
    const asked = request({ host, port, method: 'POST', path, headers, agent: false, signal });
    const answer = answerTo(asked);
    asked.end(text);
    const response = await answer;
    const reply = await readText(response, APP_CALL_MAX_BYTES);
    return { status: statusOf(app, path, response), value: jsonOf(app, path, reply) };
  } catch (cause) {
    if (signal.aborted)
      throw new DstackError('APP_OVERDUE', `${app} did not answer ${path} in ${within / 1000} s`, { cause });
    if (cause instanceof DstackError && cause.code === 'BODY_TOO_LARGE')
      throw new DstackError(
        'APP_REPLY',
        `${app} answers ${path} with more than ${APP_CALL_MAX_BYTES} bytes`,
        {
          cause,
        },
      );
    if (cause instanceof NoAnswer)
      throw new DstackError('APP_REPLY', `${app} answers ${path} with ${cause.message}`, { cause });
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('APP_UNREACHABLE', `${app} does not answer: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** From 600 on it would be none for whoever asked this daemon. */
function statusOf(app: string, path: string, { statusCode = 0 }: IncomingMessage): number {
  if (statusCode >= 200 && statusCode <= 599) return statusCode;
  throw new DstackError('APP_REPLY', `${app} answers ${path} with status ${statusCode}, which is none`);
}

/** As it will be sent on: what cannot be, or is too much then, is the app's fault, and nobody else's. */
function jsonOf(app: string, path: string, text: string): unknown {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    const what = codeOf(cause) === 'BODY_TOO_DEEP' ? 'JSON of too many levels' : 'what is no JSON';
    throw new DstackError('APP_REPLY', `${app} answers ${path} with ${what}`, { cause });
  }
  if (bytesAsJson(value) <= APP_CALL_MAX_BYTES) return value;
  const written = 'once it is written out';
  throw new DstackError(
    'APP_REPLY',
    `${app} answers ${path} with more than ${APP_CALL_MAX_BYTES} bytes ${written}`,
  );
}
