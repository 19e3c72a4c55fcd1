/**
 * What the simulated platform measures: exactly the files that QEMU boots.
 *
 * The host computes these before it starts a simulated VM, the build computes them when it publishes an image, and they
 * must agree byte for byte. On TDX the same four registers come from the CPU (MRTD) and from TDVF (RTMR0 to RTMR2), by
 * other rules; only `measurementOf` (../registers/measurement.ts) is common to both.
 */

import { lengthPrefixed, sha384, uint64, utf8 } from '../../protocol/encoding.ts';
import { DstackError } from '../../protocol/errors.ts';
import { type FirmwareEvent, firmwareEvent, replayFirmwareLog } from '../registers/firmware-log.ts';
import type { ImageRegisters } from '../registers/measurement.ts';

/** The VM shape: changing either number changes RTMR0 and so the measurement. */
export interface VmShape {
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** What a simulated VM boots: the bytes of the files that QEMU is given, and the exact kernel command line. */
export interface SimulatedBoot {
  readonly firmware: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initramfs: Uint8Array;
  readonly commandLine: string;
  readonly shape: VmShape;
}

/**
 * The registers of a simulated VM at the moment the guest's first instruction runs:
 * - MRTD = SHA-384(firmware)
 * - RTMR0 = zero, extended with SHA-384 of the list ["dstack/v1/shape", cpus, memoryMiB]
 * - RTMR1 = zero, extended with SHA-384(kernel)
 * - RTMR2 = zero, extended with SHA-384(initramfs), then with SHA-384(command line, UTF-8, no terminator)
 *
 * @throws DstackError SHAPE_INVALID when the shape is not of positive whole numbers.
 */
export function simulatedRegisters(boot: SimulatedBoot): ImageRegisters {
  return simulatedMeasurement(boot).registers;
}

/** The registers, and what a firmware that does so has logged: the event types are those that TDVF and Linux use. */
export function simulatedMeasurement(boot: SimulatedBoot): {
  readonly registers: ImageRegisters;
  readonly events: readonly FirmwareEvent[];
} {
  const { cpus, memoryMiB } = boot.shape;
  const shape = `${cpus} CPUs, ${memoryMiB} MiB`;
  const events = [
    firmwareEvent('rtmr0', EV_PLATFORM_CONFIG_FLAGS, shapeDigest(boot.shape), shape),
    firmwareEvent('rtmr1', EV_EFI_BOOT_SERVICES_APPLICATION, sha384(boot.kernel), 'kernel'),
    firmwareEvent('rtmr2', EV_EVENT_TAG, sha384(boot.initramfs), 'initramfs'),
    firmwareEvent('rtmr2', EV_EVENT_TAG, sha384(utf8(boot.commandLine)), boot.commandLine),
  ];
  return { registers: { mrtd: sha384(boot.firmware), ...replayFirmwareLog(events) }, events };
}

const EV_EVENT_TAG = 0x6;
const EV_PLATFORM_CONFIG_FLAGS = 0xa;
const EV_EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003;

function shapeDigest(shape: VmShape): Uint8Array {
  for (const [name, value] of Object.entries({ cpus: shape.cpus, memoryMiB: shape.memoryMiB })) {
    if (!Number.isSafeInteger(value) || value <= 0) {
      throw new DstackError('SHAPE_INVALID', `${name} must be a positive whole number, not ${value}`);
    }
  }
  return sha384(lengthPrefixed([utf8('dstack/v1/shape'), uint64(shape.cpus), uint64(shape.memoryMiB)]));
}
