/**
 * By hand, `npm run test:store`: an app in a container keeps what it has in the store of its node, by npm's etcd3; the app's records are
 * there after the VM was killed and a receipt is checked from outside. The app that network.json names as the store's owner takes a backup,
 * which an etcd outside is made of; the ledger shows what network.json makes public; and etcdctl on the host is the user that its
 * certificate names.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readCheckpoint } from '../../lib/ledger/checkpoint.ts';
import { receiptInAnswer } from '../../lib/ledger/lskv.ts';
import { TILE_WIDTH, tileOf, tilePath } from '../../lib/ledger/tiles.ts';
import { DemoHost, type DemoNetwork } from '../../scripts/demo/host.ts';
import {
  asOwner,
  bootstrapFirst,
  buildApp,
  deployNetwork,
  joinSecond,
  packAs,
  prepareNetwork,
  relayKeys,
} from '../../scripts/demo/network.ts';
import { dstack, repository, stopAll } from '../../scripts/demo/processes.ts';
import { ask } from '../../scripts/demo/site.ts';
import { say, waitFor } from '../../scripts/demo/steps.ts';
import {
  CLIENT_AUTH,
  keyUsage,
  newKey,
  notAuthority,
  purposes,
  TestAuthority,
} from '../support/authority.ts';
import { startEtcd } from '../support/etcd.ts';
import { etcdctl } from '../support/etcdctl.ts';
import { installLocked } from '../support/locked-packages.ts';
import { descendants, isQemu } from './host-view/processes.ts';
import { layNodeApp } from './node-app.ts';

/**
 * /put/KEY/VALUE, /get/KEY and /all by etcd3; /users makes the user alice, of what is below open/, and asks for users from then on; /raw/PATH the
 * store's own pages, /snapshot all that it keeps, as the container gets them.
 */
const SERVER = `import { createServer } from 'node:http';
import { Etcd3 } from 'etcd3';

const store = 'http://dstack-guest:2379';
const client = new Etcd3({ hosts: store, dialTimeout: 60000 });
const act = async ([, what, key, ...rest]) => {
  if (what === 'put') {
    const { header } = await client.put(key).value(rest[0]);
    return { revision: header.revision };
  }
  if (what === 'get') return { value: await client.get(key).string() };
  if (what === 'all') return await client.getAll().strings();
  if (what === 'receipt') {
    const body = JSON.stringify({ revision: key });
    return await (await fetch(store + '/v3/receipt/get_receipt', { method: 'POST', body })).json();
  }
  if (what === 'users') {
    const base64 = (text) => Buffer.from(text).toString('base64');
    const perm = { permType: 'READWRITE', key: base64('open/'), range_end: base64('open0') };
    for (const [call, body] of [
      ['role/add', { name: 'clerk' }],
      ['role/grant', { name: 'clerk', perm }],
      ['user/add', { name: 'root', password: 'of-this-test' }],
      ['user/grant', { user: 'root', role: 'root' }],
      ['user/add', { name: 'alice', options: { no_password: true } }],
      ['user/grant', { user: 'alice', role: 'clerk' }],
      ['enable', {}],
    ]) {
      const reply = await fetch(store + '/v3/auth/' + call, { method: 'POST', body: JSON.stringify(body) });
      if (!reply.ok) throw new Error(call + ': ' + (await reply.text()));
    }
    return {};
  }
  if (what === 'raw') {
    const reply = await fetch(store + '/' + [key, ...rest].join('/'));
    return { status: reply.status, text: Buffer.from(await reply.arrayBuffer()).toString('base64') };
  }
  if (what === 'snapshot') {
    const reply = await fetch(store + '/v3/maintenance/snapshot', { method: 'POST', body: '{}' });
    const said = (await reply.text()).trim().split('\\n').map((line) => JSON.parse(line));
    const refused = said.find(({ result }) => result === undefined);
    if (refused !== undefined) return { refused: JSON.stringify(refused) };
    const blobs = said.map(({ result }) => Buffer.from(result.blob ?? '', 'base64'));
    return { snapshot: Buffer.concat(blobs).toString('base64') };
  }
  return {};
};
createServer((request, response) => {
  act(request.url.split('/')).then(
    (said) => response.end(JSON.stringify(said)),
    (error) => response.end(JSON.stringify({ error: String(error.message) })),
  );
}).listen(8080);
`;

