/** An app's enclave as a container's archive, by whichever of the usual builders runs on this machine. */
import { rmSync } from 'node:fs';
import { execa } from 'execa';
import { DstackError } from '../../../lib/protocol/errors.ts';

interface Builder {
  readonly name: string;
  /** Succeeds where the builder can build. */
  readonly probe: readonly string[];
  save(tag: string, file: string): readonly string[];
}

const docker = (name: string): Builder => ({
  name,
  probe: ['info'],
  save: (tag, file) => ['save', '--output', file, tag],
});
const BUILDERS: readonly Builder[] = [
  docker('docker'),
  docker('podman'),
  { name: 'buildah', probe: ['info'], save: (tag, file) => ['push', tag, `docker-archive:${file}:${tag}`] },
];

/** @throws DEV_VM_BUILDER */
export async function findBuilder(): Promise<Builder> {
  for (const builder of BUILDERS) {
    const { failed } = await execa(builder.name, builder.probe, { reject: false, timeout: 30_000 });
    if (!failed) return builder;
  }
  const names = BUILDERS.map(({ name }) => name).join(', ');
  const why = `no container can be built here: of ${names} none is there and runs; start one, or name a built archive with --archive`;
  throw new DstackError('DEV_VM_BUILDER', why);
}

/**
 * @param folder with a Dockerfile
 * @param file where the archive goes
 * @throws DEV_VM_BUILD with the builder's own words
 */
export async function buildContainer(
  builder: Builder,
  { folder, app, file, stopped }: { folder: string; app: string; file: string; stopped: AbortSignal },
): Promise<void> {
  const tag = `dstack-dev-${app}:latest`;
  const build = ['build', '--tag', tag, folder];
  rmSync(file, { force: true });
  for (const args of [build, builder.save(tag, file)]) {
    const { failed, all = '' } = await execa(builder.name, args, {
      reject: false,
      all: true,
      cancelSignal: stopped,
    });
    if (failed)
      throw new DstackError('DEV_VM_BUILD', `${builder.name} ${args[0]} failed; what runs stays as it was`, {
        details: all.split('\n').slice(-40),
      });
  }
}
