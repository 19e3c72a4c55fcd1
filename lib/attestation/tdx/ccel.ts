/**
 * The event log that a TDX firmware leaves for the guest (ACPI table CCEL; in Linux /sys/firmware/acpi/tables/data/CCEL):
 * what it extended into the RTMRs, in order. Its format is the TPM's "crypto agile" log (TCG PC Client Platform Firmware
 * Profile, section 10.2) with the register's index + 1 for the PCR's (UEFI specification, section 38.4.1).
 *
 * A log is the host's word until its replay equals the registers in a quote.
 */
import { DstackError } from '../../protocol/errors.ts';
import type { MachineTables } from './boot-events.ts';

export interface LoggedEvent {
  /** 0 for MRTD, 1 to 4 for RTMR0 to RTMR3. */
  readonly index: number;
  readonly type: number;
  /** 48 bytes. */
  readonly digest: Uint8Array;
  readonly data: Uint8Array;
}

const SHA384 = 12;
const SHA384_BYTES = 48;
const MAX_LOG_BYTES = 4 * 2 ** 20;
const MAX_EVENTS = 4096;
/** Extends nothing. */
export const EV_NO_ACTION = 3;
const EV_PLATFORM_CONFIG_FLAGS = 0xa;
const EV_EFI_HANDOFF_TABLES = 0x8000_0009;
const END_MARK = 0xffff_ffff;

/** @throws DstackError EVENT_LOG_INVALID for a log that is cut off, too long, or not of SHA-384 alone. */
export function parseEventLog(log: Uint8Array): LoggedEvent[] {
  if (log.length > MAX_LOG_BYTES) throw invalid(`it has ${log.length} bytes`);
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  let at = 0;
  const take = (length: number) => {
    if (at + length > log.length) throw invalid('it is cut off');
    at += length;
    return at - length;
  };
  const uint32 = () => view.getUint32(take(4), true);
  // The first event is in the old format and says which hashes follow.
  take(4 + 4 + 20);
  const specification = take(uint32());
  if (Buffer.from(log.subarray(specification, specification + 15)).toString('latin1') !== 'Spec ID Event03') {
    throw invalid('it does not begin with a specification event');
  }
  const events: LoggedEvent[] = [];
  while (at + 4 <= log.length) {
    const index = uint32();
    // The area after the last event is filled with ones, or zeroes.
    if (index === END_MARK || (index === 0 && view.getUint32(take(4), true) === 0)) break;
    if (index > 4) throw invalid(`it speaks of register ${index}`);
    if (events.length === MAX_EVENTS) throw invalid(`it has more than ${MAX_EVENTS} events`);
    const type = uint32();
    if (uint32() !== 1 || view.getUint16(take(2), true) !== SHA384) {
      throw invalid('an event has another hash than SHA-384');
    }
    const digest = take(SHA384_BYTES);
    const data = take(uint32());
    events.push({
      index,
      type,
      digest: log.slice(digest, digest + SHA384_BYTES),
      data: log.slice(data, at),
    });
  }
  return events;
}

/**
 * The digests of the machine's tables, out of the log of a VM with that machine.
 * @throws DstackError EVENT_LOG_INVALID when the log does not hold exactly the four.
 */
export function tablesFromEventLog(events: readonly LoggedEvent[]): MachineTables {
  const ofMachine = events.filter(({ index }) => index === 1);
  const acpi = ofMachine.filter(
    ({ type, data }) =>
      type === EV_PLATFORM_CONFIG_FLAGS && Buffer.from(data).toString('latin1') === 'ACPI DATA',
  );
  const smbios = ofMachine.filter(({ type }) => type === EV_EFI_HANDOFF_TABLES);
  if (acpi.length !== 3 || smbios.length !== 1) {
    throw invalid(
      `it has ${acpi.length} events of ACPI and ${smbios.length} of SMBIOS instead of 3 and 1: another firmware, or a machine with other devices than ours`,
    );
  }
  return {
    acpiLoader: acpi[0]!.digest,
    acpiRsdp: acpi[1]!.digest,
    acpiTables: acpi[2]!.digest,
    smbios: smbios[0]!.digest,
  };
}

function invalid(why: string): DstackError {
  return new DstackError('EVENT_LOG_INVALID', `this event log can not be used: ${why}`);
}
