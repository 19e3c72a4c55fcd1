/** `DSTACK_VM_VALIDATORS`: where validators listen for the signer of this host's VM. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Validators } from '../../lib/protocol/network-config.ts';

/** What a VM cannot dial: its own loopback, and addresses of no one machine (RFC 6890). */
const NOWHERE = /^(0|127|22[4-9]|2[34]\d|25[0-5])\./;

/**
 * What would be taken, and serve nobody.
 * @throws SETTINGS for an address that is no other machine's as the VM sees it, and for a second validator at one place
 */
export function requireDialled(validators: Validators): void {
  const refuse = (why: string) => {
    throw new DstackError('SETTINGS', `DSTACK_VM_VALIDATORS: ${why}`);
  };
  const places = validators.map(({ address, port }) => `${address}:${port}`);
  for (const [at, place] of places.entries()) {
    if (NOWHERE.test(place))
      refuse(`${place} is the VM itself, or no machine; the loopback of this host is 10.0.2.2 there`);
    if (places.indexOf(place) !== at)
      refuse(`two validators are at ${place}, and a node serves one connection, for one chain`);
  }
}
