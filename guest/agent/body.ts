/** The body of a request: how large it may be, and how it is read and looked at. */
import type { IncomingMessage } from 'node:http';
import type { TSchema } from 'typebox';
import { readBytes } from '../../lib/daemon/http-body.ts';
import { BODY_MAX_BYTES } from '../../lib/protocol/agent-api.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { hasMoreValues } from '../../lib/protocol/json.ts';
import { parseJson } from '../../lib/protocol/schema.ts';

/** The most values that a body has: there are calls with a dozen fields, one of them a list of sixteen. Thousands take milliseconds to refuse. */
const BODY_MAX_VALUES = 128;

/** @throws BODY_TYPE, BODY_TOO_LARGE, BODY_CUT */
export async function bodyOf(request: IncomingMessage): Promise<string> {
  // What a web page in an app's browser can send without asking has another type (Fetch, CORS-safelisted headers).
  if (!/^application\/json *(;|$)/i.test(request.headers['content-type'] ?? ''))
    throw new DstackError(
      'BODY_TYPE',
      'a body is JSON and comes as content-type application/json: curl says so with --json',
    );
  try {
    if (Number(request.headers['content-length'] ?? 0) > BODY_MAX_BYTES) throw tooLarge();
    const bytes = await readBytes(request.iterator({ destroyOnReturn: false }), BODY_MAX_BYTES);
    return bytes.toString('utf8');
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('BODY_CUT', 'the connection ended before the body did', { cause });
  }
}

/** @throws BAD_BODY */
export function parseBody(schema: TSchema, text: string): unknown {
  if (hasMoreValues(text, BODY_MAX_VALUES))
    throw new DstackError(
      'BAD_BODY',
      `the body has more than ${BODY_MAX_VALUES} values: no call has as many`,
    );
  return parseJson(schema, text, 'BAD_BODY', 'the body', BODY_MAX_BYTES);
}

const tooLarge = () =>
  new DstackError('BODY_TOO_LARGE', `a body of more than ${BODY_MAX_BYTES} bytes is not read`);
