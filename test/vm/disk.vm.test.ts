/**
 * One boot of the dev flavour, whose root shell shows what other flavours do not: what listens inside, and the data disk under
 * every fault that a host can cause. Judged by what the guest prints.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { daemons, groupOfSocket } from '../../guest/daemons.ts';
import { daemonFiles } from '../../guest/image/daemon-files.ts';
import type { Vm } from '../../host/vm/vm.ts';
import { sockets } from '../../lib/protocol/sockets.ts';
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

/** What the sockets answer besides the replicator's, whose routes guest/daemons.ts names for each asker. */
const routesOf: Record<string, string[]> = {
  [sockets.attestor]: ['GET /v1/firmware-log', 'GET /v1/status', 'POST /v1/joined', 'POST /v1/quote'],
  [sockets.kubernethesForAgent]: ['GET /v1/containers', 'POST /v1/manifest'],
  [sockets.kubernethesForKv]: ['GET /v1/containers'],
  [sockets.kubernethesForSigner]: ['GET /v1/signer', 'POST /v1/signer-secret'],
  [sockets.kubernethesForTls]: ['POST /v1/upstream'],
  [sockets.kubernethesForReplicator]: ['GET /v1/apps'],
  [sockets.agentForKubernethes]: ['POST /v1/app-folder'],
  [sockets.diskStatus]: ['GET /v1/status'],
  [sockets.diskFolders]: ['POST /v1/folder'],
};
/** Those of the website, of the store and of the signer are there once their keys are, which a node that has not joined lacks. */
const afterJoining: readonly string[] = [
  ...[sockets.tlsForFront, sockets.acmeForTls, sockets.front],
  ...[sockets.etcd, sockets.kvForSigner, sockets.signerForReplicator],
];

/** The sockets of a node that has not joined: who may connect, by the table of daemons, and what each answers. */
function documented(): Record<string, { mode: string; routes: string[] }> {
  const groups = daemonFiles(daemons).get('etc/group')!;
  const gidOf = (name: string) => new RegExp(`^${name}:x:(\\d+):`, 'm').exec(groups)![1];
  const modeOf = (server: string, path: string, asker: string) => {
    if (asker === 'everyone') return '666 0';
    const group = groupOfSocket(path);
    return group === undefined ? `600 ${gidOf(`dstack-${server}`)}` : `660 ${gidOf(group)}`;
  };
  const served = daemons.flatMap(({ name, serves }) =>
    serves
      .filter(({ path }) => !afterJoining.includes(path))
      .map(({ path, asker }) => {
        const keys = daemons.find((daemon) => daemon.name === asker)?.keys ?? [];
        const routes = name === 'replicator' ? [...keys].sort() : routesOf[path]!;
        return [`/run/dstack/${path}`, { mode: modeOf(name, path, asker), routes }] as const;
      }),
  );
  return Object.fromEntries(served);
}

test('no daemon listens anywhere, or answers anything, beyond what is documented', () => {
  const { ports, sockets: found } = cases.get('surface') as {
    ports: string[];
    sockets: Record<string, { mode: string; routes: string[] }>;
  };
  const ours = Object.entries(found).filter(([path]) => path.startsWith('/run/dstack/'));
  const sorted = ours.map(([path, { mode, routes }]) => [path, { mode, routes: [...routes].sort() }]);
  expect(Object.fromEntries(sorted)).toEqual(documented());
  // The replicator's port, and the agent's at the bridges' gateways alone; the website's comes with its key, after joining. The packet filter lets the world
  // reach 443, 8080, 8443 and 7600 alone.
  expect(ports.filter((port) => port.startsWith('tcp'))).toEqual(['tcp *:7600', 'tcp 10.90.*.1:80']);
  const others = Object.keys(found).filter((path) => !path.startsWith('/run/dstack/'));
  expect(others.filter((path) => !/^\/run\/(systemd\/|podman\/podman\.sock$)/.test(path))).toEqual([]);
});
