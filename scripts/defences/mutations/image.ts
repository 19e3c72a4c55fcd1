/** The image: what a host's network can make of its routes, and what an image is made from. */
import { type Mutation, one } from '../mutation.ts';

const lease = 'test/hostile-lease.test.ts';
const NETWORK = 'guest/image/rootfs/etc/systemd/network/10-host.network';
const FILTER = 'guest/image/rootfs/etc/dstack/firewall.nft';
const SIGNED = 'guest/image/signed-file.ts';
const INIT = 'guest/image/initramfs/init';
const RELEASE = 'cli/release/verify.ts';
const release = 'cli/release/release.test.ts';

export const imageRules: readonly Mutation[] = [
  one(
    'image',
    "the refusal of a lease's routes",
    [NETWORK, 'UseRoutes=no', 'UseRoutes=yes'],
    [lease, 'with classless routes: '],
  ),
  one(
    'image',
    "the refusal of routes to a lease's DNS servers",
    [NETWORK, 'RoutesToDNS=no', 'RoutesToDNS=yes'],
    [lease, 'with DNS servers that are apps'],
  ),
  one(
    'image',
    "the place of a lease's routes after the bridges'",
    [NETWORK, 'RouteTable=default', 'RouteTable=main'],
    [lease, 'that names a gateway that is the app'],
  ),
  one(
    'image',
    "the refusal of a lease's MTU",
    [NETWORK, 'UseMTU=no', 'UseMTU=yes'],
    [lease, 'with a tiny MTU'],
  ),
  one(
    'image',
    "the filter on what leaves for an app's address",
    [FILTER, '    oifname "eth0" ip daddr @inside drop\n', ''],
    [lease, "the filter lets no packet to an app's address out"],
  ),
  one(
    'image',
    "the filter on what leaves with an app's address",
    [FILTER, '    oifname "eth0" ip saddr @inside drop\n', ''],
    [lease, 'the filter lets none out'],
  ),
  one(
    'image',
    "the filter on what arrives for an app's address",
    [FILTER, '    iifname "eth0" ip daddr @inside drop\n', ''],
    [lease, 'the filter lets none in'],
  ),
  one(
    'image',
    "the filter on what arrives from an app's address",
    [FILTER, '    iifname "eth0" ip saddr @inside drop\n', ''],
    [lease, 'the filter lets none in'],
  ),
  one(
    'image',
    'the filter on what the node itself says to apps',
    [FILTER, '    oifname "dstack*" meta skuid != { 803, 804 } drop\n', ''],
    [lease, 'only who proxies to apps'],
  ),
  one(
    'image',
    "the silence about bridges' addresses",
    [INIT, '  echo 1 >/proc/sys/net/ipv4/conf/$card/arp_ignore\n', ''],
    [lease, 'the card answers no ARP'],
  ),

  one(
    'image',
    'the look for GOODSIG beside VALIDSIG',
    [
      SIGNED,
      "if (good.length !== 1 || valid.length !== 1 || SPOILED.test(said)) return [];\n    const [, id = '', name = ''] = good[0]!;",
      "if (valid.length !== 1) return [];\n    const [, id = '', name = ''] = good[0] ?? [];",
    ],
    ['guest/image/signed-file.test.ts', 'does not count by|names none for'],
  ),
  one(
    'image',
    'the refusal of hashes that can be forged',
    [
      SIGNED,
      'if (!key.endsWith(id) || !STRONG_HASHES.has(Number(hash))) return [];',
      'if (!key.endsWith(id)) return [];',
    ],
    ['guest/image/signed-file.test.ts', 'names none for SHA-1'],
  ),
  one(
    'image',
    'the refusal of an expired index',
    ['guest/image/lock.ts', '    if (!sources.dated) requireCurrent(release);\n', ''],
    ['guest/image/lock-update.test.ts', 'refuses an index that has expired'],
  ),
  one(
    'image',
    "apt's sandbox",
    [
      'guest/image/download.ts',
      "run(aptHelper, ['download-file',",
      "run(aptHelper, ['-o', 'APT::Sandbox::User=root', 'download-file',",
    ],
    ['guest/image/lock-update.test.ts', "is made by apt's own user"],
  ),
  one(
    'image',
    'the refusal of encoded paths in the lock',
    ['guest/image/packages.ts', '|%2b|%7e|%3a)+', '|%)+'],
    ['guest/image/packages.test.ts', 'refuses a path with'],
  ),
  one(
    'image',
    'the masking of setuid bits',
    [
      'guest/image/unpacked-root.ts',
      'if ((mode & SET_ID) !== 0) await chmod(path, mode & 0o7777 & ~SET_ID);',
      '',
    ],
    ['guest/image/unpacked-root.test.ts', 'gives nobody rights'],
  ),
  one(
    'image',
    'the pin of Node',
    [
      'guest/image/node-binary.ts',
      '  if (found === sha256) return;\n',
      "  if (found !== 'missing') return;\n",
    ],
    ['guest/image/node-binary.test.ts', 'is refused when it is another'],
  ),
  one(
    'image',
    "the refusal of what follows an initramfs's archive",
    ['guest/image/cpio.ts', 'if (end === archive.length) return', 'if (end <= archive.length) return'],
    ['guest/image/difference.test.ts', 'is refused when anything follows'],
  ),
  one(
    'image',
    "the refusal of what follows an initramfs's frame",
    [
      'guest/image/contents.ts',
      'if (zstdFrameBytes(packed) !== packed.length) {',
      'if (zstdFrameBytes(packed) < 0) {',
    ],
    ['guest/image/difference.test.ts', 'is refused when anything follows'],
  ),
  one(
    'image',
    'the comparison of capabilities',
    ['guest/image/difference.ts', '    x.attributes === y.attributes &&\n', ''],
    ['guest/image/difference.test.ts', "differ in a file's owner"],
  ),
  one(
    'image',
    "the signature of a release's sums",
    [RELEASE, '  if (publicKey !== undefined) await requireSignature(folder, signed, publicKey);\n', ''],
    [release, 'stranger'],
  ),
  one(
    'image',
    "a release's files by their sums",
    [RELEASE, '  await requireSums(folder, sums);\n', ''],
    [release, 'one that nobody signed'],
  ),
  one(
    'image',
    'that image.json of a release is of the files beside it',
    [RELEASE, 'if (sums.get(name) !== sha256)', "if (name === '')"],
    [release, 'an image.json of other files'],
  ),
  one(
    'image',
    "that a release's measurement is computed from its files",
    [
      RELEASE,
      'isComparable ? JSON.stringify(found) !== JSON.stringify(said) : said.flavour !== flavour',
      'said.flavour !== flavour',
    ],
    [release, 'a measurement of another image'],
  ),
  one(
    'image',
    "that a release's bill of materials has the packages of its lock",
    [RELEASE, 'return found?.version === is && ', 'return '],
    [release, 'a bill of materials that names another version'],
  ),
  one(
    'image',
    "that a release's bill of materials has its files as they are",
    [RELEASE, 'if (!take(file, sha256)) refuse', 'if (!named.delete(file) || sha256.length < 64) refuse'],
    [release, 'a bill of materials of other files'],
  ),
  one(
    'image',
    "that a release's bill of materials has nothing twice, of which the last one would count",
    [RELEASE, 'if (named.size !== components.length)', 'if (named.size > components.length)'],
    [release, 'one that has a package twice'],
  ),
  one(
    'image',
    "that a release's bill of materials has nothing that is not in the image",
    [RELEASE, 'if (other !== undefined) refuse', "if (other === '') refuse"],
    [release, 'one that has more than the image'],
  ),
  one(
    'image',
    "that a release's bill of materials is of its version",
    [RELEASE, ' || version !== of.release)', ')'],
    [release, 'one of another version'],
  ),
  one(
    'image',
    'that a file of a release which never ends is not read',
    ['cli/release/sums.ts', 'if (stat.size > most)', 'if (stat.size < 0)'],
    [release, 'a file larger than it may be'],
  ),
];
