/** Downloads raw bytes over HTTP from an untrusted server: bounded in time and size, no redirects. */
import { DstackError } from '../lib/protocol/errors.ts';

const TIMEOUT_MS = 10_000;
/** A server that wants fewer requests is asked again so often, after the time that it names: that much at most, or a second. */
const MAX_PAUSES = 30;
const PAUSE_MS = { shortest: 50, unsaid: 1_000, longest: 30_000 };

/**
 * Raw bytes, because a parser in between would not preserve what was hashed.
 * @param until ends it earlier than its own ten seconds; with it, a server that wants fewer requests is waited for until then
 * @throws an error with `code` for whatever goes wrong
 */
export async function download(
  url: string,
  maxBytes: number,
  code: string,
  until?: AbortSignal,
): Promise<Uint8Array> {
  for (let pauses = 0; ; pauses += 1) {
    const found = await attempt(url, maxBytes, code, until);
    if ('bytes' in found) return found.bytes;
    if (until === undefined || pauses === MAX_PAUSES || !(await rested(found.pause, until))) {
      throw new DstackError(code, `${url} answers HTTP ${found.status}`);
    }
  }
}

/** False when it was not to be waited for so long. */
function rested(milliseconds: number, until: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      until.removeEventListener('abort', ended);
      resolve(true);
    }, milliseconds);
    const ended = () => {
      clearTimeout(timer);
      resolve(false);
    };
    if (until.aborted) ended();
    else until.addEventListener('abort', ended, { once: true });
  });
}

/** RFC 9110, 10.2.3: seconds, or a date. */
function pauseOf(header: string | null): number {
  const said =
    header === null
      ? Number.NaN
      : /^\d{1,9}$/.test(header)
        ? 1000 * Number(header)
        : Date.parse(header) - Date.now();
  const { shortest, unsaid, longest } = PAUSE_MS;
  return Number.isNaN(said) ? unsaid : Math.min(longest, Math.max(shortest, said));
}

type Attempt = { readonly bytes: Uint8Array } | { readonly status: number; readonly pause: number };

async function attempt(url: string, maxBytes: number, code: string, until?: AbortSignal): Promise<Attempt> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const own = AbortSignal.timeout(TIMEOUT_MS);
  const signal = until === undefined ? own : AbortSignal.any([own, until]);
  try {
    const response = await fetch(url, { redirect: 'error', signal });
    const { status } = response;
    const retryAfter = response.headers.get('retry-after');
    if (status === 429 || (status === 503 && retryAfter !== null)) {
      await response.body?.cancel();
      return { status, pause: pauseOf(retryAfter) };
    }
    if (!response.ok) throw new DstackError(code, `${url} answers HTTP ${response.status}`);
    for await (const chunk of response.body ?? []) {
      size += chunk.length;
      if (size > maxBytes) throw new DstackError(code, `${url} answers with more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    const { message, cause: inner } = cause as Error & { cause?: { code?: string } };
    throw new DstackError(code, `no reply from ${url}: ${inner?.code ?? message}`, { cause });
  }
  return { bytes: Buffer.concat(chunks) };
}
