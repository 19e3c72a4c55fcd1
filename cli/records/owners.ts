/** Owners: Ed25519 keys, each in a PEM file of its own (PKCS #8, as OpenSSL has it) that its user alone can read, under a name. */
import { createPrivateKey, randomBytes } from 'node:crypto';
import { existsSync, linkSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../lib/daemon/folder.ts';
import { makePrivate, readPrivate } from '../../lib/daemon/private-file.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Hex } from '../../lib/protocol/hex.ts';
import { publicKeyOfSeed } from '../../lib/protocol/records/strict-ed25519.ts';
import { UsageError } from '../command.ts';
import { changeClient, clientOf } from './folder.ts';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const KEY = /^(0x)?[\da-fA-F]{64}$/;
const ENDING = '.pem';
/** DER before the seed of a private key (RFC 8410). */
const PKCS8 = Buffer.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);

export interface Owner {
  readonly name: string;
  /** The public key. */
  readonly key: Hex;
  readonly seed: Uint8Array;
}

/** @throws USAGE */
export function requireOwnerName(name: string): string {
  if (KEY.test(name)) throw new UsageError('an owner’s name must not look like a key; choose another');
  if (NAME.test(name)) return name;
  throw new UsageError(`an owner's name is up to 64 letters, digits, dots, _ and -, not ${name}`);
}

export function ownersOf(folder: string): Owner[] {
  const owners = ownersFolder(folder);
  if (!existsSync(owners)) return [];
  const names = readdirSync(owners)
    .filter((file) => file.endsWith(ENDING))
    .map((file) => file.slice(0, -ENDING.length));
  // Such as somebody's `alice copy.pem`, which no command can name.
  return names
    .filter((name) => NAME.test(name) && !KEY.test(name))
    .toSorted()
    .map((name) => ownerNamed(folder, name));
}

/** @throws RECORDS_OWNER, KEY_FILE, USAGE */
export function ownerNamed(folder: string, name: string): Owner {
  const path = ownerFile(folder, requireOwnerName(name));
  if (!existsSync(path)) {
    throw new DstackError(
      'RECORDS_OWNER',
      `there is no owner ${name}; \`records owner new ${name}\` makes one`,
    );
  }
  const seed = seedIn(readPrivate(path), path);
  return { name, seed, key: toHex(publicKeyOfSeed(seed)) };
}

/** The one that is named, or else the default. @throws RECORDS_OWNER, KEY_FILE */
export function writerOf(folder: string, name: string | undefined): Owner {
  const chosen = name ?? clientOf(folder).owner;
  if (chosen !== undefined) return ownerNamed(folder, chosen);
  throw new DstackError('RECORDS_OWNER', 'nobody is there to write; `records owner new NAME` makes an owner');
}

/** The key of anybody: as hex, or the name of an owner here. @throws USAGE, RECORDS_OWNER, KEY_FILE */
export function parseOwner(folder: string, text: string): Hex {
  return KEY.test(text) ? toHex(fromHex(text)) : ownerNamed(folder, text).key;
}

/**
 * Keeps an owner under a new name; the first one here is the default.
 * @throws RECORDS_OWNER where the name is taken
 */
export async function addOwner(folder: string, name: string, seed: Uint8Array): Promise<Owner> {
  makeFolder(ownersFolder(folder), 0o700);
  if (!makePrivate(ownerFile(folder, requireOwnerName(name)), pemOf(seed))) throw taken(name);
  await changeClient(folder, (client) => ({ ...client, owner: client.owner ?? name }));
  return ownerNamed(folder, name);
}

export const freshSeed = (): Uint8Array => new Uint8Array(randomBytes(32));

/** @throws RECORDS_OWNER where there is none, or the new name is taken */
export async function renameOwner(folder: string, from: string, to: string): Promise<Owner> {
  ownerNamed(folder, from);
  try {
    linkSync(ownerFile(folder, from), ownerFile(folder, requireOwnerName(to)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw taken(to);
    throw error;
  }
  await changeClient(folder, (client) => (client.owner === from ? { ...client, owner: to } : client));
  rmSync(ownerFile(folder, from));
  return ownerNamed(folder, to);
}

/** @throws RECORDS_OWNER */
export async function deleteOwner(folder: string, name: string): Promise<void> {
  const path = ownerFile(folder, requireOwnerName(name));
  if (!existsSync(path)) ownerNamed(folder, name);
  await changeClient(folder, ({ owner, ...client }) =>
    owner === undefined || owner === name ? client : { ...client, owner },
  );
  rmSync(path);
}

export function pemOf(seed: Uint8Array): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' });
  return key.export({ format: 'pem', type: 'pkcs8' }).toString();
}

/** @param where for the message. @throws KEY_FILE */
export function seedIn(pem: string, where: string): Uint8Array {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') {
      return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }).subarray(-32));
    }
  } catch {
    // Said below.
  }
  throw new DstackError('KEY_FILE', `${where} is no Ed25519 key in PEM (PKCS #8), without a password`);
}

const ownersFolder = (folder: string): string => join(folder, 'owners');
const ownerFile = (folder: string, name: string): string => join(ownersFolder(folder), name + ENDING);

function taken(name: string): DstackError {
  return new DstackError('RECORDS_OWNER', `there is an owner ${name} already; choose another name`);
}
