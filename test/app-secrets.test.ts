/**
 * Secrets of apps from the owner's command to a container's mount, in the hands of a host that would rather have others: real
 * replicators, the real kubernethes, a real contract; podman alone is none.
 */
import type { ChildProcess } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { requireSealingKey, type SealingKeyMessage, sealSecret } from '../lib/protocol/app-secrets.ts';
import type { AppsStatus } from '../lib/protocol/app-status.ts';
import { sha256, to0x, toHex, utf8 } from '../lib/protocol/encoding.ts';
import { type Hex, parseAddress } from '../lib/protocol/hex.ts';
import { appId, formatManifest, manifestHash } from '../lib/protocol/manifest.ts';
import { encodeRollout } from '../lib/protocol/network-contract.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
  type SealedMessage,
} from '../lib/protocol/onboarding-messages.ts';
import { ENVELOPE_MAX_BYTES } from '../lib/protocol/sockets.ts';
import { dstack, dstackOk } from './support/cli.ts';
import { type FakePodman, startFakePodman } from './support/fake-podman.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from './support/network.ts';

const IMAGE = `sha256:${'ab'.repeat(32)}`;
const VALUE = 'a value that nobody but its container may see';

let network: TestNetwork;
let node: TestNode;
let podman: FakePodman;
let kubernethes: ChildProcess;
const podmans: FakePodman[] = [];

/** Starts what runs containers on a node. */
async function withApps(on: TestNode): Promise<FakePodman> {
  mkdirSync(join(on.directory, 'run/podman'), { recursive: true });
  const one = await startFakePodman(join(on.directory, 'run/podman/podman.sock'));
  podmans.push(one);
  return one;
}

beforeAll(async () => {
  network = await startTestNetwork();
  node = await network.start({ role: 'bootstrap' });
  await network.allow(node);
  await network.bootstrap(node);
  for (const kind of ['secrets', 'manifests']) mkdirSync(volume(kind), { recursive: true });
  podman = await withApps(node);
  kubernethes = node.daemon('kubernethes', []);
}, 300_000);
afterAll(async () => {
  for (const one of podmans) one.stop();
  await network?.stop();
});

const volume = (...path: string[]): string => join(node.directory, 'mnt/host_volume', ...path);
const fileOf = (envelope: Hex): string => volume('secrets', `${envelope}.json`);

/** Sealed as the owner's command does it, by the key that the node gives. @returns the envelope's hash */
async function seal(
  app: string,
  name: string,
  value: string,
  {
    elsewhere = {},
    keyOf = app,
    relabelled = {},
  }: { elsewhere?: object; keyOf?: string; relabelled?: object } = {},
): Promise<Hex> {
  const said = await node.post<SealingKeyMessage>(nodePaths.sealingKey, { app: keyOf });
  const networkKey = parseAddress((await node.status()).networkKey!);
  const key = requireSealingKey(said, { ...network.domain, app: keyOf, networkKey });
  const sealed = await sealSecret(utf8(value), { ...network.domain, app, name, ...elsewhere }, key);
  const envelope = { ...JSON.parse(new TextDecoder().decode(sealed)), ...relabelled };
  return put(JSON.stringify(envelope));
}

function put(envelope: string): Hex {
  const hash = toHex(sha256(utf8(envelope)));
  writeFileSync(fileOf(hash), envelope);
  return hash;
}

/** Rolls out a manifest of one container that gets these. @returns its hash */
async function rollOut(app: string, secrets: Record<string, Hex>): Promise<Hex> {
  const manifest = formatManifest({
    version: 2,
    app,
    secrets: Object.entries(secrets).map(([name, envelope]) => ({ name, envelope })),
    containers: [{ name: 'web', image: IMAGE, memoryMiB: 8, secrets: Object.keys(secrets) }],
  });
  const hash = toHex(manifestHash(manifest));
  writeFileSync(volume('manifests', `${hash}.json`), manifest);
  await network.send(encodeRollout({ app: to0x(appId(app)), manifestHash: `0x${hash}` }));
  return hash;
}

const statusOf = async (app: string, on = node) =>
  (await on.get<AppsStatus>(nodePaths.apps)).apps.find((one) => one.app === app);
const serving = (app: string, hash: Hex, on = node) =>
  eventually(async () => (await statusOf(app, on))?.serving === hash, `${app} to run`);

/** What a container of the app sees at /run/secrets, if podman does what it is told. */
function seenBy(app: string, by = podman): Record<string, string> {
  const [mount, ...others] = by.binds(app);
  expect(others).toEqual([]);
  const [folder = '', path, options] = mount!.split(':');
  const [uid, gid] = [process.getuid!(), process.getgid!()];
  expect([path, options]).toEqual([
    '/run/secrets',
    `ro,nosuid,nodev,noexec,idmap=uids=@${uid}-0-1;gids=@${gid}-0-1`,
  ]);
  return Object.fromEntries(
    readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]),
  );
}

