/**
 * Clients outside of the VM: Debian's etcdctl with a certificate, through the front as it is in the image, at the store; and whoever must not come
 * in, each refused by a code in the log. etcd, HAProxy and what issues the store's certificate are real; the chain's time is this test's.
 */
import { createHash, createPublicKey, ECDH } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { Clients } from '../../guest/kv/clients.ts';
import { appCertificate, authorityCertificate } from '../../guest/replicator/app-certificate.ts';
import { keyring } from '../../guest/replicator/keyring.ts';
import { secretHolder } from '../../guest/replicator/secret.ts';
import { derBits, derOid, derSequence } from '../../lib/attestation/bytes/der-writer.ts';
import { listenUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, toHex } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import {
  authorityExtensions,
  CLIENT_AUTH,
  certificate,
  type KeyPair,
  keyUsage,
  newKey,
  notAuthority,
  purposes,
  SERVER_AUTH,
  spkiOf,
  TestAuthority,
} from '../support/authority.ts';
import { etcdctl } from '../support/etcdctl.ts';
import { frontBelow, startHaproxy } from '../support/front.ts';
import { app, startKv, type TestKv } from '../support/kv.ts';

const PATIENCE = { timeout: 60_000, interval: 50 };
const DAY = 24 * 3600;
const PER_APP = 20;
const START = Math.floor(Date.now() / 1000);
const folder = mkdtempSync(join(tmpdir(), 'dstack-clients-'));
const keys = secretHolder(keyring(new Map([[1, new Uint8Array(32).fill(7)]])), {
  chainId: 31337,
  contract: parseAddress(`0x${'11'.repeat(20)}`),
});
const [ofOrders, ofOther, stranger] = ['CA', 'Other CA', 'CA'].map((name) => new TestAuthority(name)) as [
  TestAuthority,
  TestAuthority,
  TestAuthority,
];
/** An authority that has had a second certificate for its key: the first one is over sooner. */
const renewed = new TestAuthority('Renewed', { to: START + 10 * DAY });
const renewal = certificate({
  ...{ subject: 'Renewed', issuer: 'Renewed', key: renewed.key },
  extensions: authorityExtensions(),
});
const names = { orders: ['localhost'], other: ['other.localhost'], news: ['news.localhost'] };
/** By app, which the replicator gives no others. */
const namesOf = (one: string) => names[one as keyof typeof names];
const revokedKey = newKey();
let now: number | undefined = START;
const told: { app: string; code: string }[] = [];
/** Codes, of whoever came as far as that. */
let refused: string[] = [];
/** Of whoever was let in last. */
let last: Socket;
let kv: TestKv;
let clients: Clients;
let haproxy: Awaited<ReturnType<typeof startHaproxy>>;
let port: number;

interface Shown {
  readonly cert: string;
  readonly key: string;
}

interface Form {
  readonly key?: KeyPair;
  readonly from?: number;
  readonly to?: number;
  readonly purpose?: string;
}

const leaf = (purpose = CLIENT_AUTH) => [notAuthority(), keyUsage(0x80), purposes(purpose)];
const pemOf = ({ privateKey }: KeyPair) => privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;

/** A certificate of a client. */
function user(authority: TestAuthority, subject: string, form: Form = {}): Shown {
  const { key = newKey(), from = START - DAY, to = START + 30 * DAY, purpose } = form;
  const cert = authority.issue({ subject, key, from, to, extensions: leaf(purpose) });
  return { cert, key: pemOf(key) };
}

/** etcdctl of the app's own container, by the bridge. */
async function within(name: string, ...commands: readonly string[]): Promise<void> {
  const address = await kv.open(app(name));
  for (const command of commands) {
    const said = await etcdctl(address, command.split(' '));
    expect(said, command).toMatchObject({ code: 0 });
  }
}

