/**
 * Solidity's contract ABI, as much of it as the network's contract uses: a codec for each type, made of others like a schema.
 * The generated network-contract.ts is made of these, so that no daemon has to load a general library for plain words.
 *
 * Encodings are lower-case hex without `0x`. A decoder takes exactly the bytes that its encoder makes (Solidity's own): what
 * was padded, cut, reordered or shared differently is refused, since no contract of ours can have said it.
 *
 * Source: Solidity documentation, "Contract ABI Specification" (strict encoding mode).
 */
import { to0x, utf8 } from './encoding.ts';
import { DstackError } from './errors.ts';
import type { Address, Hex } from './hex.ts';
import { checksumAddress } from './secp256k1.ts';

export interface Codec<T> {
  /** Words (32 bytes) that a static value takes; 1, its offset, for a dynamic one. */
  readonly words: number;
  readonly dynamic: boolean;
  encode(value: T): string;
  /** @param at where in `data` the value begins, in digits. Throws, or reads too much, for what `decodeStrictly` refuses. */
  decode(data: string, at: number): T;
}

/** The type of a codec's values. */
export type Decoded<C> = C extends Codec<infer T> ? T : never;

const WORD = 64;
const SMALL_BITS = 48;

/**
 * @param data `0x` hex, of either case
 * @param what for the message
 * @throws DstackError CONTRACT_DATA_INVALID for any other bytes than the encoding of one value
 */
export function decodeStrictly<T>(codec: Codec<T>, data: string, what: string): T {
  const digits = /^0x([0-9a-f]*)$/i.exec(data)?.[1]?.toLowerCase();
  if (digits !== undefined) {
    try {
      const value = codec.decode(digits, 0);
      if (codec.encode(value) === digits) return value;
    } catch (cause) {
      throw invalid(what, cause);
    }
  }
  throw invalid(what);
}

function invalid(what: string, cause?: unknown): DstackError {
  return new DstackError(
    'CONTRACT_DATA_INVALID',
    `what should be the contract's ${what} has another shape`,
    cause === undefined ? undefined : { cause },
  );
}

/** For a value that the type cannot have. Callers of decoders see CONTRACT_DATA_INVALID, callers of encoders this. */
function refuse(type: string, value: unknown): never {
  throw new DstackError('CONTRACT_ARGUMENT_INVALID', `${String(value).slice(0, 100)} is not a valid ${type}`);
}

function wordAt(data: string, at: number): string {
  const word = data.slice(at, at + WORD);
  if (word.length !== WORD) refuse('word', 'the end of the data');
  return word;
}

/** A static type of one word. */
function word<T>(encode: (value: T) => string, decode: (word: string) => T): Codec<T> {
  return { words: 1, dynamic: false, encode, decode: (data, at) => decode(wordAt(data, at)) };
}

/** uint64 and larger ones: a bigint. */
export function bigUint(bits: number): Codec<bigint> {
  const type = `uint${bits}`;
  return word(
    (value) => {
      if (typeof value !== 'bigint' || value < 0n || value >> BigInt(bits) !== 0n) refuse(type, value);
      return value.toString(16).padStart(WORD, '0');
    },
    (digits) => BigInt(`0x${digits}`),
  );
}

/** Up to 48 bits: a number. */
export function smallUint(bits: number): Codec<number> {
  if (bits > SMALL_BITS) throw new DstackError('ABI_UNSUPPORTED', `uint${bits} does not fit a number`);
  const wide = bigUint(bits);
  const type = `uint${bits}`;
  return word(
    (value) => wide.encode(Number.isSafeInteger(value) ? BigInt(value) : refuse(type, value)),
    (digits) => {
      const value = BigInt(`0x${digits}`);
      return value >> BigInt(bits) === 0n ? Number(value) : refuse(type, value);
    },
  );
}

export const bool: Codec<boolean> = word(
  (value) => (typeof value === 'boolean' ? (value ? '1' : '0') : refuse('bool', value)).padStart(WORD, '0'),
  (digits) => BigInt(`0x${digits}`) === 1n,
);

/** `0x` and 40 digits; decoded with EIP-55's checksum. A given one is taken in any case: where it came from checks it. */
export const address: Codec<Address> = word(
  (value) =>
    (value.startsWith('0x') ? hexDigits(value, 20, 'address') : refuse('address', value)).padStart(WORD, '0'),
  (digits) => checksumAddress(new Uint8Array(Buffer.from(digits.slice(24), 'hex'))),
);

