/**
 * One boot of the dev flavour, whose root shell shows what other flavours do not: what listens inside, and the data disk under
 * every fault that a host can cause. Judged by what the guest prints.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { daemons } from '../../guest/daemons.ts';
import { daemonFiles } from '../../guest/image/daemon-files.ts';
import type { Vm } from '../../host/vm/vm.ts';
import { casesOf, guestPrograms, inShell, startDevVm } from './dev-vm.ts';

const directory = mkdtempSync(join(tmpdir(), 'dstack-disk-'));
let vm: Vm | undefined;
let cases: Map<string, Record<string, unknown>>;

beforeAll(async () => {
  await guestPrograms(directory, 'surface', 'disk-faults');
  vm = await startDevVm(directory);
  const ended = (output: string) => output.includes('\n{"case":"end"}');
  // Once the daemons are there, and before the disk keeps the machine busy.
  const ready =
    'until [ -S /run/dstack/kubernethes/tls.sock ] && [ -S /run/dstack/disk/status.sock ]; do sleep 1; done';
  const surface = await inShell(vm, `${ready}; node /mnt/host_volume/surface.mjs`, ended, 200_000);
  const faults = await inShell(vm, 'modprobe loop; node /mnt/host_volume/disk-faults.mjs', ended, 400_000);
  cases = new Map([...casesOf(surface), ...casesOf(faults)]);
}, 750_000);

afterAll(async () => {
  await vm?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test.each<[string, Record<string, unknown>]>([
  ['blank, no create', { state: 'failed', code: 'DISK_NO_SUPERBLOCK' }],
  ['blank, create', { state: 'ready' }],
  ['opened again', { state: 'ready', whole: true }],
  ['create on a disk that is ours', { state: 'ready', whole: true }],
  ["another network's", { state: 'failed', code: 'DISK_UNAUTHENTIC', untouched: true }],
  ["another network's, create", { state: 'failed', code: 'DISK_UNAUTHENTIC', untouched: true }],
  ['superblock, byte 20', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock, byte 44', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock, byte 5000', { state: 'failed', code: 'DISK_UNAUTHENTIC' }],
  ['superblock zeroed', { state: 'failed', code: 'DISK_NO_SUPERBLOCK' }],
  ['superblock zeroed: the rest', { untouched: true }],
  ['another kind of disk, create', { state: 'failed', code: 'DISK_NO_SUPERBLOCK', untouched: true }],
  ['superblock put back', { state: 'ready', whole: true }],
  ['bits put back', { state: 'ready', whole: true }],
  ['full', { full: 'ENOSPC', whole: true }],
  ["swapped with another node's", { state: 'ready', whole: true, differs: true }],
])('%s', (name, expected) => {
  expect(cases.get(name)).toMatchObject(expected);
});

test('bits flipped all over: an error, never other text', () => {
  const found = cases.get('bits flipped all over');
  expect(found?.flips).toBeGreaterThan(1000);
  expect(['EIO', 'EILSEQ', 'EBADMSG', 'EUCLEAN', 'ENOENT', 'DISK_COMMAND']).toContain(found?.read);
});

// The limit that docs/threat-model.md names: blocks are authentic, but their age is not checked.
test('an old state of the whole disk is not noticed', () => {
  expect(cases.get('an old state of the disk put back')).toMatchObject({ state: 'ready', whole: true });
});

/** lib/protocol/sockets.ts, and the attestor's own `joined`, which only the replicator's group reaches. */
const documented: Record<string, { mode: string; routes: string[] }> = {
  'attestor/attestor.sock': {
    mode: '660 dstack-attestor-replicator',
    routes: ['GET /v1/firmware-log', 'GET /v1/status', 'POST /v1/joined', 'POST /v1/quote'],
  },
  'replicator/tls.sock': {
    mode: '660 dstack-replicator-tls',
    routes: ['GET /v1/tls-key', 'POST /v1/site-evidence'],
  },
  'replicator/disk.sock': { mode: '600 dstack-replicator', routes: ['POST /v1/disk-key'] },
  'replicator/agent.sock': {
    mode: '660 dstack-replicator-agent',
    routes: [
      'GET /v1/info',
      'GET /v1/machine',
      'GET /v1/status',
      'POST /v1/app-authority',
      'POST /v1/app-certificate',
      'POST /v1/app-key',
      'POST /v1/app-quote',
      'POST /v1/app-signature',
      'POST /v1/attest',
      'POST /v1/raw-quote',
    ],
  },
  'replicator/kubernethes.sock': { mode: '660 dstack-replicator-kubernethes', routes: ['GET /v1/status'] },
  'kubernethes/agent.sock': {
    mode: '660 dstack-kubernethes-agent',
    routes: ['GET /v1/containers', 'POST /v1/manifest'],
  },
  'agent/kubernethes.sock': { mode: '660 dstack-agent-kubernethes', routes: ['POST /v1/app-folder'] },
  'kubernethes/tls.sock': { mode: '660 dstack-kubernethes-tls', routes: ['POST /v1/upstream'] },
  'disk/folders.sock': { mode: '660 dstack-disk-kubernethes', routes: ['POST /v1/folder'] },
  'disk/status.sock': { mode: '666 root', routes: ['GET /v1/status'] },
};

test('no daemon listens anywhere, or answers anything, beyond what is documented', () => {
  const groups = daemonFiles(daemons).get('etc/group')!;
  const gidOf = (name: string) => new RegExp(`^${name}:x:(\\d+):`, 'm').exec(groups)![1];
  const { ports, sockets } = cases.get('surface') as {
    ports: string[];
    sockets: Record<string, { mode: string; routes: string[] }>;
  };
  const ours = Object.entries(sockets).filter(([path]) => path.startsWith('/run/dstack/'));
  const expected = Object.entries(documented).map(([path, { mode, routes }]) => {
    const [bits, group] = mode.split(' ') as [string, string];
    return [`/run/dstack/${path}`, { mode: `${bits} ${gidOf(group)}`, routes }] as const;
  });
  const sorted = Object.fromEntries(
    ours.map(([path, { mode, routes }]) => [path, { mode, routes: [...routes].sort() }]),
  );
  expect(sorted).toEqual(Object.fromEntries(expected));
  // The replicator's port, and the agent's at the bridges' gateways alone; the website's comes with its key, after joining. The packet filter lets the world
  // reach 443, 8080, 8443 and 7600 alone.
  expect(ports.filter((port) => port.startsWith('tcp'))).toEqual(['tcp *:7600', 'tcp 10.90.*.1:80']);
  const others = Object.keys(sockets).filter((path) => !path.startsWith('/run/dstack/'));
  expect(others.filter((path) => !/^\/run\/(systemd\/|podman\/podman\.sock$)/.test(path))).toEqual([]);
});
