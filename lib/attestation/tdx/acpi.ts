/**
 * ACPI tables as QEMU hands them to the firmware, taken apart for review. A table with AML is a program that the guest's kernel
 * runs, with the kernel's rights: who allows a measurement has to see which programs are in it.
 *
 * Sources: ACPI 6.5, section 5.2.6 (table header), 5.2.10 (FACS, the one table without a checksum); QEMU,
 * hw/acpi/bios-linker-loader.c (the loader's commands) and hw/i386/acpi-build.c. Integers are little-endian.
 */
import { DstackError } from '../../protocol/errors.ts';

/** One table. `bytes` is a view of the blob, header included. */
export interface AcpiTable {
  readonly signature: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** It holds AML. */
  readonly code: boolean;
}

/** The three files of fw_cfg, as they were measured. */
export interface AcpiFiles {
  /** `etc/table-loader`. */
  readonly acpiLoader: Uint8Array;
  /** `etc/acpi/rsdp`. */
  readonly acpiRsdp: Uint8Array;
  /** `etc/acpi/tables`. */
  readonly acpiTables: Uint8Array;
}

/** More than QEMU makes by an order of magnitude. Bytes of one file. */
export const MAX_ACPI_FILE_BYTES = 2 ** 21;

const HEADER_BYTES = 36;
const CODE: ReadonlySet<string> = new Set(['DSDT', 'SSDT', 'PSDT', 'OSDT']);
const COMMAND_BYTES = 128;
const FILE_BYTES = 56;
const [ALLOCATE, ADD_POINTER, ADD_CHECKSUM] = [1, 2, 3];
const TABLES = 'etc/acpi/tables';
const RSDP = 'etc/acpi/rsdp';

/**
 * All tables, in order. The file is nothing but tables and zeros, and its loader points at nothing but tables: so no program is
 * in it that is not in this list.
 * @throws DstackError ACPI_TABLES_INVALID
 */
export function reviewAcpi(files: AcpiFiles): AcpiTable[] {
  const tables = readTables(files.acpiTables);
  const starts = new Set(tables.map(({ offset }) => offset));
  for (const { file, offset, size } of readPointers(files.acpiLoader)) {
    const bytes = file === RSDP ? files.acpiRsdp : files.acpiTables;
    if (offset + size > bytes.length) throw invalid(`its loader writes behind the end of ${file}`);
    const target = Number(Buffer.from(bytes.slice(offset, offset + size)).readUIntLE(0, Math.min(size, 6)));
    if (!starts.has(target))
      throw invalid(`at byte ${offset} of ${file} its loader points at ${target}, which is not a table`);
  }
  return tables;
}

function readTables(blob: Uint8Array): AcpiTable[] {
  if (blob.length > MAX_ACPI_FILE_BYTES) throw invalid(`it has ${blob.length} bytes`);
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const tables: AcpiTable[] = [];
  for (let at = 0; at < blob.length; ) {
    if (blob[at] === 0) {
      at += 1;
      continue;
    }
    if (at + HEADER_BYTES > blob.length) throw invalid(`byte ${at} belongs to no table`);
    const signature = Buffer.from(blob.subarray(at, at + 4)).toString('latin1');
    const length = view.getUint32(at + 4, true);
    if (!/^[A-Z][A-Z0-9]{3}$/.test(signature)) throw invalid(`byte ${at} belongs to no table`);
    if (length < HEADER_BYTES || length > blob.length - at)
      throw invalid(`its table ${signature} at byte ${at} says that it has ${length} bytes`);
    tables.push({
      signature,
      offset: at,
      bytes: blob.subarray(at, at + length),
      code: CODE.has(signature),
    });
    at += length;
  }
  if (!tables.some(({ signature }) => signature === 'DSDT')) throw invalid('it has no DSDT');
  return tables;
}

/** Where the loader writes an address. Only what QEMU's own tables need is known: nothing else can hide anything. */
function readPointers(loader: Uint8Array): { file: string; offset: number; size: number }[] {
  if (loader.length % COMMAND_BYTES !== 0 || loader.length > MAX_ACPI_FILE_BYTES) {
    throw invalid(`its loader has ${loader.length} bytes`);
  }
  const view = new DataView(loader.buffer, loader.byteOffset, loader.byteLength);
  const pointers: { file: string; offset: number; size: number }[] = [];
  for (let at = 0; at < loader.length; at += COMMAND_BYTES) {
    const command = loader.subarray(at, at + COMMAND_BYTES);
    if (command.every((byte) => byte === 0)) continue;
    const kind = view.getUint32(at, true);
    const files = [
      fileName(command, 4),
      ...(kind === ADD_POINTER ? [fileName(command, 4 + FILE_BYTES)] : []),
    ];
    const known = files.every((file) => file === TABLES || file === RSDP);
    if (![ALLOCATE, ADD_POINTER, ADD_CHECKSUM].includes(kind) || !known) {
      throw invalid(
        `its loader has command ${kind} of ${files.map((file) => JSON.stringify(file)).join(', ')}`,
      );
    }
    if (kind !== ADD_POINTER) continue;
    const size = command[4 + 2 * FILE_BYTES + 4] ?? 0;
    if (files[1] !== TABLES || ![4, 8].includes(size)) throw invalid('its loader has a pointer to no table');
    pointers.push({ file: files[0]!, offset: view.getUint32(at + 4 + 2 * FILE_BYTES, true), size });
  }
  return pointers;
}

function fileName(command: Uint8Array, at: number): string {
  return Buffer.from(command.subarray(at, at + FILE_BYTES))
    .toString('latin1')
    .replace(/\0.*$/s, '');
}

function invalid(why: string): DstackError {
  return new DstackError('ACPI_TABLES_INVALID', `these ACPI tables cannot be reviewed: ${why}`);
}
