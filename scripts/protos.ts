/**
 * `npm run protos`: JavaScript and its types of lib/etcd/proto/*.proto, into lib/etcd/gen. `npm run protos -- --check` only says
 * whether the files are what they should be.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { print, printError } from '../lib/daemon/terminal.ts';

const ROOT = join(import.meta.dirname, '..');
const PROTOS = 'lib/etcd/proto';
const GENERATED = 'lib/etcd/gen';

/** Not TypeScript: that would hold enums, which Node does not strip. */
const template = {
  version: 'v2',
  plugins: [
    {
      local: join(ROOT, 'node_modules/.bin/protoc-gen-es'),
      out: '.',
      opt: ['target=js+dts', 'import_extension=js'],
    },
  ],
};

/** Name and contents of each generated file; the same bytes on every machine with the same package-lock.json. */
export async function generate(): Promise<ReadonlyMap<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'dstack-protos-'));
  try {
    const buf = join(ROOT, 'node_modules/@bufbuild/buf-linux-x64/bin/buf');
    await execa(buf, ['generate', PROTOS, '--template', JSON.stringify(template), '--output', folder], {
      cwd: ROOT,
    });
    return contentsOf(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Names of files that are missing, too many or of other contents. */
export function stale(wanted: ReadonlyMap<string, string>): readonly string[] {
  const found = contentsOf(join(ROOT, GENERATED));
  const names = new Set([...wanted.keys(), ...found.keys()]);
  return [...names].filter((name) => wanted.get(name) !== found.get(name)).sort();
}

function contentsOf(folder: string): Map<string, string> {
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

async function main(check: boolean): Promise<void> {
  const files = await generate();
  if (check) {
    const changed = stale(files);
    if (changed.length > 0) printError(`stale in ${GENERATED}: ${changed.join(', ')}; run npm run protos`);
    process.exitCode = changed.length > 0 ? 1 : 0;
    return;
  }
  const folder = join(ROOT, GENERATED);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  for (const [name, contents] of files) writeFileSync(join(folder, name), contents);
  print(`${GENERATED}: ${files.size} files`);
}

if (import.meta.main) await main(process.argv.includes('--check'));
