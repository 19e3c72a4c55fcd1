/**
 * What an app may reach: a hostile one tries everything that it must not, in two containers, one of which may reach out, while another
 * app, its victim, serves the website. Called by a test that has a node at hand; by itself it boots one:
 *
 *     node test/vm/app-network.ts
 */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApp,
  deployNetwork,
  owner,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { dstack, jsonLines, repository, stopAll } from '../../scripts/demo/processes.ts';
import { fetchPage } from '../../scripts/demo/site.ts';
import { ensure, say, seconds, waitFor } from '../../scripts/demo/steps.ts';
import { havePublicAddress, PUBLIC_ADDRESS } from './public-address.ts';

/** Where the host answers at a public address. */
const OUT = 18_099;
/** What each try must have come to, where it is not `no`. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  attacker: [
    'agent dstack-guest:80',
    `out ${PUBLIC_ADDRESS}:${OUT}`,
    'names resolver',
    'names attacker',
    'names quiet',
  ],
  quiet: ['agent dstack-guest:80', 'names attacker', 'names quiet'],
};

/** @param host whose website shows `version` of the greeting app, the victim */
export async function appNetwork(network: DemoNetwork, host: DemoHost, version: string): Promise<void> {
  const began = performance.now();
  // Whoever gets to the host's loopback is counted here.
  let reached = 0;
  const trap = createServer((socket) => {
    reached += 1;
    socket.on('error', () => {}).end('here');
  });
  trap.listen(0, '127.0.0.1');
  await once(trap, 'listening');
  const leave = await havePublicAddress();
  const world = createServer((socket) => socket.on('error', () => {}).end('here'));
  world.listen(OUT, PUBLIC_ADDRESS);
  await once(world, 'listening');
  try {
    const tries = await triesOf(network, host, trap);
    const wrong = Object.entries(tries)
      .filter(([what, answer]) => answer !== expectedOf(what))
      .map(([what, answer]) => `${what}: ${answer}`);
    ensure(
      wrong.length === 0,
      `what an app may reach, and no more${wrong.map((one) => `; ${one}`).join('')}`,
    );
    ensure(Object.keys(tries).length >= 80, `all of it was tried: ${Object.keys(tries).length} tries`);
    ensure(reached === 0, 'nobody came to the loopback of the host');
    ensure((await fetchPage(host.tlsPort))?.version === version, 'the victim serves as before');
  } finally {
    trap.close();
    world.close();
    await leave();
    await asOwner(network, 'app', 'withdraw', 'intruder');
  }
  say(`the intruder took ${seconds(began)} s`);
}

const expectedOf = (what: string): string => {
  const [role = '', ...rest] = what.split(' ');
  return ALLOWED[role]?.includes(rest.join(' ')) ? 'yes' : 'no';
};

/** Of every try, by container and what was tried, `yes` or `no`. */
async function triesOf(network: DemoNetwork, host: DemoHost, trap: Server): Promise<Record<string, string>> {
  const archive = await buildApp(
    'intruder',
    '--version',
    '9',
    '--files',
    join(import.meta.dirname, 'intruder'),
  );
  const ports = [
    (trap.address() as AddressInfo).port,
    new URL(host.adminUrl).port,
    new URL(network.rpcUrl).port,
  ];
  const service = (role: string, egress: string) => ({
    command: [role, ...ports.map(String)],
    mem_limit: '64m',
    'x-dstack-egress': egress,
    // Never well, so that the node shows what it wrote once it ends.
    ...(role === 'attacker' && {
      healthcheck: { test: ['CMD', '/bin/busybox', 'false'], start_period: '600s' },
      'x-dstack-logs': 'public',
    }),
  });
  const compose = join(network.folder, 'intruder.yml');
  // JSON is YAML.
  writeFileSync(
    compose,
    JSON.stringify({
      services: { quiet: service('quiet', 'none'), attacker: service('attacker', 'internet') },
    }),
  );
  const archives = ['attacker', 'quiet'].flatMap((role) => ['--archive', `${role}=${archive}`]);
  const packed = await dstack(
    owner(network),
    ...['app', 'pack', 'intruder', compose, ...archives, '--out', host.volume],
  );
  const manifest = /^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!;
  await asOwner(network, 'app', 'rollout', 'intruder', manifest);
  const lines = await waitFor(
    'the intruder to have tried everything',
    async () =>
      jsonLines(host.console())
        .map(({ logs }) => (logs as { attacker?: string[] } | undefined)?.attacker)
        .find((found) => found?.includes('attacker done')),
    // In the time that it has, or in that of the next attempt.
    1_500,
    () => JSON.stringify(jsonLines(host.console()).findLast(({ name }) => name === 'kubernethes')),
    () => host.alive(),
  );
  return Object.fromEntries(
    lines.flatMap((line) => {
      const [role, kind, ...tries] = line.split(' ');
      return tries
        .filter((one) => one.includes('='))
        .map((one) => [`${role} ${kind} ${one.split('=')[0]}`, one.split('=')[1]!]);
    }),
  );
}

if (import.meta.main) {
  const folder = join(repository, '.state/intruder');
  try {
    const greeting = await buildApp('greeting-1', '--version', '1');
    const network = await deployNetwork(folder);
    const host = new DemoHost({
      name: 'a',
      network,
      gasKey: relayKeys[0],
      peers: [],
      disk: true,
      diskMiB: 64,
    });
    await prepareNetwork(network, host, [greeting]);
    await bootstrapFirst(network, host);
    await host.page('1');
    await appNetwork(network, host, '1');
  } catch (error) {
    process.exitCode = 1;
    say((error as Error).message);
  } finally {
    await stopAll();
  }
}
