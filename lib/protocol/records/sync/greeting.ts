/** What two nodes of one network have in common before they speak: nobody else gets further than their first message. */
import { hkdfSync } from 'node:crypto';
import { lengthPrefixed, utf8 } from '../../encoding.ts';
import { DstackError } from '../../errors.ts';
import { ID_BYTES } from '../format.ts';

const SALT = utf8('dstack/v1');
const SECRET_BYTES = 32;

/**
 * The secret of the handshake, 32 bytes. Without a network's secret it follows from the network's identity: it keeps strangers and mistakes
 * apart, and nobody out who knows the network.
 * @param network the identity of the genesis record, 32 bytes @param secret the network's, 32 bytes
 * @throws SYNC_NETWORK for something of another length
 */
export function handshakeSecret(network: Uint8Array, secret?: Uint8Array): Uint8Array {
  if (network.length !== ID_BYTES || (secret !== undefined && secret.length !== SECRET_BYTES)) {
    throw new DstackError('SYNC_NETWORK', `a network’s identity and its secret have ${ID_BYTES} bytes each`);
  }
  const purpose = secret === undefined ? 'record-wire' : 'record-wire/keyed';
  return new Uint8Array(
    hkdfSync('sha256', secret ?? network, SALT, lengthPrefixed([utf8(purpose), network]), 32),
  );
}

/** What a handshake is bound to: the version of all that follows, and the network. */
export function handshakePrologue(network: Uint8Array): Uint8Array {
  return lengthPrefixed([utf8('dstack/v1/record-wire'), network]);
}
