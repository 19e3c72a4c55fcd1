/** An owner from a passphrase: the same one everywhere. Who guesses the passphrase is that owner, in every network. */
import { argon2Sync } from 'node:crypto';
import { lengthPrefixed, sha256, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';

/** Argon2id (RFC 9106): its second recommended setting, for 64 MiB. Changing one changes every owner. */
const STRETCH = { memory: 64 * 1024, passes: 3, parallelism: 4, tagLength: 32 } as const;
const LEAST_CHARACTERS = 12;
const MOST_BYTES = 4_096;

/**
 * The seed of the owner. Takes some tenths of a second and 64 MiB. The text is NFC-normalised, since keyboards differ in what they give.
 * @throws RECORD_PASSPHRASE
 */
export function ownerSeedOf(passphrase: string): Uint8Array {
  const text = passphrase.normalize('NFC');
  const message = utf8(text);
  if ([...text].length < LEAST_CHARACTERS || message.length > MOST_BYTES) {
    throw new DstackError(
      'RECORD_PASSPHRASE',
      `a passphrase has at least ${LEAST_CHARACTERS} characters: anybody can try others at leisure; take several words`,
    );
  }
  const nonce = sha256(lengthPrefixed([utf8('dstack/v1/record-owner')]));
  return new Uint8Array(argon2Sync('argon2id', { message, nonce, ...STRETCH }));
}
