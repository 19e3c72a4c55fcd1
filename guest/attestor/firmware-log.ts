/** What the firmware measured before this kernel ran: the log that ACPI's CCEL table points to, held against the registers. */
import {
  CCEL_BYTES,
  type FirmwareEvent,
  MAX_FIRMWARE_LOG_BYTES,
  parseCcel,
  parseFirmwareLog,
  replayFirmwareLog,
} from '../../lib/attestation/firmware-log.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { readRegister } from './measurements.ts';
import { errnoOf, type PlatformFiles } from './platform-files.ts';

const TABLES = '/sys/firmware/acpi/tables';

export interface FirmwareLog {
  readonly events: readonly FirmwareEvent[];
  /** The registers that the log does not lead to: none, if firmware and kernel recorded all that they measured. */
  readonly differing: readonly ('rtmr0' | 'rtmr1' | 'rtmr2')[];
}

/**
 * The log, or undefined where the firmware keeps none. It decides nothing: a quote shows the registers, and they alone count. It
 * says which event made a measurement another one.
 * @throws CCEL_FORMAT, FIRMWARE_LOG_FORMAT, PLATFORM_FILE; RTMR_ codes when a register cannot be read
 */
export async function readFirmwareLog(files: PlatformFiles): Promise<FirmwareLog | undefined> {
  const table = await files.read(`${TABLES}/CCEL`, CCEL_BYTES).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (table === undefined) return undefined;
  const { logLength } = parseCcel(table);
  const maxBytes = Math.min(logLength, MAX_FIRMWARE_LOG_BYTES);
  const events = parseFirmwareLog(await files.read(`${TABLES}/data/CCEL`, maxBytes));
  const replayed = replayFirmwareLog(events);
  const differing: ('rtmr0' | 'rtmr1' | 'rtmr2')[] = [];
  for (const name of ['rtmr0', 'rtmr1', 'rtmr2'] as const) {
    if (!bytesEqual(await readRegister(files, name), replayed[name])) differing.push(name);
  }
  return { events, differing };
}
