/**
 * How a host's DHCP server, or a host that sends arbitrary packets, can influence where packets go: the image's own networkd,
 * packet filter and kernel settings, in network namespaces. An app's packets stay inside, whatever a lease says.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { daemons } from '../guest/daemons.ts';
import { ipv4Hex, type Lease, routeHex } from './support/dhcp-server.ts';
import { APP, BRIDGE, GuestNetwork, HOST, missing, WORLD } from './support/guest-network.ts';

const [ROUTER, DNS, DOMAIN, MTU, ROUTES_1985, NTP, HOSTNAME] = [3, 6, 15, 26, 33, 42, 12];
const [V6_ONLY, PORTAL, SEARCH, SIP, CLASSLESS, CLASSLESS_MS, DNR, RD6] = [
  108, 114, 119, 120, 121, 249, 162, 212,
];
/** The users of those who speak to apps. */
const TO_APPS = ['front', 'kubernethes'].map((name) => daemons.find((daemon) => daemon.name === name)!.id);
const PROXY = TO_APPS[0]!;
const ADDRESS = '10.0.2.15';
const text = (value: string): string => Buffer.from(value).toString('hex');

const plain: Lease = {
  address: ADDRESS,
  prefix: 24,
  seconds: 3600,
  options: { [ROUTER!]: ipv4Hex(HOST), [DNS!]: ipv4Hex('10.0.2.3') },
};
const lease = (options: Lease['options'], rest: Partial<Lease> = {}): Lease => ({
  ...plain,
  ...rest,
  options: { ...plain.options, ...options },
});

/** The two halves of the address space, and the app itself: more specific than the default route or the bridge's 10.90.0.0/24. */
const nearer =
  routeHex('0.0.0.0', 1, HOST) +
  routeHex('128.0.0.0', 1, HOST) +
  routeHex('10.90.0.128', 25, HOST) +
  routeHex(APP, 32, HOST);

const hostile: readonly [string, Lease][] = [
  ['classless routes', lease({ [CLASSLESS!]: nearer })],
  ['classless routes as Microsoft numbered them', lease({ [CLASSLESS_MS!]: nearer })],
  ['routes of the old kind', lease({ [ROUTES_1985!]: ipv4Hex(APP) + ipv4Hex(HOST) })],
  ['a prefix that covers all bridges', lease({}, { prefix: 8 })],
  ['DNS servers that are apps', lease({ [DNS!]: ipv4Hex(APP) + ipv4Hex('10.90.0.3') })],
  ['time servers that are apps', lease({ [NTP!]: ipv4Hex(APP) })],
  [
    'a name, domains, time, telephones and a portal',
    lease({
      [HOSTNAME!]: text('evil'),
      [DOMAIN!]: text('evil.test'),
      [SEARCH!]: `03${text('www')}04${text('evil')}00`,
      [NTP!]: ipv4Hex(HOST),
      [SIP!]: `01${ipv4Hex(HOST)}`,
      [PORTAL!]: text('http://evil.test/'),
      101: text('Pacific/Kiritimati'),
      [DNR!]: `0018${'0001'}08${`03${text('dot')}00`}`.padEnd(52, '0'),
    }),
  ],
  ['a tiny MTU', lease({ [MTU!]: '0044' })],
  ['a word that IPv6 is all there is', lease({ [V6_ONLY!]: '00000e10' })],
  ['a tunnel for IPv6', lease({ [RD6!]: `1820${'20010db8'.padEnd(32, '0')}${ipv4Hex(HOST)}` })],
];

/** Leases that leave the node without a network: that is all it may lose. */
const useless: readonly [string, Lease][] = [
  ["an app's own network, more narrowly", lease({}, { address: '10.90.0.177', prefix: 25 })],
  ["the app's address", lease({}, { address: APP, prefix: 32 })],
  ["the bridge's address", lease({}, { address: BRIDGE, prefix: 24 })],
  ['a gateway that is the bridge', lease({ [ROUTER!]: ipv4Hex(BRIDGE) })],
  ['a gateway that is the app', lease({ [ROUTER!]: ipv4Hex(APP) })],
];

let net: GuestNetwork;
beforeEach(() => {
  if (missing === undefined) net = new GuestNetwork();
});
afterEach(() => net?.stop());

/** A guest with an app, and a host that answers `host` at every address. */
async function boot(...leases: Lease[]): Promise<void> {
  net.harden();
  net.startApp();
  await net.answer('app', 'app');
  await net.answer('host', 'host');
  net.seenByHost();
  await net.startNetworkd(leases);
}

