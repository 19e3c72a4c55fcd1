/**
 * What the locked roots are made of, before apt has resolved the dependencies. Change a list here, then run
 * `npx dstack image lock --update`: the image's measurement moves with it.
 */

/** A root: a set of packages that is locked, downloaded and unpacked together. */
export type RootName = 'firmware' | 'guest' | 'kernel' | 'tools';

export const rootNames: readonly RootName[] = ['firmware', 'guest', 'kernel', 'tools'];

/** The suites of Debian that the lock is resolved against, with the archive that each is found in. */
export const suites = [
  { suite: 'trixie', archive: 'debian' },
  { suite: 'trixie-updates', archive: 'debian' },
  { suite: 'trixie-backports', archive: 'debian' },
  { suite: 'trixie-security', archive: 'debian-security' },
  { suite: 'forky', archive: 'debian' },
] as const;

/** Unpacked only: the firmware of TDs. Debian 13 has none. Of the later suite only it and `laterTools` are taken. */
export const firmwarePackages = { names: ['ovmf-inteltdx'], suite: 'forky' } as const;

/** Of `toolPackages`, those that are taken from the later suite, without what they depend on there. */
export const laterTools = { names: ['pebble'], suite: 'forky' } as const;

/** Installed with their maintainer scripts by mmdebstrap: what runs inside the VM. Essential packages come on top. */
export const guestPackages: readonly string[] = [
  'systemd',
  'systemd-resolved',
  'udev',
  'kmod',
  'iproute2',
  'nftables',
  'ca-certificates',
  'dmsetup',
  'e2fsprogs',
  'quota',
  'podman',
  'netavark',
  'crun',
  'haproxy',
  'etcd-server',
];

/** Unpacked only, into the initramfs and the root's module folder. The kernel's own packages are found by lock.ts. */
export const bootPackages: readonly string[] = ['busybox-static'];

/** The kernel comes from backports: the first one with RTMR extension is 6.16. */
export const kernelMetapackage = { name: 'linux-image-amd64', suite: 'trixie-backports', flavour: 'amd64' };

/** Unpacked only, and run in place by their own loader: tools of which build hosts have different versions. */
export const toolPackages: readonly string[] = [
  'qemu-system-x86',
  'seabios',
  'erofs-utils',
  'cryptsetup-bin',
  'dmsetup',
  'zstd',
  'xz-utils',
  'kmod',
  'buildah',
  'netavark',
  // The website's front, for tests without a VM; its peer and the load for both, for `npm run bench -- tls`.
  'haproxy',
  'nginx',
  'nghttp2-client',
  // The store's engine, for `npx dstack kv start --dev` and tests without a VM, and the client that people know.
  'etcd-server',
  'etcd-client',
  // A certificate authority for tests; Debian 13's has no dns-persist-01 and no profiles.
  'pebble',
];
