/**
 * HPACK (RFC 7541) without a dynamic table: our settings forbid the peer one, so a block of headers says the same whenever it comes,
 * and equal blocks, as nearly all answers have, are decoded once.
 */
import { DstackError } from '../../../lib/protocol/errors.ts';

export type Headers = ReadonlyMap<string, string>;

/** Appendix A: the entries that have a value, then the names alone. */
const staticPairs = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((code) => [':status', code]),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
] as [string, string][];
const staticNames =
  'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control content-disposition content-encoding content-language content-length content-location content-range content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate';
const staticTable: readonly (readonly [string, string])[] = [
  ...staticPairs,
  ...staticNames.split(' ').map((name) => [name, ''] as const),
];

/** Appendix B: the length of each octet's code. The codes follow from the lengths: they are canonical. */
const codeLengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LONGEST = 30;

/** The octets whose codes have each length, in the order of their codes, and the first of these codes. */
const byLength: { first: number; octets: number[] }[] = [];
for (let length = 0, next = 0; length <= LONGEST; length++) {
  const octets = [...codeLengths.keys()].filter((octet) => codeLengths[octet] === length);
  byLength.push({ first: next, octets });
  next = (next + octets.length) * 2;
}

function decodeHuffman(bytes: Uint8Array): Buffer {
  const out: number[] = [];
  let code = 0;
  let length = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1);
      length++;
      if (length > LONGEST) throw invalid('a Huffman code that is too long');
      const { first, octets } = byLength[length]!;
      const octet = octets[code - first];
      if (octet === undefined) continue;
      out.push(octet);
      code = 0;
      length = 0;
    }
  }
  // Padding: fewer than eight bits, all ones (section 5.2).
  if (length > 7 || code !== 2 ** length - 1) throw invalid('Huffman padding');
  return Buffer.from(out);
}

function invalid(what: string): DstackError {
  return new DstackError('HTTP2_INVALID', `etcd sent headers with ${what}`);
}

/** A block of headers being read. */
class Reader {
  readonly #block: Uint8Array;
  position = 0;

  constructor(block: Uint8Array) {
    this.#block = block;
  }

  get done(): boolean {
    return this.position >= this.#block.length;
  }

  peek(): number {
    return this.#block[this.position] ?? 0;
  }

  /** Section 5.1, with a prefix of so many bits. */
  integer(bits: number): number {
    const mask = 2 ** bits - 1;
    let value = this.#next() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (shift > 21) throw invalid('an integer that is too large');
      const byte = this.#next();
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }

  text(): string {
    const huffman = this.peek() >= 128;
    const length = this.integer(7);
    const bytes = this.#block.subarray(this.position, this.position + length);
    if (bytes.length < length) throw invalid('a string that is cut off');
    this.position += length;
    return (huffman ? decodeHuffman(bytes) : Buffer.from(bytes)).toString('latin1');
  }

  #next(): number {
    const byte = this.#block[this.position++];
    if (byte === undefined) throw invalid('an integer that is cut off');
    return byte;
  }
}

function decode(block: Uint8Array): Headers {
  const headers = new Map<string, string>();
  const reader = new Reader(block);
  const entry = (index: number): readonly [string, string] => {
    const found = staticTable[index - 1];
    if (found === undefined) throw invalid(`index ${index}, which is in no table`);
    return found;
  };
  while (!reader.done) {
    const first = reader.peek();
    if (first >= 128) {
      headers.set(...entry(reader.integer(7)));
    } else if (first >= 32 && first < 64) {
      if (reader.integer(5) > 0) throw invalid('a dynamic table');
    } else {
      // Literals; the ones that would go into the table have six bits of index.
      const index = reader.integer(first >= 64 ? 6 : 4);
      const name = index === 0 ? reader.text() : entry(index)[0];
      headers.set(name, reader.text());
    }
  }
  return headers;
}

const MAX_REMEMBERED = 64;
const MAX_REMEMBERED_BYTES = 256;
const remembered = new Map<string, Headers>();

/** @throws DstackError HTTP2_INVALID */
export function decodeHeaders(block: Uint8Array): Headers {
  if (block.length > MAX_REMEMBERED_BYTES) return decode(block);
  const key = Buffer.from(block.buffer, block.byteOffset, block.length).toString('latin1');
  const known = remembered.get(key);
  if (known !== undefined) return known;
  const headers = decode(block);
  if (remembered.size < MAX_REMEMBERED) remembered.set(key, headers);
  return headers;
}

/** Literals without indexing and without Huffman codes (section 6.2.2): the peer need remember nothing either. */
export function encodeHeaders(headers: Iterable<readonly [string, string]>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of headers) {
    parts.push(Buffer.from([0]), encodeText(name), encodeText(value));
  }
  return Buffer.concat(parts);
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}
