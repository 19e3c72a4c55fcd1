/** The ACPI tables of a machine, as its firmware got them: from a running QEMU, which makes them when asked. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openImage } from '../../host/vm/image.ts';
import { generateTables, type TablesRequest } from '../../host/vm/machine-tables.ts';
import { reviewAcpi } from '../../lib/attestation/tdx/acpi.ts';

const root = join(import.meta.dirname, '../..');
/** The sim image, whose kernel prints at once: a machine is stopped at its first output. */
async function image() {
  const found = await openImage(join(root, 'build/image-sim'));
  return { ...found, manifest: { ...found.manifest, commandLine: 'earlyprintk=ttyS0 console=ttyS0' } };
}
const usual = { accelerator: 'tcg', qemu: 'tool root', dataDisk: true, timeoutMs: 300_000 } as const;

test('the same machine has the same tables each time; a device or a processor more makes others', async () => {
  const machine = { image: await image(), shape: { cpus: 2, memoryMiB: 1024 }, ...usual };
  const generate = (change: Partial<TablesRequest> = {}) => generateTables({ ...machine, ...change });
  const tables = await generate();
  const review = reviewAcpi(tables);
  expect(review.filter(({ code }) => code).map(({ signature }) => signature)).toEqual(['DSDT']);
  expect(await generate()).toEqual(tables);
  const dsdt = (files: typeof tables) =>
    reviewAcpi(files).find(({ signature }) => signature === 'DSDT')!.bytes;
  expect(dsdt(await generate({ dataDisk: false }))).not.toEqual(dsdt(tables));
  expect((await generate({ shape: { cpus: 3, memoryMiB: 1024 } })).acpiTables).not.toEqual(tables.acpiTables);
});

test('a firmware that says nothing in time is an error, and its machine is gone', async () => {
  const request = { image: await image(), shape: { cpus: 1, memoryMiB: 512 }, ...usual, timeoutMs: 1 };
  await expect(generateTables(request)).rejects.toMatchObject({ code: 'TABLES_TIMEOUT' });
});
