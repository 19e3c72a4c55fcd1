/**
 * Which parts of the installed Debian get into the image: an allow-list, so that nothing is there by accident. Libraries follow
 * from the programs. There is no shell, no interpreter but Node, no package manager and no way to log in; the dev
 * flavour adds the programs of `devPrograms`. What a daemon alone needs is in its entry in ../daemons.ts.
 */
import { daemons } from '../daemons.ts';

/** Programs, by path: the system's own, and those that daemons run. */
export const programs: readonly string[] = [
  'usr/lib/systemd/systemd',
  'usr/lib/systemd/systemd-executor',
  'usr/lib/systemd/systemd-networkd',
  'usr/lib/systemd/systemd-resolved',
  'usr/lib/systemd/systemd-shutdown',
  'usr/bin/systemctl',
  'usr/bin/kmod',
  'usr/bin/mount',
  'usr/bin/umount',
  'usr/sbin/nft',
  ...daemons.flatMap((daemon) => daemon.programs),
];

/** Libraries that are loaded with dlopen, so that no program names them. */
export const openedLibraries: readonly string[] = [
  'usr/lib/x86_64-linux-gnu/libkmod.so.2',
  'usr/lib/x86_64-linux-gnu/libmount.so.1',
  'usr/lib/x86_64-linux-gnu/libseccomp.so.2',
  'usr/lib/x86_64-linux-gnu/libblkid.so.1',
  'usr/lib/x86_64-linux-gnu/libcrypt.so.1',
  'usr/lib/x86_64-linux-gnu/libgcc_s.so.1',
];

/** Node is not Debian's; its libraries are. */
export const nodeLibraries: readonly string[] = [
  'usr/lib/x86_64-linux-gnu/libstdc++.so.6',
  'usr/lib/x86_64-linux-gnu/libm.so.6',
  'usr/lib/x86_64-linux-gnu/libdl.so.2',
  'usr/lib/x86_64-linux-gnu/libpthread.so.0',
];

/** Links and data, copied unchanged. */
export const otherFiles: readonly string[] = [
  'bin',
  'sbin',
  'lib',
  'lib64',
  'usr/sbin/modprobe',
  'usr/lib/os-release',
  'etc/os-release',
  'etc/ssl/certs/ca-certificates.crt',
  ...daemons.flatMap((daemon) => daemon.files),
];

/** The units of Debian that are kept. All others, and all generators, are left out: what runs is listed here, in ../daemons.ts or in rootfs/. */
export const units: readonly string[] = [
  'basic.target',
  'final.target',
  'local-fs-pre.target',
  'local-fs.target',
  'network-online.target',
  'network-pre.target',
  'network.target',
  'nss-lookup.target',
  'paths.target',
  'poweroff.target',
  'reboot.target',
  'shutdown.target',
  'slices.target',
  'sockets.target',
  'swap.target',
  'sysinit.target',
  'systemd-networkd.service',
  'systemd-networkd.socket',
  'systemd-poweroff.service',
  'systemd-reboot.service',
  'systemd-resolved.service',
  'timers.target',
  'umount.target',
];

/** In the dev flavour only, for whoever works at its console. */
export const devPrograms: readonly string[] = [
  'usr/bin/bash',
  'usr/bin/cat',
  'usr/bin/chmod',
  'usr/bin/cp',
  'usr/bin/dmesg',
  'usr/bin/env',
  'usr/bin/find',
  'usr/bin/findmnt',
  'usr/bin/grep',
  'usr/bin/head',
  'usr/bin/id',
  'usr/bin/ln',
  'usr/bin/ls',
  'usr/bin/lsblk',
  'usr/bin/mkdir',
  'usr/bin/mv',
  'usr/bin/networkctl',
  'usr/bin/nsenter',
  'usr/bin/readlink',
  'usr/bin/resolvectl',
  'usr/bin/rm',
  'usr/bin/sed',
  'usr/bin/sha256sum',
  'usr/bin/sleep',
  'usr/bin/stat',
  'usr/bin/systemd-analyze',
  'usr/bin/tail',
  'usr/bin/tar',
  'usr/bin/touch',
  'usr/bin/ip',
  'usr/sbin/agetty',
];
