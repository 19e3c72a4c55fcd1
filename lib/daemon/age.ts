/** Files of age (age-encryption.org/v1): the keys that people hold, as they give them. */
import { Decrypter, Encrypter } from 'age-encryption';
import { DstackError } from '../protocol/errors.ts';

/** @param recipients `age1…` @throws BACKUP_RECIPIENT when there is none, or one is no recipient of age */
export function encrypterTo(recipients: readonly string[]): Encrypter {
  if (recipients.length === 0) {
    throw new DstackError(
      'BACKUP_RECIPIENT',
      'a backup is encrypted to a key of yours: name its recipient (age1…)',
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
