/** The files answer as Linux does: each row is from Documentation/ABI/testing and the code that it documents. */
import { beforeEach, expect, test } from 'vitest';
import { parseCcel } from '../../../lib/attestation/registers/firmware-log.ts';
import { extendRegister } from '../../../lib/attestation/registers/rtmr.ts';
import { simulatedFiles } from './files.ts';
import type { Machine } from './machine.ts';
import type { File, Folder, OpenFile, TreeNode } from './tree.ts';

const zero = new Uint8Array(48);
const digest = new Uint8Array(48).fill(0x5a);
const firmwareLog = new Uint8Array(100).fill(9);
let registers: ReturnType<Machine['registers']>;
let quotes: number;
let root: Folder;

beforeEach(() => {
  registers = { mrtd: zero, rtmr0: zero, rtmr1: zero, rtmr2: zero, rtmr3: zero };
  quotes = 0;
  root = simulatedFiles({
    firmwareLog,
    registers: () => registers,
    extend(index, by) {
      registers = { ...registers, [`rtmr${index}`]: extendRegister(registers[`rtmr${index}`], by) };
    },
    quote: (reportData) => Buffer.concat([Buffer.from([++quotes]), reportData]),
  });
});

function at(path: string): TreeNode {
  const found = path.split('/').reduce<TreeNode | undefined>((node, name) => {
    return node?.kind === 'folder' ? node.get(name) : undefined;
  }, root);
  if (found === undefined) throw new Error(`no ${path}`);
  return found;
}
const REPORTS = 'sys/kernel/config/tsm/report';
const reports = () => at(REPORTS) as Folder;
const file = (name: string) => at(name.startsWith('sys') ? name : `${REPORTS}/a/${name}`) as File;
const register = (name: string) => file(`sys/devices/virtual/misc/tdx_guest/measurements/${name}`);
const text = (name: string) => Buffer.from(file(name).open().read(0, 4096)).toString();
const writeInblob = (...writes: readonly (readonly [number, Uint8Array])[]) => {
  const open = file('inblob').open();
  for (const [offset, bytes] of writes) open.write(offset, bytes);
  open.close();
};
const inblob = (length: number) => writeInblob([0, new Uint8Array(length).fill(3)]);
const outblob = () => file('outblob').open().read(0, 4096);
const failing = (code: string) => expect.objectContaining({ code });

test("a TD's entry has these four files; options of other platforms are not visible", () => {
  reports().makeFolder('a');
  expect(reports().names()).toEqual(['a']);
  expect(Object.fromEntries((at(`${REPORTS}/a`) as Folder).names().map((n) => [n, file(n).mode]))).toEqual({
    provider: 0o444,
    generation: 0o444,
    inblob: 0o200,
    outblob: 0o400,
  });
  expect(text('provider')).toBe('tdx_guest\n');
  expect(text('generation')).toBe('0\n');
});

test('64 bytes in, a quote of them out; the generation counts the writes', () => {
  reports().makeFolder('a');
  expect(outblob).toThrow(failing('EINVAL'));
  inblob(64);
  expect(text('generation')).toBe('1\n');
  expect(outblob()).toEqual(Buffer.concat([Buffer.from([1]), Buffer.alloc(64, 3)]));
  outblob();
  expect(quotes).toBe(1);
  inblob(64);
  outblob();
  expect(quotes).toBe(2);
  expect(text('generation')).toBe('2\n');
});

test('the inblob counts when it is closed, whole, however it was written', () => {
  reports().makeFolder('a');
  const open = file('inblob').open();
  open.write(32, new Uint8Array(32).fill(2));
  open.write(0, new Uint8Array(32).fill(1));
  expect(text('generation')).toBe('0\n');
  open.close();
  expect(text('generation')).toBe('1\n');
  expect(outblob().subarray(1)).toEqual(Buffer.concat([Buffer.alloc(32, 1), Buffer.alloc(32, 2)]));
  // Opened and closed without a write: nothing.
  writeInblob();
  expect(text('generation')).toBe('1\n');
});

test.each<[string, () => unknown, string]>([
  ['65 bytes', () => inblob(65), 'EFBIG'],
  ['a byte past the 64th', () => writeInblob([64, new Uint8Array(1)]), 'EFBIG'],
  ['reading the inblob', () => file('inblob').open().read(0, 1), 'EBADF'],
  ['writing the outblob', () => file('outblob').open().write(0, zero), 'EBADF'],
  ['writing the provider', () => file('provider').open().write(0, zero), 'EBADF'],
])('%s: %s', (_, call, code) => {
  reports().makeFolder('a');
  expect(call).toThrow(failing(code));
  expect(text('generation')).toBe('0\n');
});

