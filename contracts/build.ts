/**
 * `npm run bindings`: compiles the contracts and writes what is generated from them. `npm run bindings -- --check` only says
 * whether the files are what they should be.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { print, printError } from '../lib/daemon/terminal.ts';
import { compileNetwork, compilePublications } from './compile.ts';
import { generateBindings, generateProtocol } from './generate.ts';
import { generatePublications } from './generate-publications.ts';

const ROOT = join(import.meta.dirname, '..');

/** A generated file: its path from the repository's root, and the contents that it has to have. */
export interface Generated {
  readonly path: string;
  readonly contents: string;
}

/** Compiles and generates; the same bytes on every machine with the same package-lock.json. */
export async function generate(): Promise<readonly Generated[]> {
  const compiled = compileNetwork();
  const protocol = 'lib/protocol/network-contract.ts';
  const publications = 'lib/protocol/publications-contract.ts';
  return [
    // Holds 26 kB of bytecode and is left alone by the formatter.
    { path: 'contracts/bindings.ts', contents: generateBindings(compiled) },
    { path: protocol, contents: await formatted(protocol, generateProtocol(compiled)) },
    {
      path: publications,
      contents: await formatted(publications, generatePublications(compilePublications())),
    },
  ];
}

/** The paths of those generated files whose contents on disk differ. */
export function stale(files: readonly Generated[]): readonly string[] {
  return files.filter((file) => contentsOf(file.path) !== file.contents).map((file) => file.path);
}

function contentsOf(path: string): string | undefined {
  try {
    return readFileSync(join(ROOT, path), 'utf8');
  } catch {
    return undefined;
  }
}

async function formatted(path: string, source: string): Promise<string> {
  const { stdout } = await execa('biome', ['format', '--vcs-enabled=false', `--stdin-file-path=${path}`], {
    cwd: ROOT,
    input: source,
    preferLocal: true,
    localDir: ROOT,
    stripFinalNewline: false,
  });
  return stdout;
}

async function main(check: boolean): Promise<void> {
  print('compiling contracts/Network.sol and contracts/Publications.sol');
  const files = await generate();
  const changed = stale(files);
  if (check && changed.length > 0) {
    printError(`stale: ${changed.join(', ')}; run npm run bindings`);
    process.exitCode = 1;
    return;
  }
  for (const file of files) writeFileSync(join(ROOT, file.path), file.contents);
  print(changed.length > 0 ? `wrote ${changed.join(', ')}` : 'nothing has changed');
}

if (import.meta.main) await main(process.argv.includes('--check'));
