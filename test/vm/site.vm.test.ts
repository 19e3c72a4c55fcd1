/**
 * By hand, `npm run test:site`: the website's certificates in VMs, with a real authority (pebble) and visitors who ask all the time. Four
 * nodes of one network, two at a time: A and B by tls-alpn-01, C by http-01 with certificates of a minute or little more, D by dns-persist-01
 * of an authority that refuses most nonces. DSTACK_TEST_OUTAGE is how many seconds the authority is down, 300 when left out;
 * DSTACK_TEST_LIFETIME for how many seconds C's certificates are, what the machine can do when left out.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { SiteConfig } from '../../lib/protocol/network-config.ts';
import { sitePaths } from '../../lib/protocol/site-evidence.ts';
import type { AcmeStatus } from '../../lib/protocol/sockets.ts';
import { openRoad, type Road } from '../../scripts/demo/authority.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  allowConfig,
  asOwner,
  bootstrapFirst,
  buildApp,
  deployNetwork,
  image,
  packAs,
  relayKeys,
  shareApps,
} from '../../scripts/demo/network.ts';
import { dstack, jsonLines, repository, stopAll } from '../../scripts/demo/processes.ts';
import { ask, type Shown, visit } from '../../scripts/demo/site.ts';
import { say, seconds, waitFor } from '../../scripts/demo/steps.ts';
import { TestAuthority } from '../support/authority.ts';
import { type Pebble, startPebble } from '../support/pebble.ts';
import { withoutProposals } from '../support/proposals.ts';
import { TestResolver } from '../support/resolver.ts';
import { GuestNames } from './guest-names.ts';
import { descendants, isQemu } from './host-view/processes.ts';
import { refusesHostileChains } from './hostile-certificates.ts';
import { constantLoad, type Load } from './load.ts';

const folder = join(repository, '.state/site');
/** This machine, in QEMU's user network. */
const HOST_SEEN_BY_GUESTS = '10.0.2.2';
const NAMES = { long: 'site.example', short: 'short.example', record: 'record.example' } as const;
const OUTAGE_SECONDS = Number(process.env.DSTACK_TEST_OUTAGE ?? 300);
/** Until B has to renew; the least that another boot takes. */
const RENEWED_AFTER = 240;
/** Of C's certificates, seconds: the shortest of which enough is left when C renews. */
const LIFETIMES = [60, 90, 120, 180, 300, 600, 1200];
/** The share of a lifetime that is left after the moment at which a node renews by itself; and how often an order must fit into it. */
const LEFT = 1 / 3 - 1 / 20;
const ORDERS_LEFT = 4;
/** What two emulated processors bear besides: half of these are new TLS connections. */
const PER_SECOND = 3;
const LONG = 90 * 24 * 3600;
/** For what takes its time under emulation, seconds: longer is a failure. */
const PATIENCE = 900;

let network: DemoNetwork;
let road: Road;
let authority: Pebble;
/** The same without its word on when to renew. */
let silent: Awaited<ReturnType<typeof withoutProposals>>;
let names: GuestNames;
let resolvers: TestResolver[];
/** On the host's side, and trusted by the network of A and B all the same. */
const hostile = new TestAuthority('Hostile');
let a: DemoHost;
let b: DemoHost;
let c: DemoHost;
let firstChain: string;
let key: string;
const figures: string[] = [];
/** What an order took, seconds, the longest. */
let slowest = 0;

const note = (text: string): void => {
  figures.push(text);
  say(text);
};
const profileOf = (lifetime: number): string => `seconds-${lifetime}`;
/** @param firstWithin see network.json; seconds */
const longSite = (firstWithin: number): SiteConfig => ({
  domains: [NAMES.long],
  acme: {
    directory: authority.directory,
    challenges: ['tls-alpn-01'],
    profile: profileOf(LONG),
    firstWithin,
  },
  resolvers: resolvers.map(({ url }) => url),
  roots: [...authority.roots, hostile.pem],
});
const rootOf = (of: Pebble): string => of.roots.at(-1)!;

