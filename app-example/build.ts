/**
 * Builds the greeting app's image as a `docker save` archive, offline: Debian's static busybox and the files of this
 * folder, or another folder of the same form. The same version gives the same config digest everywhere and always.
 *
 *     node app-example/build.ts --version 1 [--files FOLDER] --out build/greeting-1.tar
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { print, printError } from '../lib/daemon/terminal.ts';
import { withBuildah } from './tool-chroot.ts';

/** Unpacked by build_vm.sh for the initramfs; statically linked, so it is all that the container needs. */
const BUSYBOX = resolve(import.meta.dirname, '../.cache/kernel-root/usr/bin/busybox');
const APPLETS = [
  'sh',
  'httpd',
  'wget',
  'sha256sum',
  'cut',
  'cat',
  'sed',
  'date',
  'head',
  'sync',
  'mv',
  'printf',
];

/** Writes the archive; returns nothing: `npx dstack app pack` reads the digest from the archive itself. */
export function buildGreeting(version: string, out: string, files: string): void {
  mkdirSync(dirname(out), { recursive: true });
  const work = mkdtempSync(join(dirname(resolve(out)), '.greeting-'));
  try {
    layFiles(join(work, 'files'), files, version);
    withBuildah(work, (buildah) => {
      const container = buildah('from', 'scratch');
      buildah('copy', '--quiet', container, '/work/files', '/');
      buildah(
        'config',
        '--entrypoint',
        '["/app/serve"]',
        '--env',
        'PATH=/bin',
        '--env',
        'DATA=/mnt/encrypted_data',
        '--port',
        '8080',
        container,
      );
      buildah(
        'commit',
        '--quiet',
        '--timestamp',
        '0',
        '--disable-compression',
        container,
        `docker-archive:/work/out.tar:greeting:${version}`,
      );
    });
    renameSync(join(work, 'out.tar'), out);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function layFiles(root: string, files: string, version: string): void {
  cpSync(files, root, { recursive: true });
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'app/www'), { recursive: true });
  mkdirSync(join(root, 'mnt/encrypted_data'), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  writeFileSync(join(root, 'app/version'), `${version}\n`);
  writeFileSync(join(root, 'app/www/version'), `${version}\n`);
  writeFileSync(join(root, 'app/www/healthz'), 'ok\n');
  // Modes must not depend on the umask of whoever cloned or built.
  chmodSync(root, 0o755);
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const isProgram =
      entry.isDirectory() ||
      entry.parentPath.endsWith('/bin') ||
      /^(serve|busybox|ld-linux.*|.*\.cgi)$/.test(entry.name);
    if (!entry.isSymbolicLink()) chmodSync(join(entry.parentPath, entry.name), isProgram ? 0o755 : 0o644);
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      version: { type: 'string' },
      out: { type: 'string' },
      files: { type: 'string', default: join(import.meta.dirname, 'files') },
    },
  });
  if (values.version === undefined || !/^[0-9]{1,9}$/.test(values.version) || values.out === undefined) {
    printError('usage: node app-example/build.ts --version NUMBER [--files FOLDER] --out FILE');
    process.exit(2);
  }
  buildGreeting(values.version, resolve(values.out), resolve(values.files));
  print(`wrote ${values.out}`);
}
