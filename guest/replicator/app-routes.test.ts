/** What the agent gets for an app, over its socket: the keys and signatures of the published vectors, quotes, certificates. */
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Static, TSchema } from 'typebox';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodePem } from '../../lib/attestation/bytes/pem.ts';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { parseQuote } from '../../lib/attestation/quote/quote.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { extendRegister, zeroRegister } from '../../lib/attestation/registers/rtmr.ts';
import { createSimulatedPlatform } from '../../lib/attestation/simulated/platform.ts';
import { callUnix } from '../../lib/daemon/unix-http.ts';
import { signerOfKeyChain } from '../../lib/protocol/app-keys.ts';
import { fromHex, sha384, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import {
  appReportData,
  bootstrapReportData,
  registerReportData,
  siteReportData,
} from '../../lib/protocol/report-data.ts';
import {
  AppAuthorityReply,
  AppCertificateReply,
  AppKeyReply,
  AppQuoteReply,
  AppSignatureReply,
  MachineReply,
  sockets,
} from '../../lib/protocol/sockets.ts';
import vectors from '../../testdata/protocol/app-keys.json' with { type: 'json' };
import { AUTHORITY_PURPOSE, certificateData, KEY_CHAIN_OID, QUOTE_OID } from './app-certificate.ts';
import { appQuotes } from './app-quotes.ts';
import type { Attestor } from './attestor.ts';
import type { Identity } from './identity.ts';
import { keyring } from './keyring.ts';
import { secretHolder } from './secret.ts';
import { type Joined, serveSiblings } from './siblings.ts';

const [vector] = vectors.vectors as [(typeof vectors.vectors)[number]];
const { app, tag, purpose } = vector;
const domain = { chainId: vector.chainId, contract: parseAddress(vector.contract) };
const keys = secretHolder(keyring(new Map([[vector.epoch, fromHex(vector.secret)]])), domain);
const config = new Uint8Array(32).fill(9);
const manifestHash = 'ab'.repeat(32);
const NOW = 1_800_000_000;

const events = (['rtmr0', 'rtmr0', 'rtmr1', 'rtmr2'] as const).map((register, type) => ({
  register,
  type,
  digest: toHex(sha384(utf8(`${register} ${type}`))),
}));
const leadsTo = (name: string) =>
  events
    .filter(({ register }) => register === name)
    .reduce((value, { digest }) => extendRegister(value, fromHex(digest)), zeroRegister());
const registers = {
  mrtd: sha384(utf8('mrtd')),
  rtmr0: leadsTo('rtmr0'),
  rtmr1: leadsTo('rtmr1'),
  // Of this one an event is missing.
  rtmr2: sha384(utf8('another')),
  rtmr3: replay(expectedJoinedLog('sim', config)),
};
const platform = createSimulatedPlatform({ ppid: new Uint8Array(16).fill(4) });
const quoted: string[] = [];
let lastQuote: Uint8Array = new Uint8Array(0);
const attestor: Attestor = {
  async quote(reportData) {
    quoted.push(toHex(reportData));
    lastQuote = platform.signQuote({ registers, reportData });
    return lastQuote;
  },
  joined: async () => {},
  firmwareLog: async () => events,
};
const identityWith = (rawQuotes?: string): Identity => ({
  image: { version: 1, flavour: 'sim', builtAt: 1 },
  network: { rawQuotes } as Identity['network'],
  config,
  domain,
  hints: {},
  trustRoot: SIMULATED_ROOT,
  requestRtmr3: () => zeroRegister(),
});

const run = mkdtempSync(join(tmpdir(), 'dstack-routes-'));
let isStale = false;
let identity = identityWith();

beforeAll(async () => {
  const joined = {
    keys,
    get quotes() {
      return appQuotes(identity, attestor);
    },
    requireFresh() {
      if (isStale) throw Object.assign(new Error('stale'), { code: 'CHAIN_STALE' });
      return NOW;
    },
  } as unknown as Joined;
  const servers = await serveSiblings(run, Promise.resolve(joined), run);
  afterAll(() => {
    for (const server of servers) server.close();
    rmSync(run, { recursive: true });
  });
});

const ask = <T extends TSchema>(route: string, reply: T, body?: object): Promise<Static<T>> =>
  callUnix({
    path: join(run, sockets.replicatorForAgent),
    method: body === undefined ? 'GET' : 'POST',
    route,
    reply,
    ...(body === undefined ? {} : { body }),
  });

test('keys and their chains are those of the vectors', async () => {
  expect(await ask('/v1/app-key', AppKeyReply, { app, tag })).toEqual({ key: vector.raw });
  expect(await ask('/v1/app-key', AppKeyReply, { app, tag, type: 'raw' })).toEqual({ key: vector.raw });
  expect(await ask('/v1/app-key', AppKeyReply, { app, tag, type: 'p256' })).toEqual({
    key: vector.p256.key,
  });
  for (const type of ['secp256k1', 'ed25519'] as const) {
    expect(await ask('/v1/app-key', AppKeyReply, { app, tag, type, purpose })).toEqual({
      key: vector[type].key,
      publicKey: vector[type].publicKey,
      chain: [vector.purposeLinks[type], vector.networkLink],
    });
  }
});

test('signatures are those of the vectors, and the key stays here', async () => {
  for (const algorithm of ['secp256k1', 'ed25519'] as const) {
    const asked = { app, tag, purpose, algorithm, data: vector.data };
    expect(await ask('/v1/app-signature', AppSignatureReply, asked)).toEqual({
      signature: vector.signatures[algorithm],
      publicKey: vector[algorithm].publicKey,
      chain: [vector.purposeLinks[algorithm], vector.networkLink],
    });
  }
  const short = { app, tag, purpose, algorithm: 'secp256k1_prehashed', data: '00' };
  await expect(ask('/v1/app-signature', AppSignatureReply, short)).rejects.toMatchObject({
    code: 'SIGN_DIGEST',
  });
});

test("an app's quote is over its own statement, whatever its data is: never over one of the node's", async () => {
  const hash = new Uint8Array(32).fill(1);
  const about = { ...domain, networkKey: keys.networkKey, config, epoch: 1, blockHash: hash };
  const statements = [
    registerReportData({ ...about, node: domain.contract, kemPublicKey: new Uint8Array(1216) }),
    bootstrapReportData(about),
    siteReportData({ ...about, publicKey: new Uint8Array(91), nonce: hash, hostImpersonable: false }),
    appReportData('other', fromHex(manifestHash), new Uint8Array(0)),
  ].map(toHex);
  for (const data of ['', '00ff', ...statements]) {
    const reply = await ask('/v1/app-quote', AppQuoteReply, { app, manifestHash, data });
    const expected = toHex(appReportData(app, fromHex(manifestHash), fromHex(data)));
    expect(reply.reportData).toBe(expected);
    const { body } = parseQuote(fromHex(reply.quote));
    expect(body.kind !== 'sgx' && toHex(body.reportData)).toBe(expected);
    expect(statements).not.toContain(expected);
  }
});

test("an app has nothing quoted that is the node's to say of it: that a certificate carries a key", async () => {
  const publicKey = new Uint8Array(
    generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' }),
  );
  for (const bytes of [certificateData(publicKey), utf8('dstack/v1/'), utf8('dstack/v1/another:')]) {
    const asked = ask('/v1/app-quote', AppQuoteReply, { app, manifestHash, data: toHex(bytes) });
    await expect(asked).rejects.toMatchObject({ code: 'BAD_DATA' });
  }
  for (const text of ['dstack/v2/', 'dstack/v1', ' dstack/v1/'])
    await ask('/v1/app-quote', AppQuoteReply, { app, manifestHash, data: toHex(utf8(text)) });
});

test('report data of its own choice is for the one app that network.json names', async () => {
  quoted.length = 0;
  const reportData = '77'.repeat(64);
  const raw = (name: string) => ask('/v1/raw-quote', AppQuoteReply, { app: name, reportData });
  await expect(raw(app)).rejects.toMatchObject({
    code: 'RAW_QUOTES_OFF',
    message: expect.stringContaining('rawQuotes of network.json'),
  });
  identity = identityWith('other');
  await expect(raw(app)).rejects.toMatchObject({ code: 'RAW_QUOTES_OFF' });
  expect(quoted).toEqual([]);
  expect((await raw('other')).reportData).toBe(reportData);
  expect(quoted).toEqual([reportData]);
  identity = identityWith();
});

test('the events lead to the registers of the quotes; of a register that they do not lead to there are none', async () => {
  const machine = await ask('/v1/machine', MachineReply);
  const replayOf = (index: number) =>
    toHex(
      machine.events
        .filter(({ register }) => register === index)
        .reduce((value, { digest }) => extendRegister(value, fromHex(digest)), zeroRegister()),
    );
  expect(replayOf(0)).toBe(machine.rtmr0);
  expect(replayOf(1)).toBe(machine.rtmr1);
  expect(machine.events.filter(({ register }) => register === 2)).toEqual([]);
  expect(machine.rtmr2).toBe(toHex(registers.rtmr2));
  expect(replayOf(3)).toBe(machine.rtmr3);
  expect(machine.events.filter(({ register }) => register === 3).map(({ name }) => name)).toEqual([
    'flavour',
    'config',
    'joined',
  ]);
});

const certificateFor = async (change: object = {}) => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const asked = {
    ...{ app, manifestHash, publicKey: spki.toString('hex'), subject: 'api', altNames: ['api.example'] },
    ...{ serverAuth: true, clientAuth: false, quoted: false, named: false, ...change },
  };
  const { chain } = await ask('/v1/app-certificate', AppCertificateReply, asked);
  // As PEM: of DER with a quote in it, Node would take the PEM chain that is in the quote.
  const [leaf, root] = chain.map((der) => new X509Certificate(encodePem(fromHex(der))));
  return { leaf: leaf!, root: root!, spki: new Uint8Array(spki) };
};

