import type { FirmwareLogReply } from '../../lib/protocol/sockets.ts';

/** The part of a platform that attests to what is running: hardware in production, the simulated platform elsewhere. */
export interface Attestor {
  /** A quote over 64 bytes of report data. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  /** What the firmware measured, as its log says: nothing is known of it until it is held against the registers. */
  firmwareLog(): Promise<FirmwareLogReply['events']>;
  /** Extends RTMR3 with `joined`: from then on, no quote of this machine passes as a request. Idempotent. */
  joined(): Promise<void>;
}
