/** The attestor as a process: it serves until something is wrong with the machine, and then the machine ends. */
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { AttestationDevice } from './device.ts';
import { FATAL_EXIT_CODE } from './power-off.ts';
import { type AttestorOptions, startAttestor } from './start.ts';

/** @param options.powerOff ends the machine; where there is none, the end of this process has to do */
export async function runAttestor(
  options: Omit<AttestorOptions, 'onFatal'> & { readonly powerOff: () => void },
): Promise<void> {
  function end(error: unknown): void {
    log(60, `this machine cannot vouch for itself and ends: ${messageOf(error)}`, { code: codeOf(error) });
    try {
      options.powerOff();
    } finally {
      process.exit(FATAL_EXIT_CODE);
    }
  }
  // Whatever goes wrong in the one daemon that everyone relies on, the machine ends rather than go on half working.
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);

  try {
    const { device, flavour, config } = await startAttestor({ ...options, onFatal: end });
    if (flavour !== 'production') {
      log(40, `THIS IS A ${flavour.toUpperCase()} IMAGE: its quotes are simulated, anyone can forge them`);
    }
    log(30, 'attesting', { flavour, config: toHex(config) });
    await logFirmwareEvents(device);
  } catch (error) {
    end(error);
  }
}

/** So that who wonders at a measurement can see which event made it another one. Nothing waits for it, or fails by it. */
async function logFirmwareEvents(device: AttestationDevice): Promise<void> {
  try {
    const found = await device.firmwareLog();
    if (found === undefined) {
      log(40, 'the firmware keeps no event log: no CCEL table');
      return;
    }
    const events = found.events.map(
      ({ register, type, digest }) => `${register} ${type.toString(16)} ${toHex(digest)}`,
    );
    if (found.differing.length === 0) log(30, 'the firmware log leads to the registers', { events });
    else log(40, `the firmware log does not lead to ${found.differing.join(', ')}`, { events });
  } catch (error) {
    log(40, `the firmware log cannot be read: ${messageOf(error)}`, { code: codeOf(error) });
  }
}

/** One JSON line, in the form that the other daemons' logger writes. Not that logger: this process has to start fast. */
function log(level: 30 | 40 | 60, msg: string, fields: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ level, time: Date.now(), name: 'attestor', ...fields, msg })}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