beforeAll(async () => {
  network = await deployNetwork(folder);
  road = await openRoad();
  names = await GuestNames.start(folder);
  authority = await startPebble({
    address: HOST_SEEN_BY_GUESTS,
    httpPort: road.http.port,
    tlsPort: road.tls.port,
    profiles: Object.fromEntries([LONG, ...LIFETIMES].map((lifetime) => [profileOf(lifetime), lifetime])),
  });
  silent = await withoutProposals(authority);
  resolvers = await Promise.all(
    ['one.example', 'two.example'].map((name) => TestResolver.start(authority.authority, name)),
  );
  a = host('a', 0, []);
  await configure(a, longSite(2));
  await asOwner(network, 'network', 'allow', 'measurement', join(image, 'image.json'));
  // Without a disk. It would write to the folder of its image, which it may not.
  const fields = ['data=none', 'memoryMiB=64'].flatMap((field) => ['--set', field]);
  const options = ['--port', '8080', ...fields, '--env', 'DATA=/nowhere'];
  const manifest = await packAs(
    'greeting',
    network,
    a,
    await buildApp('greeting-1', '--version', '1'),
    ...options,
  );
  await asOwner(network, 'app', 'rollout', 'greeting', manifest);
  road.leadTo(a);
}, 600_000);

afterAll(async () => {
  for (const figure of figures) say(`  ${figure}`);
  silent?.close();
  await authority?.stop();
  for (const resolver of resolvers ?? []) await resolver.stop();
  await names?.stop();
  road?.close();
  await stopAll();
}, 60_000);

test('tls-alpn-01: the first node has a certificate', { timeout: 2_400_000 }, async () => {
  await bootstrapFirst(network, a);
  const shown = await certified(a, NAMES.long, authority);
  key = shown.tlsKey;
  note(`tls-alpn-01: certified ${shown.took} s after it had joined`);
  noteOrders(a);
  firstChain = await ask(a.tlsPort, sitePaths.certificate);
  // A has asked when to renew; from now on whoever asks hears of another time.
  await waitFor(
    'A to ask when to renew',
    async () => authority.renewalQuestions() > 0 || undefined,
    PATIENCE,
  );
  const at = Math.floor(Date.now() / 1000) + RENEWED_AFTER;
  await authority.proposeRenewal(firstChain, at, at + 1);
});

test('the second has it by the relays, and goes on under the same key when the first is killed', {
  timeout: 2_400_000,
}, async () => {
  b = host('b', 1, [a.gossipUrl]);
  // It would order one of its own, which the authority would ask A about, were it not to wait for the relays.
  await configure(b, longSite(86_400));
  await boot(b, a);
  const shown = await certified(b, NAMES.long, authority);
  note(`brought: B shows A's certificate ${shown.took} s after it had joined`);
  expect(await ask(b.tlsPort, sitePaths.certificate)).toBe(firstChain);
  expect(shown.tlsKey).toBe(key);
  expect(authority.orders()).toBe(1);
  await waitFor(
    'B to ask when to renew',
    async () => authority.renewalQuestions() > 1 || undefined,
    PATIENCE,
  );
  // It is down before that time has come.
  authority.pause();
  await kill(a);
  road.leadTo(b);
  await appIsUp(b);
  expect(await look(b, NAMES.long, authority)).toEqual({ serial: shown.serial, tlsKey: key, status: 200 });
  note('A killed: B serves the same name under the same key and certificate');
});

test(`an authority that is down for ${OUTAGE_SECONDS} s: the old certificate goes on, and a new one comes after`, {
  timeout: 4_800_000,
}, async () => {
  const load = constantLoad(b.tlsPort, '/version', PER_SECOND, trust(NAMES.long, authority));
  const failed = await waitFor(
    'B to find the authority silent',
    async () => {
      const { state, code } = await status(b);
      return state === 'failed' ? code : undefined;
    },
    RENEWED_AFTER + PATIENCE,
  );
  expect(failed).toBe('ACME_UNREACHABLE');
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, OUTAGE_SECONDS * 1000));
  expect(serials(load)).toHaveLength(1);
  authority.goOn();
  note(`down for ${seconds(began)} s and more when a renewal was due: ${said(load)}`);
  const back = performance.now();
  await waitFor('another certificate', async () => serials(load).length > 1 || undefined, PATIENCE);
  note(`up again: another certificate ${seconds(back)} s later`);
  noteOrders(b);
  await load.stop();
  note(`in all: ${said(load)}`);
  expect(failures(load)).toEqual([]);
  expect((await look(b, NAMES.long, authority)).tlsKey).toBe(key);
  // One of A's, one of B's.
  expect(authority.orders()).toBe(2);
});

