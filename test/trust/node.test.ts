/**
 * Points 1, 3, 4, 6, 7, 10 and 12 on one real node. The test made the network's secret itself, so it can answer with lies
 * under valid signatures, and knows every key that must stay inside.
 */

import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { p256 } from '@noble/curves/nist.js';
import { afterAll, expect, test } from 'vitest';
import { daemons } from '../../guest/daemons.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import { expectedJoinedLog, expectedRequestLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { REVOKED_PPID } from '../../lib/attestation/simulated/collateral.ts';
import { callUnix, serveUnix } from '../../lib/daemon/unix-http.ts';
import { fromHex, sha256, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { appKey, diskKey, networkKey, tlsKey } from '../../lib/protocol/keys.ts';
import {
  type AnswerMessage,
  nodePaths,
  type RequestMessage,
  type SealedMessage,
} from '../../lib/protocol/onboarding-messages.ts';
import { QuoteReply, sockets } from '../../lib/protocol/sockets.ts';
import {
  byOwnAttestationKey,
  forgeAnswer,
  forgeBootstrap,
  forgeRequest,
  type Lies,
  ownChain,
  ppidOf,
  secretOf,
} from '../support/forge.ts';
import { freePort } from '../support/free-port.ts';
import { end, frontBelow, startHaproxy } from '../support/front.ts';
import { eventually, startTestNetwork, type TestNetwork, type TestNode } from '../support/network.ts';

const SECRET = secretOf("the network's");
const OTHER_SECRET = secretOf("the host's own");
/** A key that only the contents of the host's volume decide. */
const HOSTS_KEY = sha256(utf8("the host's TLS key"));

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

/** Made when the first test asks for it, so that a single test starts no more than it needs. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** A network of SECRET, and a node in it that still asks. */
const started = once(async () => {
  const network = await startTestNetwork();
  cleanups.push(() => network.stop());
  const node = await network.start({ role: 'join' });
  await network.allow(node);
  await forgeBootstrap(network, SECRET);
  return { network, node };
});

async function askedBy(network: TestNetwork, node: TestNode): Promise<RequestMessage> {
  await eventually(async () => (await node.status()).state === 'requesting', 'the node to ask');
  const request = await node.post<RequestMessage>(nodePaths.request);
  await network.register(request);
  return request;
}

/** The same, joined: it has SECRET. */
const joined = once(async () => {
  const { network, node } = await started();
  const request = await askedBy(network, node);
  const { answer, sealed } = await forgeAnswer(network, request, SECRET);
  await network.postOnboard(answer);
  await node.post(nodePaths.answer, sealed);
  return { network, node };
});

const refused = (code: string) => ({ code });

// ------------------------------------------------------------------------------------------------ 1

/** The agent beside the joined node; the test plays kubernethes and, by source address, apps, visitors and the host. */
const agent = once(async () => {
  const { network, node } = await joined();
  const caller = (app: string, address: string, gateway: string) => ({
    app,
    container: 'web',
    manifestHash: '00'.repeat(32),
    address,
    gateway,
    api: ['info', 'key', 'attest'],
  });
  const containers = [
    caller('greeting', '127.0.0.2', '127.0.0.1'),
    caller('other', '127.0.0.3', '127.0.0.1'),
    // Its own bridge is another one than where the test's connection arrives.
    caller('elsewhere', '127.0.0.4', '10.90.7.1'),
  ];
  const path = join(node.directory, 'run/dstack', sockets.kubernethesForAgent);
  mkdirSync(join(path, '..'), { recursive: true });
  const kubernethes = await serveUnix({
    path,
    routes: { 'GET /v1/containers': () => ({ containers, manifests: [] }) },
  });
  cleanups.push(() => kubernethes.close());
  const port = await freePort();
  node.daemon('agent', ['--listen', `127.0.0.1:${port}`]);
  await eventually(async () => node.log().includes('"name":"agent"'), 'the agent to listen');

  const ask = (from: string, url: string, headers: Record<string, string> = {}) =>
    new Promise<{ status: number; body: string }>((resolve, reject) => {
      httpRequest(
        {
          host: '127.0.0.1',
          port,
          path: url,
          localAddress: from,
          agent: false,
          headers: { host: 'dstack-guest', ...headers },
        },
        (response) => {
          text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
        },
      )
        .on('error', reject)
        .end();
    });
  return { network, node, ask };
});

test("1: an app gets its own keys from the app port, and nobody else's", async () => {
  const { ask } = await agent();
  expect((await ask('127.0.0.2', '/getkey/session')).body).toBe(
    toHex(appKey(SECRET, 1, 'greeting', 'session')),
  );
  expect((await ask('127.0.0.3', '/getkey/session')).body).toBe(toHex(appKey(SECRET, 1, 'other', 'session')));

  const internal = [tlsKey(SECRET, 1), networkKey(SECRET, 1).privateKey, SECRET].map(toHex);
  const paths = ['tls', 'network-key', 'disk', 'acme-account', 'signer', '..', '.', 'greeting', 'kv'].map(
    (tag) => `/getkey/${tag}`,
  );
  for (const path of [
    ...paths,
    '/getkey/../v1/tls-key',
    '/v1/tls-key',
    '/v1/disk-key',
    '/getkey/a/b',
    '/getkey/other/session',
    '/info',
  ]) {
    const { body } = await ask('127.0.0.2', path);
    for (const key of [...internal, toHex(appKey(SECRET, 1, 'other', 'session'))]) {
      expect(body, path).not.toContain(key);
    }
  }
});

test('1: the host is not an app, whatever address it comes from or bridge it arrives on', async () => {
  const { ask } = await agent();
  const [host, wrongBridge] = await Promise.all([
    ask('127.0.0.1', '/getkey/session'),
    ask('127.0.0.4', '/getkey/session'),
  ]);
  for (const { status, body } of [host, wrongBridge]) {
    expect(status).toBe(403);
    expect(JSON.parse(body).code).toBe('UNKNOWN_CALLER');
  }
});

test("1: a visitor's request that an app merely forwards is refused", async () => {
  const { ask } = await agent();
  for (const headers of [
    { 'x-forwarded-for': '8.8.8.8' },
    { origin: 'https://evil.example' },
    { host: 'evil.example' },
  ]) {
    const { status, body } = await ask('127.0.0.2', '/getkey/session', headers as Record<string, string>);
    expect(status).toBeGreaterThanOrEqual(403);
    expect(body).not.toContain(toHex(appKey(SECRET, 1, 'greeting', 'session')));
  }
});

test("1: the host's own port has no keys, and the sockets that have are closed to others", async () => {
  const { node } = await joined();
  for (const path of [
    '/v1/tls-key',
    '/v1/app-key',
    '/v1/disk-key',
    '/v1/attest',
    '/v1/secret',
    '/getkey/x',
    '/info',
  ]) {
    for (const method of ['GET', 'POST']) {
      expect((await fetch(`${node.url}${path}`, { method })).status, `${method} ${path}`).toBe(404);
    }
  }
  const serving = daemons.filter(({ name }) => name === 'attestor' || name === 'replicator');
  for (const { path: socket } of serving.flatMap(({ serves }) => serves)) {
    const { mode } = statSync(join(node.directory, 'run/dstack', socket));
    expect(mode & 0o007, `${socket} for everyone`).toBe(0);
  }
});

// ------------------------------------------------------------------------------------------------ 3

test("3: a new node takes only the answer that the contract recorded, and only if it is the network's secret", async () => {
  const { network } = await started();
  const node = await network.start({ role: 'join' });
  const first = await askedBy(network, node);

  // What the host hands over before, or beside, what is on chain.
  const { sealed: early } = await forgeAnswer(network, first, sha256(OTHER_SECRET));
  await expect(node.post(nodePaths.answer, early)).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
  const recorded = await forgeAnswer(network, first, SECRET, { secret: OTHER_SECRET });
  await network.postOnboard(recorded.answer);
  await expect(node.post(nodePaths.answer, early)).rejects.toMatchObject(refused('ANSWER_MISMATCH'));

  // A recorded answer with another secret: only the comparison with the contract's key is left.
  await expect(node.post(nodePaths.answer, recorded.sealed)).rejects.toMatchObject(
    refused('SECRET_MISMATCH'),
  );
  expect(await node.status()).toMatchObject({ state: 'requesting', code: 'SECRET_MISMATCH' });

  // Nothing was derived from any of them, and the node is not stuck.
  const second = await askedBy(network, node);
  expect(second.node).not.toBe(first.node);
  const { answer, sealed } = await forgeAnswer(network, second, SECRET);
  await network.postOnboard(answer);
  expect(await node.post(nodePaths.answer, sealed)).toMatchObject({
    state: 'joined',
    networkKey: networkKey(SECRET, 1).address,
  });
  await node.stop();
});

test('3: no node gives the sealed secret out before the contract shows its very hash', async () => {
  const { network, node } = await joined();
  const { message, kem } = await forgeRequest(network);
  const sealed = (request: RequestMessage) => node.post<SealedMessage>(nodePaths.sealed, request);
  await expect(sealed(message)).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
  await network.register(message);
  await network.confirm();

  // It passed, and gets no more than this until the contract shows it.
  const answer = await node.post<AnswerMessage>(nodePaths.onboard, message);
  expect(Object.keys(answer)).not.toContain('sealed');
  expect(Object.values(answer).every((value) => String(value).length < 2 * 1168)).toBe(true);
  await expect(sealed(message)).rejects.toMatchObject(refused('ANSWER_NOT_ON_CHAIN'));
  await network.postOnboard(answer);

  // The node makes again what it signed the hash of, of any version of the request; of another request it makes nothing.
  const given = await sealed(message);
  expect(toHex(sha256(fromHex(given.sealed)))).toBe(answer.answerHash);
  expect(await kem.open(fromHex(given.sealed), fromHex(answer.requestHash))).toEqual(SECRET);
  expect(await sealed({ ...message, quote: parseHex('00') })).toEqual(given);
  const others: [Partial<RequestMessage>, string][] = [
    [{ kemPublicKey: toHex((await forgeRequest(network)).kem.publicKey) }, 'ANSWER_NOT_ON_CHAIN'],
    [{ epoch: message.epoch + 1 }, 'REQUEST_EPOCH'],
    [{ chainId: 1 }, 'REQUEST_OTHER_NETWORK'],
  ];
  for (const [change, code] of others)
    await expect(sealed({ ...message, ...change })).rejects.toMatchObject(refused(code));

  // An answer that somebody with the network key made differently: on chain, and still not what this node would give.
  const { message: second } = await forgeRequest(network);
  await network.register(second);
  await network.postOnboard((await forgeAnswer(network, second, SECRET, { secret: OTHER_SECRET })).answer);
  await expect(sealed(second)).rejects.toMatchObject(refused('ANSWER_MISMATCH'));
});

test('3: messages of the one-step form are refused', async () => {
  const { network, node } = await joined();
  const { message } = await forgeRequest(network);
  await network.register(message);
  const { answer, sealed } = await forgeAnswer(network, message, SECRET);
  const { answerHash: _, ...rest } = answer;
  await expect(node.post(nodePaths.answer, { ...rest, sealed: sealed.sealed })).rejects.toMatchObject(
    refused('MESSAGE_MALFORMED'),
  );
  await expect(node.post(nodePaths.answer, answer)).rejects.toMatchObject(refused('MESSAGE_MALFORMED'));
});

// ------------------------------------------------------------------------------------------------ 4

const lies: [string, string, (network: TestNetwork) => Lies][] = [
  ['a debug TD', 'TD_DEBUG', () => ({ debug: true })],
  [
    'a platform with old microcode',
    'TCB_STATUS_NOT_ACCEPTED',
    () => ({ platform: { sgx: { components: new Array(16).fill(0) } } }),
  ],
  ['a TD that its host may migrate', 'TD_MIGRATABLE', () => ({ tdAttributes: fromHex('0000003000000000') })],
  [
    "a root of the host's own",
    'PCK_CHAIN_ROOT',
    (network) => ({ platform: { chain: ownChain(ppidOf(network)) } }),
  ],
  // Fields that nothing else compares (MRCONFIGID, the QE's CPUSVN): only the signatures prevent a change.
  ['a changed body', 'QUOTE_SIGNATURE', () => ({ quote: (quote) => changed(quote, 232) })],
  ['a changed QE report', 'QE_REPORT_SIGNATURE', () => ({ quote: (quote) => changed(quote, 632 + 138) })],
  ["an attestation key of the host's own", 'QE_REPORT_BINDING', () => ({ quote: byOwnAttestationKey })],
  ['a platform that Intel revoked', 'PCK_REVOKED', () => ({ platform: { ppid: REVOKED_PPID } })],
  ['another image', 'MEASUREMENT_NOT_ALLOWED', () => ({ image: 'one that leaks' })],
  [
    'another configuration',
    'CONFIG_NOT_ALLOWED',
    (network) => ({ networkJson: network.configWith({ minimumNodes: 2 }) }),
  ],
  ['another platform', 'PLATFORM_NOT_ALLOWED', () => ({ platform: { ppid: new Uint8Array(16).fill(7) } })],
  [
    'a machine that has joined already, where apps run',
    'RTMR3_MISMATCH',
    (network) => ({ rtmr3: replay(expectedJoinedLog('sim', sha256(utf8(network.networkJson)))) }),
  ],
  [
    'another KEM key',
    'REPORT_DATA_MISMATCH',
    () => ({ report: (report) => ({ ...report, kemPublicKey: new Uint8Array(1216) }) }),
  ],
  [
    'an older block',
    'REPORT_DATA_MISMATCH',
    () => ({ report: (report) => ({ ...report, blockHash: new Uint8Array(32) }) }),
  ],
];

test.each(lies)('4: a registered request whose quote is of %s is refused: %s', async (_, code, lie) => {
  const { network, node } = await joined();
  const { message } = await forgeRequest(network, lie(network));
  await network.register(message);
  await network.confirm();
  await expect(node.post(nodePaths.onboard, message)).rejects.toMatchObject(refused(code));
});

test('4: the same request without a lie is answered, with the secret and under the hash that it names', async () => {
  const { network, node } = await joined();
  const { message, kem } = await forgeRequest(network);
  await network.register(message);
  await network.confirm();
  const swapped = await forgeRequest(network);
  await expect(
    node.post(nodePaths.onboard, { ...message, quote: swapped.message.quote }),
  ).rejects.toMatchObject(refused('QUOTE_HASH_MISMATCH'));
  const answer = await node.post<AnswerMessage>(nodePaths.onboard, message);
  await network.postOnboard(answer);
  const { sealed } = await node.post<SealedMessage>(nodePaths.sealed, message);
  expect(toHex(sha256(fromHex(sealed)))).toBe(answer.answerHash);
  expect(await kem.open(fromHex(sealed), fromHex(answer.requestHash))).toEqual(SECRET);
});

test("4: a request that was registered under another quote's hash is refused", async () => {
  const { network, node } = await joined();
  const { message } = await forgeRequest(network, { quoteHash: '11'.repeat(32) });
  await network.register(message);
  await network.confirm();
  await expect(node.post(nodePaths.onboard, message)).rejects.toMatchObject(refused('QUOTE_HASH_MISMATCH'));
});

test('4: a machine that has joined gets no quote any more that would pass for a request', async () => {
  const { node } = await joined();
  const { quote } = await callUnix({
    path: join(node.directory, 'run/dstack', sockets.attestor),
    method: 'POST',
    route: '/v1/quote',
    body: { reportData: '00'.repeat(64) },
    reply: QuoteReply,
  });
  const asked = replay(expectedRequestLog('sim', node.config));
  const { body } = parseQuote(fromHex(quote));
  if (body.kind === 'sgx') throw new Error('a node is a TD');
  expect(toHex(body.rtmr3)).not.toBe(toHex(asked));
  expect(toHex(body.rtmr3)).toBe(toHex(replay(expectedJoinedLog('sim', node.config))));
});

// ------------------------------------------------------------------------------------------------ 6, 7

test('6: an onboarder answers nobody who did not ask on chain, and nobody twice', async () => {
  const { network, node } = await joined();
  const { message } = await forgeRequest(network);
  await expect(node.post(nodePaths.onboard, message)).rejects.toMatchObject(refused('REQUEST_NOT_OPEN'));
  await network.register(message);
  const answer = await node.post<AnswerMessage>(nodePaths.onboard, message);
  await network.postOnboard(answer);
  await network.confirm();
  await expect(node.post(nodePaths.onboard, message)).rejects.toMatchObject(refused('REQUEST_NOT_OPEN'));
  await expect(network.postOnboard(answer)).rejects.toMatchObject(refused('RequestNotOpen'));

  const late = await forgeRequest(network);
  await network.register(late.message);
  await network.rpc.send('anvil_mine', ['0x60']);
  await expect(node.post(nodePaths.onboard, late.message)).rejects.toMatchObject(refused('REQUEST_EXPIRED'));
});

test.each<[string, Lies['report']]>([
  ['chain', (report) => ({ ...report, chainId: 1 })],
  ['contract', (report) => ({ ...report, contract: parseAddress(`0x${'11'.repeat(20)}`) })],
  ['config', (report) => ({ ...report, config: new Uint8Array(32) })],
  ['epoch', (report) => ({ ...report, epoch: 2 })],
  ['node', (report) => ({ ...report, node: `0x${'11'.repeat(20)}` })],
])('7: a quote that was made for another %s is none for this request', async (_, report) => {
  const { network, node } = await joined();
  const { message } = await forgeRequest(network, { report: report! });
  await network.register(message);
  await network.confirm();
  await expect(node.post(nodePaths.onboard, message)).rejects.toMatchObject(refused('REPORT_DATA_MISMATCH'));
});

test('7: a request signed for another network is neither registered nor answered', async () => {
  const { network, node } = await joined();
  for (const domain of [
    { ...network.domain, chainId: 1 },
    { ...network.domain, contract: parseAddress(`0x${'11'.repeat(20)}`) },
  ]) {
    const { message } = await forgeRequest(network, { domain });
    await expect(network.register(message)).rejects.toMatchObject(refused('WrongSigner'));
    await expect(node.post(nodePaths.onboard, { ...message, ...domain })).rejects.toMatchObject(
      refused('REQUEST_OTHER_NETWORK'),
    );
  }
});

// ------------------------------------------------------------------------------------------------ 10

test('10: neither the secret nor a key of it is in an argument, the environment, a log, a file or a reply', async () => {
  const { node } = await agent();
  const { tlsPort } = await website();
  expect(tlsPort).toBeGreaterThan(0);
  const keys = {
    secret: SECRET,
    'network key': networkKey(SECRET, 1).privateKey,
    'TLS key': tlsKey(SECRET, 1),
    'disk key': diskKey(SECRET, 1, new Uint8Array(16)),
    'app key': appKey(SECRET, 1, 'greeting', 'session'),
  };
  const status = await Promise.all(
    [nodePaths.status].map((path) => fetch(`${node.url}${path}`).then((r) => r.text())),
  );
  const places = new Map<string, Buffer>([
    ['the log', Buffer.from(node.log())],
    ['the status', Buffer.from(status.join('\n'))],
    ...node
      .processes()
      .flatMap(({ pid }) =>
        ['cmdline', 'environ'].map((file): [string, Buffer] => [file, readFileSync(`/proc/${pid}/${file}`)]),
      ),
    ...filesBelow(node.directory).map((path): [string, Buffer] => [path, readFileSync(path)]),
  ]);
  expect(places.size).toBeGreaterThan(10);
  for (const [place, bytes] of places) {
    for (const [name, key] of Object.entries(keys)) {
      for (const form of encodings(key)) expect(bytes.includes(form), `the ${name} in ${place}`).toBe(false);
    }
  }
});

/** The usual ways to write 32 bytes down. */
function encodings(key: Uint8Array): Buffer[] {
  const bytes = Buffer.from(key);
  const hex = toHex(key);
  const texts = [
    hex,
    hex.toUpperCase(),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    [...key].join(','),
    BigInt(`0x${hex}`).toString(),
  ];
  return [bytes, ...texts.map((form) => Buffer.from(form))];
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

// ------------------------------------------------------------------------------------------------ 12

/** The TLS daemon beside the joined node, on whose host volume lie a key and a certificate of the host's own. */
const website = once(async () => {
  const { node } = await joined();
  for (const name of ['tls.key', 'server.key', 'key.pem']) {
    writeFileSync(join(node.directory, 'mnt/host_volume', name), HOSTS_KEY);
  }
  const description = await frontBelow(node.directory);
  const driver = node.daemon('tls', []);
  await eventually(async () => existsSync(description.placeholder), 'what the front starts with');
  const haproxy = await startHaproxy(description);
  cleanups.push(() => end(haproxy));
  await eventually(async () => /"name":"tls".*listening/.test(node.log()), 'TLS to listen');
  return { node, description, driver, haproxy, tlsPort: description.listen.port };
});

const certificateAt = (port: number): Promise<X509Certificate> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
      resolve(new X509Certificate(socket.getPeerCertificate(true).raw));
      socket.destroy();
    });
    socket.on('error', reject);
  });

