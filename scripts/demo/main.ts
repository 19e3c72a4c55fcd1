/**
 * The demo: a chain, two hosts with a VM and a relay each, an app, a rollout. `--once` adds what must be refused and
 * what must survive a reboot, tears everything down, and ends with a JSON line of timings. `main` is the story.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { $ } from 'zx';
import { DemoHost, type DemoNetwork } from './host.ts';
import { dstack, repository, startDaemon, stopAll } from './processes.ts';
import { scanForPlaintext } from './scan.ts';
import { ensure, say, seconds, step, waitFor } from './steps.ts';

/** anvil's well-known accounts: the owner, then who pays for each host. They are worth nothing anywhere. */
const keys = [
  'ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
  '7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6',
] as const;

const once = process.argv.includes('--once');
const image = join(repository, 'build/image-sim');
const folder = join(repository, '.state/demo');
const summary: Record<string, unknown> = {};

async function main(): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  summary.imageSeconds = Number(process.env.DSTACK_DEMO_IMAGE_SECONDS ?? Number.NaN);
  summary.imageWasCached = process.env.DSTACK_DEMO_IMAGE_WARM === 'true';
  summary.imageMiB = mebibytes(image);

  const versions = await step('build the greeting app, versions 1 and 2', buildApps);
  const network = await step('start a chain and deploy the network’s contract', deployNetwork);
  const a = new DemoHost({ name: 'a', network, gasKey: keys[1], peers: [], disk: true });
  const manifests = await step('write network.json, allow it and the image, roll out version 1', () =>
    prepareNetwork(network, a, versions),
  );

  const first = await step('node A: boots, makes the secret, is bootstrapped by the owner', () =>
    bootstrapFirst(network, a),
  );
  summary.a = { ...first, page: (await a.page('1')).taken, diskFormat: a.diskSeconds() };

  const b = new DemoHost({ name: 'b', network, gasKey: keys[2], peers: [a.gossipUrl], disk: true });
  const joined = await step('node B: boots, asks on chain, is onboarded by A', () => joinSecond(a, b));
  summary.b = { joined, page: (await b.page('1')).taken, diskFormat: b.diskSeconds() };

  await step('compare the two', () => compare(a, b));
  if (once) {
    await step('a third VM of another measurement is refused', () => refuseThird(network, a));
    await step('reboot B: it finds what its container wrote, its host does not', () => rebootSecond(b));
  }
  await step('roll out version 2 by one transaction', async () => {
    const begin = performance.now();
    await dstack(owner(network), 'app', 'rollout', 'greeting', manifests[1]!);
    await Promise.all([a.page('2'), b.page('2')]);
    summary.rolloutSeconds = seconds(begin);
  });

  if (!once) await stay(a, b, network);
}

function owner(network: Pick<DemoNetwork, 'rpcUrl'> & Partial<DemoNetwork>): Record<string, string> {
  return {
    DSTACK_RPC_URL: network.rpcUrl,
    DSTACK_OWNER_KEY_FILE: join(folder, 'owner.key'),
    ...(network.contract === undefined ? {} : { DSTACK_CONTRACT: network.contract }),
    ...(network.chainId === undefined ? {} : { DSTACK_CHAIN_ID: String(network.chainId) }),
  };
}

/** @returns the archive of each version */
async function buildApps(): Promise<string[]> {
  const sudo = process.getuid?.() === 0 ? [] : ['sudo'];
  const archives: string[] = [];
  for (const version of ['1', '2']) {
    const archive = join(repository, `build/greeting-${version}.tar`);
    await $({
      cwd: repository,
      quiet: true,
    })`${sudo} ${process.execPath} app-example/build.ts --version ${version} --out ${archive}`;
    archives.push(archive);
  }
  summary.appMiB = mebibytes(archives[0]!);
  return archives;
}

