/** TDATTRIBUTES: what the host may do to this TD. Source: Intel TDX Module ABI specification, ATTRIBUTES definition. */
import { toHex } from '../protocol/encoding.ts';
import { AttestationError } from './errors.ts';

/**
 * Refuses a TD that its host can read.
 *
 * The first byte is the TUD group: DEBUG in bit 0, profiling in the next ones; any of them makes the TD untrusted. Bit 29
 * is MIGRATABLE: the memory of such a TD can go wherever a migration TD sends it, and that one is not in our measurement.
 * @throws AttestationError TD_DEBUG or TD_MIGRATABLE
 */
export function requireProtectedTd(attributes: Uint8Array): void {
  const [untrusted = 0xff, , , security = 0xff] = attributes;
  if (untrusted !== 0) {
    throw new AttestationError(
      'TD_DEBUG',
      `the TD runs in debug or profiling mode (TDATTRIBUTES ${toHex(attributes)})`,
    );
  }
  if ((security & 0x20) !== 0) {
    throw new AttestationError(
      'TD_MIGRATABLE',
      `the TD may be migrated by its host (TDATTRIBUTES ${toHex(attributes)})`,
    );
  }
}
