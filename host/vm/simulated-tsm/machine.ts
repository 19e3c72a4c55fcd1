/** What the files show: the registers of one machine, and who signs quotes for it. */
import type { ImageRegisters } from '../../../lib/attestation/registers/measurement.ts';

export type Rtmr = 0 | 1 | 2 | 3;

export interface Machine {
  /** As they are now; 48 bytes each. */
  registers(): ImageRegisters & { readonly rtmr3: Uint8Array };
  /** Extends a register with a digest of 48 bytes. */
  extend(register: Rtmr, digest: Uint8Array): void;
  /** A quote over 64 bytes of report data and the registers as they are now. */
  quote(reportData: Uint8Array): Uint8Array;
  /** The firmware's event log, for the CCEL table; undefined where there is none. */
  readonly firmwareLog?: Uint8Array | undefined;
}