test('what the owner sets is what the container sees, and nobody else sees any of it', {
  timeout: 300_000,
}, async () => {
  const chain = ['--rpc', network.anvil.url, '--chain-id', String(network.domain.chainId)];
  const places = ['--contract', network.contract, '--relay', node.url, '--out', volume()];
  const set = ['app', 'secret', 'set', 'shop', 'db', ...chain, ...places];
  expect(await dstack(set)).toMatchObject({ code: 2, stderr: expect.stringContaining('the value is empty') });
  const said = await dstackOk(set, {}, VALUE);
  const envelope = /^envelope {2}(.*)$/m.exec(said)![1]!;

  const compose = join(network.directory, 'compose.yml');
  const service = `{image: "${IMAGE}", mem_limit: 8m, secrets: [db]}`;
  writeFileSync(compose, `services:\n  web: ${service}\nsecrets:\n  db: {external: true}\n`);
  const packed = await dstackOk([
    'app',
    'pack',
    'shop',
    compose,
    '--secret',
    `db=${envelope}`,
    '--out',
    volume(),
  ]);
  const manifest = /^manifest (0x[0-9a-f]{64})$/m.exec(packed)![1]!;
  await network.send(encodeRollout({ app: to0x(appId('shop')), manifestHash: manifest }));

  await serving('shop', manifest.slice(2) as Hex);
  expect(seenBy('shop')).toEqual({ db: VALUE });

  const texts = [said, podman.told(), node.log(), JSON.stringify(await node.get(nodePaths.apps))];
  for (const child of node.processes())
    for (const file of ['cmdline', 'environ'])
      texts.push(readFileSync(`/proc/${child.pid}/${file}`, 'latin1'));
  const shapes = [VALUE, toHex(utf8(VALUE)), Buffer.from(VALUE).toString('base64')];
  for (const text of texts) for (const shape of shapes) expect(text.includes(shape)).toBe(false);
  const own = 'var/lib/dstack/kubernethes/secrets';
  const holding = readdirSync(node.directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => shapes.some((shape) => readFileSync(file, 'latin1').includes(shape)));
  expect(holding).toEqual([join(node.directory, own, manifest.slice(2), 'web/db')]);
  expect(statSync(holding[0]!).mode & 0o777).toBe(0o400);
  expect(statSync(join(node.directory, own)).mode & 0o077).toBe(0);
});

test('another node of the network, or this one after a reboot, opens it too', {
  timeout: 300_000,
}, async () => {
  const other = await network.start({ role: 'join', image: 'the image' });
  await eventually(async () => (await other.status()).state === 'requesting', 'the second node to ask');
  const request = await other.post<RequestMessage>(nodePaths.request);
  await network.register(request);
  await network.confirm();
  await network.postOnboard(await node.post<AnswerMessage>(nodePaths.onboard, request));
  await network.confirm();
  await other.post(nodePaths.answer, await node.post<SealedMessage>(nodePaths.sealed, request));

  for (const kind of ['secrets', 'manifests'])
    cpSync(volume(kind), join(other.directory, 'mnt/host_volume', kind), { recursive: true });
  const theirs = await withApps(other);
  other.daemon('kubernethes', []);
  await eventually(async () => theirs.binds('shop').length > 0, 'the app to run there');
  expect(seenBy('shop', theirs)).toEqual({ db: VALUE });
  await other.stop();
});

