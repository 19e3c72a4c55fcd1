/**
 * The package for authors: what those outside of this repository install, as a tarball: compiled JavaScript and declarations of `sdk/`, and
 * the contract that theirs is based on.
 *
 * The package has one dependency, typebox, and brings it along, since schemas are made by authors and checked by the framework, and both
 * have to mean the same. Everything else is compiled in: nothing is fetched when it is installed, and no script runs.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { execa, type Options } from 'execa';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';

const ENTRIES = ['framework', 'agent'] as const;
/** `dstack-host`: the process of a host, whose handlers are the modules that its settings name. */
const HOST = "#!/usr/bin/env node\nimport { runHost } from './framework.js';\n\nawait runHost();\n";

/** What authors may write of an entry is what is exported from `sdk/<entry>.ts`. */
interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly engines: Record<string, string>;
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
  mkdirSync(join(out, 'contracts'), { recursive: true });
  await build({
    absWorkingDir: repository,
    entryPoints: ENTRIES.map((entry) => `sdk/${entry}.ts`),
    outdir: out,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    external: ['typebox', 'typebox/*'],
    // Some of what is compiled in asks for Node's modules as CommonJS does.
    banner: {
      js: "import { createRequire as createRequireOfPackage } from 'node:module'; const require = createRequireOfPackage(import.meta.url);",
    },
    legalComments: 'eof',
    logLevel: 'error',
  });
  const tsc = { cwd: repository, preferLocal: true, localDir: repository, cancelSignal };
  await output('tsc', declarations(join(out, 'types')), tsc);
  cpSync(join(repository, 'contracts/EnclaveApp.sol'), join(out, 'contracts/EnclaveApp.sol'));
  // Not compiled by itself: errors of modules that it loads have to be those that it knows.
  writeFileSync(join(out, 'host.js'), HOST, { mode: 0o755 });
  cpSync(join(repository, 'LICENSE'), join(out, 'LICENSE'));
  cpSync(join(repository, 'docs/framework.md'), join(out, 'README.md'));
  cpSync(join(repository, 'node_modules/typebox'), join(out, 'node_modules/typebox'), { recursive: true });
  const manifest = manifestOf(JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as Manifest);
  writeFileSync(join(out, 'package.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
  const pack = ['pack', '--json', '--ignore-scripts', '--offline', out];
  const stdout = await output('npm', pack, { cwd: join(out, '..'), cancelSignal });
  const [packed] = JSON.parse(stdout) as { filename: string }[];
  return join(out, '..', packed!.filename);
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

function manifestOf({ name, version, license, engines, dependencies }: Manifest): object {
  const { typebox } = dependencies;
  return {
    name,
    version,
    description:
      'Contracts whose requests are answered in an enclave: the framework and the agent API for authors',
    license,
    type: 'module',
    engines,
    exports: {
      ...Object.fromEntries(
        ENTRIES.map((entry) => [
          `./${entry}`,
          { types: `./types/sdk/${entry}.d.ts`, default: `./${entry}.js` },
        ]),
      ),
      './contracts/EnclaveApp.sol': './contracts/EnclaveApp.sol',
    },
    bin: { 'dstack-host': './host.js' },
    files: ['*.js', 'types', 'contracts'],
    dependencies: { typebox },
    bundleDependencies: ['typebox'],
  };
}
