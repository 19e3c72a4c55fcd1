/**
 * A secret in every form in which it could occur: as bytes in any order, as hex, base64, base32, numbers. Where possible each
 * half is searched for separately, so that half a secret, or one that a line break splits, is found as well.
 */

/** A secret by the name under which a hit is reported. */
export interface Secret {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** One thing to look for. */
export interface Pattern {
  /** Which secret, and how it is written. Never the secret itself. */
  readonly name: string;
  readonly bytes: Buffer;
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const BASE64URL = `${BASE64.slice(0, 62)}-_`;
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
/** Anything shorter would be found in random data. Bytes. */
const SHORTEST = 8;

/** Every pattern of every secret, each once. */
export function patternsOf(secrets: readonly Secret[]): Pattern[] {
  const found = new Map<string, Pattern>();
  for (const { name, bytes } of secrets) {
    for (const [form, text] of formsOf(Buffer.from(bytes))) {
      if (text.length >= SHORTEST)
        found.set(text.toString('latin1'), { name: `${name} as ${form}`, bytes: text });
    }
  }
  return [...found.values()];
}

function* formsOf(bytes: Buffer): Generator<[string, Buffer]> {
  for (const [order, ordered] of orders(bytes)) {
    for (const [part, half] of halves(ordered)) {
      for (const [form, text] of textsOf(half)) yield [`${form}${order}${part}`, text];
    }
  }
  for (const [order, ordered] of [
    ['', bytes],
    [', reversed', reversed(bytes)],
  ] as const) {
    yield [`a decimal number${order}`, Buffer.from(BigInt(`0x${ordered.toString('hex')}`).toString())];
    yield [`base58${order}`, Buffer.from(base58(ordered))];
  }
}

/** Verbatim, reversed, and as 32-bit words in the other byte order. */
function orders(bytes: Buffer): [string, Buffer][] {
  const words =
    bytes.length % 4 === 0 ? [[', words swapped', Buffer.from(bytes).swap32()] as [string, Buffer]] : [];
  return [['', bytes], [', reversed', reversed(bytes)], ...words];
}

function halves(bytes: Buffer): [string, Buffer][] {
  if (bytes.length < 32) return [['', bytes]];
  const middle = bytes.length / 2;
  return [
    [', first half', bytes.subarray(0, middle)],
    [', second half', bytes.subarray(middle)],
  ];
}

function* textsOf(bytes: Buffer): Generator<[string, Buffer]> {
  yield ['bytes', bytes];
  const pairs = [...bytes].map((byte) => byte.toString(16).padStart(2, '0'));
  const spellings = { hex: pairs, HEX: pairs.map((pair) => pair.toUpperCase()) };
  for (const [name, digits] of Object.entries(spellings)) {
    for (const separator of [
      '',
      ':',
      ' ',
      '-',
      ', ',
      ',',
      '\n',
      ':\n',
      ',0x',
      ', 0x',
      ' 0x',
      '\\x',
      '%',
      '\\u00',
    ]) {
      yield [`${name} by ${JSON.stringify(separator)}`, Buffer.from(digits.join(separator))];
    }
    yield [`${name} in UTF-16`, Buffer.from(digits.join(''), 'utf16le')];
    for (const size of [2, 4, 8]) yield [`${name} in groups of ${size}`, Buffer.from(grouped(digits, size))];
  }
  for (const separator of [',', ', ', ' ', ',\n']) {
    yield [`decimal bytes by ${JSON.stringify(separator)}`, Buffer.from([...bytes].join(separator))];
  }
  // An object with indices is what JSON.stringify makes of a Uint8Array; where it begins is not known.
  for (const start of [0, 16]) {
    const members = [...bytes].map((byte, at) => `"${start + at}":${byte}`);
    yield ['a JSON object of bytes', Buffer.from(members.join(','))];
  }
  for (const [name, alphabet] of Object.entries({ base64: BASE64, base64url: BASE64URL })) {
    for (const offset of [0, 1, 2]) {
      const text = window(bytes, offset, alphabet);
      yield [`${name} at ${offset}`, Buffer.from(text)];
      yield [`${name} in UTF-16 at ${offset}`, Buffer.from(text, 'utf16le')];
    }
  }
  for (const alphabet of [BASE32, BASE32.toLowerCase()]) {
    for (let offset = 0; offset < 5; offset++) {
      yield [`base32 at ${offset}`, Buffer.from(window(bytes, offset, alphabet))];
    }
  }
}

/** Bytes by twos, fours and eights, as `xxd` and `od` print them. */
function grouped(pairs: readonly string[], size: number): string {
  const groups: string[] = [];
  for (let at = 0; at < pairs.length; at += size) groups.push(pairs.slice(at, at + size).join(''));
  return groups.join(' ');
}

/** The digits that these bytes alone decide, when so many other bytes stand before them and any after (RFC 4648). */
function window(bytes: Uint8Array, offset: number, alphabet: string): string {
  const bits = Math.log2(alphabet.length);
  const value = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  const length = bytes.length * 8;
  let text = '';
  for (let digit = Math.ceil((offset * 8) / bits); (digit + 1) * bits <= offset * 8 + length; digit++) {
    const end = (digit + 1) * bits - offset * 8;
    text += alphabet[Number((value >> BigInt(length - end)) & BigInt(alphabet.length - 1))];
  }
  return text;
}

function base58(bytes: Buffer): string {
  let rest = BigInt(`0x${bytes.toString('hex')}`);
  let text = '';
  for (; rest > 0n; rest /= 58n) text = BASE58[Number(rest % 58n)] + text;
  return text;
}

function reversed(bytes: Buffer): Buffer {
  return Buffer.from(bytes).reverse();
}
