/**
 * A key outside of the network: its seed and what it signed last, encrypted to a key that the operator holds (age-encryption.org/v1), or
 * wrapped by a cloud's key service. Whoever opens one can sign as the validator.
 */
import { Decrypter } from 'age-encryption';
import { type Static, Type } from 'typebox';
import { decodeState, encodeState, type SignState } from '../../lib/cometbft/sign-state.ts';
import { encrypterTo } from '../../lib/daemon/age.ts';
import { fromHex, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { HexOf, parseJson, Strict } from '../../lib/protocol/schema.ts';

const MAX_BYTES = 64 * 1024;
const AGE_MAGIC = 'age-encryption.org/v1';

export interface Backup {
  readonly chainId: string;
  readonly seed: Uint8Array;
  readonly state: SignState;
}

/** A key service that encrypts small things with a key that never leaves it. */
export interface KeyService {
  /** For errors and the file: `aws-kms`. */
  readonly name: string;
  wrap(plain: Uint8Array): Promise<Uint8Array>;
  unwrap(wrapped: Uint8Array): Promise<Uint8Array>;
}

const Plain = Strict({
  version: Type.Literal(1),
  chainId: Type.String({ maxLength: 50 }),
  seed: HexOf(32),
  state: Type.String({ maxLength: 8192 }),
});
const Wrapped = Strict({
  version: Type.Literal(1),
  service: Type.String({ maxLength: 40 }),
  wrapped: Type.String({ pattern: '^[A-Za-z0-9+/]+={0,2}$', maxLength: 32 * 1024 }),
});

/**
 * A file that the holders of these keys can open.
 * @throws BACKUP_RECIPIENT when there is none, or one is no recipient of age
 */
export async function encryptBackup(backup: Backup, recipients: readonly string[]): Promise<Uint8Array> {
  return encrypterTo(recipients).encrypt(encode(backup));
}

export async function wrapBackup(backup: Backup, service: KeyService): Promise<Uint8Array> {
  const wrapped = Buffer.from(await service.wrap(encode(backup))).toString('base64');
  const file: Static<typeof Wrapped> = { version: 1, service: service.name, wrapped };
  return utf8(`${JSON.stringify(file)}\n`);
}

export interface Openers {
  /** `AGE-SECRET-KEY-1…`, for an age file. */
  readonly identity?: string | undefined;
  /** For a wrapped one. */
  readonly service?: KeyService | undefined;
}

/** @throws BACKUP_FILE, BACKUP_KEY, and the key service's errors */
export async function openBackup(file: Uint8Array, { identity, service }: Openers): Promise<Backup> {
  if (file.length > MAX_BYTES)
    throw new DstackError('BACKUP_FILE', `the backup has more than ${MAX_BYTES} bytes`);
  const text = Buffer.from(file).toString('latin1');
  if (text.startsWith(AGE_MAGIC)) return decode(await openAge(file, identity));
  const { service: name, wrapped } = parseJson(Wrapped, text, 'BACKUP_FILE', 'the backup', MAX_BYTES);
  if (service === undefined || service.name !== name) {
    throw new DstackError('BACKUP_KEY', `the backup was wrapped by ${name}: name its key with --kms-key`);
  }
  return decode(await service.unwrap(new Uint8Array(Buffer.from(wrapped, 'base64'))));
}

async function openAge(file: Uint8Array, identity: string | undefined): Promise<Uint8Array> {
  if (identity === undefined) {
    throw new DstackError(
      'BACKUP_KEY',
      'the backup was encrypted by age: name the file of its key with --identity',
    );
  }
  try {
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    return await decrypter.decrypt(file);
  } catch (cause) {
    throw new DstackError('BACKUP_KEY', 'this key does not open the backup, or the file was changed', {
      cause,
    });
  }
}

function encode({ chainId, seed, state }: Backup): Uint8Array {
  const plain: Static<typeof Plain> = { version: 1, chainId, seed: toHex(seed), state: encodeState(state) };
  return utf8(JSON.stringify(plain));
}

function decode(bytes: Uint8Array): Backup {
  const text = Buffer.from(bytes).toString('utf8');
  const { chainId, seed, state } = parseJson(Plain, text, 'BACKUP_FILE', 'what is in the backup', MAX_BYTES);
  return { chainId, seed: fromHex(seed, 32), state: decodeState(state) };
}