/** No app address leads to the host: neither the existing one nor one that no bridge has. */
function expectAppsInside(): void {
  const nobody = ['10.90.0.3', '10.90.77.7'];
  const by = (addresses: readonly string[]) =>
    addresses.flatMap((address) => [{ kind: 'tcp', address } as const, { kind: 'udp', address } as const]);
  // The front may speak to nobody else at all; kubernethes reaches the chain.
  for (const user of TO_APPS)
    expect(net.probe('guest', by([APP, ...nobody]), user), `${user}`).not.toContain('host');
  expect(net.probe('app', by(nobody))).not.toContain('host');
  expect(net.seenByHost()).toBe(0);
}

describe.skipIf(missing !== undefined)(`a lease${missing === undefined ? '' : ` (${missing})`}`, () => {
  test('gives an address, a gateway and a DNS server, and both the node and its app reach the world', async () => {
    await boot(plain);
    expect(net.routes().map(({ dst, gateway, table }) => [dst, gateway, table])).toEqual([
      ['default', HOST, 'default'],
      ['10.0.2.0/24', undefined, 'default'],
      [HOST, undefined, 'default'],
    ]);
    expect(net.record().DNS).toBe('10.0.2.3');
    expect(net.ask('guest', 'tcp', WORLD)).toBe('host');
    expect(net.ask('guest', 'udp', WORLD)).toBe('host');
    expect(net.ask('app', 'tcp', WORLD)).toBe('host');
    expect(net.ask('app', 'udp', WORLD)).toBe('host');
    expect(net.ask('guest', 'tcp', APP, { user: PROXY })).toBe('app');
    await net.answer('guest', 'node', 7600);
    expect(net.ask('host', 'tcp', ADDRESS, { port: 7600 })).toBe('node');
    expectAppsInside();
  });

  test.each(hostile)("with %s: no route but the gateway's, and apps stay inside", async (_, given) => {
    await boot(given);
    expect(net.ask('guest', 'tcp', WORLD)).toBe('host');
    expect(net.ask('app', 'tcp', WORLD)).toBe('host');
    expect(net.ask('guest', 'tcp', APP, { user: PROXY })).toBe('app');
    expectAppsInside();
    expect(net.routes().filter(({ table }) => table !== 'default')).toEqual([]);
    expect(net.routes().map(({ dst, gateway }) => [dst, gateway])).toEqual([
      ['default', HOST],
      [given.prefix === 8 ? '10.0.0.0/8' : '10.0.2.0/24', undefined],
      [HOST, undefined],
    ]);
    const { DNS: dns, ...record } = net.record();
    expect(dns?.split(' ')[0]).toBe(given.options[DNS!] === plain.options[DNS!] ? '10.0.2.3' : APP);
    for (const [name, value] of Object.entries(record)) {
      if (/^(NTP|SIP|DOMAINS|ROUTE_DOMAINS|CAPTIVE_PORTAL|DNR)$/.test(name)) expect(value, name).toBe('');
    }
    expect(net.mtu()).toBe(1500);
  });

  test.each(useless)('that names %s costs the network, and apps stay inside', async (_, given) => {
    await boot(given);
    expectAppsInside();
    expect(net.routes().filter(({ table }) => table !== 'default')).toEqual([]);
  });

  test('that changes when it is renewed changes nothing more', { timeout: 300_000 }, async () => {
    const renewed = lease({ [CLASSLESS!]: nearer, [DNS!]: ipv4Hex(APP) }, { prefix: 8, seconds: 3600 });
    await boot({ ...plain, seconds: 8 }, renewed);
    expect(net.ask('guest', 'tcp', APP, { user: PROXY })).toBe('app');
    await net.leaseGiven(2);
    expect(net.routes().map(({ dst, table }) => [dst, table])).toEqual([
      ['default', 'default'],
      ['10.0.0.0/8', 'default'],
      [HOST, 'default'],
    ]);
    expect(net.ask('guest', 'tcp', APP, { user: PROXY })).toBe('app');
    expectAppsInside();
  });
});