const ETCD3_FOLDER = join(repository, 'test/etcd3');
/** The website of the store's owner. */
const ADMIN = 'admin.localhost';
/** Of the app's clients outside. */
const authority = new TestAuthority('Clients of keeper');
const files = mkdtempSync(join(tmpdir(), 'dstack-store-app-'));
let network: DemoNetwork;
/** Stays as it is, so that the network's secret does. */
let a: DemoHost;
let b: DemoHost;

beforeAll(async () => {
  await installLocked(ETCD3_FOLDER);
  layNodeApp(files, ETCD3_FOLDER, SERVER);
  const archive = await buildApp('keeper', '--version', '1', '--files', files);
  network = await deployNetwork(join(repository, '.state/store'));
  const shared = { network, disk: true, diskMiB: 512 };
  a = new DemoHost({ ...shared, name: 'a', gasKey: relayKeys[0], peers: [] });
  const clients = { keeper: { names: ['localhost'], authorities: [authority.pem] } };
  const storeClients = join(files, 'clients.json');
  writeFileSync(storeClients, JSON.stringify(clients));
  const store = { storeQuota: 64, storeOwner: 'admin', storePublic: 'keeper=open-', storeClients };
  await prepareNetwork(network, a, [], store);
  await bootstrapFirst(network, a);
  b = new DemoHost({ ...shared, name: 'b', gasKey: relayKeys[1], peers: [a.gossipUrl], leadsToStore: true });
  const rollOut = async (app: string, ...options: string[]) => {
    const all = ['--port', '8080', '--set', 'memoryMiB=256', '--api', 'store', ...options];
    await asOwner(network, 'app', 'rollout', app, await packAs(app, network, a, archive, ...all));
  };
  await rollOut('keeper', '--api', 'info');
  // The same program, which may do more because of its name.
  await rollOut('admin', '--domain', ADMIN);
  await joinSecond(network, a, b);
}, 1_800_000);

afterAll(async () => {
  await stopAll();
  rmSync(files, { recursive: true, force: true });
}, 60_000);

const call = async (path: string, domain?: string): Promise<Record<string, string>> =>
  JSON.parse(await ask(b.tlsPort, path, domain));
/** Once the app serves, and its store answers. */
const answering = (path: string, domain?: string) =>
  waitFor(
    `${path} of ${domain ?? 'the app'}`,
    async () => {
      const said = await call(path, domain);
      return 'error' in said ? undefined : said;
    },
    900,
    () => '',
    () => b.alive(),
  );

test('an app keeps its records by etcd3, each with a receipt; after a kill of the VM they are there', {
  timeout: 1_800_000,
}, async () => {
  const { revision } = await answering('/put/first/one');
  const written = new Map<string, string>();
  const began = performance.now();
  for (let index = 0; index < 50; index += 1) {
    await answering(`/put/key-${index}/value-${index}`);
    written.set(`key-${index}`, `value-${index}`);
  }
  say(`50 puts of an app, one after the other: ${((performance.now() - began) / 50).toFixed(0)} ms each`);
  const evidence = await call('/raw/ledger/evidence.json');
  expect(evidence.status).toBe(200);
  writeFileSync(join(files, 'evidence.json'), Buffer.from(evidence.text!, 'base64'));
  writeFileSync(join(files, 'receipt'), receiptInAnswer(await call(`/receipt/${revision}`)));
  const { networkKey } = await b.status();
  const verify = ['kv', 'receipt', 'verify', join(files, 'receipt')];
  const by = ['--evidence', join(files, 'evidence.json'), '--network-key', networkKey!];
  expect(await dstack({}, ...verify, ...by, '--key', 'first', '--value', 'one')).toContain('PROVEN');

  const qemu = descendants().find((one) => isQemu(one) && one.title.includes(b.disk))!;
  process.kill(qemu.pid, 'SIGKILL');
  await b.ended();
  await b.powerOn('join');
  await b.joined();
  expect(await answering('/all')).toMatchObject({ first: 'one', ...Object.fromEntries(written) });
  // The same log goes on: the receipt of before proves the same.
  const again = await call('/raw/ledger/evidence.json');
  const { publicKey, log } = JSON.parse(Buffer.from(again.text!, 'base64').toString()) as Record<
    string,
    string
  >;
  expect(JSON.parse(Buffer.from(evidence.text!, 'base64').toString())).toMatchObject({ publicKey, log });
  expect(await call(`/receipt/${revision}`)).toHaveProperty('receipt');
});

