/**
 * Runs buildah from the tool root in a root of its own, thrown away afterwards: needs root, no container engine on the
 * machine, and no network. The tool root itself is only read.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defaultToolRoot } from '../lib/daemon/tool-root.ts';

/** One buildah command; returns what it prints. `/work` is the caller's directory. */
export type Buildah = (...args: string[]) => string;

/** @param work a directory that buildah sees as /work */
export function withBuildah<T>(work: string, use: (buildah: Buildah) => T): T {
  const root = layBuildahRoot();
  try {
    return use((...args) => inBuildahRoot(root, work, args));
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** A root for `inBuildahRoot`, which keeps its images; for the caller to remove. */
export function layBuildahRoot(): string {
  const root = mkdtempSync(join(tmpdir(), 'dstack-buildah-'));
  lay(root);
  return root;
}

function lay(root: string): void {
  for (const folder of [
    'usr',
    'proc',
    'dev',
    'tmp',
    'var/tmp',
    'run',
    'work',
    'etc/containers',
    'etc/helpers',
  ]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
  cpSync(join(defaultToolRoot(), 'etc'), join(root, 'etc'), { recursive: true, verbatimSymlinks: true });
  const put = (path: string, text: string, mode = 0o644) =>
    writeFileSync(join(root, 'etc', path), text, { mode });
  put('passwd', 'root:x:0:0::/tmp:\n');
  put('group', 'root:x:0:\n');
  put(
    'containers/policy.json',
    '{"default":[{"type":"reject"}],"transports":{"containers-storage":{"":[{"type":"insecureAcceptAnything"}]}}}',
  );
  // buildah looks for a network helper even where nothing is ever run; this one would fail if it were.
  put('containers/containers.conf', '[engine]\nhelper_binaries_dir=["/etc/helpers"]\n');
  put('helpers/netavark', '', 0o755);
}

/**
 * One command, in the folder `work`. The mounts live in a namespace of their own, and are taken away before it ends too: where this
 * machine is itself a chroot, its root is no mount point and can't be made private. Buildah needs its own to be one before it unpacks
 * a layer. Paths are arguments, never script text.
 */
export function inBuildahRoot(root: string, work: string, args: readonly string[]): string {
  const script = `set -eu
    root=$1 tools=$2 work=$3; shift 3
    if mountpoint -q /; then mount --make-rprivate /; fi
    trap 'for at in work dev proc usr .; do umount -l "$root/$at" 2>/dev/null || true; done' EXIT
    mount --bind "$root" "$root"
    mount --bind "$tools/usr" "$root/usr"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount --bind "$work" "$root/work"
    unshare --root="$root" --wd=/work /usr/bin/buildah --storage-driver vfs --root /var/tmp/storage --runroot /run/storage "$@"`;
  return execFileSync(
    'unshare',
    [
      '--mount',
      '--propagation',
      'unchanged',
      'sh',
      '-c',
      script,
      'sh',
      root,
      defaultToolRoot(),
      work,
      ...args,
    ],
    {
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/tmp', BUILDAH_ISOLATION: 'chroot' },
    },
  ).trim();
}
