/**
 * `tables.json`: the digests of what QEMU generates for one machine. It is an input of RTMR0 that no file of the image
 * holds, so it has a version and says for what machine it holds; who publishes a measurement publishes it too.
 */
import Type, { type Static } from 'typebox';
import { fromHex, toHex } from '../../protocol/encoding.ts';
import { parseJson } from '../../protocol/schema.ts';
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
