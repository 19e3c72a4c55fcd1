/**
 * How the guest speaks to the authority: the HTTP of acme-client (axios) with this in place of its own way out. An authority that
 * is hostile, or whose name leads elsewhere, gets a bounded time and a bounded number of bytes, and leads to no other place: every
 * URL that it names must be of its directory's origin, and a redirect is not followed.
 */
import { Agent, request } from 'node:https';
import { createSecureContext } from 'node:tls';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { answerTo } from '../../lib/daemon/http-answer.ts';
import { readText } from '../../lib/daemon/http-body.ts';
import { codeOf, DstackError } from '../../lib/protocol/errors.ts';
import { printable } from '../../lib/protocol/printable.ts';

/** More than a chain of five certificates. Bytes. */
const MAX_ANSWER = 64 * 1024;
/** For one answer, all of it. Milliseconds. */
const ANSWERED_WITHIN = 30_000;
/** Of what the authority says, for people. Characters. */
const MAX_DETAIL = 300;

/** What the authority refused (RFC 8555, section 6.7). Its words are no more than words. */
export class AcmeProblem extends DstackError {
  /** Without `urn:ietf:params:acme:error:`; empty when it gave none. */
  readonly type: string;
  readonly status: number;
  /** Seconds; undefined when it did not say. */
  readonly retryAfter: number | undefined;

  constructor(status: number, type: string, detail: string, retryAfter: number | undefined) {
    super('ACME_REFUSED', `the authority refused (${status}${type && ` ${type}`}): ${words(detail)}`);
    this.status = status;
    this.type = type;
    this.retryAfter = retryAfter;
  }
}

/** What of axios' request is used (https://axios-http.com/docs/req_config). */
interface ClientRequest {
  url?: string;
  method?: string;
  data?: unknown;
}

interface ClientAnswer {
  status: number;
  statusText: string;
  headers: Record<string, unknown>;
  data: string;
  config: object;
  request: undefined;
}

export interface TransportOptions {
  /** The authority's directory, an https URL. */
  directory: string;
  /** PEM, all that is trusted. */
  roots: readonly string[];
  /** Ends whatever is under way. */
  signal?: AbortSignal;
  /** Milliseconds. */
  answeredWithin?: number;
}

/**
 * An adapter for acme-client's axios.
 * @throws ACME_ORIGIN, ACME_UNREACHABLE, ACME_ANSWER, AcmeProblem (ACME_REFUSED). A refused nonce alone is an answer: the client tries again.
 */
export function transport(options: TransportOptions): (config: ClientRequest) => Promise<ClientAnswer> {
  const { origin } = new URL(options.directory);
  // The roots are read once: there are more than a hundred, which takes longer than the handshake.
  const secureContext = createSecureContext({ ca: [...options.roots], minVersion: 'TLSv1.2' });
  const agent = new Agent({ secureContext });
  return async (config) => {
    const url = ownUrl(config.url, origin);
    const { status, headers, text } = await exchange(url, config, agent, options);
    const answer = { status, statusText: '', headers, data: text, config, request: undefined };
    if (status >= 200 && status < 300) return answer;
    const problem = problemOf(text);
    if (status === 400 && problem.type === 'badNonce') return answer;
    if (status >= 300 && status < 400)
      throw new DstackError('ACME_ORIGIN', 'the authority answered with a redirect, which is not followed');
    throw new AcmeProblem(status, problem.type, problem.detail, retryAfterOf(headers['retry-after']));
  };
}

/** @throws ACME_ORIGIN for what is no URL of this origin */
function ownUrl(url: unknown, origin: string): URL {
  const parsed = typeof url === 'string' && url.length <= 1000 ? URL.parse(url) : null;
  if (parsed === null || parsed.origin !== origin || parsed.username !== '' || parsed.password !== '')
    throw new DstackError(
      'ACME_ORIGIN',
      `the authority named ${words(String(url))}, which is not at ${origin} as its directory is`,
    );
  return parsed;
}

interface Exchanged {
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

function exchange(
  url: URL,
  { method, data }: ClientRequest,
  agent: Agent,
  options: TransportOptions,
): Promise<Exchanged> {
  const within = AbortSignal.timeout(options.answeredWithin ?? ANSWERED_WITHIN);
  const signal = options.signal === undefined ? within : AbortSignal.any([within, options.signal]);
  const sent = typeof data === 'string' ? data : undefined;
  return new Promise<Exchanged>((resolve, reject) => {
    const fail = (cause: unknown) => reject(unreachable(url, cause));
    const req = request(url, {
      method: method?.toUpperCase() ?? 'GET',
      agent,
      signal,
      headers: {
        'user-agent': 'dstack',
        'accept-language': 'en',
        accept: 'application/json, application/pem-certificate-chain',
        ...(sent !== undefined && {
          'content-type': 'application/jose+json',
          'content-length': Buffer.byteLength(sent),
        }),
      },
    });
    answerTo(req).then((response) => {
      const declared = Number(response.headers['content-length'] ?? 0);
      if (declared > MAX_ANSWER) {
        req.destroy();
        reject(tooMuch());
        return;
      }
      readText(response, MAX_ANSWER).then(
        (text) => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
        (error: unknown) => (codeOf(error) === 'BODY_TOO_LARGE' ? reject(tooMuch()) : fail(error)),
      );
    }, fail);
    req.end(sent);
  });
}

const tooMuch = (): DstackError =>
  new DstackError('ACME_ANSWER', `the authority's answer has more than ${MAX_ANSWER} bytes`);

function unreachable(url: URL, cause: unknown): DstackError {
  const { name, message } = cause as Error;
  const why = name === 'TimeoutError' || name === 'AbortError' ? 'it did not answer in time' : message;
  return new DstackError('ACME_UNREACHABLE', `cannot reach the authority at ${url.host}: ${words(why)}`, {
    cause,
  });
}

/** RFC 7807. */
const ProblemSchema = Type.Object({
  type: Type.Optional(Type.String({ maxLength: 200 })),
  detail: Type.Optional(Type.String()),
});
const PREFIX = 'urn:ietf:params:acme:error:';

function problemOf(text: string): { type: string; detail: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { type: '', detail: 'without a reason that can be read' };
  }
  if (!Value.Check(ProblemSchema, value)) return { type: '', detail: 'without a reason' };
  const { type = '', detail = '' } = value as Static<typeof ProblemSchema>;
  return { type: type.startsWith(PREFIX) ? type.slice(PREFIX.length) : '', detail };
}

/** Seconds. Dates (RFC 9110, section 10.2.3) are not read: they are by the authority's clock. */
export function retryAfterOf(header: unknown): number | undefined {
  return typeof header === 'string' && /^\d{1,9}$/.test(header) ? Number(header) : undefined;
}

/** Text of somebody else's for a log or a status: one line, and not much of it. */
export const words = (text: string): string => printable(text.slice(0, MAX_DETAIL));
