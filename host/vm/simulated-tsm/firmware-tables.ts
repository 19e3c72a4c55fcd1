/**
 * /sys/firmware/acpi/tables as far as a TD's firmware log needs it: the CCEL table, which says where the log is, and in `data` the log
 * itself.
 *
 * Source: ACPI 6.5, section 5.2.34 (CCEL); drivers/acpi/sysfs.c, which exports both read-only.
 */
import { encodeCcel } from '../../../lib/attestation/registers/firmware-log.ts';
import type { FaultPlan } from './faults.ts';
import { type Folder, fixedFolder, readOnlyFile } from './tree.ts';

/** Where the log would lie in the guest's memory; nobody can look there. */
const LOG_ADDRESS = 0x7f00_0000;

/** An empty folder when there is no log, as where the firmware keeps none. */
export function firmwareTables(log: Uint8Array | undefined, faults: FaultPlan): Folder {
  if (log === undefined) return fixedFolder({ data: fixedFolder({}) });
  const table = encodeCcel({ logLength: log.length, logAddress: LOG_ADDRESS });
  return fixedFolder({
    CCEL: readOnlyFile(0o400, () => table, table.length),
    data: fixedFolder({
      CCEL: readOnlyFile(0o400, () => faults.around('firmware-log', () => log), log.length),
    }),
  });
}
