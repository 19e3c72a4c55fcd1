/** A new app's folder: a template, and the package that it stands on. */
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { DstackError, messageOf } from '../../lib/protocol/errors.ts';
import { AppName, check } from '../../lib/protocol/schema.ts';
import { repository } from '../repository.ts';
import { makePackage } from './package.ts';
import { layTools, lockedTools, type Tools } from './tools.ts';

export const TEMPLATES = ['ping-pong', 'auction', 'transfers'] as const;
export type Template = (typeof TEMPLATES)[number];

const TARBALL = 'vendor/dstack.tgz';
const IGNORED = ['node_modules', '*.log'];

/** The app depends on these by name; npm refuses a package that depends on itself. */
const TAKEN: readonly string[] = ['dstack', 'solc'];

/** @throws APP_NAME */
export function checkName(name: string | undefined): string {
  check(AppName, name, 'APP_NAME', 'the name of the app');
  if (TAKEN.includes(name!))
    throw new DstackError('APP_NAME', `an app can't be called ${name}: it depends on a package of that name`);
  return name!;
}

/**
 * @param folder which must not exist, or be empty
 * @param name of the app
 * @param stopped ends it, with nothing left
 * @throws CREATE_FOLDER, CREATE_INSTALL, PACKAGE_FAILED, INTERRUPTED
 */
export async function createApp(
  folder: string,
  name: string,
  template: Template,
  stopped: AbortSignal,
): Promise<void> {
  assertRoom(folder);
  // Beside it, and moved there when it is whole: what fails or is ended leaves nothing in the way of the next time.
  const making = inFolder(folder, () => mkdtempSync(join(dirname(folder), `.${name}-`)));
  try {
    await makeApp(join(making, 'app'), name, template, stopped);
    stopped.throwIfAborted();
    inFolder(folder, () => renameSync(join(making, 'app'), folder));
  } catch (error) {
    // Ctrl-C in a terminal also ends what was running, which then says that it failed.
    if (stopped.aborted) throw new DstackError('INTERRUPTED', `stopped before ${folder} was made`);
    throw error;
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

/** @throws CREATE_FOLDER */
function assertRoom(folder: string): void {
  const there = inFolder(folder, () => lstatSync(folder, { throwIfNoEntry: false }));
  if (there === undefined) return;
  if (!(there.isDirectory() && inFolder(folder, () => readdirSync(folder)).length === 0))
    throw new DstackError('CREATE_FOLDER', `${folder} is there already: choose another name, or empty it`);
}

/** @throws CREATE_FOLDER where the file system refuses */
function inFolder<T>(folder: string, doThis: () => T): T {
  try {
    return doThis();
  } catch (cause) {
    const why = `${folder} can't be made (${messageOf(cause)}): go to a folder that is yours, and has no ${basename(folder)}`;
    throw new DstackError('CREATE_FOLDER', why, { cause });
  }
}

async function makeApp(
  folder: string,
  name: string,
  template: Template,
  cancelSignal: AbortSignal,
): Promise<void> {
  mkdirSync(join(folder, 'vendor'), { recursive: true });
  cpSync(join(repository, 'templates', template), folder, { recursive: true });
  const making = mkdtempSync(join(tmpdir(), 'dstack-package-'));
  try {
    cpSync(await makePackage(join(making, 'package'), cancelSignal), join(folder, TARBALL));
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  const tools = lockedTools();
  const manifest = manifestOf(name, tools);
  const packages = { '': manifest, ...tools.packages };
  writeFileSync(join(folder, '.gitignore'), `${IGNORED.join('\n')}\n`);
  writeJson(join(folder, 'package.json'), manifest);
  writeJson(join(folder, 'package-lock.json'), { name, lockfileVersion: 3, requires: true, packages });
  layTools(folder, tools);
  await install(folder, cancelSignal);
}

/** Of this machine's settings those are overruled by which the app would get something else than what its lock file says. */
const INSTALL = [
  ...['install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'],
  ...['--include=dev', '--no-global', '--no-dry-run', '--package-lock', '--workspaces=false'],
] as const;

/** @throws CREATE_INSTALL */
async function install(folder: string, cancelSignal: AbortSignal): Promise<void> {
  const options = { cwd: folder, reject: false, cancelSignal } as const;
  const { failed, stderr, shortMessage } = await execa('npm', INSTALL, options);
  if (!failed) return;
  throw new DstackError(
    'CREATE_INSTALL',
    'npm install failed, and nothing was made. npm has to be in the PATH, and what it does not have from before it fetches from the registry',
    { details: (stderr || (shortMessage ?? '')).split('\n') },
  );
}

const writeJson = (file: string, value: object): void =>
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);

const manifestOf = (name: string, { versions }: Tools): object => ({
  name,
  private: true,
  type: 'module',
  engines: { node: '>=22.18' },
  // The package's own command line: the app needs nothing of where it was made.
  scripts: { dev: 'dstack dev', test: 'dstack dev --test' },
  dependencies: { dstack: `file:${TARBALL}` },
  devDependencies: versions,
});
