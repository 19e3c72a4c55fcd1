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

/** Of arrays and objects within each other. */
const LEVELS_MAX = 100;

/** @throws BODY_NOT_JSON; BODY_TOO_DEEP for what JSON.parse takes and JSON.stringify, or a schema, would overflow the stack with */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DstackError('BODY_NOT_JSON', 'the body is not JSON', { cause });
  }
  if (isDeeper(value, LEVELS_MAX))
    throw new DstackError('BODY_TOO_DEEP', `JSON with more than ${LEVELS_MAX} levels is not read`);
  return value;
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((one) => isDeeper(one, levels - 1));
}

/** Bytes of a value as JSON: more than it came with, maybe, since `1e20` is written with 21 digits. */
export const bytesAsJson = (value: unknown): number => Buffer.byteLength(JSON.stringify(value) ?? '');
