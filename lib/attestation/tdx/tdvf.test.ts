import { describe, expect, it } from 'vitest';
import { codeOf } from '../../protocol/errors.ts';
import { mrtdOf } from './mrtd.ts';
import { tdHob } from './td-hob.ts';
import { parseTdvf } from './tdvf.ts';
import { type TestSection, testFirmware, testVolume, usualSections } from './testing.ts';
import { GLOBAL_VARIABLE, readVariables, secureBootOf, variableOf } from './variables.ts';

function codeFor(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return codeOf(error);
  }
  return 'accepted';
}

/** The usual sections, with one of them changed. */
function withSection(index: number, change: Partial<TestSection>): Buffer {
  return testFirmware(
    usualSections().map((section, at) => (at === index ? { ...section, ...change } : section)),
  );
}

describe('the metadata of a TDX firmware', () => {
  it('is found through the table of GUIDs', () => {
    const sections = parseTdvf(testFirmware());
    expect(sections.map(({ kind, size, extended }) => [kind, size, extended])).toEqual([
      ['bfv', 0x2000, true],
      ['cfv', 0x2000, false],
      ['temporary-memory', 0x10000, false],
      ['temporary-memory', 0x2000, false],
      ['td-hob', 0x2000, false],
      ['temporary-memory', 0x6000, false],
    ]);
    expect([...(sections[0]?.data.subarray(0, 4) ?? [])]).toEqual([0, 1, 2, 3]);
  });

  it.each<[string, () => Buffer]>([
    ['an empty file', () => Buffer.alloc(0)],
    ['no table of GUIDs', () => Buffer.alloc(4096)],
    [
      'no TDX metadata',
      () => Buffer.from(testFirmware().toString('hex').replace('35657ae44a98', '35657ae44a99'), 'hex'),
    ],
    [
      'another signature',
      () => Buffer.from(testFirmware().toString('latin1').replace('TDVF', 'OVMF'), 'latin1'),
    ],
    ['a code volume without code', () => withSection(0, { type: 3 })],
    ['two TD HOBs', () => withSection(2, { type: 2 })],
    ['an unknown kind', () => withSection(2, { type: 9 })],
    ['an unknown attribute', () => withSection(2, { attributes: 4 })],
    ['data outside of the file', () => withSection(0, { rawSize: 0x2000_0000, size: 0x2000_0000 })],
    ['less data than memory', () => withSection(0, { rawSize: 0x1000 })],
    ['an address within a page', () => withSection(2, { address: 0x81_0001n })],
    ['half a page', () => withSection(2, { size: 0x800 })],
    ['no page at all', () => withSection(2, { size: 0 })],
    ['memory without end', () => withSection(2, { size: 2 ** 40 })],
  ])('is refused for %s', (_, firmware) => {
    expect(codeFor(() => parseTdvf(firmware()))).toBe('TDVF_INVALID');
  });

  it('is never read past its end, wherever the file is cut', () => {
    const firmware = testFirmware();
    for (let length = firmware.length - 400; length < firmware.length; length++) {
      expect(codeFor(() => parseTdvf(firmware.subarray(firmware.length - length)))).not.toBe('INTERNAL');
      expect(codeFor(() => parseTdvf(firmware.subarray(0, length)))).toBe('TDVF_INVALID');
    }
  });
});

describe('MRTD', () => {
  it('covers the code that is extended and the place of every page, not the contents of the others', () => {
    const usual = mrtdOf(parseTdvf(testFirmware()));
    const moved = (firmware: Buffer) => !Buffer.from(mrtdOf(parseTdvf(firmware))).equals(usual);
    expect(moved(testFirmware())).toBe(false);
    const code = usualSections()[0]!.data!.slice();
    code[0x1fff]! ^= 1;
    expect(moved(withSection(0, { data: code }))).toBe(true);
    expect(moved(withSection(2, { address: 0x82_0000n }))).toBe(true);
    expect(moved(withSection(3, { size: 0x1000 }))).toBe(true);
    expect(moved(withSection(2, { attributes: 2 }))).toBe(true);
    expect(moved(withSection(1, { data: testVolume([[GLOBAL_VARIABLE, 'PK', new Uint8Array(9)]]) }))).toBe(
      false,
    );
  });
});

describe('the TD HOB', () => {
  it('is refused when the firmware needs more memory than the VM has', () => {
    expect(codeFor(() => tdHob(parseTdvf(testFirmware()), 8))).toBe('SHAPE_INVALID');
  });

  it('has a range above 4 GiB from 2816 MiB on', () => {
    const length = (memoryMiB: number) => tdHob(parseTdvf(testFirmware()), memoryMiB).length;
    expect(length(2816) - length(2815)).toBe(48);
  });
});

describe('the variables of a firmware', () => {
  it('are read from its configuration volume', () => {
    const variables = readVariables(testVolume([[GLOBAL_VARIABLE, 'PK', new Uint8Array([1, 2, 3])]]));
    expect(variableOf(variables, GLOBAL_VARIABLE, 'PK')).toEqual(new Uint8Array([1, 2, 3]));
    expect(variableOf(variables, GLOBAL_VARIABLE, 'KEK')).toBeUndefined();
    expect(secureBootOf(variables)).toEqual(new Uint8Array([1]));
    expect(secureBootOf(readVariables(testVolume([])))).toEqual(new Uint8Array([0]));
  });

  it('are refused when one is longer than the volume', () => {
    const volume = testVolume([[GLOBAL_VARIABLE, 'PK', new Uint8Array(1)]]);
    new DataView(volume.buffer).setUint32(100 + 40, 2 ** 31, true);
    expect(codeFor(() => readVariables(volume))).toBe('TDVF_INVALID');
    expect(codeFor(() => readVariables(volume.subarray(0, 4096)))).toBe('TDVF_INVALID');
    expect(codeFor(() => readVariables(new Uint8Array(4096)))).toBe('TDVF_INVALID');
  });
});
