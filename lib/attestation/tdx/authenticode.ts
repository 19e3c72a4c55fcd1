/**
 * The hash of a PE file as UEFI firmware measures it: of all that is loaded, except for the checksum and the signature.
 * Source: Microsoft, "Windows Authenticode Portable Executable Signature Format"; the PE/COFF specification; edk2,
 * OvmfPkg/Tcg/TdTcg2Dxe/MeasureBootPeCoff.c. Linux' kernel is a PE file for the firmware (its EFI stub).
 */
import { createHash } from 'node:crypto';
import { DstackError } from '../../protocol/errors.ts';

const PE_OFFSET_AT = 0x3c;
const COFF_BYTES = 20;
const SECTION_HEADER_BYTES = 40;
const PE32_PLUS = 0x20b;
const MAX_SECTIONS = 96;
/** Index of the signature's entry among the data directories. */
const SECURITY_DIRECTORY = 4;

/**
 * SHA-384, 48 bytes.
 * @throws DstackError PE_INVALID when it is not a whole PE32+ file, as an unpacked kernel is not.
 */
export function authenticodeHash(file: Uint8Array): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const within = (end: number, what: string) => {
    if (end > file.length) throw invalid(`${what} lies outside of the file`);
    return end;
  };
  within(PE_OFFSET_AT + 4, 'the header');
  const signature = view.getUint32(PE_OFFSET_AT, true);
  within(signature + 4 + COFF_BYTES + 2, 'the PE header');
  if (view.getUint16(0, true) !== 0x5a4d || view.getUint32(signature, true) !== 0x4550) {
    throw invalid('it does not begin as one');
  }
  const coff = signature + 4;
  const optional = coff + COFF_BYTES;
  if (view.getUint16(optional, true) !== PE32_PLUS) throw invalid('it is not PE32+');
  const sectionCount = view.getUint16(coff + 2, true);
  const optionalBytes = view.getUint16(coff + 16, true);
  if (sectionCount === 0 || sectionCount > MAX_SECTIONS || optionalBytes < 112) {
    throw invalid(`it says ${sectionCount} sections and ${optionalBytes} bytes of optional header`);
  }
  within(optional + optionalBytes + sectionCount * SECTION_HEADER_BYTES, 'the section table');
  const checksum = optional + 64;
  const headerBytes = within(view.getUint32(optional + 60, true), 'the end of its headers');
  const hasSecurity =
    view.getUint32(optional + 108, true) > SECURITY_DIRECTORY &&
    optionalBytes >= 112 + 8 * (SECURITY_DIRECTORY + 1);
  const security = optional + 112 + 8 * SECURITY_DIRECTORY;
  const signatureBytes = hasSecurity ? view.getUint32(security + 4, true) : 0;

  const hash = createHash('sha384').update(file.subarray(0, checksum));
  if (hasSecurity) {
    hash.update(file.subarray(checksum + 4, security)).update(file.subarray(security + 8, headerBytes));
  } else {
    hash.update(file.subarray(checksum + 4, headerBytes));
  }
  let hashed = headerBytes;
  const sections = Array.from({ length: sectionCount }, (_, index) => {
    const at = optional + optionalBytes + index * SECTION_HEADER_BYTES;
    return { start: view.getUint32(at + 20, true), size: view.getUint32(at + 16, true) };
  });
  for (const { start, size } of sections.toSorted((a, b) => a.start - b.start)) {
    if (size === 0) continue;
    hash.update(file.subarray(start, within(start + size, 'a section')));
    hashed += size;
  }
  // What follows the sections counts, except for the signature at the end.
  if (file.length < hashed + signatureBytes) throw invalid('its signature lies outside of the file');
  hash.update(file.subarray(hashed, file.length - signatureBytes));
  return new Uint8Array(hash.digest());
}

function invalid(why: string): DstackError {
  return new DstackError('PE_INVALID', `the kernel is not a PE file that UEFI firmware can start: ${why}`);
}
