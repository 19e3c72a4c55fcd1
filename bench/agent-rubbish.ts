/**
 * What the agent refuses, each kind at its dearest: as much as may be sent, or as many of what is counted. Each is sent again as soon as it
 * is answered, or the connection made again when it is closed.
 */
import { BODY_MAX_BYTES as MOST } from '../lib/protocol/agent-api.ts';

const HEADERS_MAX_BYTES = 16 * 1024;
const JSON_TYPE = 'Content-Type: application/json\r\n';

const start = (line: string, ...headers: readonly string[]): string =>
  `${line} HTTP/1.1\r\nHost: dstack-guest\r\n${headers.join('')}`;
const sized = (body: string | Buffer, type = JSON_TYPE, path = '/v1/key'): Buffer => {
  const bytes = Buffer.from(body);
  return Buffer.concat([
    Buffer.from(`${start(`POST ${path}`, type, `Content-Length: ${bytes.length}\r\n`)}\r\n`),
    bytes,
  ]);
};
const get = (path: string, ...headers: readonly string[]): Buffer =>
  Buffer.from(`${start(`GET ${path}`, ...headers)}\r\n`);
/** A text of the largest size of a body, with so many of the piece in it as there is room for. */
const filled = (begin: string, piece: string, end = ''): string => {
  const room = MOST - begin.length - end.length;
  return `${begin}${piece.repeat(Math.floor(room / piece.length))}${end}`;
};
const chunksOf = (text: string, size: number): string =>
  text
    .match(new RegExp(`.{1,${size}}`, 'gs'))!
    .reduce((all, one) => `${all}${one.length.toString(16)}\r\n${one}\r\n`, '');
/** 128 values in all: as many as are looked at. */
const members = (count: number, name: (at: number) => string): string =>
  `{${Array.from({ length: count }, (_, at) => `${JSON.stringify(name(at))}:1`).join(',')}}`;
const chunked = (text: string, size: number): Buffer =>
  Buffer.from(
    `${start('POST /v1/key', JSON_TYPE, 'Transfer-Encoding: chunked\r\n')}\r\n${chunksOf(text, size)}0\r\n\r\n`,
  );

export const RUBBISH: Readonly<Record<string, Buffer>> = {
  // Bodies that are read to their end.
  'no-json': sized(filled('{"tag":"', 'a')),
  'bad-end': sized(filled('{"tag":"a","type":"', 'a', '"]')),
  escapes: sized(filled('{"tag":"', '\\u0041', '","type":"raw"}')),
  quotes: sized(filled('{"tag":"', '\\"', '","type":"raw"}')),
  utf8: sized(Buffer.from(filled('{"tag":"', '\u00ff', '","type":"raw"}'), 'latin1').subarray(0, MOST)),
  // Three bytes each.
  letters: sized(`{"tag":"${'€'.repeat(MOST / 3 - 20)}","type":"raw"}`),
  deep: sized(filled('['.repeat(126), ' ')),
  values: sized(members(127, (at) => `${at}`.padEnd(280, 'k'))),
  'too-many-values': sized(filled('[', '1,', '1]')),
  'long-data': sized(filled('{"tag":"a","algorithm":"ed25519","data":"', 'zz', '"}'), JSON_TYPE, '/v1/sign'),
  'many-names': sized(
    `{"path":"","alt_names":[${Array.from({ length: 124 }, () => `"${'a.'.repeat(140)}"`).join(',')}]}`,
    JSON_TYPE,
    '/prpc/Tappd.DeriveKey',
  ),
  'tiny-chunks': chunked(filled('{"tag":"', 'a'), 1),
  // Refused by their headers.
  'too-large': sized(members(4_000, (at) => `k${at}`)),
  type: sized(filled('{"tag":"', 'a', '"}'), 'Content-Type: text/plain\r\n'),
  nowhere: get('/nowhere'),
  'body-to-nowhere': sized(filled('{"tag":"', 'a', '"}'), JSON_TYPE, '/nowhere'),
  'long-path': get(`/v1/info${'/'.repeat(HEADERS_MAX_BYTES - 200)}`),
  'bad-data': get(`/attest/x/${'0g'.repeat(8_000)}`),
  method: Buffer.from(`${start('DELETE /v1/key')}\r\n`),
  host: Buffer.from('GET /v1/status HTTP/1.1\r\nHost: elsewhere\r\n\r\n'),
  forwarded: get('/v1/status', 'Via: 1.1 proxy\r\n'),
  'many-headers': get('/nowhere', 'a:\r\n'.repeat(3_000)),
  'long-header': get('/nowhere', `A: ${'a'.repeat(HEADERS_MAX_BYTES - 200)}\r\n`),
  cookies: get('/nowhere', 'Cookie: a\r\n'.repeat(1_200)),
  expects: Buffer.from(
    `${start('POST /nowhere', JSON_TYPE, 'Content-Length: 9\r\n', 'Expect: 100-continue\r\n')}\r\n`,
  ),
  upgrade: get('/nowhere', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'),
  // Of these the server closes the connection.
  'no-http': Buffer.from('\r\n\r\nno HTTP\r\n'),
  'too-many-headers': get('/nowhere', `A: ${'a'.repeat(HEADERS_MAX_BYTES)}\r\n`),
  'two-lengths': Buffer.from(`${start('POST /v1/key', 'Content-Length: 1\r\nContent-Length: 2\r\n')}\r\n`),
  connect: Buffer.from('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n'),
  once: get('/nowhere', 'Connection: close\r\n'),
  half: sized(filled('{"tag":"', 'a')).subarray(0, MOST / 2),
};
