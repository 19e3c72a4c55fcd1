/** Schema pieces and the one way to check a value from outside against a schema. */
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { DstackError } from './errors.ts';
import type { Address, Hex } from './hex.ts';
import { parseUniqueJson } from './json.ts';

/** Lower-case hex of exactly `bytes` bytes, without 0x. */
export const HexOf = (bytes: number) =>
  Type.Unsafe<Hex>(
    Type.String({
      pattern: `^[0-9a-f]{${bytes * 2}}$`,
      maxLength: bytes * 2,
      description: `${bytes} bytes of hex`,
    }),
  );

/** Lower-case hex of at most `bytes` bytes, without 0x. */
export const HexUpTo = (bytes: number) =>
  Type.Unsafe<Hex>(
    Type.String({
      pattern: '^([0-9a-f]{2})*$',
      maxLength: bytes * 2,
      description: `up to ${bytes} bytes of hex`,
    }),
  );

/** A 0x-prefixed word as the chain shows it. */
export const Word0x = Type.Unsafe<Hex>(Type.String({ pattern: '^0x[0-9a-f]{64}$', maxLength: 66 }));

/** A 0x-prefixed 20-byte address, any case. */
export const Address0x = Type.Unsafe<Address>(Type.String({ pattern: '^0x[0-9a-fA-F]{40}$', maxLength: 42 }));

/** A non-negative integer that JavaScript holds exactly. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

/** An EIP-2098 signature. */
export const Compact = Type.Object({ r: Word0x, vs: Word0x }, { additionalProperties: false });

/** An object that refuses fields it does not know. */
export const Strict = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Object(properties, { additionalProperties: false });

/**
 * The value, typed, if it has the schema's form.
 * @throws an error with `code` that names the first offending field
 */
export function check<T extends TSchema>(schema: T, value: unknown, code: string, what: string): Static<T> {
  if (Value.Check(schema, value)) return value as Static<T>;
  const first = [...Value.Errors(schema, value)][0];
  const where = first?.instancePath ? `field ${first.instancePath}` : 'the value';
  throw new DstackError(
    code,
    `${what} is malformed: ${where} ${first?.message ?? 'does not fit its schema'}`,
  );
}

/** Parses JSON text of bounded size, in which no object has a key twice, then checks it. @throws an error with `code` */
export function parseJson<T extends TSchema>(
  schema: T,
  text: string,
  code: string,
  what: string,
  maxBytes: number,
): Static<T> {
  if (Buffer.byteLength(text) > maxBytes) {
    throw new DstackError(code, `${what} is larger than ${maxBytes} bytes`);
  }
  let value: unknown;
  try {
    value = parseUniqueJson(text);
  } catch (cause) {
    const why = / twice$/.test((cause as Error).message) ? `: ${(cause as Error).message}` : '';
    throw new DstackError(code, `${what} is not JSON${why}`, { cause });
  }
  return check(schema, value, code, what);
}
