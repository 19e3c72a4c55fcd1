/** Files of age (age-encryption.org/v1): the keys that people hold, as they give them. */
import { Decrypter, Encrypter } from 'age-encryption';
import { DstackError } from '../protocol/errors.ts';

/** Each takes up to 2 KiB of the header. */
const MAX_RECIPIENTS = 16;
/** Bytes, with the MAC. */
const MAX_HEADER = 64 * 1024;
/** Before the MAC, which ends the header with its line. */
const END = '\n--- ';

/** @param recipients `age1…` @throws BACKUP_RECIPIENT when there is none, too many, or one that is no recipient of age */
export function encrypterTo(recipients: readonly string[]): Encrypter {
  if (recipients.length === 0) {
    throw new DstackError(
      'BACKUP_RECIPIENT',
      'a backup is encrypted to a key of yours: name its recipient (age1…)',
    );
  }
  if (recipients.length > MAX_RECIPIENTS) {
    throw new DstackError(
      'BACKUP_RECIPIENT',
      `a backup is encrypted to ${MAX_RECIPIENTS} keys at most, not ${recipients.length}: leave some out`,
    );
  }
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      throw new DstackError('BACKUP_RECIPIENT', `${recipient.slice(0, 80)} is no recipient of age`, {
        cause,
      });
    }
  }
  return encrypter;
}

/** @param text the key behind comments, as age-keygen writes it @throws BACKUP_IDENTITY */
export function decrypterWith(text: string): Decrypter {
  const line = text.split('\n').find((one) => one.startsWith('AGE-SECRET-KEY-'));
  const decrypter = new Decrypter();
  try {
    if (line === undefined) throw new Error('there is no AGE-SECRET-KEY-… in it');
    decrypter.addIdentity(line.trim());
  } catch (cause) {
    throw new DstackError('BACKUP_IDENTITY', `that file holds no key of age: ${(cause as Error).message}`, {
      cause,
    });
  }
  return decrypter;
}

/**
 * A file of age as it comes, once its header is known to be no larger than any that is written here. Age keeps all of a header before
 * anything in it is checked, at a hundred times its size, and whoever made the file says how large it is.
 * @throws BACKUP_HEADER; what the stream throws
 */
export async function* withBoundedHeader(file: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of file) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    const size = sizeOfHeader(head);
    if ((size ?? head.length) > MAX_HEADER) {
      throw new DstackError(
        'BACKUP_HEADER',
        `this is no backup: the header of a file of age has ${MAX_HEADER} bytes here at most`,
      );
    }
    if (size === undefined) continue;
    yield head;
    head = undefined;
  }
  // It ended within the header: age says so.
  if (head !== undefined) yield head;
}

/** Undefined where it goes on behind these bytes. */
function sizeOfHeader(bytes: Buffer): number | undefined {
  const mac = bytes.indexOf(END);
  const end = mac === -1 ? -1 : bytes.indexOf('\n', mac + END.length);
  return end === -1 ? undefined : end + 1;
}
