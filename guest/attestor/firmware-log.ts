/** What the firmware measured before this kernel ran: the log that ACPI's CCEL table points to, held against the registers. */
import {
  CCEL_BYTES,
  type FirmwareEvent,
  MAX_FIRMWARE_LOG_BYTES,
  parseCcel,
  parseFirmwareLog,
  replayFirmwareLog,
} from '../../lib/attestation/registers/firmware-log.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { readRegister } from './measurements.ts';
import { errnoOf, type PlatformFiles } from './platform-files.ts';

const TABLES = '/sys/firmware/acpi/tables';

export interface FirmwareLog {
  readonly events: readonly FirmwareEvent[];
  /** Registers whose value the log does not lead to: none, if firmware and kernel recorded everything they measured. */
  readonly differing: readonly ('rtmr0' | 'rtmr1' | 'rtmr2')[];
}

/**
 * The log, or undefined where the firmware keeps none. It decides nothing: a quote shows the registers, and they alone count. It
 * shows which event changed a measurement.
 * @throws CCEL_FORMAT, FIRMWARE_LOG_FORMAT, FIRMWARE_LOG_READ, PLATFORM_FILE; RTMR_ codes when a register cannot be read
 */
export async function readFirmwareLog(files: PlatformFiles): Promise<FirmwareLog | undefined> {
  const table = await read(files, `${TABLES}/CCEL`, CCEL_BYTES);
  if (table === undefined) return undefined;
  const { logLength } = parseCcel(table);
  const maxBytes = Math.min(logLength, MAX_FIRMWARE_LOG_BYTES);
  const log = await read(files, `${TABLES}/data/CCEL`, maxBytes);
  if (log === undefined) throw new DstackError('FIRMWARE_LOG_READ', 'a CCEL table, but no log of its');
  const events = parseFirmwareLog(log);
  const replayed = replayFirmwareLog(events);
  const differing: ('rtmr0' | 'rtmr1' | 'rtmr2')[] = [];
  for (const name of ['rtmr0', 'rtmr1', 'rtmr2'] as const) {
    if (!bytesEqual(await readRegister(files, name), replayed[name])) differing.push(name);
  }
  return { events, differing };
}

/** The bytes of a file, or undefined if it does not exist. */
async function read(files: PlatformFiles, path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  try {
    return await files.read(path, maxBytes);
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === 'ENOENT') return undefined;
    if (errno === undefined) throw cause;
    throw new DstackError('FIRMWARE_LOG_READ', `${path}: ${errno}`, { cause });
  }
}
