/** Bodies of requests and replies, read up to a bound. */
import type { IncomingMessage } from 'node:http';
import { DstackError } from '../protocol/errors.ts';

/** All of a stream. @throws BODY_TOO_LARGE beyond `maxBytes` */
export async function readBytes(stream: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export const tooLarge = (maxBytes: number): DstackError =>
  new DstackError('BODY_TOO_LARGE', `a body of more than ${maxBytes} bytes is not read`);

/** A reply as text; one that is too large closes the connection. @throws BODY_TOO_LARGE */
export async function readText(reply: IncomingMessage, maxBytes: number): Promise<string> {
  return (await readBytes(reply, maxBytes)).toString('utf8');
}

/** @throws BODY_NOT_JSON */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DstackError('BODY_NOT_JSON', 'the body is not JSON', { cause });
  }
}
