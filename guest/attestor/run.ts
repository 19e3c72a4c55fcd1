/** The attestor as a process: it serves until something is wrong with the machine, and then ends the machine. */
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import type { AttestationDevice } from './device.ts';
import { FATAL_EXIT_CODE } from './power-off.ts';
import { type AttestorOptions, startAttestor } from './start.ts';

/** @param options.powerOff ends the machine; without it, this process only ends itself */
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
  // Everything relies on this daemon: whatever goes wrong in it, the machine ends rather than run half working.
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

/** Shows whoever is surprised by a measurement which event changed it. Nothing waits for this, and nothing fails because of it. */
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

/** One JSON line, in the form in which the other daemons' logger writes. Not that logger: this process has to start fast. */
function log(level: 30 | 40 | 60, msg: string, fields: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ level, time: Date.now(), name: 'attestor', ...fields, msg })}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