beforeAll(async () => {
  kv = await startKv();
  clients = new Clients({
    clients: {
      orders: {
        names: names.orders,
        authorities: [ofOrders.pem, renewed.pem, renewal],
        revokedKeys: [parseHex(createHash('sha256').update(spkiOf(revokedKey)).digest('hex'))],
      },
      other: { names: names.other, authorities: [ofOther.pem, renewed.pem] },
      // It has no users.
      news: { names: names.news, authorities: [ofOther.pem] },
    },
    certificate: async (name, publicKey) => {
      const asked = {
        ...{ app: name, manifestHash: parseHex('00'.repeat(32)), subject: '', altNames: namesOf(name) },
        ...{ serverAuth: true, clientAuth: false, named: false },
      };
      const own = appCertificate(keys, asked, fromHex(publicKey), undefined, START);
      return { chain: [own, authorityCertificate(keys, name)].map((der) => parseHex(toHex(der))) };
    },
    time: { now: () => now },
    requireUser: (call) => kv.running.store.requireUser(call),
    connections: 3 * PER_APP,
    log: { warn: (fields) => told.push(fields as { app: string; code: string }) },
  });
  const description = await frontBelow(folder);
  port = description.listen.storePort;
  mkdirSync(join(description.store, '..'), { recursive: true });
  const door = kv.running.door({
    callerOf: async (socket) => {
      try {
        const caller = await clients.callerOf(socket);
        last = socket;
        return caller;
      } catch (error) {
        refused.push(codeOf(error));
        throw error;
      }
    },
    isStill: (socket) => clients.isStill(socket),
    tls: clients.tls(),
  });
  await listenUnix(door.server, { path: description.store });
  mkdirSync(join(description.placeholder, '..'), { recursive: true });
  const placeholder = newKey();
  writeFileSync(
    description.placeholder,
    pemOf(placeholder) + new TestAuthority('nobody').issue({ key: placeholder }),
  );
  haproxy = await startHaproxy(description);
  await vi.waitFor(() => expect(clients.rootOf('other')).toBeDefined(), PATIENCE);
  await within(
    'orders',
    ...[
      'put open/a 1',
      'put closed/a 2',
      'role add reader',
      'role grant-permission reader readwrite open/ --prefix',
    ],
    ...['user add root:x', 'user grant-role root root', 'user add alice --no-password'],
    ...['user add carol --no-password', 'user grant-role alice reader', 'auth enable'],
  );
  await within(
    'other',
    ...[
      'put open/a of-other',
      'user add root:x',
      'user grant-role root root',
      'user add alice --no-password',
    ],
    ...['user grant-role alice root', 'auth enable'],
  );
});

afterAll(async () => {
  haproxy?.kill('SIGKILL');
  await kv?.stop();
  rmSync(folder, { recursive: true, force: true });
});

beforeEach(() => {
  now = START;
  refused = [];
});

/** Each from an address of its own: the front counts by source. */
let sources = 0;
const source = () => `127.1.${sources >> 8}.${sources++ & 255}`;

/** Dials as any client of TLS does. */
function dial(shown: Partial<Shown>, more: ConnectionOptions = {}): TLSSocket {
  const trusted = ['orders', 'other', 'news'].map((name) => clients.rootOf(name)!);
  const to = { host: '127.0.0.1', port, localAddress: source() };
  const options = { ...to, servername: 'localhost', ca: trusted, ...shown, ...more };
  return connect(options).on('error', () => {});
}

