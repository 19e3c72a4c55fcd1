/** The kernel command line: measured (RTMR2), so it holds what must not be changed from outside. */
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { RootImage } from './filesystem.ts';

/** The command line of an image whose root is `root`. */
export function commandLine(flavour: Flavour, root: RootImage): string {
  return [
    'console=ttyS0',
    // A kernel that panics stops. QEMU runs with -no-reboot, so that ends the VM.
    'panic=-1',
    'oops=panic',
    ...(flavour === 'dev' ? ['loglevel=6', 'systemd.show_status=true'] : ['quiet', 'loglevel=3']),
    // RCU grace periods, waited for one after the other, would take a good part of a boot.
    'rcupdate.rcu_expedited=1',
    // The crypto self-tests take a second under emulation.
    'cryptomgr.notests',
    'audit=0',
    // Under emulation on a busy machine the test of the timer's interrupt comes to nothing, and the kernel would panic. On KVM and
    // on TDX it is left out anyway.
    'no_timer_check',
    'random.trust_cpu=on',
    `dstack.roothash=${root.rootHash}`,
    `dstack.salt=${root.salt}`,
    `dstack.blocks=${root.blocks}`,
    // systemd reads this line too: features that only a host could want are turned off.
    'systemd.import_credentials=no',
    'ro',
    // No colours and cursor movements in the console log.
    'TERM=dumb',
  ].join(' ');
}