/** bytes1 to bytes32: 2 digits a byte, after `0x`; a given one is taken without it too, as messages have it. */
export function fixedBytes(size: number): Codec<Hex> {
  return word(
    (value) => hexDigits(value, size, `bytes${size}`).padEnd(WORD, '0'),
    (digits) => `0x${digits.slice(0, 2 * size)}` as Hex,
  );
}

function hexDigits(value: string, size: number, type: string): string {
  const [, digits] = (typeof value === 'string' && /^(?:0x)?([0-9a-f]*)$/i.exec(value)) || [];
  return digits?.length === 2 * size ? digits.toLowerCase() : refuse(type, value);
}

/** A Solidity enum by its members' names. */
export function enumOf<const Name extends string>(members: readonly Name[]): Codec<Name> {
  const index = smallUint(8);
  return {
    ...index,
    encode: (value) => index.encode(members.indexOf(value)),
    decode: (data, at) => members[index.decode(data, at)] ?? refuse('member of the enum', wordAt(data, at)),
  };
}

/** `bytes`, as `0x` hex. */
export const bytes: Codec<Hex> = {
  words: 1,
  dynamic: true,
  encode(value) {
    if (typeof value !== 'string' || !/^0x([0-9a-f]{2})*$/i.test(value)) refuse('bytes', value);
    const digits = value.slice(2).toLowerCase();
    const padded = Math.ceil(digits.length / WORD) * WORD;
    return length.encode(digits.length / 2) + digits.padEnd(padded, '0');
  },
  decode(data, at) {
    const size = length.decode(data, at) * 2;
    const digits = data.slice(at + WORD, at + WORD + size);
    return digits.length === size ? (`0x${digits}` as Hex) : refuse('bytes', `${size / 2} bytes`);
  },
};

/** `string`, UTF-8. */
export const text: Codec<string> = {
  words: 1,
  dynamic: true,
  encode: (value) => bytes.encode(to0x(utf8(value))),
  decode: (data, at) =>
    new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      Buffer.from(bytes.decode(data, at).slice(2), 'hex'),
    ),
};

/** A length, or an offset within the data: more would not fit any reply. */
const length = smallUint(32);

/** `T[]` of a static type. */
export function listOf<T>(element: Codec<T>): Codec<readonly T[]> {
  if (element.dynamic) throw new DstackError('ABI_UNSUPPORTED', 'lists of dynamic types are not supported');
  const step = element.words * WORD;
  return {
    words: 1,
    dynamic: true,
    encode: (values) => length.encode(values.length) + values.map((value) => element.encode(value)).join(''),
    decode(data, at) {
      const count = length.decode(data, at);
      // Before anything is made: a list that claims more entries than there are bytes.
      if (at + WORD + count * step > data.length) refuse('list', `${count} entries`);
      return Array.from({ length: count }, (_, index) => element.decode(data, at + WORD + index * step));
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a codec of any type fits here; the type of a struct's values is exact
type Fields = Readonly<Record<string, Codec<any>>>;
type Values<F> = { readonly [Name in keyof F]: Decoded<F[Name]> };

/** A struct, or the arguments of a function in their order: an object with these fields. */
export function struct<const F extends Fields>(fields: F): Codec<Values<F>> {
  const parts = Object.entries<Fields[string]>(fields);
  const headWords = parts.reduce((sum, [, { words }]) => sum + words, 0);
  const dynamic = parts.some(([, codec]) => codec.dynamic);
  return {
    words: dynamic ? 1 : headWords,
    dynamic,
    encode(values) {
      let head = '';
      let tail = '';
      for (const [name, codec] of parts) {
        const encoded = codec.encode(values[name]);
        if (codec.dynamic) {
          head += length.encode(headWords * 32 + tail.length / 2);
          tail += encoded;
        } else head += encoded;
      }
      return head + tail;
    },
    decode(data, at) {
      let next = at;
      const entries = parts.map(([name, codec]) => {
        const from = codec.dynamic ? at + length.decode(data, next) * 2 : next;
        next += codec.words * WORD;
        return [name, codec.decode(data, from)] as const;
      });
      return Object.fromEntries<unknown>(entries) as Values<F>;
    },
  };
}
