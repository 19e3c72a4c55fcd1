/** Bundles each guest daemon into one file, so that starting it reads one file and no package folder is in the image. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { DstackError } from '../../lib/protocol/errors.ts';
import { type Daemon, daemons } from '../daemons.ts';
import { builtins } from './builtins.ts';
import { leaveOut } from './left-out.ts';

const repository = resolve(import.meta.dirname, '../..');

/**
 * Bundles `<folder>/<name>/main.ts` of every daemon; the result maps `<name>.mjs` to its bytes.
 * @throws DstackError DAEMON_MISSING for a daemon without a main.ts.
 */
export async function bundleDaemons(
  table: readonly Pick<Daemon, 'name' | 'leftOut'>[] = daemons.filter(({ runs }) => runs === undefined),
  folder = join(repository, 'guest'),
): Promise<Map<string, Uint8Array>> {
  const bundles = new Map<string, Uint8Array>();
  for (const { name, leftOut } of table) {
    const entry = join(folder, name, 'main.ts');
    if (!existsSync(entry)) throw new DstackError('DAEMON_MISSING', `there is no ${entry}`);
    const result = await build({
      absWorkingDir: repository,
      entryPoints: [entry],
      // The bundle holds the paths of packages: they must not depend on whether node_modules is a link, and to where.
      preserveSymlinks: true,
      bundle: true,
      write: false,
      platform: 'node',
      format: 'esm',
      target: 'node24',
      charset: 'utf8',
      legalComments: 'none',
      minifySyntax: true,
      minifyWhitespace: true,
      // CommonJS dependencies call require(); an ES module has none of its own.
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
      plugins: [builtins, leaveOut(leftOut)],
      logLevel: 'warning',
    });
    bundles.set(`${name}.mjs`, result.outputFiles[0]!.contents);
  }
  return bundles;
}
