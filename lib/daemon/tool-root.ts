/**
 * The tool root: programs from locked Debian packages, unpacked into `build/tool-root`, where hosts would differ (QEMU,
 * mkfs.erofs, veritysetup). They run in place, without root and without chroot, with the tool root's own loader and
 * libraries, so every host builds the same bytes and boots with the same QEMU.
 *
 * `guest/image` unpacks it; `host/vm` and the tests run programs from it.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DstackError } from '../protocol/errors.ts';

/** Arguments for `spawn`. `env` holds only what the tool needs in addition to the caller's environment. */
export interface ToolCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** `build/tool-root` of this repository. */
export function defaultToolRoot(): string {
  return resolve(import.meta.dirname, '../../build/tool-root');
}

const programFolders = ['usr/bin', 'usr/sbin'];
const libraryFolders = ['usr/lib/x86_64-linux-gnu', 'usr/lib'];

/**
 * The command that runs the tool root's program `name` in place.
 * @throws DstackError TOOL_MISSING when the tool root is not there or does not hold the program.
 */
export function toolCommand(name: string, args: readonly string[], root = defaultToolRoot()): ToolCommand {
  const program = programFolders.map((folder) => join(root, folder, name)).find(existsSync);
  if (program === undefined) {
    throw new DstackError('TOOL_MISSING', `${name} is not in ${root}: run ./build_vm.sh`);
  }
  return {
    command: join(root, 'usr/lib64/ld-linux-x86-64.so.2'),
    args: [
      '--library-path',
      libraryFolders.map((folder) => join(root, folder)).join(':'),
      '--argv0',
      name,
      program,
      ...args,
    ],
    env: { QEMU_MODULE_DIR: join(root, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}

/** QEMU's options that say where its firmware and option ROMs are. */
export function qemuDataArguments(root = defaultToolRoot()): string[] {
  return ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].flatMap((folder) => [
    '-L',
    join(root, folder),
  ]);
}

/** SeaBIOS, the firmware of a simulated VM. */
export function seabiosPath(root = defaultToolRoot()): string {
  return join(root, 'usr/share/seabios/bios-256k.bin');
}
