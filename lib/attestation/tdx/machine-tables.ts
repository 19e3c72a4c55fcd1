/**
 * `tables.json`: what QEMU generates for one machine. It is an input of RTMR0 that no file of the image holds, so it has a
 * version and says for what machine it holds; who publishes a measurement publishes it too, with the files that it names.
 *
 * ACPI tables hold code that the guest's kernel runs, so they come as bytes, whose digests are computed here: a digest alone
 * would bless code that nobody saw. SMBIOS is data that the firmware itself assembles, so only its digest is kept.
 */
import Type, { type Static } from 'typebox';
import { fromHex, sha384, toHex } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/schema.ts';
import type { FirmwareEvent } from '../registers/firmware-log.ts';
import { type AcpiFiles, type AcpiTable, reviewAcpi } from './acpi.ts';
import type { MachineTables } from './boot-events.ts';

const MAX_TABLES_JSON = 16 * 1024;
/** In the folder of tables.json. */
const fileName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$' });

const tablesSchema = Type.Object(
  {
    version: Type.Literal(2),
    /** What the tables hold for, in words: QEMU's version, the command line's version. */
    machine: Type.String({ minLength: 1, maxLength: 200 }),
    cpus: Type.Integer({ minimum: 1, maximum: 4096 }),
    memoryMiB: Type.Integer({ minimum: 1, maximum: 2 ** 24 }),
    /** fw_cfg's etc/table-loader, etc/acpi/rsdp and etc/acpi/tables: files. */
    acpiLoader: fileName,
    acpiRsdp: fileName,
    acpiTables: fileName,
    /** SHA-384, by a TD's event log. Without it there is no RTMR0. */
    smbios: Type.Optional(Type.String({ pattern: '^[0-9a-f]{96}$' })),
  },
  { additionalProperties: false },
);

export type TablesFile = Static<typeof tablesSchema>;

/**
 * @throws DstackError TABLES_INVALID with the first thing that is wrong, TABLES_WITHOUT_BYTES for a file of version 1, which
 *   had digests alone
 */
export function parseTables(text: string): TablesFile {
  const { version } = parseJson(
    Type.Object({ version: Type.Integer() }),
    text,
    'TABLES_INVALID',
    'tables.json',
    MAX_TABLES_JSON,
  );
  if (version === 1) {
    throw new DstackError(
      'TABLES_WITHOUT_BYTES',
      'this tables.json has digests without bytes: nobody can see which code they allow; make it again (image tables)',
    );
  }
  return parseJson(tablesSchema, text, 'TABLES_INVALID', 'tables.json', MAX_TABLES_JSON);
}

/**
 * The digests, computed from bytes, and what is in them.
 * @param read the bytes of a file that `file` names
 * @throws DstackError ACPI_TABLES_INVALID
 */
export function tablesOf(
  file: TablesFile,
  read: (name: string) => Uint8Array,
): { readonly tables: MachineTables; readonly review: readonly AcpiTable[] } {
  const files: AcpiFiles = {
    acpiLoader: read(file.acpiLoader),
    acpiRsdp: read(file.acpiRsdp),
    acpiTables: read(file.acpiTables),
  };
  const smbios = file.smbios === undefined ? undefined : fromHex(file.smbios, 48);
  return { tables: { ...digestsOf(files), ...(smbios && { smbios }) }, review: reviewAcpi(files) };
}

/** SHA-384 of each. */
export function digestsOf(files: AcpiFiles): Omit<MachineTables, 'smbios'> {
  return {
    acpiLoader: sha384(files.acpiLoader),
    acpiRsdp: sha384(files.acpiRsdp),
    acpiTables: sha384(files.acpiTables),
  };
}

const EV_PLATFORM_CONFIG_FLAGS = 0xa;
const EV_EFI_HANDOFF_TABLES = 0x8000_0009;

/**
 * The digests of the machine's tables, out of the log of a VM with that machine: to compare with, never to allow by.
 * @throws DstackError EVENT_LOG_INVALID when the log does not hold exactly the four.
 */
export function tablesFromEventLog(events: readonly FirmwareEvent[]): Required<MachineTables> {
  const ofMachine = events.filter(({ register }) => register === 'rtmr0');
  const acpi = ofMachine.filter(
    ({ type, data }) =>
      type === EV_PLATFORM_CONFIG_FLAGS && Buffer.from(data).toString('latin1') === 'ACPI DATA',
  );
  const smbios = ofMachine.filter(({ type }) => type === EV_EFI_HANDOFF_TABLES);
  if (acpi.length !== 3 || smbios.length !== 1) {
    throw new DstackError(
      'EVENT_LOG_INVALID',
      `this event log cannot be used: it has ${acpi.length} events of ACPI and ${smbios.length} of SMBIOS instead of 3 and 1: another firmware, or a machine with other devices than ours`,
    );
  }
  return {
    acpiLoader: acpi[0]!.digest,
    acpiRsdp: acpi[1]!.digest,
    acpiTables: acpi[2]!.digest,
    smbios: smbios[0]!.digest,
  };
}

/**
 * SMBIOS' digest by the log of a TD whose ACPI tables are these very bytes.
 * @throws DstackError EVENT_LOG_INVALID, TABLES_DIFFER
 */
export function smbiosFromEventLog(events: readonly FirmwareEvent[], files: AcpiFiles): string {
  const logged = tablesFromEventLog(events);
  const ours = digestsOf(files);
  const differing = (['acpiLoader', 'acpiRsdp', 'acpiTables'] as const).filter(
    (name) => toHex(logged[name]) !== toHex(ours[name]),
  );
  if (differing.length > 0) {
    throw new DstackError(
      'TABLES_DIFFER',
      `the TD of this event log had other tables than were generated: ${differing.join(', ')}. Another QEMU, other devices or another shape; or its host changed them`,
    );
  }
  return toHex(logged.smbios);
}
