/** A new app's folder: a template, and the package that it stands on. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { DstackError } from '../../lib/protocol/errors.ts';
import { repository } from '../repository.ts';
import { makePackage } from './package.ts';

export const TEMPLATES = ['ping-pong', 'auction'] as const;
export type Template = (typeof TEMPLATES)[number];

const TARBALL = 'vendor/dstack.tgz';
const IGNORED = ['node_modules', '*.log'];
const cli = join(repository, 'cli/dstack.mjs');

/**
 * @param folder which must not exist, or be empty
 * @param name of the app
 * @throws CREATE_FOLDER, CREATE_INSTALL
 */
export async function createApp(folder: string, name: string, template: Template): Promise<void> {
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new DstackError('CREATE_FOLDER', `${folder} is there already: choose another name, or empty it`);
  mkdirSync(join(folder, 'vendor'), { recursive: true });
  cpSync(join(repository, 'templates', template), folder, { recursive: true });
  const making = mkdtempSync(join(tmpdir(), 'dstack-package-'));
  try {
    cpSync(await makePackage(join(making, 'package')), join(folder, TARBALL));
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  writeFileSync(join(folder, '.gitignore'), `${IGNORED.join('\n')}\n`);
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifestOf(name), undefined, 2)}\n`);
  // Nothing is fetched: the package brings along what it stands on.
  const args = ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { failed, stderr } = await execa('npm', args, { cwd: folder, reject: false });
  if (failed)
    throw new DstackError('CREATE_INSTALL', `npm install failed in ${folder}`, {
      details: stderr.split('\n'),
    });
}

const manifestOf = (name: string): object => ({
  name,
  private: true,
  type: 'module',
  engines: { node: '>=22.18' },
  // The command line is this clone's: the package has what runs in an enclave and on a host.
  scripts: { dev: `node ${cli} dev`, test: `node ${cli} dev --test` },
  dependencies: { dstack: `file:${TARBALL}` },
});
