/**
 * What the platform's files may answer, and what the attestor makes of it: one table, run against the simulated files by the 9P client
 * of these tests (test/attestor-faults.test.ts) and by Linux's own in a VM (test/vm/platform.vm.test.ts).
 */
import type { FaultPlan } from '../../host/vm/simulated-tsm/faults.ts';

export interface FaultCase {
  readonly name: string;
  readonly arm: (plan: FaultPlan) => void;
  readonly act: 'quote' | 'extend' | 'firmware-log';
  /** The code of the refusal; null when it has to succeed all the same. */
  readonly code: string | null;
  /** Not visible in a VM, because Linux's 9P client hides it: it retries EINTR itself, and fills up short files. */
  readonly unmounted?: true;
}

const text = (value: string) => ({ bytes: Buffer.from(value) });
const always = 1_000;

export const faultCases: readonly FaultCase[] = [
  // configfs-tsm: what passes
  { name: 'nothing', arm: () => {}, act: 'quote', code: null },
  {
    name: 'EBUSY: an earlier quote is in flight, for a while',
    arm: (plan) => plan.add('outblob', { errno: 'EBUSY' }, 3),
    act: 'quote',
    code: null,
  },
  {
    name: 'EINTR, once',
    arm: (plan) => plan.add('outblob', { errno: 'EINTR' }),
    act: 'quote',
    code: null,
  },
  {
    name: 'EAGAIN (EWOULDBLOCK): the report is being made anew',
    arm: (plan) => plan.add('outblob', { errno: 'EAGAIN' }),
    act: 'quote',
    code: null,
  },
  {
    name: 'the generation moves by two: another writer, once',
    arm: (plan) => plan.add('outblob', { otherWriter: true }),
    act: 'quote',
    code: null,
  },
  // configfs-tsm: what does not
  {
    name: 'EBUSY, for ever',
    arm: (plan) => plan.add('outblob', { errno: 'EBUSY' }, always),
    act: 'quote',
    code: 'TSM_BUSY',
  },
  {
    name: 'another writer, for ever',
    arm: (plan) => plan.add('outblob', { otherWriter: true }, always),
    act: 'quote',
    code: 'TSM_CONFLICT',
  },
  {
    name: 'the inblob is not taken, and nobody says so',
    arm: (plan) => plan.add('inblob', { errno: 'EBUSY' }),
    act: 'quote',
    code: 'TSM_REFUSED',
  },
  {
    name: 'ETIMEDOUT: the quote generation service is silent',
    arm: (plan) => plan.add('outblob', { errno: 'ETIMEDOUT' }),
    act: 'quote',
    code: 'TSM_TIMEOUT',
  },
  {
    name: 'EIO: it refuses',
    arm: (plan) => plan.add('outblob', { errno: 'EIO' }),
    act: 'quote',
    code: 'TSM_FAILED',
  },
  {
    name: 'EINVAL',
    arm: (plan) => plan.add('outblob', { errno: 'EINVAL' }),
    act: 'quote',
    code: 'TSM_REFUSED',
  },
  {
    name: "EFBIG: the report exceeds the kernel's buffer",
    arm: (plan) => plan.add('outblob', { errno: 'EFBIG' }),
    act: 'quote',
    code: 'TSM_TOO_LARGE',
  },
  {
    name: 'ENOMEM',
    arm: (plan) => plan.add('outblob', { errno: 'ENOMEM' }),
    act: 'quote',
    code: 'TSM_NO_MEMORY',
  },
  {
    name: 'ENXIO at mkdir: no provider',
    arm: (plan) => plan.add('mkdir', { errno: 'ENXIO' }),
    act: 'quote',
    code: 'TSM_NO_PROVIDER',
  },
  {
    name: 'ENXIO later: the provider has gone',
    arm: (plan) => plan.add('outblob', { errno: 'ENXIO' }),
    act: 'quote',
    code: 'TSM_NO_PROVIDER',
  },
  {
    name: 'an errno that nobody documents',
    arm: (plan) => plan.add('outblob', { errno: 'EDOM' }),
    act: 'quote',
    code: 'TSM_ERROR',
  },
  {
    name: 'a provider of another kind',
    arm: (plan) => plan.add('provider', text('sev_guest\n')),
    act: 'quote',
    code: 'TSM_PROVIDER',
  },
  {
    name: 'a generation that is no number',
    arm: (plan) => plan.add('generation', text('-1\n'), always),
    act: 'quote',
    code: 'TSM_CONFLICT',
  },
  {
    name: 'an empty quote',
    arm: (plan) => plan.add('outblob', { bytes: new Uint8Array(0) }),
    act: 'quote',
    code: 'QUOTE_TRUNCATED',
  },
  {
    name: 'a quote of another size',
    arm: (plan) => plan.add('outblob', { bytes: new Uint8Array(8_000) }),
    act: 'quote',
    code: 'QUOTE_VERSION',
  },
  {
    name: 'more bytes than any quote has',
    arm: (plan) => plan.add('outblob', { bytes: new Uint8Array(20_000) }),
    act: 'quote',
    code: 'PLATFORM_FILE',
  },
  // The registers
  { name: 'nothing', arm: () => {}, act: 'extend', code: null },
  {
    name: 'EBUSY before the register is extended',
    arm: (plan) => plan.add('register-write', { errno: 'EBUSY' }, 2),
    act: 'extend',
    code: null,
  },
  {
    name: 'EBUSY after the register is extended: not twice',
    arm: (plan) => plan.add('register-write', { errno: 'EBUSY', late: true }),
    act: 'extend',
    code: null,
  },
  {
    name: 'EINTR before the register is extended',
    arm: (plan) => plan.add('register-write', { errno: 'EINTR' }, 2),
    act: 'extend',
    code: null,
    unmounted: true,
  },
  {
    name: 'EINTR after the register is extended: not twice',
    arm: (plan) => plan.add('register-write', { errno: 'EINTR', late: true }),
    act: 'extend',
    code: null,
    unmounted: true,
  },
  {
    name: 'EIO after the register is extended: not twice',
    arm: (plan) => plan.add('register-write', { errno: 'EIO', late: true }),
    act: 'extend',
    code: null,
  },
  {
    name: 'EINTR at a read',
    arm: (plan) => plan.add('register-read', { errno: 'EINTR' }),
    act: 'extend',
    code: null,
  },
  {
    name: 'EINTR, for ever',
    arm: (plan) => plan.add('register-write', { errno: 'EINTR' }, always),
    act: 'extend',
    code: 'RTMR_INTERRUPTED',
    unmounted: true,
  },
  {
    name: 'EBUSY, for ever',
    arm: (plan) => plan.add('register-read', { errno: 'EBUSY' }, always),
    act: 'extend',
    code: 'RTMR_BUSY',
  },
  {
    name: 'EIO',
    arm: (plan) => plan.add('register-write', { errno: 'EIO' }),
    act: 'extend',
    code: 'RTMR_FAILED',
  },
  {
    name: 'EINVAL',
    arm: (plan) => plan.add('register-write', { errno: 'EINVAL' }),
    act: 'extend',
    code: 'RTMR_REFUSED',
  },
  {
    name: 'ENOENT: a kernel without the registers',
    arm: (plan) => plan.add('register-read', { errno: 'ENOENT' }),
    act: 'extend',
    code: 'RTMR_MISSING',
  },
  {
    name: 'a register that is too short',
    arm: (plan) => plan.add('register-read', { bytes: new Uint8Array(32) }, 2),
    act: 'extend',
    code: 'RTMR_LENGTH',
    unmounted: true,
  },
  {
    name: 'a register that is too long',
    arm: (plan) => plan.add('register-read', { bytes: new Uint8Array(64) }),
    act: 'extend',
    code: 'PLATFORM_FILE',
  },
  {
    name: 'a register that shows no extension',
    arm: (plan) => plan.add('register-write', { bytes: new Uint8Array(48) }),
    act: 'extend',
    code: 'RTMR3_UNEXPECTED',
  },
  // The firmware's log
  { name: 'nothing', arm: () => {}, act: 'firmware-log', code: null },
  {
    name: 'a log that is none',
    arm: (plan) => plan.add('firmware-log', { fill: 7 }),
    act: 'firmware-log',
    code: 'FIRMWARE_LOG_FORMAT',
  },
  {
    name: 'a log longer than its table says',
    arm: (plan) => plan.add('firmware-log', { bytes: new Uint8Array(5_000) }),
    act: 'firmware-log',
    code: 'PLATFORM_FILE',
  },
  {
    name: 'EIO',
    arm: (plan) => plan.add('firmware-log', { errno: 'EIO' }),
    act: 'firmware-log',
    code: 'FIRMWARE_LOG_READ',
  },
  // Last, because a call that hangs in the kernel leaves its thread there.
  {
    name: 'no answer at all',
    arm: (plan) => plan.add('outblob', { silent: true }),
    act: 'quote',
    code: 'PLATFORM_SILENT',
  },
];
