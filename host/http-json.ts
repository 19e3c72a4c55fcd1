/**
 * JSON, or any bytes, over HTTP from a server that is not trusted: bounded in time and size, and without redirects. Checking
 * the form of a reply is up to the caller. All requests of the host's services to others go through here.
 */
import { DstackError } from '../lib/protocol/errors.ts';

export interface HttpJsonOptions {
  url: string;
  /** Absent: a GET. */
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  /** Milliseconds, for the whole exchange. */
  timeout: number;
  /** Larger replies are refused, bytes. */
  maxBytes: number;
  signal?: AbortSignal;
}

export interface HttpJsonReply {
  status: number;
  value: unknown;
}

/**
 * One exchange. Any status is returned, since a refusal has a JSON body too.
 * @throws HTTP_UNREACHABLE (no reply in time), HTTP_TOO_LARGE, HTTP_NOT_JSON
 */
export async function httpJson(options: HttpJsonOptions): Promise<HttpJsonReply> {
  const { status, bytes } = await httpBytes(options);
  try {
    return { status, value: JSON.parse(bytes.toString('utf8')) };
  } catch (cause) {
    throw new DstackError(
      'HTTP_NOT_JSON',
      `${options.url} answered HTTP ${status} with something that is not JSON`,
      { cause },
    );
  }
}

export interface HttpBytesReply {
  status: number;
  headers: Headers;
  bytes: Buffer;
}

/**
 * The same, for replies that are not JSON.
 * @throws HTTP_UNREACHABLE (no reply in time, or a redirect), HTTP_TOO_LARGE
 */
export async function httpBytes(options: HttpJsonOptions): Promise<HttpBytesReply> {
  const timeout = AbortSignal.timeout(options.timeout);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  try {
    const response = await fetch(options.url, {
      redirect: 'error',
      signal,
      ...(options.body === undefined
        ? { headers: options.headers ?? {} }
        : {
            method: 'POST',
            body: JSON.stringify(options.body),
            headers: { ...options.headers, 'content-type': 'application/json' },
          }),
    });
    const bytes = await boundedBytes(response, options.maxBytes, options.url);
    return { status: response.status, headers: response.headers, bytes };
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('HTTP_UNREACHABLE', `no reply from ${options.url}: ${reasonOf(cause)}`, { cause });
  }
}

export interface HttpStreamOptions {
  url: string;
  headers?: Readonly<Record<string, string>>;
  /** Milliseconds, for the whole exchange. */
  timeout: number;
  /** Milliseconds without a byte. */
  stalledAfter: number;
  signal?: AbortSignal;
}

export interface HttpStreamReply {
  status: number;
  headers: Headers;
  /** To be read to its end, or returned from: the connection is held by it. Rejects with HTTP_UNREACHABLE. */
  body: AsyncGenerator<Uint8Array, void, void>;
}

/**
 * The beginning of a reply of any size, whose bytes come as they are read.
 * @throws HTTP_UNREACHABLE (no reply in time, or a redirect)
 */
export async function httpStream(options: HttpStreamOptions): Promise<HttpStreamReply> {
  const { url, headers = {}, timeout, stalledAfter } = options;
  const stalled = new AbortController();
  const signals = [AbortSignal.timeout(timeout), stalled.signal, ...(options.signal ? [options.signal] : [])];
  const inTime = async <T>(wait: Promise<T>): Promise<T> => {
    const timer = setTimeout(() => stalled.abort(new Error('nothing came any more')), stalledAfter);
    try {
      return await wait;
    } catch (cause) {
      throw new DstackError('HTTP_UNREACHABLE', `no reply from ${url}: ${reasonOf(cause)}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  };
  // Bytes are counted and compared as they come: nothing may unpack them on the way.
  const asked = { ...headers, 'accept-encoding': 'identity' };
  const response = await inTime(
    fetch(url, { redirect: 'error', signal: AbortSignal.any(signals), headers: asked }),
  );
  const reader = response.body?.getReader();
  async function* body(): AsyncGenerator<Uint8Array, void, void> {
    try {
      for (;;) {
        const piece = await inTime(reader?.read() ?? Promise.resolve({ done: true, value: undefined }));
        if (piece.done) return;
        yield piece.value;
      }
    } finally {
      await reader?.cancel().catch(() => undefined);
    }
  }
  return { status: response.status, headers: response.headers, body: body() };
}

async function boundedBytes(response: Response, maxBytes: number, url: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    // Leaving the loop cancels the stream, and with it the connection.
    if (size > maxBytes)
      throw new DstackError('HTTP_TOO_LARGE', `${url} answered with more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** fetch hides the reason (`ECONNREFUSED`) in the cause. */
function reasonOf(error: unknown): string {
  const { message, cause, name } = error as Error & { cause?: { code?: string; message?: string } };
  if (name === 'TimeoutError') return 'it took too long';
  return cause?.code ?? cause?.message ?? message;
}