async function deployNetwork(): Promise<DemoNetwork> {
  writeFileSync(join(folder, 'owner.key'), keys[0], { mode: 0o600 });
  const anvil = join(repository, 'node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil');
  // Time, delays and `finalized` move only if blocks are made whether or not somebody sends something.
  const chain = startDaemon('chain', folder, [
    anvil,
    '--port',
    '0',
    '--block-time',
    '1',
    '--slots-in-an-epoch',
    '1',
  ]);
  const address = await waitFor(
    'the chain',
    async () => /Listening on (127\.0\.0\.1:\d+)/.exec(chain.text())?.[1],
    30,
  );
  const rpcUrl = `http://${address}`;
  const deployed = await dstack(
    owner({ rpcUrl }),
    'network',
    'deploy',
    '--delay',
    '0',
    '--request-window',
    '120',
  );
  const contract = /^contract (0x[0-9a-fA-F]{40})$/m.exec(deployed)?.[1];
  if (contract === undefined) throw new Error(`no contract address in: ${deployed}`);
  say(`contract ${contract} on ${rpcUrl}`);
  return { folder, rpcUrl, chainId: 31337, contract };
}

/** @returns the manifest hash of each version */
async function prepareNetwork(
  network: DemoNetwork,
  a: DemoHost,
  archives: readonly string[],
): Promise<string[]> {
  const networkJson = join(folder, 'network.json');
  const env = owner(network);
  // The host as QEMU's user network shows it to the guest.
  const endpoint = network.rpcUrl.replace('127.0.0.1', '10.0.2.2');
  await dstack(
    env,
    'network',
    'config',
    '--endpoint',
    endpoint,
    '--depth',
    '1',
    '--minimum-nodes',
    '1',
    '--out',
    networkJson,
  );
  shareFile(networkJson, a.volume);
  await dstack(env, 'network', 'allow', 'config', networkJson);
  await dstack(env, 'network', 'allow', 'measurement', join(image, 'image.json'));
  const manifests: string[] = [];
  for (const archive of archives) {
    const packed = await dstack(env, 'app', 'pack', 'greeting', archive, '--port', '8080', '--out', a.volume);
    manifests.push(/^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!);
  }
  await dstack(env, 'app', 'rollout', 'greeting', manifests[0]!);
  return manifests;
}

async function bootstrapFirst(network: DemoNetwork, a: DemoHost): Promise<{ joined: number }> {
  await a.powerOn('bootstrap', { createDisk: true });
  await dstack(owner(network), 'network', 'allow', 'platform', a.platform);
  await a.startRelay();
  const file = await waitFor(
    'the bootstrap package of A',
    async () => {
      if (!existsSync(a.records)) return undefined;
      return readdirSync(a.records).find((name) => /^bootstrap-0x[0-9a-f]{40}\.json$/.test(name));
    },
    300,
    () => a.waitingFor(),
    () => a.alive(),
  );
  const output = await dstack(
    owner(network),
    'network',
    'bootstrap',
    join(a.records, file),
    '--flavour',
    'sim',
  );
  for (const line of output.trim().split('\n')) say(`    ${line}`);
  return { joined: await a.joined() };
}

async function joinSecond(a: DemoHost, b: DemoHost): Promise<number> {
  for (const folderName of ['manifests', 'archives']) {
    for (const name of readdirSync(join(a.volume, folderName)))
      shareFile(join(a.volume, folderName, name), join(b.volume, folderName));
  }
  shareFile(join(folder, 'network.json'), b.volume);
  await b.powerOn('join', { createDisk: true });
  await b.startRelay();
  return b.joined();
}

async function compare(a: DemoHost, b: DemoHost): Promise<void> {
  const [pageA, pageB] = [(await a.page('1')).page, (await b.page('1')).page];
  ensure(pageA.tlsKey === pageB.tlsKey, `both serve the TLS key ${pageA.tlsKey.slice(0, 16)}…`);
  ensure(
    pageA.fingerprint === pageB.fingerprint,
    `both derive the app key with fingerprint ${pageA.fingerprint}`,
  );
  ensure(pageA.note !== pageB.note && pageB.note.includes('was here first'), 'each has a disk of its own');
}

