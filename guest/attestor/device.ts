/** What measures this machine: the CPU's TDX module, or the simulated platform. */
import { DstackError } from '../../lib/protocol/errors.ts';
import type { Flavour } from '../../lib/protocol/network-config.ts';
import { openPort, openSocket } from './channel.ts';
import { simulatedDevice } from './simulated-device.ts';

export interface AttestationDevice {
  readonly kind: 'simulated';
  /** RTMR3, 48 bytes. */
  readRtmr3(): Promise<Uint8Array>;
  /** Extends RTMR3 with a digest of 48 bytes; resolves once it is done. */
  extendRtmr3(digest: Uint8Array): Promise<void>;
  /** A quote over 64 bytes of report data. */
  quote(reportData: Uint8Array): Promise<Uint8Array>;
}

export interface DeviceOptions {
  readonly flavour: Flavour;
  /** Directory that lists virtio ports, /sys/class/virtio-ports. */
  readonly portsDirectory: string;
  /** Directory of their device nodes, /dev. */
  readonly devDirectory: string;
  /** A quoting service's unix socket, in place of the port: to run without a VM. */
  readonly quoteSocket?: string | undefined;
}

/**
 * The device of an image of this flavour. The flavour is measured, so the host cannot make a production image take
 * simulated quotes; nor would anybody accept them.
 * @throws DEVICE_UNSUPPORTED, PORT_MISSING, QUOTING_UNREACHABLE
 */
export async function openDevice(options: DeviceOptions): Promise<AttestationDevice> {
  if (options.flavour === 'production') {
    throw new DstackError(
      'DEVICE_UNSUPPORTED',
      'a production image takes quotes from TDX hardware only, and this version cannot do that yet; use a sim image',
    );
  }
  const channel =
    options.quoteSocket === undefined
      ? await openPort(options.portsDirectory, options.devDirectory)
      : await openSocket(options.quoteSocket);
  return simulatedDevice(channel);
}