test('what a hostile host brings is refused by its code, even if the host has an authority', {
  timeout: 600_000,
}, async () => {
  const before = await look(b, NAMES.long, authority);
  const codes = await refusesHostileChains(b.tlsPort, NAMES.long, firstChain, hostile, true);
  expect(await look(b, NAMES.long, authority)).toEqual(before);
  note(`refused: ${codes.join(', ')}`);
});

test('a host could have a certificate, until the DNS leaves them to the account', {
  timeout: 1_200_000,
}, async () => {
  const wanted = async (hostImpersonable: boolean) => {
    const found = await waitFor(
      `hostImpersonable to be ${hostImpersonable}`,
      async () => {
        const now = await status(b);
        return now.hostImpersonable === hostImpersonable ? now : undefined;
      },
      PATIENCE,
    );
    return found.caa?.code;
  };
  expect(await wanted(true)).toBe('CAA_MISSING');
  const before = await siteDns();
  expect(before).toMatchObject({ verdict: 'reject', code: 'CAA_MISSING' });
  const records = before.records.map((line) => {
    const [, tag, value] = / CAA 0 (\w+) "(.*)"$/.exec(line)!;
    return [tag!, value!] as const;
  });
  const began = performance.now();
  for (const resolver of resolvers) await resolver.setCaa(NAMES.long, ...records);
  expect(await wanted(false)).toBeUndefined();
  expect(await siteDns()).toMatchObject({ verdict: 'accept', code: null });
  note(`CAA: hostImpersonable without the records, and not ${seconds(began)} s after they were set`);
});

test('http-01: a certificate of a minute or little more is renewed three times, and nobody is turned away', {
  timeout: 7_200_000,
}, async () => {
  const wanted = Number(process.env.DSTACK_TEST_LIFETIME ?? (ORDERS_LEFT * slowest) / LEFT);
  const lifetime = LIFETIMES.find((seconds) => seconds >= wanted);
  if (lifetime === undefined) throw new Error(`an order takes ${slowest} s here: no lifetime is long enough`);
  c = host('c', 2, [b.gossipUrl]);
  await configure(c, {
    domains: [NAMES.short],
    acme: {
      directory: silent.directory,
      challenges: ['http-01'],
      profile: profileOf(lifetime),
      firstWithin: 2,
    },
    roots: authority.roots,
  });
  road.leadTo(c);
  // A node makes five orders a week: the first is for when there is an app to visit.
  authority.pause();
  await boot(c, b);
  await b.powerOff();
  await appIsUp(c);
  authority.goOn();
  const first = await certified(c, NAMES.short, authority);
  note(
    `http-01: certified ${first.took} s after the authority was up, which a node looks for ever more rarely`,
  );
  expect(first.tlsKey).toBe(key);
  const load = constantLoad(c.tlsPort, '/version', PER_SECOND, trust(NAMES.short, authority));
  await waitFor(
    'three renewals',
    async () => serials(load).length > 3 || undefined,
    4 * lifetime + PATIENCE,
    () => said(load),
  );
  await load.stop();
  noteOrders(c);
  note(`certificates of ${lifetime} s, ${serials(load).length - 1} renewals: ${said(load)}`);
  expect(failures(load)).toEqual([]);
  expect((await look(c, NAMES.short, authority)).tlsKey).toBe(key);
});

