/** The kernel command line: measured (RTMR2), so it holds what must not be changed from outside. */
import type { Flavour } from '../../lib/protocol/network-config.ts';
import type { RootImage } from './filesystem.ts';

/** The command line of an image whose root is `root`. */
export function commandLine(flavour: Flavour, root: RootImage): string {
  return [
    'console=ttyS0',
    // A kernel that is in trouble stops; QEMU runs with -no-reboot, so that ends the VM.
    'panic=-1',
    'oops=panic',
    ...(flavour === 'dev' ? ['loglevel=6', 'systemd.show_status=true'] : ['quiet', 'loglevel=3']),
    // Grace periods that nobody waits for in parallel make up a good part of a boot.
    'rcupdate.rcu_expedited=1',
    // The crypto self-tests take a second where every instruction is translated.
    'cryptomgr.notests',
    'audit=0',
    'random.trust_cpu=on',
    `dstack.roothash=${root.rootHash}`,
    `dstack.salt=${root.salt}`,
    `dstack.blocks=${root.blocks}`,
    // systemd reads this line too; what only a host could want is not to be had.
    'systemd.import_credentials=no',
    'ro',
    // No colours and cursor movements in the console log.
    'TERM=dumb',
  ].join(' ');
}
