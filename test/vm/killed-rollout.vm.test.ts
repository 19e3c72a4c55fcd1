/**
 * By hand, `npm run test:app`: what becomes of rollouts when the supervisor, or the whole VM, is killed while they are under way, with the
 * image's own engine. The image is the dev flavour's, whose shell kills.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Vm } from '../../host/vm/vm.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApps,
  deployNetwork,
  joinSecond,
  packAs,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { repository, stopAll } from '../../scripts/demo/processes.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import { inShell } from './dev-vm.ts';
import { descendants, isQemu } from './host-view/processes.ts';
import { constantLoad, type Load } from './load.ts';

/** Seconds after the receipt of a rollout's transaction; under emulation one takes some ten, from reading it to the end of the old container. */
const SUPERVISOR_KILLED_AT = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 9, 11];
const VM_KILLED_AT = [1, 4, 6, 9];
/** Without a disk: two containers run beside each other. It would write to the folder of its image, which it may not. */
const FIELDS = [
  'update=beside',
  'data=none',
  'memoryMiB=64',
  'health={"http":"/healthz","startSeconds":300}',
];
const OPTIONS = [
  ...['--port', '8080', '--env', 'DATA=/nowhere'],
  ...[...FIELDS, 'api=["info","key","attest"]'].flatMap((field) => ['--set', field]),
];

let network: DemoNetwork;
/** Stays as it is, so that the network's secret does. */
let a: DemoHost;
let b: DemoHost;
/** Of versions 1 and 2. */
let manifests: readonly [string, string];

beforeAll(async () => {
  const archives = await buildApps();
  network = await deployNetwork(join(repository, '.state/killed'));
  // Records carry all that the relays say to each other: B is onboarded by nothing else.
  const shared = { network, gossip: 'records', disk: true, diskMiB: 64, flavour: 'dev' } as const;
  a = new DemoHost({ ...shared, name: 'a', gasKey: relayKeys[0], peers: [] });
  await prepareNetwork(network, a, archives, { flavour: 'dev' });
  await bootstrapFirst(network, a, 'dev');
  b = new DemoHost({ ...shared, name: 'b', gasKey: relayKeys[1], peers: [a.peerAddress] });
  const pack = (version: 1 | 2) => packAs('greeting', network, a, archives[version - 1]!, ...OPTIONS);
  manifests = [await pack(1), await pack(2)];
  await joinSecond(network, a, b);
  expect((await b.relayStatus()).peers).toEqual([
    { peer: expect.stringMatching(/^records:/), reachable: true },
  ]);
  await rollOut(1);
  await b.page('1');
}, 1_800_000);

afterAll(stopAll, 60_000);

const rollOut = (version: 1 | 2) => asOwner(network, 'app', 'rollout', 'greeting', manifests[version - 1]!);
const other = (version: 1 | 2): 1 | 2 => (version === 1 ? 2 : 1);
const versionAfter = (rollouts: number): 1 | 2 => (rollouts % 2 === 0 ? 1 : 2);

test('the supervisor, killed at each step of a rollout: no request fails, and the rollout goes on', {
  timeout: 1_200_000,
}, async () => {
  const load = constantLoad(b.tlsPort, '/version', 2);
  let version = versionAfter(0);
  try {
    await shows(load, version);
    for (const [index, after] of SUPERVISOR_KILLED_AT.entries()) {
      version = other(version);
      await rollOut(version);
      await sleep(after * 1000);
      // Whatever version the containers are of at that moment is what the next run of it finds.
      const line = `systemctl kill -s KILL dstack-kubernethes; podman ps --format '{{.Names}} {{.Status}}'; echo killed-${index}-$((1+1))`;
      const said = await inShell(shellOfB(), line, (output) => output.includes(`killed-${index}-2`), 60_000);
      const containers = said.split(/\r?\n/).filter((text) => / Up /.test(text));
      say(`killed ${after} s after the receipt: ${containers.join(', ') || 'no container runs'}`);
      await shows(load, version);
    }
    const answers = await load.stop();
    const failed = answers.filter((answer) => answer.failed);
    say(`${answers.length} requests, ${failed.length} failed; ${SUPERVISOR_KILLED_AT.length} kills`);
    expect(failed).toEqual([]);
    // Nothing of the runs that were killed is left.
    await oneContainerIsLeft();
  } finally {
    await load.stop();
  }
});

test('the VM, killed at each step of a rollout: the next boot serves what the contract names', {
  timeout: 1_800_000,
}, async () => {
  let version = versionAfter(SUPERVISOR_KILLED_AT.length);
  for (const after of VM_KILLED_AT) {
    version = other(version);
    await rollOut(version);
    await sleep(after * 1000);
    const qemu = descendants().find((one) => isQemu(one) && one.title.includes(b.disk))!;
    process.kill(qemu.pid, 'SIGKILL');
    await b.ended();
    await b.powerOn('join');
    await b.joined();
    const { taken } = await b.page(String(version));
    say(`VM killed ${after} s after the receipt: version ${version} serves ${taken} s after power-on`);
    await oneContainerIsLeft();
  }
});

const shellOfB = () => ({ shellSocket: join(b.folder, 'vm/shell.sock') }) as Vm;

async function oneContainerIsLeft(): Promise<void> {
  const left = await waitFor(
    'the old containers to be gone',
    async () => {
      const listed = await inShell(
        shellOfB(),
        "podman ps -a --format 'name {{.Names}}'; echo listed-$((1+1))",
        (output) => output.includes('listed-2'),
        60_000,
      );
      const names = listed.split(/\r?\n/).filter((text) => text.startsWith('name ') && !text.includes('{{'));
      return names.length === 1 ? names : undefined;
    },
    60,
  );
  expect(left[0]).toContain('greeting');
}

async function shows(load: Load, version: 1 | 2): Promise<void> {
  const from = load.answers.length;
  await waitFor(
    `five answers of version ${version}`,
    async () => {
      const last = load.answers.slice(from).slice(-5);
      return (last.length === 5 && last.every(({ said }) => said === String(version))) || undefined;
    },
    180,
    () => JSON.stringify(load.answers.at(-1)),
  );
}
