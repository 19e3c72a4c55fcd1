/** Schema pieces and the one way to check a value from outside against a schema. */
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { DstackError } from './errors.ts';
import type { Address, Hex } from './hex.ts';
import { parseUniqueJson } from './json.ts';

/** In the one spelling that all programs read alike: no octet beyond 255, no zero before one, which some take for octal. */
export const IPv4 = Type.String({
  pattern: '^((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(\\.(?!$)|$)){4}$',
  maxLength: 15,
});

/** Lower-case hex of exactly `bytes` bytes, without 0x. */
export const HexOf = (bytes: number) =>
  Type.Unsafe<Hex>(
    Type.String({
      pattern: `^[0-9a-f]{${bytes * 2}}$`,
      maxLength: bytes * 2,
      description: `${bytes} bytes of hex, in lower case and without 0x`,
    }),
  );

/** Lower-case hex of at most `bytes` bytes, without 0x. */
export const HexUpTo = (bytes: number) =>
  Type.Unsafe<Hex>(
    Type.String({
      pattern: '^([0-9a-f]{2})*$',
      maxLength: bytes * 2,
      description: `up to ${bytes} bytes of hex, in lower case and without 0x`,
    }),
  );

/** A 0x-prefixed word as the chain shows it. */
export const Word0x = Type.Unsafe<Hex>(Type.String({ pattern: '^0x[0-9a-f]{64}$', maxLength: 66 }));

/** A 0x-prefixed 20-byte address, any case. */
export const Address0x = Type.Unsafe<Address>(Type.String({ pattern: '^0x[0-9a-fA-F]{40}$', maxLength: 42 }));

/** An app's name as it stands in manifests, addresses and key paths. */
export const APP_NAME = '^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$';
export const AppName = Type.String({
  pattern: APP_NAME,
  maxLength: 31,
  description: 'up to 31 lower-case letters, digits and hyphens, without a hyphen at its ends',
});

/** The name of a secret: the file that its containers see. As Docker has them. */
export const SecretName = Type.String({
  pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$',
  maxLength: 64,
  description:
    'up to 64 letters, digits, dots, underscores and hyphens, the first and last a letter or digit',
});

/** One of these words. */
export const OneOf = <const T extends string>(words: readonly T[]) =>
  Type.Unsafe<T>(Type.Union(words.map((word) => Type.Literal(word))));

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
  const first = telling([...Value.Errors(schema, value)]);
  const where = first?.instancePath ? `field ${first.instancePath}` : 'the value';
  const why = first === undefined ? 'does not fit its schema' : inWords(schema, first);
  throw new DstackError(code, `${what} is malformed: ${where} ${why}`);
}

interface Misfit {
  readonly keyword: string;
  readonly schemaPath: string;
  readonly instancePath: string;
  readonly params: object;
  readonly message: string;
}

/**
 * The misfit to be told: the first one. Where several forms are allowed each has its own, of which the one that was meant is most likely
 * the one that fits down to the deepest field; and where all of them are constants, what they are is in `params`.
 */
function telling(misfits: readonly Misfit[]): Misfit | undefined {
  const [first] = misfits;
  const [forms] = first?.schemaPath.match(/^.*?\/anyOf(?=\/)/) ?? [];
  if (first === undefined || forms === undefined) return first;
  const all = misfits.filter(({ schemaPath }) => schemaPath.startsWith(`${forms}/`));
  if (all.every(({ keyword, instancePath }) => keyword === 'const' && instancePath === first.instancePath)) {
    const allowed = all.map(({ params }) => `${(params as { allowedValue?: unknown }).allowedValue}`);
    return { ...first, params: { allowed } };
  }
  const depth = ({ instancePath }: Misfit): number => instancePath.split('/').length;
  return all.reduce((deepest, one) => (depth(one) > depth(deepest) ? one : deepest));
}

/** Without regular expressions where the schema says in words what fits, and without the validator's own terms. */
function inWords(schema: TSchema, { keyword, schemaPath, params, message }: Misfit): string {
  const { allowed } = params as { allowed?: readonly string[] };
  if (allowed !== undefined) return `must be ${allowed.join(' or ')}`;
  // What fits no name of an object with names of its own.
  if (keyword === 'boolean') return 'has a name that is not allowed there';
  const at = schemaPath.split('/').slice(1);
  const part = at.reduce<unknown>(
    (node, step) => (node as Record<string, unknown> | undefined)?.[step],
    schema,
  );
  const { description } = (part ?? {}) as { description?: unknown };
  const isOfText = keyword === 'pattern' || keyword === 'minLength' || keyword === 'maxLength';
  return isOfText && typeof description === 'string' ? `must be ${description}` : message;
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
