/**
 * The guest's network without a guest: the image's own networkd, packet filter and kernel settings in a network namespace, an
 * app behind a bridge in another, and in a third the host, which answers DHCP and owns any address it likes. Needs root
 * and the unpacked Debian of an image build.
 *
 *     app 10.90.0.128 ── dstack0 10.90.0.1 [guest] eth0 ── host0 10.0.2.2 [host]
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { hardwareAddressOf, RESOLVER } from '../../guest/bridges.ts';
import { daemons } from '../../guest/daemons.ts';
import { daemonFiles } from '../../guest/image/daemon-files.ts';
import type { Lease } from './dhcp-server.ts';

const repository = resolve(import.meta.dirname, '../..');
const debian = join(repository, '.cache/debian-root');
const rootfs = join(repository, 'guest/image/rootfs');

/** Why the tests cannot run here; undefined when they can. */
export const missing =
  process.getuid?.() !== 0
    ? 'needs root, for network namespaces'
    : !existsSync(join(debian, 'usr/lib/systemd/systemd-networkd'))
      ? "needs the image's Debian: ./build_vm.sh"
      : undefined;

export const APP = '10.90.0.128';
export const BRIDGE = '10.90.0.1';
export const HOST = '10.0.2.2';
/** An address elsewhere: the host answers for it, as any router could. */
export const WORLD = '9.9.9.7';
/** The port on which everybody says who they are, over TCP and UDP. */
export const PORT = 8080;

type Place = 'guest' | 'host' | 'app' | 'sibling';

/** A route, as `ip -json route` says it. */
export interface Route {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly table?: string;
  readonly type?: string;
}

/** Runs in a chroot of the guest's Debian: /etc is the image's, /run its own. */
const BOOT = `set -e
for link in bin sbin lib lib64; do ln -s usr/$link "$1/$link"; done
mkdir "$1"/usr "$1"/proc "$1"/sys "$1"/dev "$1"/run
mount --rbind "$2" "$1/usr"
# Debian's own .network files are not in the image.
mount -t tmpfs none "$1/usr/lib/systemd/network"
mount -t tmpfs none "$1/run"
mount -t proc none "$1/proc"
mount -t sysfs none "$1/sys"
mount --bind /dev "$1/dev"
mkdir -p "$1/run/systemd" "$1/run/udev/data"
echo I:1 >"$1/run/udev/data/n$(cat /sys/class/net/eth0/ifindex)"
exec chroot "$1" "$3"
`;

const SAY = `
const [who, port, address] = process.argv.slice(1);
require('node:net').createServer((socket) => socket.on('error', () => {}).end(who)).listen(port, '0.0.0.0');
const udp = require('node:dgram').createSocket('udp4');
udp.on('message', (_, { port, address }) => udp.send(who, port, address, () => {}));
udp.on('error', () => {}).bind(port, address, () => console.log('listening'));
`;

/** What answers at each address, or why nothing does: a JSON list. */
const ASK = `
const [patience, questions] = process.argv.slice(1).map((word) => JSON.parse(word));
const ask = ({ kind, address, port, from, fromPort = 0 }) => new Promise((end) => {
  setTimeout(end, patience, 'silence');
  if (kind === 'tcp') {
    require('node:net').connect({ host: address, port, ...(from && { localAddress: from }) })
      .on('data', (said) => end(String(said))).on('error', ({ code }) => end(code));
  } else {
    const udp = require('node:dgram').createSocket('udp4');
    udp.on('message', (said) => end(String(said))).on('error', ({ code }) => end(code));
    udp.bind(fromPort, from, () => udp.send('who?', port, address, (error) => error && end(error.code)));
  }
});
Promise.all(questions.map(ask)).then((said) => { console.log(JSON.stringify(said)); process.exit(); });
`;

export interface Question {
  readonly kind: 'tcp' | 'udp';
  readonly address: string;
  readonly port?: number;
  readonly from?: string;
  /** Of UDP. */
  readonly fromPort?: number;
}

/** How long to wait for an answer that should come, and for one that should not. Short, because everything is local. Milliseconds. */
const PATIENCE = { answer: 60_000, silence: 2_000 };

export class GuestNetwork {
  readonly #names: Readonly<Record<Place, string>>;
  readonly #folder = mkdtempSync(join(tmpdir(), 'dstack-net-'));
  readonly #children: ChildProcess[] = [];
  #told = '';

