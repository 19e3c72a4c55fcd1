/** Points 8, 9, 11 and 12: the image, containers, the disk and the certificate. */
import { type Mutation, one } from '../mutation.ts';

const node = 'test/trust/node.test.ts';
const machine = 'test/trust/machine.test.ts';
const disk = 'test/trust/disk.test.ts';
const DISK = 'guest/disk/disk.ts';
const ACCOUNTS = 'guest/image/daemon-files.ts';
const INIT = 'guest/image/initramfs/init';

export const machineRules: readonly Mutation[] = [
  // 8: the root filesystem was writable and unmeasured; the documented demo had a root password
  one(8, "root's locked password", [ACCOUNTS, ':!*:1::::::', '::1::::::'], [machine, '^8: nobody']),
  one(
    8,
    "root's missing shell",
    [ACCOUNTS, 'root:x:0:0:root:/root:/usr/sbin/nologin', 'root:x:0:0:root:/root:/usr/bin/bash'],
    [machine, '^8: nobody'],
  ),
  one(
    8,
    'the absence of a shell',
    ['guest/image/guest-contents.ts', "  'usr/bin/kmod',\n", "  'usr/bin/kmod',\n  'usr/bin/dash',\n"],
    [machine, '^8: nobody'],
  ),
  one(8, 'the panic on a changed block', [INIT, ' 1 panic_on_corruption"', '"'], [machine, '^8: the root']),
  one(
    8,
    'the read-only mount',
    [INIT, 'erofs -o ro,nodev /dev/dm-0', 'erofs -o nodev /dev/dm-0'],
    [machine, '^8: the root'],
  ),
  one(
    8,
    'the root hash on the command line',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/image/command-line.ts', '    `dstack.roothash=${root.rootHash}`,\n', ''],
    [machine, '^8: the root'],
  ),
  one(
    8,
    'the command line in the measurement',
    ['lib/attestation/simulated/measurement.ts', 'sha384(utf8(boot.commandLine)),', 'sha384(),'],
    [machine, '^8: the root'],
  ),

  // 9: a container archive was trusted by its tag
  one(
    9,
    "the image's digest",
    ['lib/archives/archive.ts', '  assertConfigDigest(config, digest);\n', ''],
    [machine, '^9: an archive'],
  ),
  one(
    9,
    "the layers' digests",
    ['lib/archives/archive.ts', '  if (actual !== digest) {', "  if (actual === '') {"],
    [machine, '^9: an archive'],
  ),
  one(
    9,
    'the look at what the engine took in',
    ['guest/kubernethes/deployment.ts', 'if (!(await engine.hasImage(digest))) {', "if (digest === '') {"],
    [machine, '^9: an engine'],
  ),
  one(
    9,
    'containers by digest',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/kubernethes/podman.ts', 'Image: `sha256:${spec.image}`,', 'Image: spec.name,'],
    [machine, '^9: a container'],
  ),

  // 11: a missing LUKS header meant "format"
  one(
    11,
    'opening a disk of ours when `create` is asked for',
    [DISK, 'const format = isBlank(start) && options.mayCreate;', 'const format = options.mayCreate;'],
    [disk, '^11: a disk of ours'],
  ),
  {
    point: 11,
    removes: 'formatting only what is blank',
    edits: [
      {
        file: DISK,
        find: 'const format = isBlank(start) && options.mayCreate;',
        replace: 'const format = options.mayCreate;',
      },
      { file: DISK, find: 'if (!isBlank(start) || !options.mayCreate)', replace: 'if (!options.mayCreate)' },
    ],
    test: { file: disk, name: '^11: .create. formats' },
  },
  {
    point: 11,
    removes: 'formatting only when told to',
    edits: [
      {
        file: DISK,
        find: 'const format = isBlank(start) && options.mayCreate;',
        replace: 'const format = isBlank(start);',
      },
      { file: DISK, find: 'if (!isBlank(start) || !options.mayCreate)', replace: 'if (!isBlank(start))' },
    ],
    test: { file: disk, name: '^11: a disk without' },
  },
  one(
    11,
    'looking at the whole first MiB',
    [
      'guest/disk/superblock.ts',
      'return start.every((byte) => byte === 0);',
      'return start.subarray(0, 512).every((byte) => byte === 0);',
    ],
    [disk, '^11: .create. formats'],
  ),
  one(
    11,
    "the header's MAC",
    [
      'guest/disk/superblock.ts',
      '!timingSafeEqual(mac(bytes.subarray(0, SUPERBLOCK_BYTES), macKey), bytes.subarray(MAC_AT, HEADER_BYTES))',
      '!timingSafeEqual(macKey, macKey)',
    ],
    [disk, '^11: a (header|disk of another)'],
  ),
  one(
    11,
    "the disk's length",
    [DISK, 'if (superblock.areaSectors > areaSectorsOf(disk.bytes)) {', 'if (superblock.areaSectors < 0) {'],
    [disk, '^11: a disk of another'],
  ),

  // 12: the TLS certificate was any file that the host wrote, forever
  one(
    12,
    "the key from the network's secret",
    [
      'guest/tls/main.ts',
      'privateKey: fromHex(privateKey, 32),',
      "privateKey: new Uint8Array(readFileSync(at('mnt/host_volume/tls.key'))),",
    ],
    [node, '^12: '],
  ),
  one(
    12,
    "the certificate's end",
    ['guest/tls/certificate.ts', 'time(builtAt + TEN_YEARS)', 'time(253_402_300_799)'],
    [node, '^12: '],
  ),
  one(
    12,
    'that all nodes show the same certificate',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text of a source file
    ['guest/tls/certificate.ts', '.update(`${builtAt}`)', '.update(String(Math.random()))'],
    [node, '^12: '],
  ),
];