test('a certificate leads to the authority of its app, and that to the network key', async () => {
  const { leaf, root, spki } = await certificateFor({ altNames: ['api.example', '10.0.0.1'] });
  expect(leaf.publicKey.export({ format: 'der', type: 'spki' })).toEqual(Buffer.from(spki));
  expect(leaf.verify(root.publicKey) && leaf.checkIssued(root)).toBe(true);
  expect(root.verify(root.publicKey) && root.ca).toBe(true);
  expect(leaf.ca).toBe(false);
  expect(leaf.subject).toBe('CN=api');
  expect(leaf.subjectAltName).toBe('DNS:api.example, IP Address:10.0.0.1');
  expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
  expect(Date.parse(leaf.validFrom) / 1000).toBe(NOW - 3600);
  const { certificate } = await ask('/v1/app-authority', AppAuthorityReply, { app });
  expect(certificate).toBe(root.raw.toString('hex'));
  const links = /([0-9a-f]{130})\.([0-9a-f]{130})/.exec(root.raw.toString('latin1'))!;
  const chain = links.slice(1).map((link) => fromHex(link));
  const publicKey = new Uint8Array(root.publicKey.export({ format: 'der', type: 'spki' }));
  expect(signerOfKeyChain(domain, { app, purpose: AUTHORITY_PURPOSE, publicKey, chain })).toBe(
    vector.networkKey,
  );
  expect(KEY_CHAIN_OID).not.toBe(QUOTE_OID);
});

