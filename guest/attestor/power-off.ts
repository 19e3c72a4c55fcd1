/** Ends the machine. What cannot vouch for itself must not go on. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';

/** Exit code of a run without a VM, in place of powering off. EX_SOFTWARE of sysexits.h. */
export const FATAL_EXIT_CODE = 70;

/** Powers off; by the kernel itself when systemd cannot. Does not wait: the caller must do nothing else. */
export function powerOff(): void {
  execFile('/usr/bin/systemctl', ['poweroff', '--force'], (error) => {
    if (error !== null) writeFileSync('/proc/sysrq-trigger', 'o');
  });
}
