/** Ends the machine: one that cannot vouch for itself must not go on. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

/** Exit code of an attestor that ended its machine. EX_SOFTWARE of sysexits.h. */
export const FATAL_EXIT_CODE = 70;

/**
 * Powers off, through the kernel itself if systemd cannot. Blocks, so that this process no longer answers anybody.
 */
export function powerOff(): void {
  try {
    execFileSync('/usr/bin/systemctl', ['poweroff', '--force'], { timeout: 10_000, stdio: 'ignore' });
  } catch {
    writeFileSync('/proc/sysrq-trigger', 'o');
  }
}
