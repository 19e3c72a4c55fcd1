/**
 * An owner's word that a record still holds, in 100 bytes and without a new record: the record's identity, a minute, and the owner's signature of both.
 *
 * Pulses are outside of membership, weight and trust. Of each record only the latest counts, so that nodes which have heard the same pulses in any order
 * have the same one. There is one a minute at most, since a minute is what it says: nobody can make more of them than time has passed.
 */
import { fromHex, lengthPrefixed, toHex, uint64, utf8 } from '../encoding.ts';
import { DstackError } from '../errors.ts';
import { ID_BYTES } from './format.ts';
import {
  isSignedStrictly,
  requireCanonicalSignature,
  SIGNATURE_BYTES,
  signStrictly,
} from './strict-ed25519.ts';

export interface Pulse {
  /** Of the record, in lower-case hex. */
  readonly id: string;
  /** Since 1970. */
  readonly minute: number;
  readonly signature: Uint8Array;
}

/** What a pulse is judged by. */
export interface Pulsing {
  readonly owner: Uint8Array;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
}

export const MINUTE = 60_000;
/** Identity, minute (4, big-endian), signature. */
export const PULSE_BYTES = ID_BYTES + 4 + SIGNATURE_BYTES;
export const MAX_PULSE_MINUTE = 0xffff_ffff;

/** @param time milliseconds since 1970 */
export const minuteOf = (time: number): number => Math.floor(time / MINUTE);

export function makePulse(id: string, minute: number, ownerSeed: Uint8Array): Pulse {
  return { id, minute, signature: signStrictly(ownerSeed, pulseMessage(id, minute)) };
}

/** @throws RECORD_PULSE for one that is not its owner's, or from before the record */
export function verifyPulse({ id, minute, signature }: Pulse, { owner, timestamp }: Pulsing): void {
  if (minute < minuteOf(timestamp)) {
    throw new DstackError('RECORD_PULSE', 'a pulse from before its record says nothing; make one of now');
  }
  if (isSigned(pulseMessage(id, minute), signature, owner)) return;
  throw new DstackError('RECORD_PULSE', `this is no pulse by the owner of record ${id}`);
}

export function encodePulse({ id, minute, signature }: Pulse): Uint8Array {
  const bytes = Buffer.alloc(PULSE_BYTES);
  bytes.set(fromHex(id, ID_BYTES));
  bytes.writeUInt32BE(minute, ID_BYTES);
  bytes.set(signature, ID_BYTES + 4);
  return new Uint8Array(bytes);
}

/** @param bytes PULSE_BYTES of them; the result shares none of their memory */
export function decodePulse(bytes: Uint8Array): Pulse {
  const copy = Buffer.from(bytes);
  return {
    id: toHex(copy.subarray(0, ID_BYTES)),
    minute: copy.readUInt32BE(ID_BYTES),
    signature: new Uint8Array(copy.subarray(ID_BYTES + 4)),
  };
}

function pulseMessage(id: string, minute: number): Uint8Array {
  return lengthPrefixed([utf8('dstack/v1/record-pulse'), fromHex(id, ID_BYTES), uint64(minute)]);
}

function isSigned(message: Uint8Array, signature: Uint8Array, owner: Uint8Array): boolean {
  try {
    requireCanonicalSignature(signature, 'the signature of a pulse');
    return isSignedStrictly(message, signature, owner);
  } catch (error) {
    if (error instanceof DstackError) return false;
    throw error;
  }
}
