/**
 * Builds the greeting app's image as a `docker save` archive, offline: Debian's static busybox, the files of this folder and the page's
 * script, or another folder of the same form. The same version gives the same config digest everywhere and always.
 *
 *     node app-example/build.ts --version 1 [--files FOLDER] --out build/greeting-1.tar
 *     node app-example/build.ts --version 1 --context FOLDER      what `docker build` and `buildah build` make the same image of
 */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { print, printError } from '../lib/daemon/terminal.ts';
import { layContext, layFiles, OWN_FILES } from './lay-files.ts';
import { withBuildah } from './tool-chroot.ts';

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

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      version: { type: 'string' },
      out: { type: 'string' },
      context: { type: 'string' },
      files: { type: 'string', default: OWN_FILES },
    },
  });
  const { version = '', out, context } = values;
  const place = out ?? context;
  if (!/^[0-9]{1,9}$/.test(version) || place === undefined || (out !== undefined && context !== undefined)) {
    printError(
      'usage: node app-example/build.ts --version NUMBER [--files FOLDER] --out FILE, or --context FOLDER in its place',
    );
    process.exit(2);
  }
  if (context === undefined) buildGreeting(version, resolve(place), resolve(values.files));
  else layContext(resolve(place), resolve(values.files), version);
  print(`wrote ${place}`);
}
