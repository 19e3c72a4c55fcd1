import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { toHex } from '../../protocol/encoding.ts';
import { codeOf } from '../../protocol/errors.ts';
import { authenticodeHash } from './authenticode.ts';
import { inputsOf, measureTdx, type RegisterName, type TdxBoot } from './tdx-registers.ts';
import { testFirmware, testKernel, testVolume, usualSections } from './testing.ts';
import { GLOBAL_VARIABLE } from './variables.ts';

const digest = (byte: number) => new Uint8Array(48).fill(byte);
const boot: TdxBoot = {
  firmware: testFirmware(),
  kernel: testKernel(),
  initramfs: new Uint8Array([1, 2, 3]),
  commandLine: 'console=ttyS0',
  memoryMiB: 2048,
  tables: { acpiLoader: digest(1), acpiRsdp: digest(2), acpiTables: digest(3), smbios: digest(4) },
};
const registers: readonly RegisterName[] = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'];

/** Each input with one thing changed; the rest as above. */
const perturbed: readonly (readonly [string, Partial<TdxBoot>])[] = [
  ['firmware: a byte of its code', { firmware: firmwareWithOtherCode() }],
  [
    'firmware: a variable of its store',
    { firmware: testFirmware(usualSections(testVolume([[GLOBAL_VARIABLE, 'PK', new Uint8Array(4)]]))) },
  ],
  ['memory: 2048 to 4096 MiB', { memoryMiB: 4096 }],
  ['tables: ACPI (QEMU, its devices, processors)', { tables: { ...boot.tables!, acpiTables: digest(9) } }],
  ['tables: SMBIOS (QEMU, processors, memory)', { tables: { ...boot.tables!, smbios: digest(9) } }],
  ['kernel: a byte of a section', { kernel: testKernel('other') }],
  ['kernel: its signature', { kernel: kernelWithOtherSignature() }],
  ['initramfs: a byte', { initramfs: new Uint8Array([1, 2, 4]) }],
  ['command line: a letter', { commandLine: 'console=ttyS1' }],
];

function firmwareWithOtherCode(): Uint8Array {
  const [code, ...rest] = usualSections();
  return testFirmware([
    { ...code!, data: code!.data!.map((byte, index) => (index === 99 ? byte ^ 1 : byte)) },
    ...rest,
  ]);
}

function kernelWithOtherSignature(): Uint8Array {
  const kernel = testKernel();
  kernel.write('another', 0x600, 'latin1');
  return kernel;
}

function moved(change: Partial<TdxBoot>): RegisterName[] {
  const before = measureTdx(boot);
  const after = measureTdx({ ...boot, ...change });
  return registers.filter((name) => toHex(before[name]!) !== toHex(after[name]!));
}

describe('what moves which register', () => {
  it('is the table in docs/images.md', () => {
    const table = perturbed.map(([what, change]) => {
      const which = moved(change);
      const cells = registers.map((name) => (which.includes(name) ? 'x' : ' '));
      return `| ${what} | ${cells.join(' | ')} |`;
    });
    const page = readFileSync(join(import.meta.dirname, '../../../docs/images.md'), 'utf8');
    expect(page).toContain(table.join('\n'));
  });

  it('is among the inputs that a register says it depends on', () => {
    const { events } = measureTdx(boot);
    for (const [what, change] of perturbed) {
      for (const register of moved(change)) {
        expect(inputsOf(register, events)).toContain(what.split(':')[0]);
      }
    }
  });
});

describe('a measurement', () => {
  it("without the machine's tables has no RTMR0, and all the rest", () => {
    const { tables, ...without } = boot;
    const measured = measureTdx(without);
    expect(tables).toBeDefined();
    expect(measured.rtmr0).toBeUndefined();
    expect(measured.rtmr1).toEqual(measureTdx(boot).rtmr1);
    expect(measured.events.filter((event) => event.digest === undefined).map(({ name }) => name)).toEqual([
      'ACPI loader',
      'ACPI RSDP',
      'ACPI tables',
      'SMBIOS',
    ]);
  });

  it.each<[string, Partial<TdxBoot>, string]>([
    ['a line break in the command line', { commandLine: 'a\nb' }, 'COMMAND_LINE_INVALID'],
    ['no memory', { memoryMiB: 0 }, 'SHAPE_INVALID'],
    [
      'an unpacked kernel',
      { kernel: Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(4096)]) },
      'PE_INVALID',
    ],
    ['an empty kernel', { kernel: Buffer.alloc(0) }, 'PE_INVALID'],
    ['a firmware without TDX', { firmware: Buffer.alloc(4096) }, 'TDVF_INVALID'],
  ])('is refused for %s', (_, change, code) => {
    let got = 'accepted';
    try {
      measureTdx({ ...boot, ...change });
    } catch (error) {
      got = codeOf(error);
    }
    expect(got).toBe(code);
  });
});

describe('the hash of a PE file', () => {
  it('leaves out the checksum, the signature and where the signature is', () => {
    const usual = toHex(authenticodeHash(testKernel()));
    const changedAt = (at: number) => {
      const kernel = testKernel();
      kernel[at]! ^= 1;
      return toHex(authenticodeHash(kernel)) !== usual;
    };
    const optional = 0x58;
    for (const at of [optional + 64, optional + 67, optional + 144, 0x600]) expect(changedAt(at)).toBe(false);
    for (const at of [2, optional + 68, 0x1ff, 0x200, 0x3ff, 0x400, 0x5ff]) expect(changedAt(at)).toBe(true);
  });

  it("is never read past the file's end", () => {
    const kernel = testKernel();
    for (let length = 0; length < kernel.length; length += 3) {
      try {
        authenticodeHash(kernel.subarray(0, length));
        expect.unreachable();
      } catch (error) {
        expect(codeOf(error)).toBe('PE_INVALID');
      }
    }
  });
});
