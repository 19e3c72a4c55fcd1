/** One act of an attestor on its platform, as the table of faults names it. Runs in a VM too: it imports the guest's code only. */
import type { AttestationDevice } from '../../guest/attestor/device.ts';
import { extendRegister } from '../../lib/attestation/registers/rtmr.ts';
import { bytesEqual } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';

export type Act = 'quote' | 'extend' | 'firmware-log';

/** The code of what went wrong; null when all went well. */
export async function perform(device: AttestationDevice, act: Act): Promise<string | null> {
  try {
    await acts[act](device);
    return null;
  } catch (error) {
    return codeOf(error) === 'INTERNAL' ? String(error) : codeOf(error);
  }
}

const acts: Record<Act, (device: AttestationDevice) => Promise<void>> = {
  async quote(device) {
    const reportData = crypto.getRandomValues(new Uint8Array(64));
    const quote = Buffer.from(await device.quote(reportData));
    if (quote.indexOf(reportData) === -1) throw new Error('a quote of other report data');
  },
  async extend(device) {
    const digest = crypto.getRandomValues(new Uint8Array(48));
    const before = await device.readRtmr3();
    await device.extendRtmr3(digest);
    const once = extendRegister(before, digest);
    if (!bytesEqual(await device.readRtmr3(), once)) throw new Error('not extended exactly once');
  },
  async 'firmware-log'(device) {
    const log = await device.firmwareLog();
    if (log === undefined || log.differing.length > 0) throw new Error('the log does not replay');
  },
};