  constructor() {
    const id = `${process.pid}-${Math.trunc(performance.now())}`;
    this.#names = { guest: `dg${id}`, host: `dh${id}`, app: `da${id}`, sibling: `ds${id}` };
    for (const name of Object.values(this.#names)) ip('netns', 'add', name);
    const { guest, host, app } = this.#names;
    ip('-n', guest, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'host0', 'netns', host);
    ip('-n', guest, 'link', 'add', 'toapp', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', app);
    for (const name of [guest, host, app]) ip('-n', name, 'link', 'set', 'lo', 'up');
    // The host treats every address as its own, and accepts every packet.
    ip('-n', host, 'address', 'add', `${HOST}/24`, 'dev', 'host0');
    ip('-n', host, 'link', 'set', 'host0', 'up');
    ip('-n', host, 'route', 'add', 'default', 'dev', 'host0');
    for (const everything of ['10.90.0.0/16', `${WORLD}/32`]) {
      ip('-n', host, 'route', 'add', 'local', everything, 'dev', 'lo');
    }
    this.run('host', 'sh', '-c', 'for f in /proc/sys/net/ipv4/conf/*/proxy_arp; do echo 1 >$f; done');
    this.run('host', 'sh', '-c', 'for f in /proc/sys/net/ipv4/conf/*/accept_local; do echo 1 >$f; done');
  }

  /** Of its network namespace, for a process of the test's. */
  name(place: Place): string {
    return this.#names[place];
  }

  /** What the initramfs does to the kernel's network settings, and the unit of the packet filter. */
  harden(): void {
    const init = readFileSync(join(repository, 'guest/image/initramfs/init'), 'utf8');
    const settings = init.match(/^for card in .*\n( .*\n)+done$|^echo .*\/proc\/sys\/net\/.*$/gm) ?? [];
    this.run('guest', 'sh', '-c', settings.join('\n'));
    this.nft('guest', readFileSync(join(rootfs, 'etc/dstack/firewall.nft'), 'utf8'));
  }

  /** What podman's netavark sets up for an app: a bridge, an address behind it, forwarding and masquerading. */
  startApp(): void {
    const { guest, app } = this.#names;
    ip('-n', guest, 'link', 'add', 'dstack0', 'type', 'bridge');
    ip('-n', guest, 'address', 'add', `${BRIDGE}/24`, 'dev', 'dstack0');
    ip('-n', guest, 'link', 'set', 'toapp', 'master', 'dstack0');
    for (const link of ['dstack0', 'toapp']) ip('-n', guest, 'link', 'set', link, 'up');
    ip('-n', guest, 'address', 'add', `${RESOLVER}/32`, 'dev', 'lo');
    ip('-n', app, 'link', 'set', 'eth0', 'address', hardwareAddressOf(128));
    ip('-n', app, 'address', 'add', `${APP}/24`, 'dev', 'eth0');
    ip('-n', app, 'link', 'set', 'eth0', 'up');
    ip('-n', app, 'route', 'add', 'default', 'via', BRIDGE);
    this.run('guest', 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
    this.run('guest', 'sh', '-c', 'echo 2 >/proc/sys/net/ipv4/conf/dstack0/rp_filter');
    this.nft(
      'guest',
      `table inet netavark {
        chain postrouting {
          type nat hook postrouting priority srcnat;
          ip saddr 10.90.0.0/24 ip daddr != 10.90.0.0/24 masquerade
        }
      }`,
    );
  }

  /** Another container of the same app, on the same bridge. */
  startSibling(number: number): void {
    const { guest, sibling } = this.#names;
    ip('-n', guest, 'link', 'add', 'tosibling', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', sibling);
    ip('-n', guest, 'link', 'set', 'tosibling', 'master', 'dstack0', 'up');
    ip('-n', sibling, 'link', 'set', 'eth0', 'address', hardwareAddressOf(number), 'up');
    ip('-n', sibling, 'address', 'add', `10.90.0.${number}/24`, 'dev', 'eth0');
    ip('-n', sibling, 'route', 'add', 'default', 'via', BRIDGE);
  }

  async startNetworkd(leases: readonly Lease[]): Promise<void> {
    const server = join(import.meta.dirname, 'dhcp-server.ts');
    await this.#spawn('host', process.execPath, server, HOST, JSON.stringify(leases));
    const root = join(this.#folder, 'root');
    mkdirSync(root);
    cpSync(join(rootfs, 'etc'), join(root, 'etc'), { recursive: true });
    for (const name of ['etc/passwd', 'etc/group']) {
      writeFileSync(join(root, name), daemonFiles(daemons).get(name)!);
    }
    const networkd = '/usr/lib/systemd/systemd-networkd';
    const args = ['-c', BOOT, 'boot', root, join(debian, 'usr'), networkd];
    await this.#spawn('guest', 'unshare', '--mount', 'sh', ...args);
    await this.leaseGiven(1);
  }

  /** Until the `count`th lease was given and networkd has put it to use. */
  async leaseGiven(count: number): Promise<void> {
    await until(`lease ${count}`, () => this.#told.includes(`"given":${count},`));
    const [, address] = new RegExp(`"given":${count},"address":"([^"]*)"`).exec(this.#told)!;
    await until(`the address ${address}`, () => this.addresses('eth0').includes(address!));
    await pause(300);
  }

  /** A server that says who it is, at an address of its own. */
  async answer(place: Place, who: string, port = PORT): Promise<void> {
    // A UDP answer comes from the address that its socket is bound to.
    const udp = place === 'host' ? WORLD : '0.0.0.0';
    await this.#spawn(place, process.execPath, '-e', SAY, who, String(port), udp);
  }

  /** Who answers, or an error's code. `user`: a number, as in /etc/passwd. */
  ask(place: Place, kind: 'tcp' | 'udp', address: string, { port = PORT, user = 0 } = {}): string {
    return this.#ask(place, user, PATIENCE.answer, [{ kind, address, port }])[0]!;
  }

  /** The answer to a question that nobody should answer: `silence`, an error's code, or who did. */
  probe(place: Place, questions: readonly Question[], user = 0): string[] {
    return this.#ask(place, user, PATIENCE.silence, questions);
  }

  addresses(device: string): string[] {
    return this.#links('guest', 'address', device).flatMap(({ addr_info = [] }) =>
      addr_info.map(({ local }) => local),
    );
  }

  mtu(): number {
    return this.#links('guest', 'link', 'eth0')[0]!.mtu;
  }

  /** Routes over the card, without those to the machine's own and to broadcast addresses. */
  routes(): Route[] {
    const all = JSON.parse(
      this.run('guest', 'ip', '-json', 'route', 'show', 'table', 'all', 'dev', 'eth0'),
    ) as Route[];
    return all.filter(({ table }) => table !== 'local');
  }

  /** networkd's own record of the card: what it hands to resolved, and what it has from the lease. */
  record(): Readonly<Record<string, string>> {
    const index = this.run('guest', 'cat', '/sys/class/net/eth0/ifindex').trim();
    const networkd = this.#children.at(-1)!.pid!;
    const file = `/proc/${networkd}/root/run/systemd/netif/links/${index}`;
    return Object.fromEntries(
      readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line.includes('=') && !line.startsWith('#'))
        .map((line) => line.split(/=(.*)/s) as [string, string]),
    );
  }

  /** Packets to or from an app's address that reached the host since the first call. */
  seenByHost(): number {
    return this.#seen('host', 'host0', 'raw');
  }

  /** Those that passed the first chain of the guest's filter, since the first call. */
  seenByGuest(): number {
    return this.#seen('guest', 'eth0', 'mangle');
  }

  /** Packets from this address that passed the first chain of the guest's filter on the app's bridge, since the first call. */
  cameFrom(address: string): number {
    const table = `inet from${address.replaceAll('.', '_')}`;
    if (!this.nft('guest', 'list tables').includes(table)) {
      this.nft(
        'guest',
        `table ${table} {
          counter came {}
          chain arriving {
            type filter hook prerouting priority mangle;
            iifname "dstack0" ip saddr ${address} counter name came
          }
        }`,
      );
    }
    return Number(/packets (\d+)/.exec(this.nft('guest', `list counter ${table} came`))![1]);
  }

  /** The image's own nft, with rules as text. */
  nft(place: Place, rules: string): string {
    return execFileSync(
      'ip',
      ['netns', 'exec', this.#names[place], 'chroot', debian, '/usr/sbin/nft', '-f', '-'],
      { input: `${rules}\n`, encoding: 'utf8', stdio: ['pipe', 'pipe', 'inherit'] },
    );
  }

  run(place: Place, command: string, ...args: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.#names[place], command, ...args], { encoding: 'utf8' });
  }

  async stop(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    for (const name of Object.values(this.#names)) ip('netns', 'delete', name);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #ask(place: Place, user: number, patience: number, questions: readonly Question[]): string[] {
    const as = ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
    const asked = JSON.stringify(questions.map((question) => ({ port: PORT, ...question })));
    const [command = '', ...args] = [...as, process.execPath, '-e', ASK, String(patience), asked];
    return JSON.parse(this.run(place, command, ...args)) as string[];
  }

  #seen(place: Place, device: string, priority: 'raw' | 'mangle'): number {
    const table = 'table inet seen';
    if (!this.nft(place, 'list tables').includes(table)) {
      this.nft(
        place,
        `${table} {
          counter apps {}
          chain arriving {
            type filter hook prerouting priority ${priority};
            iifname "${device}" ip saddr 10.90.0.0/16 counter name apps accept
            iifname "${device}" ip daddr 10.90.0.0/16 counter name apps
          }
        }`,
      );
    }
    return Number(/packets (\d+)/.exec(this.nft(place, 'list counter inet seen apps'))![1]);
  }

  #links(place: Place, object: 'link' | 'address', device: string) {
    return JSON.parse(this.run(place, 'ip', '-json', object, 'show', 'dev', device)) as {
      mtu: number;
      addr_info?: { local: string }[];
    }[];
  }

  async #spawn(place: Place, command: string, ...args: string[]): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.#names[place], command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let said = '';
    child.stdout.on('data', (chunk) => {
      said += chunk;
      this.#told += chunk;
    });
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    if (command === 'unshare') return;
    await until(`${command} ${args[0]} to listen`, () => {
      if (child.exitCode !== null) throw new Error(`it ended: ${said}`);
      return said.includes('listening');
    });
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what: string, holds: () => boolean): Promise<void> {
  const start = performance.now();
  while (!holds()) {
    if (performance.now() - start > 120_000) throw new Error(`waited 120000 ms in vain for ${what}`);
    await pause(50);
  }
}
