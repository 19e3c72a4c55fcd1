/** The enclave as its host reaches it over HTTP. What it answers is bounded here, and checked by whoever asked. */
import { request } from 'node:http';
import { type Static, Type } from 'typebox';
import { answerTo } from '../../daemon/http-answer.ts';
import { readText } from '../../daemon/http-body.ts';
import { codeOf, DstackError, messageOf, Retryable } from '../../protocol/errors.ts';
import { check } from '../../protocol/schema.ts';
import type { Enclave } from '../handler.ts';

const REPLY_MAX_BYTES = 1024 * 1024;
const TIMEOUT_MS = 60_000;

const RefusalSchema = Type.Object({
  // An author's own codes may have any form.
  code: Type.String({ pattern: '^[!-~]+$', maxLength: 64 }),
  message: Type.String({ maxLength: 4096 }),
});

/** What passes once the enclave's chain is where the host's is. */
const BEHIND: readonly string[] = ['REQUEST_AHEAD', 'REQUEST_NOT_ON_CHAIN', 'REQUEST_SETTLED'];

/**
 * @param url of the enclave's server, such as `http://127.0.0.1:8080`
 * @returns whose `request` throws Retryable ENCLAVE_UNREACHABLE; a refusal keeps the enclave's own code, and is Retryable when it may pass
 */
export function enclaveAt(url: string, { timeout = TIMEOUT_MS }: { timeout?: number } = {}): Enclave {
  const base = url.replace(/\/$/, '');
  return {
    async request(path, body) {
      let reply: { status: number; value: unknown };
      try {
        reply = await exchange(base + path, body, timeout);
      } catch (cause) {
        const why = cause instanceof DstackError ? codeOf(cause) : messageOf(cause);
        throw new Retryable('ENCLAVE_UNREACHABLE', `the enclave did not answer ${path}: ${why}`, { cause });
      }
      const { status, value } = reply;
      if (status === 200) return value;
      const { code, message } = refusalIn(value, status, path);
      const text = `the enclave refuses ${path}: ${message}`;
      throw status >= 500 || BEHIND.includes(code) ? new Retryable(code, text) : new DstackError(code, text);
    },
  };
}

/** @throws ENCLAVE_REPLY for another form, as of something between the two; Retryable when its status says that it may pass */
function refusalIn(value: unknown, status: number, path: string): Static<typeof RefusalSchema> {
  try {
    return check(RefusalSchema, value, 'ENCLAVE_REPLY', `the enclave's refusal of ${path}`);
  } catch (cause) {
    if (status < 500 && status !== 429) throw cause;
    throw new Retryable('ENCLAVE_REPLY', `${path} was answered with HTTP ${status}`, { cause });
  }
}

async function exchange(
  url: string,
  body: unknown,
  timeout: number,
): Promise<{ status: number; value: unknown }> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers =
    text === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const method = text === undefined ? 'GET' : 'POST';
  const asked = request(url, { method, headers, signal: AbortSignal.timeout(timeout) });
  const answer = answerTo(asked);
  asked.end(text);
  const response = await answer;
  return {
    status: response.statusCode ?? 0,
    value: JSON.parse(await readText(response, REPLY_MAX_BYTES)) as unknown,
  };
}
