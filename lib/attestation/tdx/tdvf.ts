/**
 * The metadata of a TDX firmware (TDVF): which parts of its file a host puts where in the TD's memory, and which of them it
 * measures. Source: Intel, "TDX Virtual Firmware Design Guide", section 11 (TDVF descriptor); edk2,
 * OvmfPkg/ResetVector/X64/IntelTdxMetadata.nasm.inc.
 */
import { DstackError } from '../../protocol/errors.ts';

export const PAGE_BYTES = 0x1000;

/** What a section is for. */
export type SectionKind = 'bfv' | 'cfv' | 'td-hob' | 'temporary-memory';

/** A section of the firmware: `size` bytes at guest-physical `address`, the first `data.length` of them from the file. */
export interface Section {
  readonly kind: SectionKind;
  readonly address: bigint;
  readonly size: number;
  readonly data: Uint8Array;
  /** The host extends MRTD with the content (attribute MR.EXTEND). */
  readonly extended: boolean;
  /** The host adds the pages later, by TDH.MEM.PAGE.AUG, which is not measured (attribute PAGE.AUG). */
  readonly augmented: boolean;
}

const FOOTER_GUID = '96b582de-1fb2-45f7-baea-a366c55a082d';
const METADATA_GUID = 'e47a6535-984a-4798-865e-4685a7bf8ec2';
/** The reset vector, after the table of GUIDs. */
const BYTES_AFTER_FOOTER = 32;
/** A GUID and the length of the entry before it. */
const ENTRY_FOOTER_BYTES = 18;
const DESCRIPTOR_BYTES = 16;
const SECTION_BYTES = 32;
const MAX_SECTIONS = 64;
/** The largest firmware that QEMU maps below 4 GiB. */
const MAX_FIRMWARE_BYTES = 16 * 2 ** 20;
const MAX_SECTION_BYTES = 64 * 2 ** 20;
const KINDS: readonly SectionKind[] = ['bfv', 'cfv', 'td-hob', 'temporary-memory'];
const MR_EXTEND = 1;
const PAGE_AUG = 2;

/**
 * The sections in the file's order.
 * @throws DstackError TDVF_INVALID with what is wrong: no TDX metadata, or a section that does not fit.
 */
export function parseTdvf(firmware: Uint8Array): Section[] {
  if (firmware.length > MAX_FIRMWARE_BYTES) throw invalid(`it has ${firmware.length} bytes`);
  const view = new DataView(firmware.buffer, firmware.byteOffset, firmware.byteLength);
  const start = descriptorStart(firmware, view);
  if (start < 0 || start + DESCRIPTOR_BYTES > firmware.length) {
    throw invalid('its TDX metadata lies outside of the file');
  }
  if (Buffer.from(firmware.subarray(start, start + 4)).toString('latin1') !== 'TDVF') {
    throw invalid('its TDX metadata does not begin with TDVF');
  }
  const length = view.getUint32(start + 4, true);
  const version = view.getUint32(start + 8, true);
  const count = view.getUint32(start + 12, true);
  if (version !== 1) throw invalid(`its TDX metadata has version ${version}, not 1`);
  if (count === 0 || count > MAX_SECTIONS || length !== DESCRIPTOR_BYTES + count * SECTION_BYTES) {
    throw invalid(`its TDX metadata says ${count} sections in ${length} bytes`);
  }
  if (start + length > firmware.length) throw invalid('its TDX metadata is cut off');
  const sections = Array.from({ length: count }, (_, index) =>
    parseSection(firmware, view, start + DESCRIPTOR_BYTES + index * SECTION_BYTES),
  );
  for (const [kind, least, most] of [
    ['bfv', 1, count],
    ['cfv', 0, 1],
    ['td-hob', 1, 1],
  ] as const) {
    const found = sections.filter((section) => section.kind === kind).length;
    if (found < least || found > most) throw invalid(`it has ${found} sections of kind ${kind}`);
  }
  return sections;
}

