/** What must hold for the image whatever is added to it, checked on the lists and unit files that it is made from. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { daemons } from '../daemons.ts';
import { commandLine } from './command-line.ts';
import { daemonFiles, unitName } from './daemon-files.ts';
import { devPrograms, otherFiles, programs, units } from './guest-contents.ts';
import { flavourFile } from './guest-root.ts';

const root = join(import.meta.dirname, '../..');
const rootfs = join(import.meta.dirname, 'rootfs');
const unitFolder = join(rootfs, 'usr/lib/systemd/system');
const made = daemonFiles(daemons);
const read = (path: string) => made.get(path) ?? readFileSync(join(rootfs, path), 'utf8');
const unitOf = (name: string) => read(`usr/lib/systemd/system/${unitName({ name })}`);
const daemonNames = daemons.map(({ name }) => name);
const setting = (unit: string, name: string) =>
  [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map((match) => match[1]);

describe('the image', () => {
  it('has no shell, interpreter, login or package manager outside the dev flavour', () => {
    const forbidden =
      /^(ba|da|z|fi|k)?sh$|^busybox$|^perl|^python|^(a|mini)?getty$|^login$|^su(do)?$|^apt|^dpkg|^sshd?$|^env$|^gdb$/;
    const names = [...programs, ...otherFiles].map((path) => basename(path));
    expect(names.filter((name) => forbidden.test(name))).toEqual([]);
    expect(devPrograms.filter((path) => programs.includes(path))).toEqual([]);
  });

  it('has no unit that gives a console or starts by a timer', () => {
    const own = readdirSync(unitFolder).filter((name) => name.includes('.'));
    const all = [...units, ...own];
    expect(
      all.filter((name) => /getty|rescue|debug-shell|emergency\.service|\.timer$|console/.test(name)),
    ).toEqual([]);
  });

  it('says its flavour in one file, without which the first process goes no further', () => {
    const init = readFileSync(join(import.meta.dirname, 'initramfs/init'), 'utf8');
    const reads = [...init.matchAll(/<\/root\/(usr\/lib\/dstack\/\S+)(.*)$/gm)];
    expect(reads.map(([, path]) => path)).toEqual([flavourFile]);
    expect(reads[0]![2]).toMatch(/ \|\| fail /);
  });

  it('locks every account', () => {
    for (const line of read('etc/shadow').trim().split('\n')) expect(line.split(':')[1]).toBe('!*');
    for (const line of read('etc/passwd').trim().split('\n')) expect(line).toMatch(/:\/usr\/sbin\/nologin$/);
  });

  it('gives each unprivileged daemon a user of its own, with the same id as its group', () => {
    const users = new Map(
      read('etc/passwd')
        .trim()
        .split('\n')
        .map((line) => [line.split(':')[0], line.split(':')[2]]),
    );
    const groups = read('etc/group');
    for (const daemon of daemonNames.filter((name) => name !== 'attestor' && name !== 'disk')) {
      const name = `dstack-${daemon}`;
      expect(setting(unitOf(daemon), 'User')).toEqual([name]);
      expect(groups).toMatch(new RegExp(`^${name}:x:${users.get(name)}:`, 'm'));
    }
    expect(new Set(users.values()).size).toBe(users.size);
  });

  it.each(daemonNames)('hardens %s', (daemon) => {
    const unit = unitOf(daemon);
    expect(setting(unit, 'NoNewPrivileges')).toEqual(['yes']);
    expect(setting(unit, 'LimitCORE')).toEqual(['0']);
    expect(setting(unit, 'LockPersonality')).toEqual(['yes']);
    expect(setting(unit, 'SystemCallArchitectures')).toEqual(['native']);
    expect(setting(unit, 'CapabilityBoundingSet')).toHaveLength(1);
    expect(setting(unit, 'RestrictAddressFamilies')).toHaveLength(1);
    // Only the disk daemon, which mounts for everyone, is in the system's own mount namespace.
    expect(setting(unit, 'ProtectSystem')).toEqual(daemon === 'disk' ? [] : ['strict']);
  });

  it('ends with its replicator, and with an attestor that cannot vouch for it', () => {
    for (const daemon of ['replicator', 'attestor']) {
      expect(setting(unitOf(daemon), 'FailureAction')).toEqual(['poweroff-force']);
      expect(setting(unitOf(daemon), 'SuccessAction')).toEqual(['poweroff-force']);
    }
    expect(setting(unitOf('replicator'), 'Restart')).toEqual(['no']);
    expect(setting(unitOf('replicator'), 'MemorySwapMax')).toEqual(['0']);
  });

  it('has no network before the attestor serves, nor without the packet filter', () => {
    expect(read('usr/lib/systemd/system/dstack-network.path')).toContain(
      'PathExists=/run/dstack/attestor/attestor.sock',
    );
    const network = read('usr/lib/systemd/system/systemd-networkd.service.d/dstack.conf');
    expect(setting(network, 'Requires')).toEqual(['dstack-firewall.service']);
    expect(setting(unitOf('attestor'), 'PrivateNetwork')).toEqual(['yes']);
    expect(read('etc/dstack/firewall.nft')).toMatch(/hook input [^}]*policy drop/);
    expect(read('etc/dstack/firewall.nft')).toMatch(/hook forward [^}]*policy drop/);
  });

  it('lets the signer dial by the card, over TCP, and nothing else: no app, and nothing of the node', () => {
    const id = daemons.find(({ name }) => name === 'signer')!.id;
    const filter = read('etc/dstack/firewall.nft');
    const output = filter.slice(filter.indexOf('hook output'));
    expect(output).toContain(`oifname != "eth0" meta skuid ${id} drop`);
    expect(output).toContain(`meta l4proto != 6 meta skuid ${id} drop`);
    const unit = unitOf('signer');
    expect(setting(unit, 'RestrictAddressFamilies')).toEqual(['AF_UNIX AF_INET']);
    expect(setting(unit, 'InaccessiblePaths')).toEqual(['-/mnt/host_volume -/mnt/encrypted_data']);
    expect(setting(unit, 'CapabilityBoundingSet')).toEqual(['']);
  });

  it('lets the front reach apps and nothing else', () => {
    const id = daemons.find(({ name }) => name === 'front')!.id;
    const filter = read('etc/dstack/firewall.nft');
    expect(filter).toMatch(new RegExp(`oifname != "dstack\\*" oifname != "podman\\*" meta skuid ${id} drop`));
    // Of the others, kubernethes alone may look whether an app is up.
    const kubernethes = daemons.find(({ name }) => name === 'kubernethes')!.id;
    for (const bridge of ['dstack', 'podman']) {
      expect(filter).toContain(`oifname "${bridge}*" meta skuid != { ${kubernethes}, ${id} } drop`);
    }
    const unit = unitOf('front');
    expect(setting(unit, 'InaccessiblePaths')).toEqual([
      '-/mnt/host_volume -/mnt/encrypted_data -/etc/shadow',
    ]);
    expect(setting(unit, 'RestrictAddressFamilies')).toEqual(['AF_UNIX AF_INET']);
    expect(setting(unit, 'CapabilityBoundingSet')).toEqual(['CAP_NET_BIND_SERVICE']);
  });

  it('measures its root hash, and asks for verbose output in the dev flavour only', () => {
    const root = { rootHash: 'ab'.repeat(32), salt: '00'.repeat(32), blocks: 12 };
    for (const flavour of ['production', 'sim', 'dev'] as const) {
      const line = commandLine(flavour, root);
      expect(line).toContain(`dstack.roothash=${root.rootHash} `);
      expect(line.includes(' quiet ')).toBe(flavour !== 'dev');
      expect(line).not.toMatch(/\binit=|rdinit=|debug|systemd\.unit|emergency|single/);
      // The kernel truncates longer ones.
      expect(line.length).toBeLessThan(2048);
    }
  });

  it('evaluates nothing in the initramfs and offers no shell there', () => {
    const init = readFileSync(join(import.meta.dirname, 'initramfs/init'), 'utf8').replaceAll(/^#.*$/gm, '');
    expect(init).not.toMatch(/\beval\b|`|\bsource\b|busybox (ash|sh)\b|setsid|cttyhack/);
    expect(init).toContain('panic_on_corruption');
  });
});

it('nothing that goes into an image looks like the beginning of a private key, in hex or base64', () => {
  const sources = execFileSync('git', ['ls-files', 'guest', 'lib'], { cwd: root, encoding: 'utf8' })
    .split('\n')
    // Those of simulated platforms are everybody's.
    .filter(
      (file) => /(?<!\.test|\.fixture)\.ts$/.test(file) && !file.startsWith('lib/attestation/simulated/'),
    );
  expect(sources.length).toBeGreaterThan(100);
  const looks = sources.filter((file) => /302e0201|MC4CAQ/i.test(readFileSync(join(root, file), 'utf8')));
  expect(looks).toEqual([]);
});
