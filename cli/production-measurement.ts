/** The measurement of a production image: what TDX will report, which depends on the machine's tables besides the image's files. */
import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Image, Shape } from '../host/vm/image.ts';
import { measurementOf } from '../lib/attestation/registers/measurement.ts';
import { type AcpiTable, MAX_ACPI_FILE_BYTES } from '../lib/attestation/tdx/acpi.ts';
import type { MachineTables } from '../lib/attestation/tdx/boot-events.ts';
import { parseTables, tablesOf } from '../lib/attestation/tdx/machine-tables.ts';
import { measureTdx } from '../lib/attestation/tdx/tdx-registers.ts';
import { to0x } from '../lib/protocol/encoding.ts';
import { DstackError } from '../lib/protocol/errors.ts';
import type { Option } from './command.ts';

export const tablesOption: Option = {
  value: 'FILE',
  help: "of a production image: the tables.json of the hosts' machine, as image tables writes it",
};

/**
 * 0x-prefixed.
 * @param tables the tables.json of the machine; undefined when none was given
 * @throws MEASUREMENT_UNKNOWN, which says what is missing; TABLES_SHAPE, TABLES_WITHOUT_BYTES, ACPI_TABLES_INVALID
 */
export function productionMeasurement(image: Image, shape: Shape, tables: string | undefined): string {
  const made = `npx dstack image tables --image ${dirname(image.kernel)} --cpus ${shape.cpus} --memory ${shape.memoryMiB} --tdx --event-log CCEL --out DIR`;
  if (tables === undefined) {
    throw new DstackError(
      'MEASUREMENT_UNKNOWN',
      `what TDX reports of a production image depends on the machine's tables too, and none were given: --tables FILE. They are made by: ${made}`,
    );
  }
  const measured = measureTdx({
    firmware: readFileSync(image.firmware),
    kernel: readFileSync(image.kernel),
    initramfs: readFileSync(image.initramfs),
    commandLine: image.manifest.commandLine,
    memoryMiB: shape.memoryMiB,
    tables: readTables(tables, shape).tables,
  });
  const { rtmr0 } = measured;
  if (rtmr0 !== undefined) return to0x(measurementOf({ ...measured, rtmr0 }));
  throw new DstackError(
    'MEASUREMENT_UNKNOWN',
    `${tables} lacks the digest of SMBIOS, without which RTMR0 is unknown: it is taken from the event log of a TD of that machine, by: ${made}`,
  );
}

/**
 * The digests of the bytes beside tables.json.
 * @throws TABLES_SHAPE, TABLES_WITHOUT_BYTES, ACPI_TABLES_INVALID
 */
export function readTables(
  given: string,
  shape: Shape,
): { readonly tables: MachineTables; readonly review: readonly AcpiTable[] } {
  const file = parseTables(readFileSync(given, 'utf8'));
  if (file.cpus !== shape.cpus || file.memoryMiB !== shape.memoryMiB) {
    throw new DstackError(
      'TABLES_SHAPE',
      `${given} holds for ${file.cpus} processors and ${file.memoryMiB} MiB, not for ${shape.cpus} and ${shape.memoryMiB}`,
    );
  }
  return tablesOf(file, (name) => readTable(join(dirname(given), name)));
}

function readTable(path: string): Uint8Array {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || !found.isFile() || found.size > MAX_ACPI_FILE_BYTES) {
    throw new DstackError(
      'TABLES_WITHOUT_BYTES',
      `tables.json names ${path}, which is not a file of at most ${MAX_ACPI_FILE_BYTES} bytes: a digest without bytes allows code that nobody saw`,
    );
  }
  return readFileSync(path);
}
