/**
 * The demo: a chain, two hosts with a VM and a relay each, an app, a rollout. `--once` also shows what must be refused and
 * what must survive a reboot, shuts everything down, and ends with a JSON line of timings. `main` tells the story.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { print, printError, printFailure, printJson } from '../../lib/daemon/terminal.ts';
import { type DemoAuthority, SITE_NAME, startAuthority } from './authority.ts';
import { DemoHost, type DemoNetwork } from './host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApps,
  deployNetwork,
  image,
  joinSecond,
  prepareNetwork,
  relayKeys,
  shareFile,
} from './network.ts';
import { demoOptions } from './options.mjs';
import { dstack, repository, stopAll } from './processes.ts';
import { scanForPlaintext } from './scan.ts';
import { visit } from './site.ts';
import { ensure, say, seconds, step, waitFor } from './steps.ts';

const { once, gossip } = demoOptions(process.argv.slice(2));
const folder = join(repository, '.state/demo');
const summary: Record<string, unknown> = {};
let authority: DemoAuthority | undefined;

async function main(): Promise<void> {
  summary.imageSeconds = Number(process.env.DSTACK_DEMO_IMAGE_SECONDS ?? Number.NaN);
  summary.imageWasCached = process.env.DSTACK_DEMO_IMAGE_WARM === 'true';
  summary.imageMiB = mebibytes(image);

  const versions = await step('build the greeting app, versions 1 and 2', buildApps);
  summary.appMiB = mebibytes(versions[0]!);
  const network = await step("start a chain and deploy the network's contract", () => deployNetwork(folder));
  authority = await step('start a certificate authority (pebble)', () => startAuthority(network));
  const shared = { network, gossip, disk: true };
  const a = new DemoHost({ ...shared, name: 'a', gasKey: relayKeys[0], peers: [] });
  const manifests = await step('write network.json, allow it and the image, roll out version 1', () =>
    prepareNetwork(network, a, versions, { site: authority!.siteFile }),
  );

  const joinedA = await step('node A: boots, makes the secret, is bootstrapped by the owner', () =>
    bootstrapFirst(network, a),
  );
  summary.a = { joined: joinedA, page: (await a.page('1')).taken, diskFormat: a.diskSeconds() };

  await step('the authority asks A for a proof, and certifies the website', () => certified(a, summary));

  const b = new DemoHost({ ...shared, name: 'b', gasKey: relayKeys[1], peers: [a.peerAddress] });
  const joined = await step('node B: boots, asks on chain, is onboarded by A', () =>
    joinSecond(network, a, b),
  );
  summary.b = { joined, page: (await b.page('1')).taken, diskFormat: b.diskSeconds() };
  await requireOneCarrier(b);

  await step('compare the two', () => compare(a, b));
  await step('the relays bring the certificate to B: its visitors notice no other node', () => certified(b));
  if (once) {
    await step('a third VM with another measurement is refused', () => refuseThird(network, a));
    await step('reboot B: it finds what its container wrote, its host does not', () => rebootSecond(b));
  }
  await step('roll out version 2 by one transaction', async () => {
    const begin = performance.now();
    await asOwner(network, 'app', 'rollout', 'greeting', manifests[1]!);
    await Promise.all([a.page('2'), b.page('2')]);
    summary.rolloutSeconds = seconds(begin);
  });

  await step('visit the website as a stranger, who knows nothing but the contract', () =>
    verifySite(network, a),
  );
  await step("audit the network's life from the chain and what the relays serve", () =>
    auditLife(network, a, b),
  );

  if (!once) await stay(a, b, network);
}

/** Leads the website's name to this node, and waits until a visitor who trusts the authority's root comes in. */
async function certified(host: DemoHost, noted: Record<string, unknown> = {}): Promise<void> {
  const { road, rootFile } = authority!;
  road.leadTo(host);
  const begin = performance.now();
  const { serial } = await waitFor(
    `a visitor to find https://${SITE_NAME}:${road.tls.port}/ certified`,
    () => visit(road.tls.port, SITE_NAME, readFileSync(rootFile, 'utf8')).catch(() => undefined),
    900,
    () => '',
    () => host.alive(),
  );
  noted.certificateSeconds = seconds(begin);
  say(`certificate ${serial} is for ${SITE_NAME}, by a root of the authority's`);
}

/** Exits with 1 unless the connection's key is the network's, by evidence made for this visit. */
async function verifySite(network: DemoNetwork, host: DemoHost): Promise<void> {
  const chain = ['--rpc', network.rpcUrl, '--chain-id', String(network.chainId)];
  const url = `https://127.0.0.1:${host.tlsPort}`;
  const flags = ['--network', network.contract, ...chain, '--flavour', 'sim', '--json'];
  const { verdict } = JSON.parse(await dstack({}, 'site', 'verify', url, ...flags)) as { verdict: string };
  ensure(verdict === 'accept', "the network behind the contract ends the website's TLS");
}

