/** What measures this machine: the CPU's TDX module or the simulated platform, both through the same files. */
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { type FirmwareLog, readFirmwareLog } from './firmware-log.ts';
import { extend, readRegister } from './measurements.ts';
import { bounded, type PlatformFiles } from './platform-files.ts';
import { tsmReports } from './tsm-report.ts';

export interface AttestationDevice {
  readonly kind: 'tdx' | 'simulated';
  /** RTMR3, 48 bytes. */
  readRtmr3(): Promise<Uint8Array>;
  /** Extends RTMR3 with a digest of 48 bytes; resolves once it is done. */
  extendRtmr3(digest: Uint8Array): Promise<void>;
  /** A quote over 64 bytes of report data. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** What the firmware measured; undefined where it keeps no log. */
  firmwareLog(): Promise<FirmwareLog | undefined>;
}

/** Longer than the kernel itself waits for a quote (30 seconds). */
const CALL_WITHIN_MS = 40_000;
/** How long a quote that is not available at the moment is tried again; the caller waits for 90 seconds. */
const QUOTE_WITHIN_MS = 45_000;

/** The device behind `files`. Nothing is touched yet. */
export function attestationDevice(
  flavour: Flavour,
  files: PlatformFiles,
  limits = { callWithin: CALL_WITHIN_MS, quoteWithin: QUOTE_WITHIN_MS },
): AttestationDevice {
  const patient = bounded(files, limits.callWithin);
  return {
    kind: flavour === 'production' ? 'tdx' : 'simulated',
    readRtmr3: () => readRegister(patient, 'rtmr3'),
    extendRtmr3: (digest) => extend(patient, 'rtmr3', digest),
    quote: tsmReports(patient, limits.quoteWithin),
    firmwareLog: () => readFirmwareLog(patient),
  };
}
