/**
 * dstack-attestor [--root DIR --quote-socket PATH]
 *
 * In the guest it takes no argument; the unit that starts it is measured. Both arguments together run it without a VM.
 */
import { parseArgs } from 'node:util';
import { toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { FATAL_EXIT_CODE, powerOff } from './power-off.ts';
import { startAttestor } from './start.ts';

const { values } = parseArgs({
  options: { root: { type: 'string' }, 'quote-socket': { type: 'string' } },
});

/** One JSON line, in the form that the other daemons' logger writes. Not that logger: this process has to start fast. */
function log(level: 30 | 60, msg: string, fields: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ level, time: Date.now(), name: 'attestor', ...fields, msg })}\n`);
}

function end(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  log(60, `this machine cannot vouch for itself and ends: ${message}`, { code: codeOf(error) });
  try {
    if (values.root === undefined) powerOff();
  } finally {
    process.exit(FATAL_EXIT_CODE);
  }
}

// Whatever goes wrong in the one daemon that everyone relies on, the machine ends rather than go on half working.
process.on('uncaughtException', end);
process.on('unhandledRejection', end);

startAttestor({ root: values.root ?? '', quoteSocket: values['quote-socket'], onFatal: end }).then(
  ({ flavour, config }) => {
    if (flavour !== 'production') {
      log(30, `THIS IS A ${flavour.toUpperCase()} IMAGE: its quotes are simulated, anyone can forge them`);
    }
    log(30, 'attesting', { flavour, config: toHex(config) });
  },
  end,
);