/** What anyone with an endpoint and access to a relay can do; exits with 1 unless all evidence holds. */
async function auditLife(network: DemoNetwork, a: DemoHost, b: DemoHost): Promise<void> {
  const archives = ['--archive', a.gossipUrl, '--archive', b.gossipUrl];
  const chain = ['--rpc', network.rpcUrl, '--depth', '0', '--flavour', 'sim'];
  const said = await dstack({}, 'audit', network.contract, ...chain, ...archives);
  const holders = said.match(/evidence verified$/gm)?.length ?? 0;
  ensure(holders >= 2, `${holders} times a node was given the secret, each on evidence that holds`);
}

/** Nothing that B was told came by another way than the one that was asked for. */
async function requireOneCarrier(b: DemoHost): Promise<void> {
  const { peers } = await b.relayStatus();
  summary.gossip = gossip;
  const scheme = `${gossip}://`;
  ensure(
    peers.length === 1 && peers[0]!.reachable && peers[0]!.peer.startsWith(scheme),
    `B's relay has one peer, ${peers.map(({ peer }) => peer).join(', ')}: ${gossip} alone carried its messages`,
  );
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

/** Another amount of memory gives another RTMR0, so the contract does not allow that measurement. */
async function refuseThird(network: DemoNetwork, a: DemoHost): Promise<void> {
  const c = new DemoHost({
    name: 'c',
    network,
    gasKey: relayKeys[2],
    gossip,
    peers: [a.peerAddress],
    memoryMiB: 1536,
    disk: false,
  });
  shareFile(join(folder, 'network.json'), c.volume);
  await c.powerOn('join');
  await c.startRelay();
  await waitFor(
    'A to refuse C',
    async () => a.console().includes('MEASUREMENT_NOT_ALLOWED') || undefined,
    900,
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
    [mark, 'The greeting app was here first'],
  );
  const keyBlocks = await scanForPlaintext([b.disk, b.consoleLog], ['PRIVATE KEY', '"kty"']);
  const hits = [...scanned.hits, ...keyBlocks.hits];
  ensure(
    hits.length === 0,
    `${scanned.mebibytes} MiB of disk and root image as the host sees them hold none of it ${hits.join(', ')}`,
  );
  await b.powerOn('join');
  await b.startRelay();
  const joined = await b.joined();
  const { page, taken } = await b.page('1');
  ensure(page.note === before.note, 'B found the note that its container wrote before the reboot');
  summary.bRebooted = { joined, page: taken, diskOpen: b.diskSeconds() };
}

async function stay(a: DemoHost, b: DemoHost, network: DemoNetwork): Promise<void> {
  print(
    '',
    'The network runs. Press Ctrl-C to end it.',
    '',
    `  website    https://${SITE_NAME}:${authority!.road.tls.port}/      (its certificate is of the demo's own authority: the browser will ask,`,
    `             until you import ${authority!.rootFile} as an authority)`,
    `             curl --cacert ${authority!.rootFile} https://${SITE_NAME}:${authority!.road.tls.port}/`,
    `  node A     https://127.0.0.1:${a.tlsPort}/`,
    `  node B     https://127.0.0.1:${b.tlsPort}/`,
    `  contract   ${network.contract} on ${network.rpcUrl}`,
    `  logs       ${folder}/*.log, ${folder}/{a,b}/vm/console.log`,
    `  relays     ${a.adminUrl}/dashboard/ ${b.adminUrl}/dashboard/`,
    '',
    `  export DSTACK_RPC_URL=${network.rpcUrl} DSTACK_CHAIN_ID=${network.chainId} DSTACK_CONTRACT=${network.contract} DSTACK_OWNER_KEY_FILE=${folder}/owner.key`,
    `  export RELAY=${a.gossipUrl} VOLUME=${a.volume} HOST_ENV=${a.operatorFile()} SITE_PORT=${a.tlsPort}`,
    '  npx dstack network status',
    '  npx dstack app rollback greeting',
    '  an app of your own: docs/first-app.md',
    `  npx dstack audit $DSTACK_CONTRACT --archive ${a.gossipUrl} --flavour sim`,
    `  npx dstack site verify https://127.0.0.1:${a.tlsPort} --flavour sim`,
    '',
  );
  await interrupted;
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
await authority?.stop();
await stopAll();
if (failure !== undefined) {
  printFailure('demo', failure);
  printError('', `The demo failed. What each part said is in ${folder}/*.log and ${folder}/*/vm/console.log`);
}
if (once) {
  summary.totalSeconds = Math.round(
    (Date.now() - Number(process.env.DSTACK_DEMO_STARTED ?? Date.now())) / 1000,
  );
  printJson({ ok: failure === undefined, ...summary });
}
process.exit(failure === undefined ? 0 : 1);
