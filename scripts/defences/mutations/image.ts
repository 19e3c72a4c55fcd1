/** The image: what a host's network can make of its routes, and what an image is made from. */
import { type Mutation, one } from '../mutation.ts';

const lease = 'test/hostile-lease.test.ts';
const NETWORK = 'guest/image/rootfs/etc/systemd/network/10-host.network';
const FILTER = 'guest/image/rootfs/etc/dstack/firewall.nft';
const INIT = 'guest/image/initramfs/init';

export const imageRules: readonly Mutation[] = [
  one(
    'image',
    'the refusal of a lease’s routes',
    [NETWORK, 'UseRoutes=no', 'UseRoutes=yes'],
    [lease, 'with classless routes: '],
  ),
  one(
    'image',
    'the refusal of routes to a lease’s DNS servers',
    [NETWORK, 'RoutesToDNS=no', 'RoutesToDNS=yes'],
    [lease, 'with DNS servers that are apps'],
  ),
  one(
    'image',
    'the place of a lease’s routes after the bridges’',
    [NETWORK, 'RouteTable=default', 'RouteTable=main'],
    [lease, 'that names a gateway that is the app'],
  ),
  one(
    'image',
    'the refusal of a lease’s MTU',
    [NETWORK, 'UseMTU=no', 'UseMTU=yes'],
    [lease, 'with a tiny MTU'],
  ),
  one(
    'image',
    'the filter on what leaves for an app’s address',
    [FILTER, '    oifname "eth0" ip daddr @inside drop\n', ''],
    [lease, 'the filter lets no packet to an app’s address out'],
  ),
  one(
    'image',
    'the filter on what leaves with an app’s address',
    [FILTER, '    oifname "eth0" ip saddr @inside drop\n', ''],
    [lease, 'the filter lets none out'],
  ),
  one(
    'image',
    'the filter on what arrives for an app’s address',
    [FILTER, '    iifname "eth0" ip daddr @inside drop\n', ''],
    [lease, 'the filter lets none in'],
  ),
  one(
    'image',
    'the filter on what arrives from an app’s address',
    [FILTER, '    iifname "eth0" ip saddr @inside drop\n', ''],
    [lease, 'the filter lets none in'],
  ),
  one(
    'image',
    'the filter on what the node itself says to apps',
    [FILTER, '    oifname "dstack*" meta skuid != { 802, 803 } drop\n', ''],
    [lease, 'only who proxies to apps'],
  ),
  one(
    'image',
    'the silence about bridges’ addresses',
    [INIT, '  echo 1 >/proc/sys/net/ipv4/conf/$card/arp_ignore\n', ''],
    [lease, 'the card answers no ARP'],
  ),
];