test("another app's authority is another, and says so", async () => {
  const { leaf } = await certificateFor();
  const other = await certificateFor({ app: 'other' });
  expect(leaf.verify(other.root.publicKey)).toBe(false);
  expect(other.root.subject).toContain('CN=other');
});

test('a certificate can carry a quote over its key, within the statement of its app', async () => {
  quoted.length = 0;
  const { leaf, spki } = await certificateFor({ quoted: true, named: true });
  const expected = appReportData(app, fromHex(manifestHash), certificateData(spki));
  expect(quoted).toEqual([toHex(expected)]);
  expect(lastQuote.length).toBeGreaterThan(1000);
  expect(leaf.raw.toString('hex')).toContain(toHex(lastQuote));
  expect(leaf.raw.toString('latin1')).toContain(`${app} ${manifestHash}`);
});

test('validity and names are bounded', async () => {
  const refused = async (change: object) => {
    try {
      await certificateFor(change);
      return 'given';
    } catch (error) {
      return codeOf(error);
    }
  };
  expect(await refused({ notBefore: NOW, notAfter: NOW })).toBe('CERTIFICATE_VALIDITY');
  expect(await refused({ notAfter: NOW + 11 * 365 * 86_400 })).toBe('CERTIFICATE_VALIDITY');
  expect(await refused({ altNames: ['a..b'] })).toBe('CERTIFICATE_NAME');
  expect(await refused({ altNames: ['::1'] })).toBe('CERTIFICATE_NAME');
  expect(await refused({ subject: 'a\u0000b' })).toBe('BAD_REQUEST');
  expect(await refused({ notBefore: NOW - 5, notAfter: NOW + 86_400, subject: '' })).toBe('given');
});

test('nothing is quoted or certified while the chain stands still', async () => {
  isStale = true;
  quoted.length = 0;
  const about = { app, manifestHash, data: '' };
  await expect(ask('/v1/app-quote', AppQuoteReply, about)).rejects.toThrow();
  await expect(ask('/v1/raw-quote', AppQuoteReply, { app, reportData: '00'.repeat(64) })).rejects.toThrow();
  await expect(certificateFor()).rejects.toThrow();
  expect(quoted).toEqual([]);
  isStale = false;
});
