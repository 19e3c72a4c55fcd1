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
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';
import { makePackage } from './package.ts';

export const TEMPLATES = ['ping-pong', 'auction', 'transfers'] as const;
export type Template = (typeof TEMPLATES)[number];

const TARBALL = 'vendor/dstack.tgz';
const IGNORED = ['node_modules', '*.log'];

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
  const there = lstatSync(folder, { throwIfNoEntry: false });
  if (there !== undefined && !(there.isDirectory() && readdirSync(folder).length === 0))
    throw new DstackError('CREATE_FOLDER', `${folder} is there already: choose another name, or empty it`);
  // Beside it, and moved there when it is whole: what fails or is ended leaves nothing in the way of the next time.
  const making = mkdtempSync(join(dirname(folder), `.${name}-`));
  try {
    await makeApp(join(making, 'app'), name, template, stopped);
    stopped.throwIfAborted();
    renameSync(join(making, 'app'), folder);
  } catch (error) {
    // Ctrl-C in a terminal also ends what was running, which then says that it failed.
    if (stopped.aborted) throw new DstackError('INTERRUPTED', `stopped before ${folder} was made`);
    throw error;
  } finally {
    rmSync(making, { recursive: true, force: true });
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
  writeFileSync(join(folder, '.gitignore'), `${IGNORED.join('\n')}\n`);
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifestOf(name), undefined, 2)}\n`);
  // Nothing is fetched: the package brings along what it stands on.
  const args = ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { failed, stderr, shortMessage } = await execa('npm', args, {
    cwd: folder,
    reject: false,
    cancelSignal,
  });
  if (failed)
    throw new DstackError('CREATE_INSTALL', 'npm install failed', {
      details: (stderr || (shortMessage ?? '')).split('\n'),
    });
}

/** The commands are this repository's, and not in the package that the app has. Quoted for the shell that npm gives it to. */
const LAUNCHER = `node '${join(repository, 'cli/dstack.mjs').replaceAll("'", "'\\''")}'`;

const manifestOf = (name: string): object => ({
  name,
  private: true,
  type: 'module',
  engines: { node: '>=22.18' },
  // The command line is this clone's: the package has what runs in an enclave and on a host.
  scripts: { dev: `${LAUNCHER} dev`, test: `${LAUNCHER} dev --test` },
  dependencies: { dstack: `file:${TARBALL}` },
});
