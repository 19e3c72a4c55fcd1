/**
 * What a container may reach and as whom it may speak: the image's own packet filter and kernel settings, in network namespaces. The
 * container is root in its own and has every right there, as if nothing else held it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hardwareAddressOf, NUMBERS, RESOLVER } from '../guest/bridges.ts';
import {
  APP,
  BRIDGE,
  GuestNetwork,
  HOST,
  missing,
  PORT,
  type Question,
  WORLD,
} from './support/guest-network.ts';

const NODE = '10.0.2.15';
/** The host answers at all of them. */
const CLOSED = [
  HOST,
  '10.0.2.3',
  '10.1.2.3',
  '100.64.0.1',
  '100.100.100.200',
  '168.63.129.16',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.254',
  '192.0.0.192',
  '192.168.1.1',
  '198.18.0.1',
  '203.0.113.9',
];
/** As many as the filter lets an app have. */
const FLOWS = 2048;
/** One datagram to each of so many ports. */
const FLOOD = `
const [address, count] = process.argv.slice(1);
const udp = require('node:dgram').createSocket('udp4').on('error', () => {});
let sent = 0;
for (let port = 10_000; port < 10_000 + Number(count); port += 1)
  udp.send('x', port, address, () => { sent += 1; if (sent === Number(count)) process.exit(); });
`;
/** One datagram to each address of the bridge. */
const NEIGHBOURS = `
const udp = require('node:dgram').createSocket('udp4').on('error', () => {});
let sent = 0;
for (let number = 2; number < 255; number += 1)
  udp.send('x', 9, '10.90.0.' + number, () => { sent += 1; if (sent === 253) process.exit(); });
`;
/** Which of them ask at once. */
const ASKING = 256;
const OUT = [WORLD, '1.1.1.7', '172.32.0.1', '192.169.0.1'];

