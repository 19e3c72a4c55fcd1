/**
 * The package for authors: what those outside of this repository install, as a tarball: compiled JavaScript and declarations of `sdk/`, the
 * contract that theirs is based on, and a command line with `create` and `dev`.
 *
 * The package has one dependency, typebox, and brings it along, since schemas are made by authors and checked by the framework, and both
 * have to mean the same. Everything else is compiled in: nothing is fetched when it is installed, and no script runs.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa, type Options } from 'execa';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';
import { lockedTools, TOOLS_FILE } from './tools.ts';

const ENTRIES = ['framework', 'agent'] as const;
/** What is in it as it is here, and under which name. */
const COPIED: Readonly<Record<string, string>> = {
  'contracts/EnclaveApp.sol': 'contracts/EnclaveApp.sol',
  LICENSE: 'LICENSE',
  'docs/framework.md': 'README.md',
  templates: 'templates',
  'cli/author-node.mjs': 'cli/dstack.js',
  'node_modules/typebox': 'node_modules/typebox',
};
/** `dstack-host`: the process of a host, whose handlers are the modules that its settings name. */
const HOST = "#!/usr/bin/env node\nimport { runHost } from './framework.js';\n\nawait runHost();\n";

/** What authors may write of an entry is what is exported from `sdk/<entry>.ts`. */
interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly dependencies: Record<string, string>;
}

/**
 * @param out a folder, which is emptied
 * @returns the tarball's path
 * @throws PACKAGE_FAILED
 */
export async function makePackage(
  out: string = join(repository, 'build/package'),
  cancelSignal: AbortSignal = new AbortController().signal,
): Promise<string> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  // An app that is created by the package has the package that created it.
  const folder = isPackage() ? repository : out;
  if (!isPackage()) await layPackage(out, cancelSignal);
  const pack = ['pack', '--json', '--ignore-scripts', '--offline', '--no-dry-run', folder];
  const stdout = await output('npm', pack, { cwd: join(out, '..'), cancelSignal });
  const [packed] = JSON.parse(stdout) as { filename: string }[];
  return join(out, '..', packed!.filename);
}

/** Whether this is compiled, and not in this repository. */
const isPackage = (): boolean => existsSync(join(repository, TOOLS_FILE));

async function layPackage(out: string, cancelSignal: AbortSignal): Promise<void> {
  await compile(
    ENTRIES.map((entry) => `sdk/${entry}.ts`),
    { outdir: out },
  );
  await compile(['cli/author.ts'], { outfile: join(out, 'cli/main.js') });
  const tsc = { cwd: repository, preferLocal: true, localDir: repository, cancelSignal };
  await output('tsc', declarations(join(out, 'types')), tsc);
  for (const [from, to] of Object.entries(COPIED))
    cpSync(join(repository, from), join(out, to), { recursive: true, dereference: true });
  // Not compiled by itself: errors of modules that it loads have to be those that it knows.
  writeFileSync(join(out, 'host.js'), HOST, { mode: 0o755 });
  writeFileSync(join(out, TOOLS_FILE), JSON.stringify(lockedTools(), undefined, 2));
  const manifest = manifestOf(JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as Manifest);
  writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
}

async function compile(
  entryPoints: string[],
  to: { readonly outdir: string } | { readonly outfile: string },
): Promise<void> {
  // Only here: the package does not have it.
  const { build } = await import('esbuild');
  await build({
    absWorkingDir: repository,
    entryPoints,
    ...to,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    external: ['typebox', 'typebox/*', 'esbuild'],
    // Some of what is compiled in asks for Node's modules as CommonJS does.
    banner: {
      js: "import { createRequire as createRequireOfPackage } from 'node:module'; const require = createRequireOfPackage(import.meta.url);",
    },
    legalComments: 'eof',
    logLevel: 'error',
  });
}

async function output(command: string, args: string[], options: Options): Promise<string> {
  const { failed, stdout, stderr, shortMessage } = await execa(command, args, { ...options, reject: false });
  if (!failed) return String(stdout);
  const details = [shortMessage ?? '', ...String(stderr ?? '').split('\n')];
  throw new DstackError('PACKAGE_FAILED', `${command} failed: it has to be in the PATH`, { details });
}

function declarations(outDir: string): string[] {
  return [
    ...ENTRIES.map((entry) => `sdk/${entry}.ts`),
    ...['--ignoreConfig', '--declaration', '--emitDeclarationOnly', '--outDir', outDir, '--rootDir', '.'],
    ...['--target', 'esnext', '--module', 'nodenext', '--types', 'node', '--strict'],
    ...['--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--allowImportingTsExtensions'],
    ...['--skipLibCheck', '--removeComments', 'false'],
  ];
}

function manifestOf({ name, version, license, dependencies }: Manifest): object {
  const { typebox } = dependencies;
  return {
    name,
    version,
    description:
      'Contracts whose requests are answered in an enclave: the framework and the agent API for authors',
    license,
    type: 'module',
    // TypeScript is run as it is from then on.
    engines: { node: '>=22.18' },
    bin: { dstack: 'cli/dstack.js', 'dstack-host': 'host.js' },
    exports: {
      ...Object.fromEntries(
        ENTRIES.map((entry) => [
          `./${entry}`,
          { types: `./types/sdk/${entry}.d.ts`, default: `./${entry}.js` },
        ]),
      ),
      './contracts/EnclaveApp.sol': './contracts/EnclaveApp.sol',
    },
    files: ['*.js', 'cli', 'types', 'contracts', 'templates', TOOLS_FILE],
    dependencies: { typebox },
    bundleDependencies: ['typebox'],
  };
}
