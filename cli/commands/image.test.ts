import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { testFirmware, testKernel } from '../../lib/attestation/tdx/testing.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CCEL = join(ROOT, 'testdata/measurement/ccel-2gib.bin');
const QUOTE = join(ROOT, 'testdata/attestation/quotes/tdx-v4-00806f050000-c6291192-teepot.bin');
const folder = mkdtempSync(join(tmpdir(), 'image-'));
afterAll(() => rmSync(folder, { recursive: true }));

function image(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [join(ROOT, 'cli/main.ts'), 'image', ...args], (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** A folder that looks like an image of this flavour, with small files in it. */
function makeImage(flavour: 'production' | 'sim'): string {
  const at = mkdtempSync(join(folder, flavour));
  const file = { sha256: 'a'.repeat(64), size: 1 };
  writeFileSync(join(at, 'firmware.bin'), testFirmware());
  writeFileSync(join(at, 'vmlinuz'), testKernel());
  writeFileSync(join(at, 'initramfs.cpio.zst'), 'initramfs');
  writeFileSync(
    join(at, 'image.json'),
    JSON.stringify({
      version: 1,
      flavour,
      builtAt: 1,
      commandLine: 'console=ttyS0',
      rootHash: 'b'.repeat(64),
      kernelRelease: '7.2',
      packages: 1,
      lockHash: 'c'.repeat(64),
      files: { vmlinuz: file, 'initramfs.cpio.zst': file, 'root.img': file, 'firmware.bin': file },
      defaultShape: { cpus: 2, memoryMiB: 2048 },
      measurement: `0x${'d'.repeat(64)}`,
    }),
  );
  return at;
}

const digest = (digit: string) => digit.repeat(96);
const ACPI = join(ROOT, 'testdata/measurement/acpi-qemu-10.0');
const tables = {
  version: 2,
  machine: 'QEMU 10.1, q35',
  cpus: 2,
  memoryMiB: 2048,
  acpiLoader: 'acpi-loader.bin',
  acpiRsdp: 'acpi-rsdp.bin',
  acpiTables: 'acpi-tables.bin',
  smbios: digest('4'),
};
for (const name of [tables.acpiLoader, tables.acpiRsdp, tables.acpiTables]) {
  copyFileSync(join(ACPI, name), join(folder, name));
}

test('measures a production image as TDX does: RTMR0 only with the tables of the machine', async () => {
  const folderOf = makeImage('production');
  const file = join(folder, 'tables.json');
  writeFileSync(file, JSON.stringify(tables));
  const [without, text, json] = await Promise.all([
    image('measure', '--image', folderOf),
    image('measure', '--image', folderOf, '--tables', file),
    image('measure', '--image', folderOf, '--tables', file, '--json'),
  ]);
  expect(without).toMatchObject({ code: 0, stderr: '' });
  expect(without.stdout).toMatch(/^RTMR0 +not computed$/m);
  expect(without.stdout).not.toMatch(/^measurement/m);
  expect(text.stdout).toMatch(/^measurement {2}0x[0-9a-f]{64}$/m);
  expect(text.stdout).toMatch(/^CODE {2}DSDT {2}8319 bytes, 8283 of them AML +sha256 [0-9a-f]{64}$/m);
  expect(text.stdout).toMatch(/^data {2}FACP /m);
  const said = JSON.parse(json.stdout);
  expect(said).toMatchObject({
    platform: 'tdx',
    measurement: /^measurement {2}(0x.*)$/m.exec(text.stdout)![1],
    dependsOn: { mrtd: ['firmware'], rtmr1: ['kernel'], rtmr2: ['command line', 'initramfs'] },
  });
  expect(without.stdout).toContain(said.rtmr1);
});

test("measures a sim image by the simulated platform's rules, and says that image.json says otherwise", async () => {
  const { code, stdout } = await image('measure', '--image', makeImage('sim'));
  expect(code).toBe(0);
  expect(stdout).toMatch(/^measurement {2}0x[0-9a-f]{64}$/m);
  expect(stdout).toContain(`image.json says 0x${'d'.repeat(64)}`);
});

test('refuses tables of another shape, and an event log that is none', async () => {
  const folderOf = makeImage('production');
  const file = join(folder, 'other.json');
  writeFileSync(file, JSON.stringify({ ...tables, cpus: 4 }));
  const [shape, log, bad] = await Promise.all([
    image('measure', '--image', folderOf, '--tables', file),
    image('measure', '--image', folderOf, '--event-log', QUOTE),
    image('measure', '--image', folderOf, '--tables', CCEL),
  ]);
  expect(shape).toMatchObject({ code: 1, stderr: expect.stringMatching(/^dstack: TABLES_SHAPE: /) });
  expect(log).toMatchObject({ code: 1, stderr: expect.stringMatching(/^dstack: FIRMWARE_LOG_FORMAT: /) });
  expect(bad).toMatchObject({ code: 1, stderr: expect.stringMatching(/^dstack: TABLES_INVALID: /) });
});

test('a digest without bytes is refused, and so are bytes that hide code', async () => {
  const folderOf = makeImage('production');
  const old = {
    ...tables,
    version: 1,
    acpiLoader: digest('1'),
    acpiRsdp: digest('2'),
    acpiTables: digest('3'),
  };
  const hidden = readFileSync(join(folder, tables.acpiTables));
  hidden[hidden.length - 100] = 0x5b;
  writeFileSync(join(folder, 'hidden.bin'), hidden);
  const measure = (name: string, file: object) =>
    image('measure', '--image', folderOf, '--tables', write(name, file));
  const refused = async (code: string, name: string, file: object) =>
    expect(await measure(name, file), name).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(new RegExp(`^dstack: ${code}: `)),
    });
  await refused('TABLES_WITHOUT_BYTES', 'old.json', old);
  await refused('TABLES_WITHOUT_BYTES', 'gone.json', { ...tables, acpiTables: 'gone.bin' });
  await refused('TABLES_INVALID', 'digest.json', { ...tables, acpiTables: `${digest('3')}…` });
  await refused('TABLES_INVALID', 'elsewhere.json', { ...tables, acpiTables: '../acpi-tables.bin' });
  await refused('ACPI_TABLES_INVALID', 'hidden.json', { ...tables, acpiTables: 'hidden.bin' });
});