/** What a host does to an envelope that a manifest names, and what its node says. */
const hostile: Record<string, [code: string, act: (named: Hex, others: Others) => void]> = {
  missing: ['SECRET_MISSING', (named) => rmSync(fileOf(named))],
  swapped: ['SECRET_HASH_MISMATCH', (named, { another }) => copy(another, named)],
  replayed: ['SECRET_HASH_MISMATCH', (named, { older }) => copy(older, named)],
  'of-another-app': ['SECRET_HASH_MISMATCH', (named, { theirs }) => copy(theirs, named)],
  'of-another-network': ['SECRET_HASH_MISMATCH', (named, { abroad }) => copy(abroad, named)],
  altered: [
    'SECRET_HASH_MISMATCH',
    (named) => {
      const text = readFileSync(fileOf(named), 'utf8');
      writeFileSync(
        fileOf(named),
        text.replace(/.(?="\}$)/, (digit) => (digit === '0' ? '1' : '0')),
      );
    },
  ],
  'too-large': [
    'SECRET_TOO_LARGE',
    (named) => writeFileSync(fileOf(named), Buffer.alloc(ENVELOPE_MAX_BYTES + 1, 32)),
  ],
  'a-link': [
    'SECRET_NOT_REGULAR',
    (named, { another }) => {
      rmSync(fileOf(named));
      symlinkSync(fileOf(another), fileOf(named));
    },
  ],
};
interface Others {
  readonly another: Hex;
  readonly older: Hex;
  readonly theirs: Hex;
  readonly abroad: Hex;
}
const copy = (from: Hex, to: Hex) => writeFileSync(fileOf(to), readFileSync(fileOf(from)));

test('a host that swaps, replays, alters or withholds an envelope: refused by code, and taken once it is put right', {
  timeout: 300_000,
}, async () => {
  const theirs = await seal('shop', 'db', 'theirs');
  const abroad = await seal('x', 'db', 'abroad', { elsewhere: { chainId: 1 } });
  const rolledOut = new Map<string, { hash: Hex; named: Hex; good: Buffer }>();
  for (const [app, [, act]] of Object.entries(hostile)) {
    const [older, named, another] = [
      await seal(app, 'db', 'the old value'),
      await seal(app, 'db', `the value of ${app}`),
      await seal(app, 'token', 'another secret'),
    ];
    const good = readFileSync(fileOf(named));
    act(named, { another, older, theirs, abroad });
    rolledOut.set(app, { hash: await rollOut(app, { db: named, token: another }), named, good });
  }
  for (const [app, [code]] of Object.entries(hostile))
    await eventually(
      async () => (await statusOf(app))?.trouble?.code === code,
      `${app} to be refused with ${code}`,
    );
  for (const app of rolledOut.keys()) expect(podman.binds(app), app).toEqual([]);

  for (const { named, good } of rolledOut.values()) {
    rmSync(fileOf(named), { force: true });
    writeFileSync(fileOf(named), good);
  }
  for (const [app, { hash }] of rolledOut) {
    await serving(app, hash);
    expect(seenBy(app)).toEqual({ db: `the value of ${app}`, token: 'another secret' });
  }
});

test('an envelope that a manifest names, and is of another app, name or network, or does not open: a code each', {
  timeout: 300_000,
}, async () => {
  const place = (app: string) => ({ relabelled: { ...network.domain, app, name: 'db' } });
  const named: Record<string, [code: string, envelope: Hex]> = {
    'wrong-app': ['SECRET_WRONG_APP', await seal('shop', 'db', 'x')],
    'wrong-name': ['SECRET_WRONG_NAME', await seal('wrong-name', 'token', 'x')],
    'wrong-chain': [
      'SECRET_WRONG_NETWORK',
      await seal('wrong-chain', 'db', 'x', { elsewhere: { chainId: 1 } }),
    ],
    'wrong-contract': [
      'SECRET_WRONG_NETWORK',
      await seal('wrong-contract', 'db', 'x', { elsewhere: { contract: `0x${'11'.repeat(20)}` } }),
    ],
    // The same, once somebody has changed what they say of themselves.
    'posing-app': ['SECRET_UNOPENABLE', await seal('shop', 'db', 'x', place('posing-app'))],
    'posing-name': ['SECRET_UNOPENABLE', await seal('posing-name', 'token', 'x', place('posing-name'))],
    'posing-chain': [
      'SECRET_UNOPENABLE',
      await seal('posing-chain', 'db', 'x', { elsewhere: { chainId: 1 }, ...place('posing-chain') }),
    ],
    'other-key': ['SECRET_UNOPENABLE', await seal('other-key', 'db', 'x', { keyOf: 'shop' })],
    'no-envelope': ['SECRET_MALFORMED', put('a value in the clear')],
  };
  for (const [app, [, envelope]] of Object.entries(named)) await rollOut(app, { db: envelope });
  for (const [app, [code]] of Object.entries(named))
    await eventually(
      async () => (await statusOf(app))?.trouble?.code === code,
      `${app} to be refused with ${code}`,
    );
  for (const app of Object.keys(named)) expect(podman.binds(app), app).toEqual([]);
});

// The last: the node gives no bridge to another app for a minute after its daemon was started.
test('a daemon that is started again goes on with it, and so does a container, without host and replicator', {
  timeout: 300_000,
}, async () => {
  kubernethes.kill('SIGKILL');
  renameSync(volume('secrets'), volume('gone'));
  try {
    kubernethes = node.daemon('kubernethes', []);
    await eventually(async () => node.log().includes('taken over from an earlier run'), 'the next run');
    podman.crash('shop');
    await eventually(async () => podman.binds('shop').length > 0, 'the container to be started again');
    expect(seenBy('shop')).toEqual({ db: VALUE });
  } finally {
    renameSync(volume('gone'), volume('secrets'));
  }
});
