/**
 * What a request to the agent may look like. An app's own program sends a plain request. One that was forwarded, or that a
 * browser or a confused proxy sends, carries one of these marks and is refused before anything is looked up.
 */
import type { IncomingMessage } from 'node:http';
import { fromHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { ATTEST_MAX_BYTES } from '../../lib/protocol/sockets.ts';

/** By which name an app asks by way of its bridge. */
export const HOST = 'dstack-guest';
const FORWARDED =
  /^(forwarded|via|origin|x-real-ip|x-forwarded(-.*)?|x-original-.*|true-client-ip|cf-connecting-ip)$/;
const TAG = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * @param hosts what the request must be for, one of them: of a socket's, which is a container's own, any
 * @throws WRONG_HOST, FORWARDED_REQUEST
 */
export function assertPlain(request: IncomingMessage, hosts: readonly string[] | 'any'): void {
  const headers = request.rawHeaders.filter((_, i) => i % 2 === 0).map((name) => name.toLowerCase());
  const { host = '' } = request.headers;
  const isOnce = headers.filter((name) => name === 'host').length === 1;
  if (!isOnce || (hosts !== 'any' && !hosts.includes(host)) || !request.url?.startsWith('/')) {
    const names = (hosts === 'any' ? [HOST] : hosts).map((name) => `http://${name}/…`).join(' or ');
    throw new DstackError('WRONG_HOST', `ask ${names}, by exactly that name`);
  }
  const mark = headers.find((name) => FORWARDED.test(name));
  const site = request.headers['sec-fetch-site'];
  const isForeign = site !== undefined && site !== 'none' && site !== 'same-origin';
  if (mark !== undefined || isForeign) {
    throw new DstackError(
      'FORWARDED_REQUEST',
      `the request carries ${mark ?? 'sec-fetch-site'}: the agent answers the app itself, not requests that it forwards`,
    );
  }
}

/** A request's path, taken apart. */
export type Question =
  | { kind: 'getkey'; tag: string }
  | { kind: 'attest' | 'appdata'; tag: string; data: Uint8Array }
  | { kind: 'info' };

/** @throws NO_ROUTE, BAD_TAG, BAD_DATA */
export function parseQuestion(url: string): Question {
  // No more parts than tell it apart: a path of slashes alone has thousands.
  const [, kind, tag, data, ...rest] = url.split('/', 5);
  if (kind === 'info' && tag === undefined) return { kind };
  if (kind === 'getkey' && tag !== undefined && data === undefined) return { kind, tag: checkTag(tag) };
  if ((kind === 'attest' || kind === 'appdata') && data !== undefined && rest.length === 0) {
    return { kind, tag: checkTag(tag!), data: checkData(data) };
  }
  throw new DstackError(
    'NO_ROUTE',
    'the agent has /getkey/<tag>, /attest/<tag>/<hex>, /appdata/<tag>/<hex>, /info, and what /openapi.json lists',
  );
}

function checkTag(tag: string): string {
  if (!TAG.test(tag)) throw new DstackError('BAD_TAG', 'a tag is 1 to 64 of A-Z a-z 0-9 . _ -');
  return tag;
}

function checkData(digits: string): Uint8Array {
  if (digits.length > ATTEST_MAX_BYTES * 2 || digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) {
    throw new DstackError('BAD_DATA', `data is at most ${ATTEST_MAX_BYTES} bytes of hex, without 0x`);
  }
  return fromHex(digits);
}