/** The metadata's offset stands, counted from the file's end, in a table of GUIDs that ends before the reset vector. */
function descriptorStart(firmware: Uint8Array, view: DataView): number {
  let end = firmware.length - BYTES_AFTER_FOOTER;
  if (end < ENTRY_FOOTER_BYTES || guidAt(firmware, end - 16) !== FOOTER_GUID) {
    throw invalid('it has no table of GUIDs before its reset vector: is it an OVMF firmware?');
  }
  // The footer's own length is that of the whole table, the footer included.
  const first = end - view.getUint16(end - ENTRY_FOOTER_BYTES, true);
  if (first < 0) throw invalid('its table of GUIDs is longer than the file');
  end -= ENTRY_FOOTER_BYTES;
  while (end - ENTRY_FOOTER_BYTES >= first) {
    const length = view.getUint16(end - ENTRY_FOOTER_BYTES, true);
    if (length < ENTRY_FOOTER_BYTES || end - length < first) throw invalid('its table of GUIDs is broken');
    if (guidAt(firmware, end - 16) === METADATA_GUID) {
      if (length < ENTRY_FOOTER_BYTES + 4) throw invalid('its entry for TDX metadata is too short');
      return firmware.length - view.getUint32(end - ENTRY_FOOTER_BYTES - 4, true);
    }
    end -= length;
  }
  throw invalid('it has no TDX metadata: a build for TDX is needed (Debian: ovmf-inteltdx)');
}

function parseSection(firmware: Uint8Array, view: DataView, at: number): Section {
  const offset = view.getUint32(at, true);
  const rawSize = view.getUint32(at + 4, true);
  const address = view.getBigUint64(at + 8, true);
  const size = view.getBigUint64(at + 16, true);
  const kind = KINDS[view.getUint32(at + 24, true)];
  const attributes = view.getUint32(at + 28, true);
  const name = `the section at 0x${address.toString(16)}`;
  if (kind === undefined) throw invalid(`${name} is of an unknown kind`);
  if ((attributes & ~(MR_EXTEND | PAGE_AUG)) !== 0)
    throw invalid(`${name} has unknown attributes ${attributes}`);
  if (offset + rawSize > firmware.length) throw invalid(`${name} has data outside of the file`);
  const fromFile = kind === 'bfv' || kind === 'cfv';
  const pages = BigInt(PAGE_BYTES);
  if (size === 0n || size > MAX_SECTION_BYTES || size % pages !== 0n || address % pages !== 0n) {
    throw invalid(`${name} is not of whole pages`);
  }
  if (fromFile ? BigInt(rawSize) !== size : rawSize !== 0) {
    throw invalid(`${name} has ${rawSize} bytes in the file and ${size} in memory`);
  }
  return {
    kind,
    address,
    size: Number(size),
    data: firmware.subarray(offset, offset + rawSize),
    extended: (attributes & MR_EXTEND) !== 0,
    augmented: (attributes & PAGE_AUG) !== 0,
  };
}

/** A GUID as people write it; its first three fields are little-endian in memory (UEFI specification, appendix A). */
function guidAt(bytes: Uint8Array, at: number): string {
  const hex = (from: number, to: number) => Buffer.from(bytes.subarray(at + from, at + to));
  return [hex(0, 4).reverse(), hex(4, 6).reverse(), hex(6, 8).reverse(), hex(8, 10), hex(10, 16)]
    .map((part) => part.toString('hex'))
    .join('-');
}

/** The 16 bytes of a GUID in memory; the inverse of the above. */
export function guidBytes(guid: string): Uint8Array {
  const [a, b, c, d, e] = guid.split('-').map((part) => Buffer.from(part, 'hex'));
  return new Uint8Array(Buffer.concat([a!.reverse(), b!.reverse(), c!.reverse(), d!, e!]));
}

function invalid(why: string): DstackError {
  return new DstackError('TDVF_INVALID', `this is not TDX firmware that can be measured: ${why}`);
}
