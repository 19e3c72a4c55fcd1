/**
 * MRTD: the hash of a TD's initial memory, which the TDX module builds while the host adds the pages.
 * Source: Intel TDX module ABI specification, TDH.MEM.PAGE.ADD, TDH.MR.EXTEND, TDH.MR.FINALIZE; the order is that of
 * Linux since 6.16 (arch/x86/kvm/vmx/tdx.c, tdx_gmem_post_populate) and QEMU since 10.1 (target/i386/kvm/tdx.c).
 */
import { createHash } from 'node:crypto';
import { PAGE_BYTES, type Section } from './tdvf.ts';

/** TDH.MR.EXTEND hashes this many bytes at a time. */
const CHUNK_BYTES = 256;

/**
 * SHA-384 over, for each page of each section: a 128-byte record "MEM.PAGE.ADD" with the page's address; then, where the
 * section asks for it, for each of its 256-byte chunks a record "MR.EXTEND" with the chunk's address, and the chunk.
 */
export function mrtdOf(sections: readonly Section[]): Uint8Array {
  const hash = createHash('sha384');
  for (const section of sections) {
    if (section.augmented) continue;
    for (let page = 0; page < section.size; page += PAGE_BYTES) {
      hash.update(record('MEM.PAGE.ADD', section.address + BigInt(page)));
      if (!section.extended) continue;
      for (let chunk = page; chunk < page + PAGE_BYTES; chunk += CHUNK_BYTES) {
        hash.update(record('MR.EXTEND', section.address + BigInt(chunk)));
        hash.update(chunkOf(section, chunk));
      }
    }
  }
  return new Uint8Array(hash.digest());
}

/** Bytes 0 to 15 name the operation, 16 to 23 are the guest-physical address, the rest is zero. */
function record(name: string, address: bigint): Buffer {
  const bytes = Buffer.alloc(128);
  bytes.write(name, 'latin1');
  bytes.writeBigUInt64LE(address, 16);
  return bytes;
}

/** What the file does not hold is zero in memory. */
function chunkOf(section: Section, at: number): Uint8Array {
  const chunk = new Uint8Array(CHUNK_BYTES);
  chunk.set(section.data.subarray(at, at + CHUNK_BYTES));
  return chunk;
}