/** Another amount of memory is another RTMR0: the contract does not know that measurement. */
async function refuseThird(network: DemoNetwork, a: DemoHost): Promise<void> {
  const c = new DemoHost({
    name: 'c',
    network,
    gasKey: keys[3],
    peers: [a.gossipUrl],
    memoryMiB: 1536,
    disk: false,
  });
  shareFile(join(folder, 'network.json'), c.volume);
  await c.powerOn('join');
  await c.startRelay();
  await waitFor(
    'A to refuse C',
    async () => a.console().includes('MEASUREMENT_NOT_ALLOWED') || undefined,
    300,
    () => c.waitingFor(),
  );
  ensure(a.console().includes('MEASUREMENT_NOT_ALLOWED'), 'A refused it: MEASUREMENT_NOT_ALLOWED');
  ensure(!c.console().includes('"joined"'), 'C has not joined');
  await c.stopRelay();
  await c.powerOff();
}

async function rebootSecond(b: DemoHost): Promise<void> {
  const before = (await b.page('1')).page;
  await b.stopRelay();
  await b.powerOff();
  const mark = before.note.split(' ').at(-1)!;
  const scanned = await scanForPlaintext(
    [b.disk, join(image, 'root.img')],
    [mark, 'The greeting app was here', 'PRIVATE KEY'],
  );
  ensure(
    scanned.hits.length === 0,
    `${scanned.mebibytes} MiB of disk and root image as the host sees them: no plaintext ${scanned.hits.join(', ')}`,
  );
  await b.powerOn('join');
  await b.startRelay();
  const joined = await b.joined();
  const { page, taken } = await b.page('1');
  ensure(page.note === before.note, 'B found the note that its container wrote before the reboot');
  summary.bRebooted = { joined, page: taken, diskOpen: b.diskSeconds() };
}

async function stay(a: DemoHost, b: DemoHost, network: DemoNetwork): Promise<void> {
  console.log(`
The network runs. Press Ctrl-C to end it.

  node A     https://127.0.0.1:${a.tlsPort}/      (the certificate is self-signed: the browser will ask)
  node B     https://127.0.0.1:${b.tlsPort}/
  contract   ${network.contract} on ${network.rpcUrl}
  logs       ${folder}/*.log, ${folder}/{a,b}/vm/console.log
  relays     ${a.adminUrl}/v1/status ${b.adminUrl}/v1/status

  export DSTACK_RPC_URL=${network.rpcUrl} DSTACK_CONTRACT=${network.contract} DSTACK_OWNER_KEY_FILE=${folder}/owner.key
  npx dstack network status
  npx dstack app rollback greeting
`);
  await interrupted;
}

/** A copy that a VM's daemons may read: the host's own modes are what they see. */
function shareFile(file: string, into: string): void {
  mkdirSync(into, { recursive: true });
  const target = join(into, file.split('/').at(-1)!);
  copyFileSync(file, target);
  chmodSync(target, 0o644);
}

/** Of a file, or of all files in a folder. */
function mebibytes(path: string): number {
  const bytes = statSync(path).isDirectory()
    ? readdirSync(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0)
    : statSync(path).size;
  return Math.round((bytes / 2 ** 20) * 10) / 10;
}

let interrupt: () => void = () => {};
const interrupted = new Promise<void>((resolve) => {
  interrupt = resolve;
});
const ended = new Promise<'interrupted'>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      interrupt();
      resolve('interrupted');
    });
  }
});

let failure: unknown;
try {
  const outcome = await Promise.race([main().then(() => 'done' as const), ended]);
  if (outcome === 'interrupted' && once) failure = new Error('interrupted');
} catch (error) {
  failure = error;
}
say('tearing down');
await stopAll();
if (failure !== undefined) {
  console.error(failure);
  console.error(
    `\nThe demo failed. What each part said is in ${folder}/*.log and ${folder}/*/vm/console.log`,
  );
}
if (once) {
  summary.totalSeconds = Math.round(
    (Date.now() - Number(process.env.DSTACK_DEMO_STARTED ?? Date.now())) / 1000,
  );
  console.log(JSON.stringify({ ok: failure === undefined, ...summary }));
}
process.exit(failure === undefined ? 0 : 1);