describe.skipIf(missing !== undefined)('whatever routes there are', () => {
  /** As if all else had failed: the guest's routes are the host's. */
  async function withRoutes(...routes: string[]): Promise<void> {
    net.startApp();
    await net.answer('host', 'host');
    await net.answer('guest', 'node', 7600);
    net.seenByHost();
    net.run('guest', 'ip', 'address', 'add', `${ADDRESS}/24`, 'dev', 'eth0');
    net.run('guest', 'ip', 'link', 'set', 'eth0', 'up');
    for (const route of routes) net.run('guest', 'ip', 'route', 'add', ...route.split(' '));
    net.harden();
    net.run('guest', 'sh', '-c', 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done');
  }
  const toHost = `via ${HOST} dev eth0`;

  test("the filter lets no packet to an app's address out by the card, of the node's or of an app's", async () => {
    await withRoutes(`default ${toHost}`, `${APP}/32 ${toHost}`, `10.90.77.0/24 ${toHost}`);
    expect(net.ask('guest', 'tcp', WORLD)).toBe('host');
    expectAppsInside();
  });

  test("the filter lets none out that still has an app's address", async () => {
    await withRoutes(`default ${toHost}`);
    expect(net.ask('app', 'udp', WORLD)).toBe('host');
    net.nft('guest', 'flush table inet netavark');
    expect(net.probe('app', [{ kind: 'udp', address: WORLD }])).toEqual(['silence']);
    expect(net.seenByHost()).toBe(0);
  });

  test("the filter lets none in that is to an app's address, or from one", async () => {
    await withRoutes(`default ${toHost}`);
    await net.answer('app', 'app');
    net.run('host', 'ip', 'route', 'del', 'local', '10.90.0.0/16', 'dev', 'lo');
    net.run('host', 'ip', 'route', 'add', '10.90.0.0/16', 'via', ADDRESS, 'dev', 'host0');
    expect(net.ask('host', 'tcp', ADDRESS, { port: 7600 })).toBe('node');
    net.run('host', 'ip', 'address', 'add', '10.90.0.9/32', 'dev', 'lo');
    net.seenByGuest();
    const to = [
      { kind: 'tcp', address: BRIDGE, port: 7600 },
      { kind: 'tcp', address: APP },
    ] as const;
    expect(net.probe('host', to)).toEqual(['silence', 'silence']);
    expect(net.seenByGuest(), "to an app's").toBe(0);
    const from = { kind: 'tcp', address: ADDRESS, port: 7600, from: '10.90.0.9' } as const;
    expect(net.probe('host', [from])).toEqual(['silence']);
    expect(net.seenByGuest(), "from an app's").toBe(0);
  });

  test('only who proxies to apps and looks after them speaks to one', async () => {
    await withRoutes();
    await net.answer('app', 'app');
    for (const user of TO_APPS) expect(net.ask('guest', 'tcp', APP, { user: user! })).toBe('app');
    const others = daemons.map(({ id = 0 }) => id).filter((id) => !TO_APPS.includes(id));
    for (const user of new Set([...others, 791, 792])) {
      const both = [{ kind: 'tcp', address: APP } as const, { kind: 'udp', address: APP } as const];
      expect(net.probe('guest', both, user), `user ${user}`).not.toContain('app');
    }
  });

  test('the signer dials by the card and over TCP, and speaks neither to the node itself nor in another way', async () => {
    await withRoutes(`default ${toHost}`);
    const signer = daemons.find(({ name }) => name === 'signer')!.id!;
    expect(net.ask('guest', 'tcp', WORLD, { user: signer })).toBe('host');
    const others = [
      { kind: 'udp', address: WORLD } as const,
      { kind: 'tcp', address: '127.0.0.1', port: 7600 } as const,
      { kind: 'tcp', address: BRIDGE, port: 7600 } as const,
    ];
    expect(net.probe('guest', others, 0)).toEqual(['host', 'node', 'node']);
    for (const said of net.probe('guest', others, signer)) expect(['host', 'node']).not.toContain(said);
  });

  test("the card answers no ARP for a bridge's address, takes no redirect, and has no IPv6", async () => {
    net.harden();
    await withRoutes(`default ${toHost}`);
    const arp = (address: string): string => {
      net.run('host', 'ip', 'neighbour', 'flush', 'all');
      net.run('host', 'sh', '-c', `ip route replace ${address}/32 dev host0`);
      net.probe('host', [{ kind: 'udp', address, port: 9 }]);
      return net.run('host', 'ip', 'neighbour', 'show', address);
    };
    net.run('host', 'ip', 'route', 'del', 'local', '10.90.0.0/16', 'dev', 'lo');
    expect(arp(ADDRESS)).toMatch(/lladdr/);
    expect(arp(BRIDGE)).not.toMatch(/lladdr/);
    const all = (name: string) =>
      net.run(
        'guest',
        'sh',
        '-c',
        `cd /proc/sys/net/ipv4/conf; cat all/${name} default/${name} eth0/${name}`,
      );
    for (const name of ['accept_redirects', 'secure_redirects', 'send_redirects', 'accept_source_route']) {
      expect(all(name), name).toBe('0\n0\n0\n');
    }
    expect(net.run('guest', 'ip', '-6', 'address', 'show', 'dev', 'eth0')).toBe('');
    expect(net.run('guest', 'cat', '/proc/sys/net/ipv6/conf/eth0/disable_ipv6')).toBe('1\n');
  });
});
