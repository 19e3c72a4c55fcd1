/**
 * The yardstick of the boot benchmark: a Debian 13 as mmdebstrap leaves it, on ext4, with our kernel, booted by its own
 * systemd to multi-user.target. Its folder has the layout of our images, so that the same QEMU starts it.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { type CpioEntry, cpioArchive } from '../guest/image/cpio.ts';
import { installModules, kernelModules, moduleBytes, rootModules } from '../guest/image/kernel.ts';
import { run } from '../guest/image/run.ts';
import { DstackError } from '../lib/protocol/errors.ts';
import { type ImageManifest, parseImageManifest } from '../lib/protocol/image.ts';

/** What its systemd says on the console when it is done. */
export const plainIsUp = /Reached target (?:\S+multi-user\.target|multi-user\.target)/;

const bootModules = ['virtio_blk', 'ext4', 'virtio_net'];
const imageBytes = 2 ** 30;

/** Makes the image in `output` from what building `image` left in `cache`. Needs root, as that build did. */
export async function buildPlainDebian(image: string, cache: string, output: string): Promise<void> {
  const ours = parseImageManifest(readFileSync(join(image, 'image.json'), 'utf8'));
  const release = ours.kernelRelease;
  const [debianRoot, kernelRoot] = [join(cache, 'debian-root'), join(cache, 'kernel-root')];
  for (const folder of [debianRoot, kernelRoot]) {
    if (!existsSync(folder)) {
      throw new DstackError(
        'FILE_MISSING',
        `there is no ${folder}: build the image here, with ./build_vm.sh`,
      );
    }
  }
  await rm(output, { recursive: true, force: true });
  await mkdir(output, { recursive: true });
  const tree = join(output, 'tree');
  // Including device nodes, which Node's own cp would open.
  await run('cp', ['-a', debianRoot, tree]);
  await installModules(kernelRoot, release, [...bootModules, ...rootModules], tree);
  await rm(join(tree, 'etc/systemd/system/default.target'), { force: true });
  await symlink('/usr/lib/systemd/system/multi-user.target', join(tree, 'etc/systemd/system/default.target'));
  const root = join(output, 'root.img');
  await run('/sbin/mke2fs', ['-q', '-t', 'ext4', '-d', tree, root, `${imageBytes / 1024}k`]);
  await rm(tree, { recursive: true });
  await writeFile(join(output, 'initramfs.cpio.zst'), await initramfs(kernelRoot, release));
  for (const name of ['vmlinuz', 'firmware.bin']) await cp(join(image, name), join(output, name));
  await writeFile(join(output, 'image.json'), JSON.stringify(await describe(ours, output)));
}

async function initramfs(kernelRoot: string, release: string): Promise<Buffer> {
  const folder = join(kernelRoot, 'usr/lib/modules', release);
  const modules = kernelModules(folder, bootModules);
  const init = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
${modules.map((path) => `/bin/busybox insmod /modules/${basename(path)}`).join('\n')}
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /usr/lib/systemd/systemd
`;
  const entries: CpioEntry[] = ['bin', 'dev', 'modules', 'root'].map((path) => ({ path, kind: 'folder' }));
  const file = (path: string, bytes: Buffer, executable: boolean) =>
    entries.push({ path, kind: 'file', bytes, executable });
  file('init', Buffer.from(init), true);
  file('bin/busybox', await readFile(join(kernelRoot, 'usr/bin/busybox')), true);
  for (const path of modules) file(`modules/${basename(path)}`, await moduleBytes(folder, path), false);
  return zstdCompressSync(cpioArchive(entries));
}

async function describe(ours: ImageManifest, folder: string): Promise<ImageManifest> {
  const fileOf = async (name: string) => ({
    sha256: createHash('sha256')
      .update(await readFile(join(folder, name)))
      .digest('hex'),
    size: (await stat(join(folder, name))).size,
  });
  return {
    ...ours,
    commandLine: 'console=ttyS0 quiet systemd.show_status=true TERM=dumb',
    files: {
      vmlinuz: await fileOf('vmlinuz'),
      'initramfs.cpio.zst': await fileOf('initramfs.cpio.zst'),
      'root.img': await fileOf('root.img'),
      'firmware.bin': await fileOf('firmware.bin'),
    },
  };
}
