/** The tables are what QEMU 10.0.13 gave the locked TDX firmware, under emulation: testdata/measurement/README.md. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toHex } from '../../protocol/encoding.ts';
import { codeOf } from '../../protocol/errors.ts';
import { encodeFirmwareLog, type FirmwareEvent, firmwareEvent } from '../registers/firmware-log.ts';
import { type AcpiFiles, MAX_ACPI_FILE_BYTES, reviewAcpi } from './acpi.ts';
import { digestsOf, smbiosFromEventLog } from './machine-tables.ts';

const read = (name: string) =>
  new Uint8Array(
    readFileSync(join(import.meta.dirname, '../../../testdata/measurement/acpi-qemu-10.0', name)),
  );
const files: AcpiFiles = {
  acpiLoader: read('acpi-loader.bin'),
  acpiRsdp: read('acpi-rsdp.bin'),
  acpiTables: read('acpi-tables.bin'),
};
const verdict = (changed: Partial<AcpiFiles>) => {
  try {
    return reviewAcpi({ ...files, ...changed }).map(({ signature }) => signature);
  } catch (error) {
    return codeOf(error);
  }
};
const altered = (bytes: Uint8Array, at: number, ...values: number[]) => {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
};

test("QEMU's tables, each byte of them in one, and one with code", () => {
  const tables = reviewAcpi(files);
  expect(tables.map(({ signature, bytes, code }) => [signature, bytes.length, code])).toEqual([
    ['FACS', 64, false],
    ['DSDT', 8319, true],
    ['FACP', 244, false],
    ['APIC', 128, false],
    ['MCFG', 60, false],
    ['WAET', 40, false],
    ['RSDT', 52, false],
  ]);
});

test('a table that was added is in the review, whatever its signature', () => {
  const end = 8855 + 52;
  for (const [signature, code] of [
    ['SSDT', true],
    ['PSDT', true],
    ['EVIL', false],
  ] as const) {
    const table = Buffer.alloc(40);
    table.write(signature, 'latin1');
    table.writeUInt32LE(40, 4);
    const tables = reviewAcpi({ ...files, acpiTables: altered(files.acpiTables, end + 8, ...table) });
    expect(tables.at(-1)).toMatchObject({ signature, code, offset: end + 8 });
  }
});

test.each<[string, Partial<AcpiFiles>]>([
  ['bytes behind the last table', { acpiTables: altered(files.acpiTables, 20_000, 0x5b) }],
  ['a table longer than the file', { acpiTables: altered(files.acpiTables, 68, 0xff, 0xff, 0xff, 0xff) }],
  ['a table shorter than its header', { acpiTables: altered(files.acpiTables, 68, 8, 0, 0, 0) }],
  ['a signature that is none', { acpiTables: altered(files.acpiTables, 64, 0x64) }],
  ['no table', { acpiTables: new Uint8Array(4096) }],
  ['too much', { acpiTables: new Uint8Array(MAX_ACPI_FILE_BYTES + 1) }],
  // The first pointer of RSDT: into the DSDT's body, where another header may be.
  ['a pointer into a table', { acpiTables: altered(files.acpiTables, 8855 + 36, 0x80, 0x10) }],
  ['an RSDP that points into a table', { acpiRsdp: altered(files.acpiRsdp, 16, 0x98) }],
  ['an RSDP that is cut', { acpiRsdp: files.acpiRsdp.slice(0, 18) }],
  ['a loader with half a command', { acpiLoader: files.acpiLoader.slice(0, 200) }],
  ['a command that nobody knows', { acpiLoader: altered(files.acpiLoader, 0, 4) }],
  ['another file', { acpiLoader: altered(files.acpiLoader, 4, 0x66) }],
])('%s: refused', (_, changed) => {
  expect(verdict(changed)).toBe('ACPI_TABLES_INVALID');
});

test('whatever the bytes: a review that has them all, or a refusal', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('acpiLoader', 'acpiRsdp', 'acpiTables'),
      fc.nat({ max: 9_000 }),
      fc.uint8Array({ minLength: 1, maxLength: 12 }),
      (name, at, change) => {
        const original = files[name];
        const start = at % (original.length - change.length);
        const changed = altered(original, start, ...change);
        const outcome = verdict({ [name]: changed });
        if (outcome === 'ACPI_TABLES_INVALID') return;
        const covered = new Uint8Array(files.acpiTables.length);
        const tables = reviewAcpi({ ...files, [name]: changed });
        for (const { offset, bytes } of tables) covered.fill(1, offset, offset + bytes.length);
        const blob = name === 'acpiTables' ? changed : files.acpiTables;
        expect(blob.every((byte, index) => byte === 0 || covered[index] === 1)).toBe(true);
      },
    ),
    { numRuns: 500 },
  );
});

test("SMBIOS' digest is taken from the log of a TD that had these very tables, and no other", () => {
  const { acpiLoader, acpiRsdp, acpiTables } = digestsOf(files);
  const smbios = new Uint8Array(48).fill(4);
  const logOf = (tables: Uint8Array): FirmwareEvent[] => [
    firmwareEvent('rtmr0', 0xa, acpiLoader, 'ACPI DATA'),
    firmwareEvent('rtmr0', 0xa, acpiRsdp, 'ACPI DATA'),
    firmwareEvent('rtmr0', 0xa, tables, 'ACPI DATA'),
    firmwareEvent('rtmr0', 0x8000_0009, smbios, ''),
  ];
  expect(encodeFirmwareLog(logOf(acpiTables)).length).toBeGreaterThan(0);
  expect(smbiosFromEventLog(logOf(acpiTables), files)).toBe(toHex(smbios));
  expect(() => smbiosFromEventLog(logOf(smbios), files)).toThrow(
    expect.objectContaining({ code: 'TABLES_DIFFER' }),
  );
});
