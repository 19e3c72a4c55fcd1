/**
 * /sys/devices/virtual/misc/tdx_guest/measurements as Linux 6.16 and later show it: reading gives a register, writing extends it.
 *
 * Sources: Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest; drivers/virt/coco/guest/tsm-mr.c and
 * fs/sysfs/file.c. A write must be of 48 bytes at offset 0, or is EINVAL. One that is longer, sysfs cuts to the file's size
 * before the driver sees it: it extends with the first 48 bytes and says so by its count; what follows is EFBIG.
 */
import { REGISTER_BYTES } from '../../../lib/attestation/registers/rtmr.ts';
import type { FaultPlan } from './faults.ts';
import type { Machine, Rtmr } from './machine.ts';
import { Errno, type File, type Folder, fixedFolder } from './tree.ts';

export function measurementsFolder(machine: Machine, faults: FaultPlan): Folder {
  const rtmr = (index: Rtmr): File =>
    register(
      0o644,
      faults,
      () => machine.registers()[`rtmr${index}`],
      (digest) => machine.extend(index, digest),
    );
  const fixed = (value: () => Uint8Array): File => register(0o444, faults, value);
  const zero = () => new Uint8Array(REGISTER_BYTES);
  return fixedFolder({
    'rtmr0:sha384': rtmr(0),
    'rtmr1:sha384': rtmr(1),
    'rtmr2:sha384': rtmr(2),
    'rtmr3:sha384': rtmr(3),
    'mrtd:sha384': fixed(() => machine.registers().mrtd),
    mrconfigid: fixed(zero),
    mrowner: fixed(zero),
    mrownerconfig: fixed(zero),
  });
}

function register(
  mode: number,
  faults: FaultPlan,
  value: () => Uint8Array,
  extend?: (digest: Uint8Array) => void,
): File {
  return {
    kind: 'file',
    mode,
    size: REGISTER_BYTES,
    open: () => ({
      // Every read(2) asks the register anew: sysfs keeps no buffer of a binary file.
      read(offset, count) {
        if (offset >= REGISTER_BYTES) return new Uint8Array(0);
        return faults.around('register-read', value).subarray(offset, offset + count);
      },
      write(offset, bytes) {
        if (offset >= REGISTER_BYTES) throw new Errno('EFBIG');
        const taken = bytes.subarray(0, REGISTER_BYTES - offset);
        if (offset !== 0 || taken.length !== REGISTER_BYTES) throw new Errno('EINVAL');
        faults.around('register-write', () => {
          extend?.(taken);
          return taken;
        });
        return taken.length;
      },
      close() {},
    }),
  };
}
