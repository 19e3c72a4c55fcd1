/** Assembles the folder that becomes the VM's root: chosen parts of Debian, our overlay, Node, the daemons. */
import { createReadStream, existsSync, lstatSync, readlinkSync, realpathSync } from 'node:fs';
import { chmod, copyFile, cp, lstat, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import type { ImageInfo } from '../../lib/protocol/network-config.ts';
import { daemons } from '../daemons.ts';
import { frontFiles, imageFront } from '../tls/front-config.ts';
import { daemonFiles, unitName } from './daemon-files.ts';
import { libraryClosure } from './elf.ts';
import {
  devPrograms,
  nodeLibraries,
  openedLibraries,
  otherFiles,
  programs,
  units,
} from './guest-contents.ts';
import { installModules, rootModules } from './kernel.ts';

/** What goes in. All paths are on the build host. */
export interface GuestRootParts {
  readonly debianRoot: string;
  readonly kernelRoot: string;
  readonly kernelRelease: string;
  readonly node: string;
  /** Files for /usr/lib/dstack, by name. */
  readonly bundles: ReadonlyMap<string, Uint8Array>;
  /** Becomes the file at `flavourFile`. */
  readonly image: ImageInfo;
}

/** Where an image says what it is. The initramfs reads it too. */
export const flavourFile = 'usr/lib/dstack/flavour.json';

const here = import.meta.dirname;
const unitFolder = 'usr/lib/systemd/system';

/** Empties `target` and builds the root there. Everything in it belongs to the caller, who is root. */
export async function assembleGuestRoot(parts: GuestRootParts, target: string): Promise<void> {
  await rm(target, { recursive: true, force: true });
  await makeFolders(target);
  await copyFromDebian(parts.debianRoot, target, parts.image.flavour === 'dev');
  await installModules(parts.kernelRoot, parts.kernelRelease, rootModules, target);
  await copyFile(parts.node, join(target, 'usr/bin/node'));
  for (const overlay of ['rootfs', ...(parts.image.flavour === 'dev' ? ['rootfs-dev'] : [])]) {
    await cp(join(here, overlay), target, { recursive: true, verbatimSymlinks: true, force: true });
  }
  for (const [path, text] of daemonFiles(daemons)) await writeFile(join(target, path), text);
  await mkdir(join(target, imageFront.folder), { recursive: true });
  for (const [name, text] of frontFiles(imageFront)) {
    await writeFile(join(target, imageFront.folder, name), text);
  }
  // Absolute links are made here, since in the source tree they would point out of it.
  await symlink('/run/systemd/resolve/stub-resolv.conf', join(target, 'etc/resolv.conf'));
  await symlink('/proc/self/mounts', join(target, 'etc/mtab'));
  await enableUnits(target, parts.image.flavour === 'dev');
  for (const [name, bytes] of parts.bundles) await writeFile(join(target, 'usr/lib/dstack', name), bytes);
  await writeFile(join(target, flavourFile), `${JSON.stringify(parts.image)}\n`);
  await normaliseModes(target, target);
}

/** Mount points and folders that the system expects. The initramfs fills /var and /tmp. */
async function makeFolders(target: string): Promise<void> {
  const folders = ['dev', 'proc', 'sys', 'run', 'tmp', 'var', 'root', 'home', 'etc', 'opt', 'srv'];
  const mountPoints = ['mnt/host_volume', 'mnt/encrypted_data'];
  for (const folder of [...folders, ...mountPoints, 'usr/bin', 'usr/sbin', 'usr/lib64', 'usr/lib/dstack']) {
    await mkdir(join(target, folder), { recursive: true });
  }
}

async function copyFromDebian(debian: string, target: string, dev: boolean): Promise<void> {
  const wanted = [...programs, ...openedLibraries, ...nodeLibraries, ...(dev ? devPrograms : [])];
  const libraries = libraryClosure(debian, wanted);
  const unitFiles = units.map((unit) => join(unitFolder, unit));
  for (const path of [...wanted, ...libraries, ...otherFiles, ...unitFiles]) {
    await copyWithLinks(debian, target, path);
  }
}

/** Copies a file; for a link, both the link and its target. */
async function copyWithLinks(from: string, to: string, path: string): Promise<void> {
  const source = join(from, path);
  const destination = join(to, path);
  if (!existsSync(source) && !lstatSync(source, { throwIfNoEntry: false })) {
    throw new DstackError('FILE_MISSING', `no locked package holds ${path}`);
  }
  if (lstatSync(destination, { throwIfNoEntry: false })) return;
  await mkdir(dirname(destination), { recursive: true });
  if (!(await lstat(source)).isSymbolicLink()) {
    await copyFile(source, destination);
    return;
  }
  await symlink(readlinkSync(source), destination);
  const pointed = relative(realpathSync(from), realpathSync(source));
  if (existsSync(source) && !lstatSync(source.replace(/\/$/, '')).isDirectory() && !isFolder(source)) {
    await copyWithLinks(from, to, pointed);
  }
}

function isFolder(path: string): boolean {
  return existsSync(path) && lstatSync(realpathSync(path)).isDirectory();
}

/** What starts at boot. The image has no generators and presets: these links alone decide. */
async function enableUnits(target: string, dev: boolean): Promise<void> {
  const links: Record<string, readonly string[]> = {
    // They need none of the units that basic.target waits for.
    'sysinit.target.wants': [
      ...daemons.filter(({ starts }) => starts === 'boot').map(unitName),
      'dstack-network.path',
      'dstack-services.path',
    ],
    ...(dev && { 'dstack.target.wants': ['dstack-console.service'] }),
  };
  for (const [folder, names] of Object.entries(links)) {
    await mkdir(join(target, unitFolder, folder), { recursive: true });
    for (const name of names) await symlink(`../${name}`, join(target, unitFolder, folder, name));
  }
  await symlink('dstack.target', join(target, unitFolder, 'default.target'));
}

/** Modes must not depend on the umask under which the sources were checked out. */
async function normaliseModes(root: string, folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await normaliseModes(root, path);
    else if (entry.isFile()) await chmod(path, await modeOf(root, path));
  }
}

async function modeOf(root: string, path: string): Promise<number> {
  const name = relative(root, path);
  if (name === 'etc/shadow') return 0o600;
  if (/^usr\/(bin|sbin)\//.test(name) || programs.includes(name)) return 0o755;
  return (await startsWithElfMagic(path)) && !name.endsWith('.ko') ? 0o755 : 0o644;
}

async function startsWithElfMagic(path: string): Promise<boolean> {
  const stream = createReadStream(path, { end: 3 });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).equals(Buffer.from([0x7f, 0x45, 0x4c, 0x46]));
}
