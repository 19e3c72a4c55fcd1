/**
 * `tables.json`: the digests of what QEMU generates for one machine. It is an input of RTMR0 that no file of the image
 * holds, so it has a version and says for what machine it holds; who publishes a measurement publishes it too.
 */
import Type, { type Static } from 'typebox';
import { fromHex, toHex } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/schema.ts';
import type { FirmwareEvent } from '../firmware-log.ts';
import type { MachineTables } from './boot-events.ts';

const MAX_TABLES_JSON = 16 * 1024;
const digest = Type.String({ pattern: '^[0-9a-f]{96}$' });

const tablesSchema = Type.Object(
  {
    version: Type.Literal(1),
    /** What the digests hold for, in words: QEMU's version, the command line's version. */
    machine: Type.String({ minLength: 1, maxLength: 200 }),
    cpus: Type.Integer({ minimum: 1, maximum: 4096 }),
    memoryMiB: Type.Integer({ minimum: 1, maximum: 2 ** 24 }),
    acpiLoader: digest,
    acpiRsdp: digest,
    acpiTables: digest,
    smbios: digest,
  },
  { additionalProperties: false },
);

export type TablesFile = Static<typeof tablesSchema>;

/** @throws DstackError TABLES_INVALID with the first thing that is wrong. */
export function parseTables(text: string): TablesFile {
  return parseJson(tablesSchema, text, 'TABLES_INVALID', 'tables.json', MAX_TABLES_JSON);
}

export function tablesOf(file: TablesFile): MachineTables {
  return {
    acpiLoader: fromHex(file.acpiLoader),
    acpiRsdp: fromHex(file.acpiRsdp),
    acpiTables: fromHex(file.acpiTables),
    smbios: fromHex(file.smbios),
  };
}

export function tablesFile(
  tables: MachineTables,
  about: Pick<TablesFile, 'machine' | 'cpus' | 'memoryMiB'>,
): TablesFile {
  return {
    version: 1,
    ...about,
    acpiLoader: toHex(tables.acpiLoader),
    acpiRsdp: toHex(tables.acpiRsdp),
    acpiTables: toHex(tables.acpiTables),
    smbios: toHex(tables.smbios),
  };
}

const EV_PLATFORM_CONFIG_FLAGS = 0xa;
const EV_EFI_HANDOFF_TABLES = 0x8000_0009;

/**
 * The digests of the machine's tables, out of the log of a VM with that machine.
 * @throws DstackError EVENT_LOG_INVALID when the log does not hold exactly the four.
 */
export function tablesFromEventLog(events: readonly FirmwareEvent[]): MachineTables {
  const ofMachine = events.filter(({ register }) => register === 'rtmr0');
  const acpi = ofMachine.filter(
    ({ type, data }) =>
      type === EV_PLATFORM_CONFIG_FLAGS && Buffer.from(data).toString('latin1') === 'ACPI DATA',
  );
  const smbios = ofMachine.filter(({ type }) => type === EV_EFI_HANDOFF_TABLES);
  if (acpi.length !== 3 || smbios.length !== 1) {
    throw new DstackError(
      'EVENT_LOG_INVALID',
      `this event log can not be used: it has ${acpi.length} events of ACPI and ${smbios.length} of SMBIOS instead of 3 and 1: another firmware, or a machine with other devices than ours`,
    );
  }
  return {
    acpiLoader: acpi[0]!.digest,
    acpiRsdp: acpi[1]!.digest,
    acpiTables: acpi[2]!.digest,
    smbios: smbios[0]!.digest,
  };
}
