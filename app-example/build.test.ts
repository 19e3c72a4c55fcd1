/** Both ways to the greeting app's image, with buildah of the tool root: needs root, as building does. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildGreeting } from './build.ts';
import { layContext, OWN_FILES } from './lay-files.ts';
import { withBuildah } from './tool-chroot.ts';

/** Of a `docker save` archive: its layers, and how a container is started from it. */
function imageIn(archive: string): { layers: unknown; start: unknown } {
  const read = (name: string) =>
    JSON.parse(execFileSync('tar', ['-xOf', archive, name], { encoding: 'utf8' }));
  const config = read(read('manifest.json')[0].Config);
  const { Entrypoint, Env } = config.config;
  return { layers: config.rootfs.diff_ids, start: { Entrypoint, Env } };
}

test('the Dockerfile makes the image that the offline build makes: the same layer, bit for bit', () => {
  const work = mkdtempSync(join(tmpdir(), 'dstack-build-'));
  try {
    layContext(join(work, 'context'), OWN_FILES, '3');
    withBuildah(work, (buildah) => {
      buildah('build', '--quiet', '--timestamp', '0', '--tag', 'greeting:3', '/work/context');
      buildah('push', '--quiet', 'greeting:3', 'docker-archive:/work/docker.tar:greeting:3');
    });
    buildGreeting('3', join(work, 'own.tar'), OWN_FILES);
    const own = imageIn(join(work, 'own.tar'));
    expect(own.layers).toHaveLength(1);
    expect(imageIn(join(work, 'docker.tar'))).toEqual(own);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
