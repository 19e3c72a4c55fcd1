/** The app's container, by programs that stand in for the builders: which one is taken, what it is asked, and what its failure says. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { buildContainer, findBuilder } from './container.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-container-'));
const { PATH } = process.env;
afterEach(() => {
  process.env.PATH = PATH;
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The only programs in the PATH, by what a shell does in their place. */
function builders(programs: Readonly<Record<string, string>>): void {
  const folder = mkdtempSync(join(scratch, 'bin-'));
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  process.env.PATH = folder;
}
const app = () => ({
  folder: scratch,
  app: 'mine',
  file: join(scratch, 'app.tar'),
  stopped: new AbortController().signal,
});

test('a docker whose daemon does not run is passed over for a buildah, which builds and writes the archive', async () => {
  const asked = join(scratch, 'asked');
  builders({ docker: 'exit 1', buildah: `echo "$@" >> ${asked}` });
  await buildContainer(await findBuilder(), app());
  expect(readFileSync(asked, 'utf8').trim().split('\n')).toEqual([
    'info',
    `build --tag dstack-dev-mine:latest ${scratch}`,
    `push dstack-dev-mine:latest docker-archive:${join(scratch, 'app.tar')}:dstack-dev-mine:latest`,
  ]);
});

test('without any it is said which there may be', async () => {
  builders({});
  await expect(findBuilder()).rejects.toMatchObject({
    code: 'DEV_VM_BUILDER',
    message: expect.stringMatching(/docker, podman, buildah.*--archive/),
  });
});

test("a build that fails has the builder's own words, and leaves no archive of before", async () => {
  mkdirSync(scratch, { recursive: true });
  writeFileSync(join(scratch, 'app.tar'), 'of before');
  builders({ docker: '[ "$1" = info ] || { echo "COPY failed" >&2; exit 1; }' });
  await expect(buildContainer(await findBuilder(), app())).rejects.toMatchObject({
    code: 'DEV_VM_BUILD',
    details: ['COPY failed'],
  });
  expect(() => readFileSync(join(scratch, 'app.tar'))).toThrow('ENOENT');
});
