/**
 * A TD's measurement registers, as Linux 6.16 and later show them: reading a file returns a register, writing 48 bytes extends it.
 *
 * Source: Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest; drivers/virt/coco/guest/tsm-mr.c. docs/attestor.md has the
 * table of errors.
 */
import {
  extendRegister,
  REGISTER_BYTES,
  requireRegisterLength,
} from '../../lib/attestation/registers/rtmr.ts';
import { bytesEqual, toHex } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { errnoOf, type PlatformFiles } from './platform-files.ts';

export type RegisterName = 'mrtd' | 'rtmr0' | 'rtmr1' | 'rtmr2' | 'rtmr3';

const MEASUREMENTS = '/sys/devices/virtual/misc/tdx_guest/measurements';
const MAX_TRIES = 5;

const refusals: Readonly<Record<string, readonly [code: string, meaning: string]>> = {
  ENOENT: [
    'RTMR_MISSING',
    'the kernel shows no such register: this is no TD, its driver is not loaded, or Linux is older than 6.16',
  ],
  EINVAL: ['RTMR_REFUSED', 'the kernel did not get 48 bytes at once'],
  EFBIG: ['RTMR_REFUSED', 'the kernel did not get 48 bytes at once'],
  EIO: ['RTMR_FAILED', 'the TDX module refused'],
  ENXIO: ['RTMR_FAILED', 'the TDX module refused'],
  EINTR: ['RTMR_INTERRUPTED', 'the kernel was interrupted again and again'],
  EAGAIN: ['RTMR_BUSY', 'the kernel is busy with it'],
  EBUSY: ['RTMR_BUSY', 'the kernel is busy with it'],
  EACCES: ['RTMR_FORBIDDEN', 'this process may not use it'],
  EPERM: ['RTMR_FORBIDDEN', 'this process may not use it'],
};
const transient: readonly string[] = ['EINTR', 'EAGAIN', 'EBUSY'];

/** A register, 48 bytes. @throws RTMR_ codes as above, RTMR_LENGTH, PLATFORM_SILENT */
export async function readRegister(files: PlatformFiles, name: RegisterName): Promise<Uint8Array> {
  for (let tries = 1; ; tries++) {
    try {
      const value = await files.read(pathOf(name), REGISTER_BYTES);
      if (value.length === REGISTER_BYTES) return value;
      throw new DstackError('RTMR_LENGTH', `${name} has ${value.length} bytes, not ${REGISTER_BYTES}`);
    } catch (error) {
      if (!transient.includes(errnoOf(error) ?? '') || tries === MAX_TRIES) throw refusal(name, error);
    }
  }
}

/**
 * Extends a register with a digest of 48 bytes, once; resolves when the register shows it. A failed write does not say whether
 * the register was extended, so it is read before any second attempt.
 * @throws RTMR3_UNEXPECTED when something else extended it at the same time; otherwise as `readRegister`
 */
export async function extend(files: PlatformFiles, name: 'rtmr3', digest: Uint8Array): Promise<void> {
  requireRegisterLength('digest', digest);
  const before = await readRegister(files, name);
  const expected = extendRegister(before, digest);
  for (let tries = 1; ; tries++) {
    const error = await files.write(pathOf(name), digest).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (errnoOf(error) === undefined && error !== undefined) throw error;
    const after = await readRegister(files, name);
    if (bytesEqual(after, expected)) return;
    if (!bytesEqual(after, before)) {
      throw new DstackError('RTMR3_UNEXPECTED', `${name} is ${toHex(after)} after it was extended`);
    }
    if (error === undefined) {
      throw new DstackError('RTMR3_UNEXPECTED', `${name} was extended and shows no change`);
    }
    if (!transient.includes(errnoOf(error) ?? '') || tries === MAX_TRIES) throw refusal(name, error);
  }
}

function pathOf(name: RegisterName): string {
  return `${MEASUREMENTS}/${name}:sha384`;
}

/** The kernel's refusal as a DstackError; any other error unchanged. */
function refusal(name: RegisterName, cause: unknown): unknown {
  const errno = errnoOf(cause);
  if (errno === undefined) return cause;
  const [code, meaning] = refusals[errno] ?? ['RTMR_ERROR', 'the kernel does not document this one'];
  return new DstackError(code, `${pathOf(name)}: ${errno}: ${meaning}`, { cause });
}