/** What is answered; nothing where the connection ends. */
async function answer(shown: Partial<Shown>, more: ConnectionOptions = {}): Promise<string> {
  const socket = dial(shown, more);
  socket.write('GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  let said = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await new Promise((resolve) => socket.on('close', resolve));
  return said.split('\r\n')[0]!;
}

/** etcdctl outside. */
async function outside(shown: Shown, ...args: readonly string[]) {
  const files = Object.entries({ ...shown, cacert: clients.rootOf('orders')! }).map(([name, text]) => {
    const file = join(folder, `${name}.pem`);
    writeFileSync(file, text);
    return `--${name}=${file}`;
  });
  return etcdctl(`localhost:${port}`, [...args, ...files], { secure: true });
}

const alice = user(ofOrders, 'alice');

test('where the app has no users, a certificate opens nothing', async () => {
  const someone = user(ofOther, 'alice');
  for (const time of [1, 2])
    expect(await answer(someone, { servername: 'news.localhost' }), `time ${time}`).toBe('');
  expect(refused).toEqual(['STORE_CLIENT_USER', 'STORE_CLIENT_USER']);
  expect(
    told.filter((line) => line.app === 'news'),
    'said once a minute',
  ).toMatchObject([{ app: 'news', code: 'STORE_CLIENT_USER' }]);
});

test("etcdctl outside is the user that its certificate names, and has what that user's roles say", async () => {
  expect((await outside(alice, 'put', 'open/b', 'from-outside')).out).toBe('OK\n');
  const { out } = await outside(alice, 'get', '--prefix', 'open/');
  expect(out).toBe('open/a\n1\nopen/b\nfrom-outside\n');
  expect((await outside(alice, 'get', 'closed/a')).err).toContain('permission denied');
  expect((await outside(alice, 'user', 'list')).err).toContain('permission denied');
  expect((await outside(alice, 'snapshot', 'save', join(folder, 'no.db'))).err).toContain(
    'permission denied',
  );
  expect(refused).toEqual([]);
});

test('of another app it has nothing, by whatever name it asks', async () => {
  expect(await answer(alice, { servername: 'other.localhost' })).toBe('');
  const theirs = user(ofOther, 'alice');
  expect(await answer(theirs)).toBe('');
  expect(refused).toEqual([]);
  expect(await answer(theirs, { servername: 'other.localhost' })).toBe('HTTP/1.1 200 OK');
});

test.each<[string, () => Promise<string>, string?]>([
  ['no certificate', () => answer({})],
  ['a certificate of an authority of the same name', () => answer(user(stranger, 'alice'))],
  ['a certificate that is for services', () => answer(user(ofOrders, 'alice', { purpose: SERVER_AUTH }))],
  ['no name that is asked for', () => answer(alice, { servername: '' })],
  [
    'a name that network.json does not have',
    // Whatever it is shown, it goes on.
    () => answer(alice, { servername: 'site.example', checkServerIdentity: () => undefined }),
  ],
  ['no TLS', async () => plainly('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
  [
    'a key that was revoked',
    () => answer(user(ofOrders, 'alice', { key: revokedKey })),
    'STORE_CLIENT_REVOKED',
  ],
  [
    'a key that was revoked, written in another way',
    () => answer(user(ofOrders, 'alice', { key: compressed(revokedKey) })),
    'STORE_CLIENT_KEY',
  ],
  ['a name of no user', () => answer(user(ofOrders, 'bob')), 'STORE_CLIENT_USER'],
  ['a name that is none', () => answer(user(ofOrders, 'al\u0000ice')), 'STORE_CLIENT_NAME'],
  ['a certificate that is over', () => at(START + 31 * DAY, alice), 'STORE_CLIENT_TIME'],
  ['a certificate that is not one yet', () => at(START - 2 * DAY, alice), 'STORE_CLIENT_TIME'],
  [
    'an authority whose only certificate is over',
    () => at(START + 20 * DAY, user(renewed, 'alice'), { servername: 'other.localhost' }),
    'STORE_CLIENT_TIME',
  ],
  ["a chain's time that is not known", () => at(undefined, alice), 'CHAIN_STALE'],
  ['an authority below the one that is named', () => answer(belowNamed()), 'STORE_CLIENT_ISSUER'],
])('%s: refused', async (_, attempt, code) => {
  expect(await attempt()).toBe('');
  expect(refused).toEqual(code === undefined ? [] : [code]);
  now = START;
  expect(await answer(alice)).toBe('HTTP/1.1 200 OK');
});

function setTime(time: number | undefined): void {
  now = time;
}

const at = (time: number | undefined, shown: Shown, more: ConnectionOptions = {}) => {
  setTime(time);
  return answer(shown, more);
};

/** The same key, with the point of its curve in the short form: whoever hashes it gets another hash. */
function compressed({ privateKey, publicKey }: KeyPair): KeyPair {
  const point = spkiOf({ privateKey, publicKey }).subarray(-65);
  const short = ECDH.convertKey(point, 'prime256v1', undefined, undefined, 'compressed') as Buffer;
  const algorithm = derSequence(derOid('1.2.840.10045.2.1'), derOid('1.2.840.10045.3.1.7'));
  const key = Buffer.from(derSequence(algorithm, derBits(new Uint8Array(short))));
  return { privateKey, publicKey: createPublicKey({ key, format: 'der', type: 'spki' }) };
}

/** Everything is in order but for who signed: what a named authority lets others sign is not what network.json says. */
function belowNamed(): Shown {
  const below = new TestAuthority('Below');
  const itself = ofOrders.issue({ subject: 'Below', key: below.key, extensions: authorityExtensions() });
  const { cert, key } = user(below, 'alice');
  return { cert: cert + itself, key };
}

function plainly(text: string): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connectTcp({ port, host: '127.0.0.1', localAddress: source() }).on('error', () => {});
    socket.on('data', (data) => {
      said += data.toString();
    });
    socket.on('close', () => resolve(said)).write(text);
  });
}