test('63 bytes are taken, for other platforms have shorter ones; a quote of them is EINVAL', () => {
  reports().makeFolder('a');
  inblob(63);
  expect(text('generation')).toBe('1\n');
  expect(outblob).toThrow(failing('EINVAL'));
  inblob(64);
  expect(outblob()).toHaveLength(65);
});

test('entries are made and removed by their owners; what was open of a removed one is ENOENT, and changes nothing', () => {
  const folder = reports();
  folder.makeFolder('a');
  folder.makeFolder('b');
  const files = (['provider', 'generation', 'outblob'] as const).map((name) => file(name).open());
  const input = file('inblob').open();
  input.write(0, new Uint8Array(64));
  folder.removeFolder('a');
  folder.makeFolder('a');
  for (const open of files) expect(() => open.read(0, 1)).toThrow(failing('ENOENT'));
  input.close();
  expect(text('generation')).toBe('0\n');
  expect(folder.names()).toEqual(['b', 'a']);
  for (let more = 2; more < 64; more++) folder.makeFolder(`x${more}`);
  expect(() => folder.makeFolder('one too many')).toThrow(failing('ENOMEM'));
});

test.each(['sys', 'sys/kernel/config/tsm', 'sys/devices/virtual/misc/tdx_guest/measurements'])(
  'nobody makes or removes anything in %s',
  (path) => {
    const folder = at(path) as Folder;
    expect(() => folder.makeFolder('a')).toThrow(failing('EPERM'));
    expect(() => folder.removeFolder(folder.names()[0]!)).toThrow(failing('EPERM'));
    expect(folder.get('toString')).toBeUndefined();
  },
);

test('registers: reading gives the value as it is now, writing 48 bytes extends', () => {
  const open = register('rtmr3:sha384').open();
  expect(open.read(0, 4096)).toEqual(zero);
  expect(open.write(0, digest)).toBe(48);
  expect(open.read(0, 4096)).toEqual(extendRegister(zero, digest));
  expect(open.read(40, 4096)).toHaveLength(8);
  expect(open.read(48, 4096)).toHaveLength(0);
  register('rtmr2:sha384').open().write(0, digest);
  expect(registers.rtmr2).toEqual(registers.rtmr3);
});

test.each<[string, (open: OpenFile) => unknown, string]>([
  ['47 bytes', (open) => open.write(0, digest.subarray(1)), 'EINVAL'],
  ['no byte', (open) => open.write(0, new Uint8Array(0)), 'EINVAL'],
  ['48 bytes at offset 8', (open) => open.write(8, digest), 'EINVAL'],
  ['past the end', (open) => open.write(48, digest), 'EFBIG'],
])('a register does not take %s: %s', (_, call, code) => {
  expect(() => call(register('rtmr3:sha384').open())).toThrow(failing(code));
  expect(registers.rtmr3).toEqual(zero);
});

test('of 49 bytes sysfs takes 48, and extends with them', () => {
  expect(register('rtmr3:sha384').open().write(0, new Uint8Array(49).fill(0x5a))).toBe(48);
  expect(registers.rtmr3).toEqual(extendRegister(zero, digest));
});

test('who may open what: MRTD and the configuration ids are for reading only', () => {
  for (const name of ['mrtd:sha384', 'mrconfigid', 'mrowner', 'mrownerconfig']) {
    expect(register(name).mode).toBe(0o444);
    expect(register(name).open().read(0, 4096)).toEqual(zero);
  }
  expect(register('rtmr3:sha384')).toMatchObject({ mode: 0o644, size: 48 });
});

test('the CCEL table says how long the log is; without a log there is no table', () => {
  const tables = 'sys/firmware/acpi/tables';
  const table = file(`${tables}/CCEL`).open().read(0, 4096);
  expect(parseCcel(table).logLength).toBe(100);
  expect(file(`${tables}/data/CCEL`).open().read(0, 4096)).toEqual(firmwareLog);
  const bare = simulatedFiles({ registers: () => registers, extend() {}, quote: () => zero });
  root = bare;
  expect((at(tables) as Folder).names()).toEqual(['data']);
});