describe.skipIf(missing !== undefined)(`a container${missing === undefined ? '' : ` (${missing})`}`, () => {
  let net: GuestNetwork;

  beforeAll(async () => {
    net = new GuestNetwork();
    net.harden();
    net.startApp();
    net.startSibling(65);
    net.run('guest', 'ip', 'address', 'add', `${NODE}/24`, 'dev', 'eth0');
    net.run('guest', 'ip', 'link', 'set', 'eth0', 'up');
    net.run('guest', 'ip', 'route', 'add', 'default', 'via', HOST);
    for (const address of [...CLOSED, ...OUT].filter((one) => one !== HOST && one !== WORLD))
      net.run('host', 'ip', 'route', 'add', 'local', `${address}/32`, 'dev', 'lo');
    await net.answer('host', 'host');
    await net.answer('app', 'app');
    await net.answer('sibling', 'sibling');
    for (const port of [53, 80, 443, 7600, PORT]) await net.answer('guest', `node:${port}`, port);
  });
  afterAll(() => net?.stop());

  const tcp = (addresses: readonly string[], port = PORT): Question[] =>
    addresses.map((address) => ({ kind: 'tcp', address, port }));
  /** Who has answered. */
  const answers = (from: 'app' | 'sibling', questions: readonly Question[]): string[] =>
    net.probe(from, questions).filter((said) => /^(host|app|sibling|node)/.test(said));

  test('that reaches out gets to public addresses, its agent and the resolver', () => {
    expect(answers('app', tcp(OUT))).toEqual(OUT.map(() => 'host'));
    expect(net.ask('app', 'udp', WORLD)).toBe('host');
    expect(net.ask('app', 'tcp', BRIDGE, { port: 80 })).toBe('node:80');
    expect(net.ask('app', 'tcp', RESOLVER, { port: 53 })).toBe('node:53');
    expect(net.ask('app', 'tcp', '10.90.0.65')).toBe('sibling');
  });

  test("never to the host's side, to private or reserved addresses, or to the node", () => {
    expect(answers('app', tcp(CLOSED))).toEqual([]);
    expect(answers('app', tcp(CLOSED, 53))).toEqual([]);
    for (const port of [53, 443, 7600, PORT]) expect(answers('app', tcp([BRIDGE, NODE], port))).toEqual([]);
    for (const port of [80, 443, 7600]) expect(answers('app', tcp([NODE, RESOLVER], port))).toEqual([]);
  });

  test('that reaches nothing gets to its agent and to containers of its app', () => {
    expect(net.ask('sibling', 'tcp', BRIDGE, { port: 80 })).toBe('node:80');
    expect(net.ask('sibling', 'tcp', APP)).toBe('app');
    expect(answers('sibling', tcp([...OUT, ...CLOSED]))).toEqual([]);
    expect(answers('sibling', tcp([RESOLVER, BRIDGE, NODE], 53))).toEqual([]);
    expect(answers('sibling', [{ kind: 'udp', address: WORLD }])).toEqual([]);
  });

  test('cannot speak as another, nor say in ARP that it is', () => {
    const to = { kind: 'tcp', address: BRIDGE, port: 80 } as const;
    expect(net.probe('app', [{ ...to, from: APP }])).toEqual(['node:80']);
    // A number that nobody has, the sibling's, and its own number on a bridge of another app.
    for (const other of ['10.90.0.140', '10.90.1.128']) {
      net.run('app', 'ip', 'address', 'add', `${other}/32`, 'dev', 'eth0');
      expect(net.probe('app', [{ ...to, from: other }]), other).toEqual(['silence']);
    }
    expect(answers('sibling', tcp([APP, '10.90.0.140']))).toEqual(['app']);
    expect(net.run('sibling', 'ip', 'neighbour', 'show', '10.90.0.140')).not.toContain('lladdr');
    // As one that may reach out, by its number or with its hardware address too, when that is not its own.
    net.run('sibling', 'ip', 'address', 'add', '10.90.0.150/32', 'dev', 'eth0');
    expect(answers('sibling', [{ kind: 'udp', address: WORLD, from: '10.90.0.150' }])).toEqual([]);
    expect(answers('sibling', [{ ...to, from: '10.90.0.150' }])).toEqual([]);
    expect(net.run('app', 'cat', '/sys/class/net/eth0/address').trim()).toBe(hardwareAddressOf(128));
  });

  test('has no flow from a port at which visitors come to the node: an answer to it might be a visitor', () => {
    for (const port of [22, 443, 7600, 8443])
      expect(net.probe('app', [{ kind: 'udp', address: WORLD, fromPort: port }]), `${port}`).toEqual([
        'silence',
      ]);
    expect(net.ask('app', 'udp', WORLD)).toBe('host');
  });

  test.each([
    ['that is not its own', '10.90.0.150', 'sibling'],
    ["of another app's bridge", '10.90.1.128', 'app'],
  ] as const)(
    'has no packet from an address %s taken from it, also where it asks for no answer',
    (_, from, place) => {
      net.run(place, 'ip', 'address', 'replace', `${from}/32`, 'dev', 'eth0');
      // It knows where the gateway is, and needs no ARP for it.
      expect(net.ask(place, 'tcp', BRIDGE, { port: 80 })).toBe('node:80');
      expect(net.cameFrom(from)).toBe(0);
      net.probe(place, [{ kind: 'udp', address: WORLD, from }]);
      expect(net.cameFrom(from)).toBe(0);
    },
  );

  test('asks for all addresses of its bridge, which counts for the whole machine: there is room for all that do', () => {
    net.run('app', process.execPath, '-e', NEIGHBOURS);
    const asked = net.run('app', 'ip', 'neighbour', 'show').trim().split('\n').length;
    expect(asked).toBeGreaterThan(200);
    const init = readFileSync(join(import.meta.dirname, '../guest/image/initramfs/init'), 'utf8');
    const [, , , most = '1024'] =
      /^set -- (\d+) (\d+) (\d+)\nfor level in 1 2 3; do\n.*neigh\/default\/gc_thresh\$level"$/m.exec(init) ??
      [];
    expect(asked * ASKING).toBeLessThanOrEqual(Number(most));
  });

  // At the end: it has its share until the kernel forgets.
  test('has a share of what the kernel remembers of connections, and a flood of them takes no more', () => {
    const known = () => Number(net.run('guest', 'cat', '/proc/sys/net/netfilter/nf_conntrack_count'));
    const before = known();
    net.run('app', process.execPath, '-e', FLOOD, WORLD, '5000');
    expect(known() - before).toBeLessThanOrEqual(FLOWS);
    expect(known() - before).toBeGreaterThan(FLOWS / 2);
    // Nor of its agent, until some are forgotten; the others notice nothing.
    expect(net.ask('app', 'tcp', BRIDGE, { port: 80 })).toBe('EHOSTUNREACH');
    expect(net.ask('guest', 'tcp', WORLD)).toBe('host');
  });
});

test('the image knows by its address what a container may reach', () => {
  const read = (path: string) => readFileSync(join(import.meta.dirname, '../guest/image', path), 'utf8');
  const filter = read('rootfs/etc/dstack/firewall.nft');
  for (const { first, count } of Object.values(NUMBERS)) {
    // One comparison of two bits tells them apart.
    expect([first % count, count]).toEqual([0, 64]);
    for (let number = first; number < first + count; number += 1) {
      expect(filter).toContain(`${hardwareAddressOf(number)} . 0x${number.toString(16)}`);
    }
  }
  const pairs = filter.match(/:[0-9a-f]{2} \. 0x/g) ?? [];
  expect(pairs).toHaveLength(NUMBERS.none.count + NUMBERS.internet.count);
  const out = `ip saddr & 0.0.0.192 == 0.0.0.${NUMBERS.internet.first}`;
  expect(filter.split(out)).toHaveLength(3);
  expect(filter).toContain(`${out} ip daddr ${RESOLVER} `);
  expect(read('rootfs/etc/systemd/resolved.conf')).toContain(`DNSStubListenerExtra=${RESOLVER}\n`);
  expect(read('initramfs/init')).toContain(`ip address add ${RESOLVER}/32 dev lo`);
});
