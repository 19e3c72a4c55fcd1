/**
 * The kernel as the image ships it. `production` boots through TDVF, which needs Debian's own file. The other flavours boot
 * under QEMU's SeaBIOS, which also takes an unpacked kernel (through its PVH entry): the same bytes, but the guest does
 * not have to unpack them, which takes over a second of a boot under emulation.
 */
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { toolCommand } from '../../lib/daemon/tool-root.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { run } from './run.ts';

/** Puts the kernel of `bzImage` (a file) at `output`, in the form that `flavour` boots. */
export async function installKernel(bzImage: string, flavour: Flavour, output: string): Promise<void> {
  if (flavour === 'production') {
    await copyFile(bzImage, output);
    return;
  }
  const packed = `${output}.zst`;
  await writeFile(packed, packedKernel(await readFile(bzImage)));
  const zstd = toolCommand('zstd', ['-q', '-d', '-f', packed, '-o', output]);
  await run(zstd.command, zstd.args, { env: zstd.env });
  await rm(packed);
}

/**
 * The compressed ELF file inside a bzImage; the offsets are in its header (Documentation/arch/x86/boot.rst: `setup_sects`,
 * `payload_offset`, `payload_length`). The last 4 bytes of the payload are the unpacked size, not zstd's.
 * @throws DstackError KERNEL_FORMAT when it is not a bzImage packed with zstd.
 */
export function packedKernel(bzImage: Buffer): Buffer {
  const isBzImage = bzImage.length > 0x250 && bzImage.toString('latin1', 0x202, 0x206) === 'HdrS';
  const setupSectors = (isBzImage && bzImage[0x1f1]) || 4;
  const start = isBzImage ? (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248) : 0;
  const length = isBzImage ? bzImage.readUInt32LE(0x24c) : 0;
  const payload = bzImage.subarray(start, start + length - 4);
  if (!isBzImage || payload.length !== length - 4 || payload.readUInt32LE(0) !== 0xfd2fb528) {
    throw new DstackError('KERNEL_FORMAT', 'the locked kernel is not a bzImage compressed with zstd');
  }
  return payload;
}
