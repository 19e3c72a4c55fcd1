/**
 * The TD HOB: the list of memory ranges that QEMU writes for the firmware, which measures it before it uses it.
 * Source: QEMU, hw/i386/tdvf-hob.c and target/i386/kvm/tdx.c; the structures are those of the UEFI Platform
 * Initialization specification, volume 3 (EFI_HOB_HANDOFF_INFO_TABLE, EFI_HOB_RESOURCE_DESCRIPTOR).
 */
import { DstackError } from '../../protocol/errors.ts';
import type { Section } from './tdvf.ts';

const HANDOFF_BYTES = 56;
const RESOURCE_BYTES = 48;
const END_BYTES = 8;
const HOB_TYPE_HANDOFF = 1;
const HOB_TYPE_RESOURCE = 3;
const HANDOFF_VERSION = 9;
const SYSTEM_MEMORY = 0;
const UNACCEPTED_MEMORY = 7;
/** Present, initialised, tested. */
const RESOURCE_ATTRIBUTES = 7;
const GIB4 = 0x1_0000_0000n;
/** QEMU's q35: a VM with less memory than this has all of it below 4 GiB; one with more, 2 GiB of it. */
const Q35_SPLIT_FROM = 0xb000_0000n;
const Q35_LOW_MEMORY = 0x8000_0000n;

interface Range {
  readonly start: bigint;
  readonly end: bigint;
  readonly accepted: boolean;
}

/**
 * The bytes that the firmware measures: the list without its end marker.
 * @throws DstackError SHAPE_INVALID when the firmware's own memory does not fit into `memoryMiB`.
 */
export function tdHob(sections: readonly Section[], memoryMiB: number): Uint8Array {
  const ranges = memoryRanges(sections, memoryMiB);
  const bytes = Buffer.alloc(HANDOFF_BYTES + ranges.length * RESOURCE_BYTES);
  const base = sections.find(({ kind }) => kind === 'td-hob')!.address;
  bytes.writeUInt16LE(HOB_TYPE_HANDOFF, 0);
  bytes.writeUInt16LE(HANDOFF_BYTES, 2);
  bytes.writeUInt32LE(HANDOFF_VERSION, 8);
  bytes.writeBigUInt64LE(base + BigInt(bytes.length + END_BYTES), 48);
  ranges.forEach(({ start, end, accepted }, index) => {
    const at = HANDOFF_BYTES + index * RESOURCE_BYTES;
    bytes.writeUInt16LE(HOB_TYPE_RESOURCE, at);
    bytes.writeUInt16LE(RESOURCE_BYTES, at + 2);
    bytes.writeUInt32LE(accepted ? SYSTEM_MEMORY : UNACCEPTED_MEMORY, at + 24);
    bytes.writeUInt32LE(RESOURCE_ATTRIBUTES, at + 28);
    bytes.writeBigUInt64LE(start, at + 32);
    bytes.writeBigUInt64LE(end - start, at + 40);
  });
  return new Uint8Array(bytes);
}

/** The VM's memory by address, cut where the firmware's sections, which are accepted already, begin and end. */
function memoryRanges(sections: readonly Section[], memoryMiB: number): Range[] {
  const memory = BigInt(memoryMiB) * 2n ** 20n;
  const low = memory >= Q35_SPLIT_FROM ? Q35_LOW_MEMORY : memory;
  const added = sections
    .filter(({ kind }) => kind === 'td-hob' || kind === 'temporary-memory')
    .toSorted((a, b) => (a.address < b.address ? -1 : 1));
  const ranges: Range[] = [];
  let at = 0n;
  for (const { address, size } of added) {
    const end = address + BigInt(size);
    if (address < at || end > low) {
      throw new DstackError(
        'SHAPE_INVALID',
        `the firmware needs memory up to ${end}, the VM has ${low} bytes below 4 GiB`,
      );
    }
    if (address > at) ranges.push({ start: at, end: address, accepted: false });
    ranges.push({ start: address, end, accepted: true });
    at = end;
  }
  if (at < low) ranges.push({ start: at, end: low, accepted: false });
  if (memory > low) ranges.push({ start: GIB4, end: GIB4 + memory - low, accepted: false });
  return ranges;
}
