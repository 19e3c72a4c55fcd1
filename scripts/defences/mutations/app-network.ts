/** What an app may reach and as whom it may speak: the packet filter, addresses, and the agent's bounds. */
import { type Mutation, one } from '../mutation.ts';

const egress = 'test/app-egress.test.ts';
const agent = 'guest/agent/agent.test.ts';
const FILTER = 'guest/image/rootfs/etc/dstack/firewall.nft';
const OUT = 'ip saddr & 0.0.0.192 == 0.0.0.128 ip daddr';

const SHARE =
  '    iifname "dstack*" add @flows { iif ct count over 2048 } reject with icmpx admin-prohibited\n';

export const appNetworkRules: readonly Mutation[] = [
  one(
    'image',
    "an app's share of the flows that the kernel remembers, to its agent",
    [FILTER, `${SHARE}    # An app: the agent API`, '    # An app: the agent API'],
    [egress, 'has a share of what'],
  ),
  one(
    'image',
    "an app's share of the flows that the kernel remembers, on their way out",
    [FILTER, `${SHARE}    # Masquerading`, '    # Masquerading'],
    [egress, 'has a share of what'],
  ),
  one(
    'image',
    'refusing flows from a port at which visitors come',
    [FILTER, 'th sport { 0-1023, 2381, 7600, 8080, 8443 } reject', 'th sport { 0 } reject'],
    [egress, 'has no flow from a port'],
  ),
  one(
    'image',
    "keeping apps from the host's side and from private addresses",
    [FILTER, ' ip daddr != @closed', ''],
    [egress, "never to the host's side"],
  ),
  one(
    'image',
    'letting out only who may reach out',
    [FILTER, `${OUT} != @closed`, 'ip daddr != @closed'],
    [egress, 'that reaches nothing'],
  ),
  one(
    'image',
    'the resolver answering only who may reach out',
    [FILTER, `${OUT} 10.90.255.53`, 'ip daddr 10.90.255.53'],
    [egress, 'that reaches nothing'],
  ),
  one(
    'image',
    "refusing an address of another app's bridge",
    [FILTER, '    iifname "dstack*" fib saddr . iif oif missing drop\n', ''],
    [egress, "no packet from an address of another app's bridge"],
  ),
  one(
    'image',
    'the address that goes with a hardware address',
    [FILTER, 'ip saddr 10.90.0.0/16 ether saddr . @nh,120,8 @containers accept', 'accept'],
    [egress, 'no packet from an address that is not its own'],
  ),
  one(
    'image',
    'the address that goes with a hardware address, in ARP',
    [
      FILTER,
      ' arp saddr ether . @nh,136,8 @containers ether saddr . @nh,136,8 @containers accept',
      ' accept',
    ],
    [egress, 'cannot speak as another'],
  ),
  one(
    'image',
    'the rest of an address that was given back',
    ['guest/kubernethes/numbers.ts', "since === 'taken' || since > rested", "since === 'taken'"],
    ['guest/kubernethes/numbers.test.ts', 'whoever gets a number'],
  ),
  one(
    'image',
    'the resolver of a container that reaches nothing',
    ['guest/kubernethes/podman.ts', "container.egress === 'internet' ? RESOLVER : '127.0.0.1'", 'RESOLVER'],
    ['guest/kubernethes/podman.test.ts', 'a container that reaches out asks'],
  ),
  one(
    'image',
    "the end of the agent's memory of whose an address is",
    ['guest/callers.ts', 'performance.now() - this.#askedAt < REMEMBERED', 'this.#asking === undefined'],
    [agent, 'what kubernethes said long ago'],
  ),
  one(
    'image',
    "counting the agent's connections by app",
    ['guest/agent/server.ts', '{ ...CONNECTIONS, sourceOf: appOf }', 'CONNECTIONS'],
    [agent, 'has 64 connections'],
  ),
  one(
    'image',
    'the room for neighbours, which all containers share',
    ['guest/image/initramfs/init', 'set -- 8192 32768 65536', 'set -- 128 512 1024'],
    ['test/app-egress.test.ts', 'asks for all addresses of its bridge'],
  ),
  one(
    'image',
    "the loopback of QEMU's own network, from its gateway's address",
    ['host/vm/own-network.ts', "'--no-map-gw',", "'--no-dhcp',"],
    ['host/vm/own-network.test.ts', 'reaches of the loopback outside what is named'],
  ),
];
