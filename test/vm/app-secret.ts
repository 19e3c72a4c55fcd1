/**
 * An app with secrets, in two containers of which one is not root: what they see after a rollout, after one with a new value, while
 * the host puts the old value's envelope in the new one's place, and after a reboot. Called by a test that has a node at hand; by
 * itself it boots one:
 *
 *     node test/vm/app-secret.ts
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
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
import { ensure, say, seconds, waitFor } from '../../scripts/demo/steps.ts';

const APP = 'keeper';
/** The domains of its two containers: as the image's user, root, and as another one. */
const CONTAINERS = { 'root.localhost': '0', 'plain.localhost': '1000' } as const;

/** Seals a value as an owner would, by the host's relay. @returns the envelope's file */
export async function setSecret(
  network: DemoNetwork,
  host: DemoHost,
  app: string,
  name: string,
  value: string,
): Promise<string> {
  // Nothing that the host may see has the value.
  const folder = mkdtempSync(join(tmpdir(), 'dstack-secret-'));
  try {
    const file = join(folder, name);
    writeFileSync(file, value, { mode: 0o600 });
    const places = ['--relay', host.gossipUrl, '--file', file, '--out', host.volume];
    const said = await dstack(owner(network), 'app', 'secret', 'set', app, name, ...places);
    return /^envelope {2}(.*)$/m.exec(said)![1]!;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @returns what its containers must still see after a reboot of the host's VM, by `sees` */
export async function appSecret(network: DemoNetwork, host: DemoHost): Promise<string> {
  const began = performance.now();
  const archive = await buildApp('keeper', '--version', '7', '--files', join(import.meta.dirname, 'keeper'));
  const value = () => randomBytes(20).toString('hex');
  const rollOut = async (file: string): Promise<void> => {
    await asOwner(network, 'app', 'rollout', APP, await packed(network, host, archive, file));
  };

  const [first, second] = [value(), value()];
  const old = await setSecret(network, host, APP, 'db', first);
  await rollOut(old);
  await sees(host, first);
  say(`an app sees its secret ${seconds(began)} s after its owner began to set it`);

  // The host has both envelopes, and would rather have the app go on with the old value.
  const file = await setSecret(network, host, APP, 'db', second);
  const manifest = await packed(network, host, archive, file);
  const aside = `${file}.aside`;
  copyFileSync(file, aside);
  copyFileSync(old, file);
  const since = host.console().length;
  await asOwner(network, 'app', 'rollout', APP, manifest);
  await waitFor(
    'the old envelope in the place of the new one to be refused',
    async () =>
      jsonLines(host.console().slice(since)).find(
        ({ code, app }) => code === 'SECRET_HASH_MISMATCH' && app === APP,
      ),
    120,
    () => '',
    () => host.alive(),
  );
  await sees(host, first);
  copyFileSync(aside, file);
  rmSync(aside);
  await sees(host, second);
  for (const secret of [first, second])
    ensure(!host.console().includes(secret), 'no value is on the console');
  say(`all of it took ${seconds(began)} s`);
  return second;
}

async function packed(
  network: DemoNetwork,
  host: DemoHost,
  archive: string,
  envelope: string,
): Promise<string> {
  const service = (domain: string, user: string) => ({
    ...(user !== '0' && { user: `${user}:${user}` }),
    mem_limit: '32m',
    'x-dstack-http': [{ domain, port: 8080, protocol: 'http1' }],
    secrets: ['db'],
  });
  const compose = join(network.folder, 'keeper.yml');
  const services = Object.fromEntries(
    Object.entries(CONTAINERS).map(([domain, user]) => [domain.split('.')[0], service(domain, user)]),
  );
  // JSON is YAML.
  writeFileSync(compose, JSON.stringify({ services, secrets: { db: { external: true } } }));
  const archives = Object.keys(services).flatMap((name) => ['--archive', `${name}=${archive}`]);
  const said = await dstack(
    owner(network),
    ...['app', 'pack', APP, compose, ...archives, '--secret', `db=${envelope}`, '--out', host.volume],
  );
  return /^manifest (0x[0-9a-f]{64})$/m.exec(said)![1]!;
}

/** Waits until both containers show this value, as their own user's file, and could do nothing to it. */
export async function sees(host: DemoHost, value: string): Promise<void> {
  for (const [domain, user] of Object.entries(CONTAINERS)) {
    const expected = [
      `user ${user}`,
      `file /run/secrets/db 400 ${user}:0 value ${value}`,
      'mount /run/secrets tmpfs ro,nosuid,nodev,noexec',
      'environment 0',
    ];
    let last = '';
    await waitFor(
      `${domain} to see its secret`,
      async () => {
        last = await visit(host, domain).catch((error: Error) => error.message);
        const lines = last.trimEnd().split('\n');
        const fits = expected.every((line, at) => lines[at]?.startsWith(line) === true);
        return (fits && lines.length === expected.length) || undefined;
      },
      240,
      () => last.slice(0, 600),
      () => host.alive(),
    );
  }
}

function visit(host: DemoHost, servername: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: host.tlsPort, servername, path: '/cgi-bin/secrets.cgi' };
    const request = get(
      { ...options, headers: { host: servername }, rejectUnauthorized: false, timeout: 30_000, agent: false },
      (response) => text(response).then(resolve, reject),
    );
    request.on('timeout', () => request.destroy(new Error('the visit timed out')));
    request.on('error', reject);
  });
}

if (import.meta.main) {
  try {
    const greeting = await buildApp('greeting-1', '--version', '1');
    const network = await deployNetwork(join(repository, '.state/secret'));
    // Two nodes: one alone would lose the network when it reboots.
    const shared = { network, disk: false };
    const a = new DemoHost({ ...shared, name: 'a', gasKey: relayKeys[0], peers: [], appFiles: 'serve' });
    await prepareNetwork(network, a, [greeting]);
    await bootstrapFirst(network, a);
    const value = await appSecret(network, a);
    // The second node gets the files by the relays, then goes and comes again.
    const b = new DemoHost({
      ...shared,
      name: 'b',
      gasKey: relayKeys[1],
      peers: [a.gossipUrl],
      appFiles: 'share',
    });
    copyFileSync(join(network.folder, 'network.json'), join(b.volume, 'network.json'));
    await b.powerOn('join');
    await b.startRelay();
    await b.joined();
    await sees(b, value);
    say('a second node has it, by way of the relays');
    await b.powerOff();
    await b.powerOn('join');
    await b.joined();
    await sees(b, value);
    say('and has it again after a reboot');
  } catch (error) {
    process.exitCode = 1;
    say((error as Error).message);
  } finally {
    await stopAll();
  }
}