const pointOf = (certificate: X509Certificate): string => {
  const { x, y } = certificate.publicKey.export({ format: 'jwk' });
  return toHex(Uint8Array.from([4, ...Buffer.from(x!, 'base64url'), ...Buffer.from(y!, 'base64url')]));
};

test("12: the certificate is of the network's own key, whatever lies on the host's volume, and ends", async () => {
  const { node, description, driver, haproxy, tlsPort } = await website();
  const certificate = await certificateAt(tlsPort);
  expect(pointOf(certificate)).toBe(toHex(p256.getPublicKey(tlsKey(SECRET, 1), false)));
  expect(pointOf(certificate)).not.toBe(toHex(p256.getPublicKey(HOSTS_KEY, false)));
  // Ten years from the image, not for ever: the measured image says when.
  const { builtAt } = JSON.parse(readFileSync(join(node.directory, 'usr/lib/dstack/flavour.json'), 'utf8'));
  expect(Date.parse(certificate.validTo) / 1000).toBe(builtAt + 10 * 365 * 24 * 3600);

  // The same bytes from other processes of the same image: a client that pinned the certificate never notices a new machine.
  await Promise.all([end(driver), end(haproxy)]);
  const listened = () => node.log().match(/"name":"tls".*listening/g)?.length ?? 0;
  const before = listened();
  node.daemon('tls', []);
  const other = await startHaproxy(description);
  cleanups.push(() => end(other));
  await eventually(async () => listened() > before, 'the second one to listen');
  const again = await certificateAt(tlsPort);
  expect(again.fingerprint256).toBe(certificate.fingerprint256);
});

/** `value` with the byte at `offset` changed. */
function changed(value: Uint8Array, offset: number): Uint8Array {
  const copy = value.slice();
  copy[offset] = copy[offset]! ^ 1;
  return copy;
}
