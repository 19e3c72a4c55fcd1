/**
 * The guest's Debian: mmdebstrap, offline, from a repository that holds exactly the locked packages.
 */
import { existsSync } from 'node:fs';
import { link, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedPath } from './download.ts';
import type { LockedPackage } from './packages.ts';
import { run } from './run.ts';

/**
 * Builds `archive`, a tar of an installed Debian. Needs root. Takes some 90 seconds.
 * `sourceDateEpoch`: the time that maintainer scripts see, in seconds since 1970.
 */
export async function buildDebianRoot(
  packages: readonly LockedPackage[],
  cache: string,
  archive: string,
  sourceDateEpoch: number,
): Promise<void> {
  const work = `${archive}.work`;
  await rm(work, { recursive: true, force: true });
  const repository = join(work, 'repository');
  await makeRepository(packages, cache, repository);
  await run(
    'mmdebstrap',
    [
      '--mode=root',
      '--variant=custom',
      '--format=tar',
      '--architectures=amd64',
      `--include=${packages.map((p) => p.name).join(',')}`,
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Languages "none"',
      // The repository may be where apt's own user has no access, such as a home folder.
      '--aptopt=APT::Sandbox::User "root"',
      '--dpkgopt=path-exclude=/usr/share/man/*',
      '--dpkgopt=path-exclude=/usr/share/locale/*',
      '--dpkgopt=path-exclude=/usr/share/doc/*',
      '--dpkgopt=path-exclude=/usr/share/bash-completion/*',
      '--dpkgopt=path-exclude=/usr/share/zsh/*',
      '--skip=check/empty',
      'trixie',
      join(work, 'root.tar'),
      `deb [trusted=yes] copy://${repository} ./`,
    ],
    {
      env: {
        SOURCE_DATE_EPOCH: String(sourceDateEpoch),
        LC_ALL: 'C.UTF-8',
        DEBIAN_FRONTEND: 'noninteractive',
      },
    },
  );
  await rename(join(work, 'root.tar'), archive);
  await rm(work, { recursive: true, force: true });
}

/** A flat repository: the packages and an index made from their own control files. */
async function makeRepository(
  packages: readonly LockedPackage[],
  cache: string,
  folder: string,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const stanzas: string[] = [];
  for (const locked of packages) {
    const file = `${locked.name}_${locked.sha256}.deb`;
    if (!existsSync(join(folder, file))) await link(cachedPath(cache, locked), join(folder, file));
    const control = await run('dpkg-deb', ['--field', cachedPath(cache, locked)]);
    stanzas.push(
      `${control.trimEnd()}\nFilename: ./${file}\nSize: ${locked.size}\nSHA256: ${locked.sha256}\n`,
    );
  }
  await writeFile(join(folder, 'Packages'), stanzas.join('\n'));
}
