/**
 * RTMR3: what the guest itself said about its start. A closed list, in this order:
 *
 *   flavour   only when the image is not a production one; its bytes are the flavour's name
 *   config    the 32 bytes of the config (SHA-256 of network.json)
 *   joined    no bytes; extended once the node has the secret, before any app starts
 *
 * A quote that asks for the secret must show the list without `joined`. Since a register can only be extended, nothing
 * that runs after `joined` can ever obtain such a quote.
 */
import { bytesEqual, lengthPrefixed, sha384, utf8 } from '../../protocol/encoding.ts';
import type { Flavour } from '../../protocol/network-config.ts';
import { extendRegister, zeroRegister } from './rtmr.ts';

export interface RegisterEvent {
  readonly name: 'flavour' | 'config' | 'joined';
  readonly bytes: Uint8Array;
}

/** SHA-384 of the length-prefixed list [name, bytes]: the 48 bytes that extend RTMR3. */
export function eventDigest(event: RegisterEvent): Uint8Array {
  return sha384(lengthPrefixed([utf8(event.name), event.bytes]));
}

/** RTMR3 (48 bytes) after exactly these events from zero. */
export function replay(events: readonly RegisterEvent[]): Uint8Array {
  return events.reduce((register, event) => extendRegister(register, eventDigest(event)), zeroRegister());
}

/** The log of a node that has not joined: what RTMR3 must be in a register or bootstrap quote. `config` is 32 bytes. */
export function expectedRequestLog(flavour: Flavour, config: Uint8Array): RegisterEvent[] {
  const configEvent: RegisterEvent = { name: 'config', bytes: config };
  return flavour === 'production' ? [configEvent] : [{ name: 'flavour', bytes: utf8(flavour) }, configEvent];
}

/** The log of a node that has the secret: what RTMR3 must be in a quote made for an app. */
export function expectedJoinedLog(flavour: Flavour, config: Uint8Array): RegisterEvent[] {
  return [...expectedRequestLog(flavour, config), JOINED_EVENT];
}

/** The event that ends a node's right to ask for the secret. */
export const JOINED_EVENT: RegisterEvent = { name: 'joined', bytes: new Uint8Array(0) };

/**
 * What a refusal says of an RTMR3 that is not the replay of the one log a verifier accepts. Any other log is refused, whatever is
 * unknown, repeated, missing, in another order or after its end; a few are worth naming.
 */
export function describeMismatch(actual: Uint8Array, expected: Uint8Array): string {
  const joined = extendRegister(expected, eventDigest(JOINED_EVENT));
  if (bytesEqual(actual, joined)) return 'the quote was taken after its node had joined';
  if (bytesEqual(actual, zeroRegister())) return 'nothing was extended: no attestor had started';
  return 'another flavour or config, or an event that is unknown, repeated, missing or too late';
}