test('no session is taken up again, so that each connection shows its certificate', async () => {
  const first = dial(alice);
  const session = new Promise<Buffer | undefined>((resolve) => {
    first.once('session', resolve);
    setTimeout(() => resolve(first.getSession()), 1_000);
  });
  first.write('GET /health HTTP/1.1\r\nhost: a\r\n\r\n');
  const kept = await session;
  first.destroy();
  const second = dial(alice, { session: kept });
  await new Promise((resolve) => second.once('secureConnect', resolve));
  expect(second.isSessionReused()).toBe(false);
  second.destroy();
});

test('an authority with a new certificate for its key certifies as before, also once the old one is over', async () => {
  const shown = user(renewed, 'alice');
  expect(await answer(shown)).toBe('HTTP/1.1 200 OK');
  expect(await at(START + 20 * DAY, shown)).toBe('HTTP/1.1 200 OK');
});

test('there is one handshake of a connection: in a second one it could show another certificate', async () => {
  const socket = dial(alice, { maxVersion: 'TLSv1.2' });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  const second = await new Promise((resolve) => {
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code));
    socket.renegotiate({}, (error) => resolve(error === null ? 'done' : error));
  });
  expect(second).toBe('ERR_SSL_NO_RENEGOTIATION');
  socket.destroy();
});

test('who a connection is of is judged once, however often it is looked at', async () => {
  const socket = dial(alice);
  socket.write('GET /health HTTP/1.1\r\nhost: a\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  const judged = vi.spyOn(last as TLSSocket, 'getPeerX509Certificate');
  for (const time of [1, 2]) expect(await clients.isStill(last), `time ${time}`).toBe(true);
  expect(judged).not.toHaveBeenCalled();
  socket.destroy();
});

test('clients of one app have their part of the connections, and no more', async () => {
  const theirs = user(ofOther, 'alice');
  const open = () => {
    const socket = dial(alice);
    socket.write('GET /health HTTP/1.1\r\nhost: a\r\n\r\n');
    return new Promise<TLSSocket>((resolve) => socket.once('data', () => resolve(socket)));
  };
  const held = await Promise.all(Array.from({ length: PER_APP }, open));
  expect(await answer(alice)).toBe('');
  expect(refused).toEqual(['STORE_CLIENT_CONNECTIONS']);
  expect(await answer(theirs, { servername: 'other.localhost' })).toBe('HTTP/1.1 200 OK');
  for (const socket of held) socket.destroy();
  await expect.poll(() => answer(alice)).toBe('HTTP/1.1 200 OK');
});

test('who connects over and over keeps nobody else waiting', { timeout: 60_000 }, async () => {
  const to = { port, host: '127.0.0.1', localAddress: '127.0.0.2' };
  let over = false;
  const connects = async () => {
    while (!over)
      await new Promise((resolve) => {
        const socket = connectTcp(to, () => socket.destroy()).on('error', () => {});
        socket.once('close', resolve);
      });
  };
  const crowd = Array.from({ length: 60 }, connects);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const began = performance.now();
  expect(await answer(alice)).toBe('HTTP/1.1 200 OK');
  expect(performance.now() - began).toBeLessThan(7_000);
  over = true;
  await Promise.all(crowd);
});

test.each<[string, () => Promise<unknown>]>([
  ['its certificate is over', async () => setTime(START + 31 * DAY)],
  ["the chain's time is not known any more", async () => setTime(undefined)],
  ['its user is gone', async () => within('orders', '--user root:x user delete carol')],
])('a connection ends soon after %s', async (_, happens) => {
  const socket = dial(user(ofOrders, 'carol'));
  const ask = () => socket.write('GET /health HTTP/1.1\r\nhost: a\r\n\r\n');
  ask();
  await new Promise((resolve) => socket.once('data', resolve));
  // One that is never idle: what is idle ends by itself.
  const asking = setInterval(ask, 300);
  socket.on('error', () => {}).resume();
  await happens();
  await expect.poll(() => socket.destroyed, { timeout: 30_000 }).toBe(true);
  clearInterval(asking);
});

test('what it shows is the certificate of the app, for its names, by a key that no app has', async () => {
  const socket = dial({ ...user(ofOther, 'alice') }, { servername: 'other.localhost' });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  const shown = socket.getPeerX509Certificate()!;
  expect(shown.subjectAltName).toBe('DNS:other.localhost');
  const authority = createPublicKey({
    key: Buffer.from(keys.authorityOf('other')),
    format: 'der',
    type: 'spki',
  });
  expect(shown.verify(authority)).toBe(true);
  socket.destroy();
});
