/** What is in the greeting app's image, as a folder: busybox and its names, the files of the app, the page's script. */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { buildSync } from 'esbuild';

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
  'grep',
  'date',
  'head',
  'sync',
  'mv',
  'mkdir',
  'rm',
  'sleep',
  'printf',
];

export const OWN_FILES = join(import.meta.dirname, 'files');

/** @param root a folder that becomes the container's root. @param files of this app, or of another of the same form */
export function layFiles(root: string, files: string, version: string): void {
  cpSync(files, root, { recursive: true });
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'app/www'), { recursive: true });
  mkdirSync(join(root, 'mnt/encrypted_data'), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
  for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
  if (files === OWN_FILES) writeFileSync(join(root, 'app/www/page.js'), pageScript());
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

/** The same folder with its Dockerfile beside it, for whoever builds by one. What was there before is replaced. */
export function layContext(folder: string, files: string, version: string): void {
  rmSync(join(folder, 'root'), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  layFiles(join(folder, 'root'), files, version);
  copyFileSync(join(import.meta.dirname, 'Dockerfile'), join(folder, 'Dockerfile'));
}

/** With the curve that WebCrypto does not have; the same bytes for the same sources and the locked esbuild. */
function pageScript(): Uint8Array {
  const { outputFiles } = buildSync({
    entryPoints: [join(import.meta.dirname, 'page/main.ts')],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    minify: true,
    // Licences stay with what they are for.
    legalComments: 'eof',
    tsconfigRaw: '{}',
  });
  return outputFiles[0]!.contents;
}
