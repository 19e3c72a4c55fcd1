/** Small firmware and kernel files, for tests only: well-formed, with a few bytes where the real ones have megabytes. */
import { guidBytes, PAGE_BYTES } from './tdvf.ts';

export interface TestSection {
  readonly type: number;
  readonly attributes: number;
  readonly address: bigint;
  readonly size: number;
  readonly data?: Uint8Array;
  /** What the metadata says instead of the data's length. */
  readonly rawSize?: number;
}

const volumeBytes = 2 * PAGE_BYTES;

/** A configuration volume with variables, each as [vendor GUID, name, value]. */
export function testVolume(variables: readonly (readonly [string, string, Uint8Array])[]): Uint8Array {
  const volume = Buffer.alloc(volumeBytes, 0xff).fill(0, 0, 100);
  volume.write('_FVH', 40, 'latin1');
  volume.writeUInt16LE(72, 48);
  volume.set(guidBytes('aaf32c78-947b-439a-a180-2e144ec37792'), 72);
  volume.writeUInt32LE(volumeBytes - 72, 88);
  let at = 100;
  for (const [vendor, name, value] of variables) {
    const text = Buffer.from(`${name}\0`, 'utf16le');
    volume.fill(0, at, at + 60);
    volume.writeUInt16LE(0x55aa, at);
    volume[at + 2] = 0x3f;
    volume.writeUInt32LE(text.length, at + 36);
    volume.writeUInt32LE(value.length, at + 40);
    volume.set(guidBytes(vendor), at + 44);
    volume.set(text, at + 60);
    volume.set(value, at + 60 + text.length);
    at = (at + 60 + text.length + value.length + 3) & ~3;
  }
  return new Uint8Array(volume);
}

/** The sections of OVMF's TDX build, with a code volume of two pages. */
export function usualSections(volume = testVolume([])): TestSection[] {
  const code = new Uint8Array(2 * PAGE_BYTES).map((_, index) => index & 0xff);
  return [
    { type: 0, attributes: 1, address: 0xffff_e000n, size: code.length, data: code },
    { type: 1, attributes: 0, address: 0xffff_c000n, size: volume.length, data: volume },
    { type: 3, attributes: 0, address: 0x81_0000n, size: 0x1_0000 },
    { type: 3, attributes: 0, address: 0x80_b000n, size: 0x2000 },
    { type: 2, attributes: 0, address: 0x80_9000n, size: 0x2000 },
    { type: 3, attributes: 0, address: 0x80_0000n, size: 0x6000 },
  ];
}

/** A firmware file: the sections' data, the metadata, a table of GUIDs with two entries, the reset vector. */
export function testFirmware(sections: readonly TestSection[] = usualSections()): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  const append = (bytes: Uint8Array) => {
    parts.push(Buffer.from(bytes));
    length += bytes.length;
    return length - bytes.length;
  };
  const records = sections.map(({ type, attributes, address, size, data, rawSize }) => {
    const record = Buffer.alloc(32);
    record.writeUInt32LE(data === undefined ? 0 : append(data), 0);
    record.writeUInt32LE(rawSize ?? data?.length ?? 0, 4);
    record.writeBigUInt64LE(address, 8);
    record.writeBigUInt64LE(BigInt(size), 16);
    record.writeUInt32LE(type, 24);
    record.writeUInt32LE(attributes, 28);
    return record;
  });
  const head = Buffer.alloc(16);
  head.write('TDVF', 'latin1');
  head.writeUInt32LE(16 + 32 * records.length, 4);
  head.writeUInt32LE(1, 8);
  head.writeUInt32LE(records.length, 12);
  const metadata = append(Buffer.concat([head, ...records]));
  const other = entry(Buffer.alloc(4), '7255371f-3a3b-4b04-927b-1da6efa8d454');
  const offset = Buffer.alloc(4);
  const tdx = entry(offset, 'e47a6535-984a-4798-865e-4685a7bf8ec2');
  const footer = Buffer.alloc(18);
  footer.writeUInt16LE(tdx.length + other.length + 18, 0);
  footer.set(guidBytes('96b582de-1fb2-45f7-baea-a366c55a082d'), 2);
  const total = length + tdx.length + other.length + footer.length + 32;
  tdx.writeUInt32LE(total - metadata, 0);
  return Buffer.concat([...parts, tdx, other, footer, Buffer.alloc(32)]);
}

function entry(data: Buffer, guid: string): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(data.length + 18, 0);
  return Buffer.concat([data, length, guidBytes(guid)]);
}

/** A PE32+ file of two sections, of which the second stands first in the table, and a signature of 8 bytes. */
export function testKernel(body = 'kernel'): Buffer {
  const file = Buffer.alloc(0x400 + 0x200 + 8);
  file.write('MZ', 'latin1');
  file.writeUInt32LE(0x40, 0x3c);
  file.write('PE\0\0', 0x40, 'latin1');
  file.writeUInt16LE(2, 0x46);
  file.writeUInt16LE(160, 0x54);
  const optional = 0x58;
  file.writeUInt16LE(0x20b, optional);
  file.writeUInt32LE(0x200, optional + 60);
  file.writeUInt32LE(0x12345678, optional + 64);
  file.writeUInt32LE(6, optional + 108);
  file.writeUInt32LE(0x600, optional + 112 + 32);
  file.writeUInt32LE(8, optional + 112 + 36);
  for (const [index, [start, size]] of [[0x400, 0x200] as const, [0x200, 0x200] as const].entries()) {
    const at = optional + 160 + 40 * index;
    file.writeUInt32LE(size, at + 16);
    file.writeUInt32LE(start, at + 20);
  }
  file.write(body, 0x200, 'latin1');
  file.write('signature', 0x600, 'latin1');
  return file;
}