test('an event log is compared event by event; what it says of tables that nobody saw is no measurement', async () => {
  const folderOf = makeImage('production');
  const given = write('t.json', tables);
  const measured = JSON.parse(
    (await image('measure', '--image', folderOf, '--tables', given, '--json')).stdout,
  ) as { events: { register: string; name: string; digest: string }[] };
  const good = write('good.ccel', ccelOf(measured.events));
  const changed = (name: string) =>
    ccelOf(measured.events.map((event) => (event.name === name ? { ...event, digest: digest('9') } : event)));
  const usual = ['measure', '--image', folderOf, '--event-log'];
  const [same, other, code, unseen] = await Promise.all([
    image(...usual, good, '--tables', given),
    image(...usual, write('bad.ccel', changed('initramfs')), '--tables', given),
    image(...usual, write('code.ccel', changed('ACPI tables')), '--tables', given),
    image(...usual, good),
  ]);
  expect(same).toMatchObject({ code: 0, stdout: expect.stringContaining('holds exactly these events') });
  expect(other.code).toBe(1);
  expect(other.stdout).toMatch(/^DIFFERENT {2}rtmr2 event 1: computed initramfs /m);
  expect(code.code).toBe(1);
  expect(code.stdout).toMatch(/^DIFFERENT {2}rtmr0 event \d+: computed ACPI tables /m);
  expect(unseen.code).toBe(1);
  expect(unseen.stdout).toMatch(/^UNSEEN {5}rtmr0 event \d+: ACPI tables, logged [0-9a-f]{96}/m);
  expect(unseen.stdout).not.toMatch(/^measurement/m);
});

function write(name: string, content: object | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.isBuffer(content) ? content : JSON.stringify(content));
  return path;
}

/** A log with these events, its first one taken from a real log. */
function ccelOf(events: readonly { register: string; name: string; digest: string }[]): Buffer {
  const real = readFileSync(CCEL);
  const parts = [real.subarray(0, 32 + real.readUInt32LE(28))];
  for (const { register, name, digest } of events) {
    const acpi = name.startsWith('ACPI');
    const data = Buffer.from(acpi ? 'ACPI DATA' : '');
    const head = Buffer.alloc(14);
    head.writeUInt32LE(Number(register.at(-1)) + 1, 0);
    head.writeUInt32LE(acpi ? 0xa : name === 'SMBIOS' ? 0x8000_0009 : 6, 4);
    head.writeUInt32LE(1, 8);
    head.writeUInt16LE(12, 12);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(data.length, 0);
    parts.push(head, Buffer.from(digest, 'hex'), length, data);
  }
  return Buffer.concat([...parts, Buffer.alloc(64, 0xff)]);
}

test.each<[string[], number, RegExp]>([
  [['measure', '--memory', 'much'], 2, /USAGE: --memory takes/],
  [['tables'], 2, /USAGE: --out /],
  [['tables', '--out', '/nowhere', '--image', '/nowhere'], 1, /IMAGE_MISSING: /],
  [['measure', '--image', '/nowhere'], 1, /IMAGE_MISSING: /],
  [['reproduce', '--flavour', 'blue'], 2, /USAGE: --flavour takes .*, not "blue"/],
  [['reproduce', '--against', '/nowhere'], 2, /USAGE: --against/],
  [['diff', '/nowhere'], 2, /USAGE: /],
  [['diff', '/nowhere', '/nowhere'], 1, /IMAGE_MISSING: /],
  [['fetch', '--snapshot', 'not a URL'], 1, /MIRROR_UNKNOWN: /],
  [['fetch', '--check', '--mirror', '/nowhere'], 1, /MIRROR_INCOMPLETE: /],
  [['node', '--sums', 'x'], 2, /USAGE: --sums, --archive and --keyring/],
  [['lock', '--no-such-option'], 2, /USAGE: /],
])('%j exits with %i', async (args, code, stderr) => {
  const result = await image(...args);
  expect(result.code).toBe(code);
  expect(result.stderr).toMatch(stderr);
});
