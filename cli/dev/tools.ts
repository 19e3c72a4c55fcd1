/**
 * What an app needs for development besides the package: solc and anvil, as packages that the app itself depends on. Their versions, and those
 * of all that they stand on, are this repository's, down to the hashes of what is installed.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';

const SOLC = 'solc';
const ANVIL = '@foundry-rs/anvil-linux-amd64';
/** In the package for authors, which has no lock file of this repository. */
export const TOOLS_FILE = 'tools.json';

/** An entry of npm's lock file, version 3. */
export interface Locked {
  readonly version: string;
  readonly integrity?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly bin?: Readonly<Record<string, string>>;
}
type Packages = Readonly<Record<string, Locked>>;

export interface Tools {
  /** By name: what the app's package.json asks for. */
  readonly versions: Readonly<Record<string, string>>;
  /** By path, as a lock file has them. */
  readonly packages: Packages;
}

/** The same in this repository and in the package that was made of it. */
export function lockedTools(): Tools {
  const made = join(repository, TOOLS_FILE);
  if (existsSync(made)) return JSON.parse(readFileSync(made, 'utf8')) as Tools;
  const lock = readFileSync(join(repository, 'package-lock.json'), 'utf8');
  const { packages } = JSON.parse(lock) as { packages: Packages };
  const taken: Record<string, Locked> = {};
  for (const name of [SOLC, ANVIL]) take(`node_modules/${name}`, packages, taken);
  const versions = { [SOLC]: taken[`node_modules/${SOLC}`]!, [ANVIL]: taken[`node_modules/${ANVIL}`]! };
  return {
    versions: Object.fromEntries(Object.entries(versions).map(([name, { version }]) => [name, version])),
    packages: taken,
  };
}

/** The package at this path of the lock file, and what it stands on. */
function take(path: string, from: Packages, into: Record<string, Locked>): void {
  if (into[path] !== undefined) return;
  const entry = from[path]!;
  into[path] = entry;
  for (const name of Object.keys(entry.dependencies ?? {})) {
    // The nearest, as Node finds it.
    let beside = path;
    while (from[join(beside, 'node_modules', name)] === undefined)
      beside = beside.slice(0, Math.max(0, beside.lastIndexOf('node_modules/') - 1));
    take(join(beside, 'node_modules', name), from, into);
  }
}

/**
 * Puts those that this repository has into the app's node_modules, with the list that npm keeps there of what it has installed: npm then takes
 * them for what its lock file asks for, and fetches nothing. In the package there are none, and npm fetches them.
 */
export function layTools(folder: string, { packages }: Tools): void {
  if (!Object.keys(packages).every((path) => existsSync(join(repository, path)))) return;
  for (const [path, { bin }] of Object.entries(packages)) {
    const from = realpathSync(join(repository, path));
    // What lies within it has entries of its own; Node would make its links absolute, into this repository.
    const filter = (file: string): boolean => file !== join(from, 'node_modules');
    cpSync(from, join(folder, path), { recursive: true, verbatimSymlinks: true, filter });
    const modules = path.slice(0, path.lastIndexOf('node_modules/') + 'node_modules'.length);
    for (const [name, program] of Object.entries(bin ?? {})) {
      const link = join(folder, modules, '.bin', name);
      mkdirSync(dirname(link), { recursive: true });
      if (!existsSync(link)) symlinkSync(relative(dirname(link), join(folder, path, program)), link);
    }
  }
  const installed = { name: basename(folder), lockfileVersion: 3, requires: true, packages };
  writeFileSync(join(folder, 'node_modules/.package-lock.json'), JSON.stringify(installed, undefined, 2));
}

/** The compiler that the app has installed. @throws DEV_TOOL */
export function solcOf(folder: string): { compile(input: string, callbacks: object): string } {
  return createRequire(import.meta.url)(toolOf(folder, SOLC));
}

/** The program of the chain that the app has installed. @throws DEV_TOOL */
export function anvilOf(folder: string): string {
  return join(dirname(toolOf(folder, `${ANVIL}/package.json`)), 'bin/anvil');
}

/** A file of a package that is found from the app's folder, or else from here. @throws DEV_TOOL */
export function toolOf(folder: string, file: string): string {
  for (const from of [join(folder, 'package.json'), import.meta.filename]) {
    try {
      return createRequire(from).resolve(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new DstackError(
    'DEV_TOOL',
    `${file.replace('/package.json', '')} is not installed: run npm install in ${folder}`,
  );
}
