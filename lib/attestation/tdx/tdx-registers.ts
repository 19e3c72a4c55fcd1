/**
 * The registers of a TD from the files that it boots, as the TDX module and the firmware compute them. Reads like the list
 * in docs/images.md: MRTD from the firmware, RTMR0 from the machine, RTMR1 from the kernel, RTMR2 from what the kernel got.
 */
import { DstackError } from '../../protocol/errors.ts';
import { extendRegister, zeroRegister } from '../registers/rtmr.ts';
import {
  type BootEvent,
  type InputName,
  kernelEvents,
  type MachineTables,
  machineEvents,
  stubEvents,
} from './boot-events.ts';
import { mrtdOf } from './mrtd.ts';
import { parseTdvf } from './tdvf.ts';

/** What a TD boots: whole files, the exact command line, the memory; and the tables of its machine, where they are known. */
export interface TdxBoot {
  readonly firmware: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initramfs: Uint8Array;
  readonly commandLine: string;
  readonly memoryMiB: number;
  readonly tables?: MachineTables;
}

/** 48 bytes each. Without the machine's tables there is no RTMR0. */
export interface TdxMeasurement {
  readonly mrtd: Uint8Array;
  readonly rtmr0?: Uint8Array;
  readonly rtmr1: Uint8Array;
  readonly rtmr2: Uint8Array;
  /** In the order in which they happen within each register. */
  readonly events: readonly BootEvent[];
}

export type RegisterName = 'mrtd' | 'rtmr0' | 'rtmr1' | 'rtmr2';

/** @throws DstackError TDVF_INVALID, PE_INVALID, SHAPE_INVALID, COMMAND_LINE_INVALID */
export function measureTdx(boot: TdxBoot): TdxMeasurement {
  if (!/^[ -~]*$/.test(boot.commandLine)) {
    throw new DstackError('COMMAND_LINE_INVALID', 'a kernel command line is of printable ASCII characters');
  }
  if (!Number.isSafeInteger(boot.memoryMiB) || boot.memoryMiB <= 0) {
    throw new DstackError('SHAPE_INVALID', `the memory is a positive number of MiB, not ${boot.memoryMiB}`);
  }
  const sections = parseTdvf(boot.firmware);
  const events = [
    ...machineEvents(sections, boot.memoryMiB, boot.tables),
    ...kernelEvents(boot.kernel),
    ...stubEvents(boot.commandLine, boot.initramfs),
  ];
  const rtmr0 = replayEvents(events, 'rtmr0');
  return {
    mrtd: mrtdOf(sections),
    ...(rtmr0 !== undefined && { rtmr0 }),
    rtmr1: replayEvents(events, 'rtmr1')!,
    rtmr2: replayEvents(events, 'rtmr2')!,
    events,
  };
}

/** The register after its events; undefined when one of them has no digest. */
export function replayEvents(
  events: readonly Pick<BootEvent, 'register' | 'digest'>[],
  register: BootEvent['register'],
): Uint8Array | undefined {
  return events
    .filter((event) => event.register === register)
    .reduce<Uint8Array | undefined>(
      (value, { digest }) =>
        value === undefined || digest === undefined ? undefined : extendRegister(value, digest),
      zeroRegister(),
    );
}

/** Which inputs a register depends on. */
export function inputsOf(register: RegisterName, events: readonly BootEvent[]): InputName[] {
  if (register === 'mrtd') return ['firmware'];
  return [...new Set(events.filter((event) => event.register === register).flatMap(({ from }) => from))];
}
