/** The registers that identify an image in a VM shape, on every platform, and the one hash of them that contracts allow. */
import { sha256 } from '../../protocol/encoding.ts';
import { requireRegisterLength } from './rtmr.ts';

/** The four registers that say which image runs in which VM shape; 48 bytes each. */
export interface ImageRegisters {
  readonly mrtd: Uint8Array;
  readonly rtmr0: Uint8Array;
  readonly rtmr1: Uint8Array;
  readonly rtmr2: Uint8Array;
}

/**
 * The measurement that the contract allows: SHA-256(MRTD ‖ RTMR0 ‖ RTMR1 ‖ RTMR2), 32 bytes. All four have one fixed
 * length, so plain concatenation is unambiguous. RTMR3 is not in it: it is compared with its own replay.
 *
 * @throws DstackError REGISTER_LENGTH when a register is not 48 bytes.
 */
export function measurementOf(registers: ImageRegisters): Uint8Array {
  const parts = [registers.mrtd, registers.rtmr0, registers.rtmr1, registers.rtmr2];
  parts.forEach((part, index) => {
    requireRegisterLength(index === 0 ? 'mrtd' : `rtmr${index - 1}`, part);
  });
  return sha256(Buffer.concat(parts));
}
