/** Downloads raw bytes over HTTP from an untrusted server: bounded in time and size, no redirects. */
import { DstackError } from '../lib/protocol/errors.ts';

const TIMEOUT_MS = 10_000;

/**
 * Raw bytes, because a parser in between would not preserve what was hashed.
 * @param until ends it earlier than its own ten seconds
 * @throws an error with `code` for whatever goes wrong
 */
export async function download(
  url: string,
  maxBytes: number,
  code: string,
  until?: AbortSignal,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const own = AbortSignal.timeout(TIMEOUT_MS);
  const signal = until === undefined ? own : AbortSignal.any([own, until]);
  try {
    const response = await fetch(url, { redirect: 'error', signal });
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
  return Buffer.concat(chunks);
}
