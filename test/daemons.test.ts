/** What follows from the table of daemons, shown by adding one more daemon; and what must agree with the table. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, describe, expect, test } from 'vitest';
import { type Daemon, daemons, groupOfSocket, groupsOf } from '../guest/daemons.ts';
import { daemonFiles } from '../guest/image/daemon-files.ts';
import { bundleDaemons } from '../guest/image/daemons.ts';
import { guestPorts } from '../lib/protocol/ports.ts';
import { sockets } from '../lib/protocol/sockets.ts';

const scratch = mkdtempSync(join(tmpdir(), 'dstack-daemons-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const dummy: Daemon = {
  name: 'dummy',
  does: 'shows what a new daemon needs',
  id: 890,
  starts: 'services',
  after: 'replicator',
  serves: [{ path: 'dummy/agent.sock', asker: 'agent', gid: 891 }],
  listens: [{ port: 2379, from: 'apps' }],
  keys: ['GET /v1/status'],
  programs: ['usr/bin/etcd'],
  files: [],
  leftOut: ['ssh2'],
};
const withDummy = [...daemons, dummy];
const files = daemonFiles(withDummy);
const unitOf = (name: string) => files.get(`usr/lib/systemd/system/dstack-${name}.service`)!.split('\n');

describe('a daemon that is added to the table', () => {
  test('gets an account that nobody can log in to', () => {
    expect(files.get('etc/passwd')).toContain(
      '\ndstack-dummy:x:890:890:shows what a new daemon needs:/:/usr/sbin/nologin\n',
    );
    expect(files.get('etc/shadow')).toContain('\ndstack-dummy:!*:1::::::\n');
    expect(files.get('etc/group')).toContain('\ndstack-dummy:x:890:\n');
  });

  test('shares the group of its socket with the one who asks there, and with nobody else', () => {
    expect(files.get('etc/group')).toContain('\ndstack-dummy-agent:x:891:\n');
    const inGroup = withDummy.filter(({ name }) => groupsOf(name, withDummy).includes('dstack-dummy-agent'));
    expect(inGroup.map(({ name }) => name)).toEqual(['agent', 'dummy']);
    const groups = unitOf('agent').find((line) => line.startsWith('SupplementaryGroups='));
    expect(groups).toBe(
      'SupplementaryGroups=dstack-replicator-agent dstack-agent-kubernethes dstack-kubernethes-agent dstack-dummy-agent',
    );
  });

  test('gets a confined unit that starts with the others', () => {
    const unit = unitOf('dummy');
    for (const line of [
      'After=dstack-replicator.service',
      'ExecStart=/usr/bin/node /usr/lib/dstack/dummy.mjs',
      'User=dstack-dummy',
      'RuntimeDirectory=dstack/dummy',
      'CapabilityBoundingSet=',
      'NoNewPrivileges=yes',
      'ProtectSystem=strict',
      'SystemCallFilter=@system-service',
    ]) {
      expect(unit).toContain(line);
    }
    expect(files.get('usr/lib/systemd/system/dstack-services.target')).toContain(' dstack-dummy.service ');
  });

  test('is bundled without what it leaves out; calling that says so by its code', async () => {
    mkdirSync(join(scratch, 'dummy'));
    writeFileSync(
      join(scratch, 'dummy/main.ts'),
      "import ssh from 'ssh2';\ntry { ssh.Client(); } catch (error) { console.log((error as { code: string }).code); }\n",
    );
    const bundle = (await bundleDaemons([dummy], scratch)).get('dummy.mjs')!;
    const file = join(scratch, 'dummy.mjs');
    writeFileSync(file, bundle);
    expect((await execa(process.execPath, [file])).stdout).toBe('LEFT_OUT');
  });
});

describe('the table', () => {
  test('gives each name, id, socket and port once', () => {
    const ids = daemons.flatMap(({ id, serves }) => [id, ...serves.map(({ gid }) => gid)]).filter(Boolean);
    const ports = daemons.flatMap(({ listens }) => listens.map(({ port }) => port));
    const paths = daemons.flatMap(({ serves }) => serves.map(({ path }) => path));
    const names = daemons.map(({ name }) => name);
    const once = (list: readonly unknown[]) => new Set(list).size === list.length;
    expect([names, ids, ports, paths].map(once)).toEqual([true, true, true, true]);
    expect([...paths].sort()).toEqual([...Object.values(sockets)].sort());
    expect([...ports].sort()).toEqual([...Object.values(guestPorts)].sort());
  });

  test("names as askers daemons that exist, and as users neither the system's ids nor each other's", () => {
    const names = [...daemons.map(({ name }) => name), 'everyone'];
    for (const { asker } of daemons.flatMap(({ serves }) => serves)) expect(names).toContain(asker);
    const lines = daemonFiles(daemons).get('etc/group')!.trim().split('\n');
    expect(new Set(lines.map((line) => line.split(':')[2])).size).toBe(lines.length);
  });

  test('agrees with the packet filter: outside reaches these ports, and apps those', () => {
    const filter = readFileSync(
      join(import.meta.dirname, '../guest/image/rootfs/etc/dstack/firewall.nft'),
      'utf8',
    );
    const open = (interfaces: string) =>
      [...filter.matchAll(/iifname "([^"]+)" .*tcp dport (?:\{([^}]*)\}|(\d+)) .*accept/g)]
        .filter(([, name]) => name === interfaces)
        .flatMap(([, , several, one]) => (several ?? one!).split(',').map(Number));
    const listened = (from: string) =>
      daemons.flatMap(({ listens }) => listens.filter((each) => each.from === from).map(({ port }) => port));
    expect(open('eth0').sort()).toEqual(listened('outside').sort());
    expect(open('dstack*')).toEqual(listened('apps'));
  });

  test("lets kubernethes ask for no key: it is in no group of the agent's and the website's sockets at the replicator", () => {
    const groups = groupsOf('kubernethes');
    expect(groups).not.toContain(groupOfSocket(sockets.replicatorForAgent));
    expect(groups).not.toContain(groupOfSocket(sockets.replicatorForTls));
    expect(daemons.find(({ name }) => name === 'kubernethes')?.keys).toEqual([
      'GET /v1/status',
      'POST /v1/open-secret',
    ]);
  });
});
