/**
 * Runtime measurement registers: 48 bytes that start at zero and can only be extended.
 * Source: Intel TDX Module ABI specification, TDG.MR.RTMR.EXTEND.
 */

import { sha384 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';

/** Length in bytes of MRTD, of each RTMR, and of the digest that extends one. */
export const REGISTER_BYTES = 48;

/** A register as a TD finds it at reset. */
export function zeroRegister(): Uint8Array {
  return new Uint8Array(REGISTER_BYTES);
}

/**
 * RTMR' = SHA-384(RTMR ‖ digest), both 48 bytes. Returns a new array.
 * @throws DstackError REGISTER_LENGTH when either has another length.
 */
export function extendRegister(register: Uint8Array, digest: Uint8Array): Uint8Array {
  requireRegisterLength('register', register);
  requireRegisterLength('digest', digest);
  const both = new Uint8Array(2 * REGISTER_BYTES);
  both.set(register, 0);
  both.set(digest, REGISTER_BYTES);
  return sha384(both);
}

/** @throws DstackError REGISTER_LENGTH unless `value` is 48 bytes. */
export function requireRegisterLength(name: string, value: Uint8Array): void {
  if (value.length !== REGISTER_BYTES) {
    throw new DstackError('REGISTER_LENGTH', `${name} must be ${REGISTER_BYTES} bytes, not ${value.length}`);
  }
}