test("the store's owner takes a backup of what all apps keep, and no other app can; an etcd outside is made of it", {
  timeout: 1_200_000,
}, async () => {
  await answering('/put/kept/in-the-backup');
  await answering('/put/own/of-admin', ADMIN);
  const { snapshot } = await answering('/snapshot', ADMIN);
  expect(await answering('/snapshot')).toEqual({ refused: expect.stringContaining('permission denied') });
  const file = join(files, 'snapshot.db');
  writeFileSync(file, Buffer.from(snapshot!, 'base64'));
  const folder = join(files, 'restored');
  const restore = ['snapshot', 'restore', file, '--data-dir', join(folder, 'etcd')];
  expect(await etcdctl('', restore, { program: 'etcdutl' })).toMatchObject({ code: 0 });
  const etcd = await startEtcd({ bare: true, folder });
  try {
    const kept = await etcdctl(etcd.address, ['get', '--prefix', 'a/']);
    expect(kept.out).toContain('a/keeper/kept\nin-the-backup\n');
    expect(kept.out).toContain('a/admin/own\nof-admin\n');
  } finally {
    await etcd.stop();
  }
});

test('everyone reads in the ledger what network.json makes public, and of the rest salted hashes', {
  timeout: 1_200_000,
}, async () => {
  const bytesOf = async (path: string) =>
    Buffer.from((await answering(`/raw/ledger/${path}`)).text!, 'base64');
  await answering('/put/open-price/of-a-pear');
  await answering('/put/closed-price/of-a-plum');
  const { size } = readCheckpoint((await bytesOf('checkpoint')).toString());
  const tiles = Array.from({ length: Math.ceil(size / TILE_WIDTH) }, (_, index) =>
    tilePath(tileOf('entries', index, size)!),
  );
  const entries = Buffer.concat(await Promise.all(tiles.map(bytesOf)));
  for (const word of ['open-price', 'of-a-pear']) expect(entries.includes(word), word).toBe(true);
  for (const word of ['closed-price', 'of-a-plum', 'value-1'])
    expect(entries.includes(word), word).toBe(false);
});

test('etcdctl outside of the VM is the user that its certificate names, of this app alone', {
  timeout: 1_200_000,
}, async () => {
  await answering('/put/closed/before');
  await answering('/users');
  writeFileSync(
    join(files, 'cacert.pem'),
    Buffer.from((await answering('/raw/clients.pem')).text!, 'base64'),
  );
  const as = (subject: string, by = authority) => {
    const key = newKey();
    const extensions = [notAuthority(), keyUsage(0x80), purposes(CLIENT_AUTH)];
    writeFileSync(join(files, 'cert.pem'), by.issue({ subject, key, extensions }));
    writeFileSync(join(files, 'key.pem'), key.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const shown = ['cacert', 'cert', 'key'].map((name) => `--${name}=${join(files, `${name}.pem`)}`);
    return (...args: string[]) =>
      etcdctl(`localhost:${b.storePort}`, [...args, ...shown], { secure: true, patience: 20 });
  };
  const alice = as('alice');
  const began = performance.now();
  expect(await alice('put', 'open/from', 'outside')).toMatchObject({ code: 0, out: 'OK\n' });
  say(`the first put from outside: ${(performance.now() - began).toFixed(0)} ms`);
  expect((await alice('get', '--prefix', 'open/')).out).toBe('open/from\noutside\n');
  for (const refused of [
    ['get', 'closed'],
    ['user', 'list'],
    ['snapshot', 'save', join(files, 'not.db')],
  ])
    expect((await alice(...refused)).err, refused.join(' ')).toContain('permission denied');
  for (const stranger of [as('bob'), as('alice', new TestAuthority('Clients of keeper'))])
    expect(await stranger('get', 'open/from')).toMatchObject({ code: 1, out: '' });
});
