/**
 * `npm run release -- --key FILE [--image DIR] [--out DIR] [--tables FILE]`: a versioned folder with an image, its measurement, what it is made
 * of, checksums, a signature and notes (docs/images.md). `npx dstack image verify` checks one.
 */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { makeRelease } from '../cli/release/make.ts';
import { print, printFailure } from '../lib/daemon/terminal.ts';

const root = join(import.meta.dirname, '..');
const help = [
  'npm run release -- --key FILE [OPTIONS]',
  '',
  '  --key FILE     the Ed25519 key that signs, as ssh-keygen makes it; or its public half, if an agent or a token has it',
  '  --image DIR    the image, as ./build_vm.sh leaves it (default build/image-production)',
  '  --out DIR      where dstack-VERSION-FLAVOUR is made (default build/release)',
  '  --tables FILE  of a production image: the tables.json of the machine that its measurement is for',
];

/** Undefined for what was typed wrong. */
function options() {
  try {
    const text = { type: 'string' } as const;
    const { values } = parseArgs({
      options: { key: text, image: text, out: text, tables: text, help: { type: 'boolean', short: 'h' } },
    });
    return values;
  } catch {
    return undefined;
  }
}

const given = options();
if (given?.help === true) print(...help);
else if (given?.key === undefined) {
  print(...help);
  process.exitCode = 2;
} else {
  try {
    const { folder, publicKey, measured, packages } = await makeRelease({
      image: resolve(given.image ?? join(root, 'build/image-production')),
      out: resolve(given.out ?? join(root, 'build/release')),
      key: given.key,
      tables: given.tables,
    });
    print(
      `${folder}`,
      `  measurement  ${measured.measurement ?? 'of a machine: --tables'}`,
      `  made of      ${packages.debian} Debian and ${packages.npm} npm packages`,
      `  signed by    ${publicKey}`,
    );
  } catch (error) {
    printFailure('release', error);
    process.exitCode = 1;
  }
}
