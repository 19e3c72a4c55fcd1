/** An image as `build_vm.sh` leaves it in a folder, opened for booting. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeFirmwareLog } from '../../lib/attestation/registers/firmware-log.ts';
import type { ImageRegisters } from '../../lib/attestation/registers/measurement.ts';
import { simulatedMeasurement } from '../../lib/attestation/simulated/measurement.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type ImageManifest, parseImageManifest } from '../../lib/protocol/image.ts';

/** The number of processors and the memory in MiB: both are measured. */
export interface Shape {
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** An image's files, by absolute path, and what image.json says. */
export interface Image {
  readonly manifest: ImageManifest;
  readonly kernel: string;
  readonly initramfs: string;
  readonly root: string;
  readonly firmware: string;
}

/**
 * Opens the image in `folder`.
 * @throws DstackError IMAGE_MISSING when there is none, IMAGE_INVALID when image.json is malformed.
 */
export async function openImage(folder: string): Promise<Image> {
  const path = (name: string) => {
    const file = join(folder, name);
    if (!existsSync(file)) {
      throw new DstackError('IMAGE_MISSING', `there is no ${file}: build the image with ./build_vm.sh`);
    }
    return file;
  };
  return {
    manifest: parseImageManifest(await readFile(path('image.json'), 'utf8')),
    kernel: path('vmlinuz'),
    initramfs: path('initramfs.cpio.zst'),
    root: path('root.img'),
    firmware: path('firmware.bin'),
  };
}

/** What the simulated platform measures for this image in this shape, from the files' bytes and not from image.json. */
export async function registersOf(image: Image, shape: Shape): Promise<ImageRegisters> {
  return (await measuredBoot(image, shape)).registers;
}

/** The same, and the firmware's event log that leads to it. */
export async function measuredBoot(
  image: Image,
  shape: Shape,
): Promise<{ readonly registers: ImageRegisters; readonly firmwareLog: Uint8Array }> {
  const [firmware, kernel, initramfs] = await Promise.all(
    [image.firmware, image.kernel, image.initramfs].map((file) => readFile(file)),
  );
  const { registers, events } = simulatedMeasurement({
    firmware: firmware!,
    kernel: kernel!,
    initramfs: initramfs!,
    commandLine: image.manifest.commandLine,
    shape,
  });
  return { registers, firmwareLog: encodeFirmwareLog(events) };
}