test('dns-persist-01: the record is asked for, and an authority that refuses 60 of 100 nonces issues', {
  timeout: 2_400_000,
}, async () => {
  const other = await startPebble({
    address: HOST_SEEN_BY_GUESTS,
    env: { PEBBLE_WFE_NONCEREJECT: '60' },
  });
  try {
    const d = host('d', 0, [c.gossipUrl]);
    await configure(d, {
      domains: [NAMES.record],
      acme: { directory: other.directory, challenges: ['dns-persist-01'], firstWithin: 2 },
      roots: other.roots,
    });
    await boot(d, c);
    const missing = await waitFor(
      'D to miss the record',
      async () => {
        const now = await status(d);
        return now.code === 'ACME_RECORD_MISSING' ? now : undefined;
      },
      PATIENCE,
    );
    const [, name, value] = /the DNS has to have: (\S+)\. TXT "(.+)"$/.exec(missing.reason!)!;
    expect(name).toBe(`_validation-persist.${NAMES.record}`);
    expect(other.orders()).toBe(0);
    await names.setTxt(name!, value!);
    await other.setTxt(name!, value!);
    const shown = await certified(d, NAMES.record, other);
    expect(shown.tlsKey).toBe(key);
    const asked = other.log().match(/POST \//g)?.length ?? 0;
    note(`dns-persist-01: certified ${shown.took} s after the record was set, by ${asked} signed requests`);
    noteOrders(d);
  } finally {
    await other.stop();
  }
});

function host(name: string, payer: 0 | 1 | 2, peers: readonly string[]): DemoHost {
  const { under } = names;
  return new DemoHost({ name, network, gasKey: relayKeys[payer], peers, disk: false, under });
}

async function configure(host: DemoHost, site: SiteConfig): Promise<void> {
  const file = join(network.folder, `site-${host.name}.json`);
  writeFileSync(file, JSON.stringify(site));
  await allowConfig(network, host, { site: file });
}

/** Onboarded by a node of the network, with that one's files. */
async function boot(host: DemoHost, by: DemoHost): Promise<void> {
  shareApps(by, host);
  await host.powerOn('join');
  await host.startRelay();
  await host.joined();
}

/** Seconds from now on until a visitor who trusts the authority alone comes in. */
async function certified(host: DemoHost, name: string, by: Pebble): Promise<Shown & { took: number }> {
  const began = performance.now();
  const shown = await waitFor(
    `${name} to be certified`,
    () => look(host, name, by),
    PATIENCE,
    () => JSON.stringify(jsonLines(host.console()).findLast((line) => line.name === 'acme')),
    () => host.alive(),
  );
  return { ...shown, took: seconds(began) };
}

const look = (host: DemoHost, name: string, by: Pebble): Promise<Shown> =>
  visit(host.tlsPort, name, rootOf(by), '/version');
const status = async (host: DemoHost): Promise<AcmeStatus> =>
  JSON.parse(await ask(host.tlsPort, sitePaths.status)) as AcmeStatus;
const trust = (name: string, by: Pebble) => ({ name, root: rootOf(by) });

/** Before, visitors get the node's own page, and its 503. */
async function appIsUp(host: DemoHost): Promise<void> {
  await waitFor(
    `the app of ${host.name}`,
    async () => (await ask(host.tlsPort, '/version')) || undefined,
    PATIENCE,
    () => JSON.stringify(jsonLines(host.console()).at(-1)),
    () => host.alive(),
  );
}

/** As a power cut does. */
async function kill(host: DemoHost): Promise<void> {
  const qemu = descendants().find((one) => isQemu(one) && one.title.includes(`${host.folder}/`))!;
  process.kill(qemu.pid, 'SIGKILL');
  await host.ended();
}

/** Different certificates that visitors saw, in their order. */
const serials = ({ answers }: Load): string[] => [
  ...new Set(answers.map(({ serial }) => serial).filter((serial) => serial !== '')),
];
const failures = ({ answers }: Load) => answers.filter(({ failed }) => failed);

function said(load: Load): string {
  const count = (connection: string) => load.answers.filter((one) => one.connection === connection).length;
  const slowest = Math.max(0, ...load.answers.map(({ took }) => took));
  return (
    `${load.answers.length} requests, ${count('new')} on new connections and ${count('kept')} on kept ones, ` +
    `${failures(load).length} failed, ${serials(load).length} certificates, the slowest ${Math.round(slowest)} ms`
  );
}

/** What the node's orders took, by its own log. */
function noteOrders(host: DemoHost): void {
  let began: number | undefined;
  const took: number[] = [];
  for (const { name, msg, time } of jsonLines(host.console())) {
    if (name !== 'acme') continue;
    if (msg === 'orders a certificate') began = Number(time);
    if (msg !== 'a certificate was taken into use' || began === undefined) continue;
    took.push((Number(time) - began) / 1000);
    began = undefined;
  }
  slowest = Math.max(slowest, ...took);
  note(`orders of ${host.name} took ${took.map((one) => one.toFixed(1)).join(', ')} s`);
}

interface SiteDns {
  verdict: string;
  code: string | null;
  records: string[];
}

/** `npx dstack site dns`, as the owner of the name runs it. */
async function siteDns(): Promise<SiteDns> {
  const chain = ['--rpc', network.rpcUrl, '--chain-id', String(network.chainId)];
  const at = ['--site', `https://127.0.0.1:${b.tlsPort}`, '--network', network.contract, ...chain];
  const ran = dstack({}, 'site', 'dns', NAMES.long, ...at, '--flavour', 'sim', '--json');
  // It exits with 1 while the node does not see the records.
  const out = await ran.catch((error: { stdout: string }) => error.stdout);
  return JSON.parse(out) as SiteDns;
}
