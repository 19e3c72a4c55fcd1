/**
 * The client of dstack's ecosystem, unmodified, against the real agent and replicator: every call, its value held against what this
 * repository derives by itself, the quotes against the verifier, the chains and attestations against the contract.
 */
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { Contract } from 'ethers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { networkJsonAbi } from '../../contracts/bindings.ts';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { verify } from '../../lib/attestation/verify.ts';
import { ecosystemAppId, signerOfKeyChain, verifySignature } from '../../lib/protocol/app-keys.ts';
import { fromHex, sha256, sha512, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { manifestHash } from '../../lib/protocol/manifest.ts';
import { appReportData } from '../../lib/protocol/report-data.ts';
import { publicKeyOf } from '../../lib/protocol/secp256k1.ts';
import { manifestOf, startAgent, type TestAgent, type TestApp } from '../support/agent.ts';
import { startTestNetwork, type TestNetwork, type TestNode } from '../support/network.ts';
import { callSdk, installSdk, type SdkResults } from '../support/sdk.ts';

const all = ['info', 'key', 'attest', 'sign', 'quote'] as const;
const greeting: TestApp = { app: 'greeting', address: '127.0.0.2', api: all };
const other: TestApp = { app: 'other', address: '127.0.0.3', api: all };
const signer: TestApp = { app: 'signer', address: '127.0.0.4', api: ['sign'] };

let network: TestNetwork;
let node: TestNode;
let agent: TestAgent;
/** Of the app with raw quotes, of another, of one that may sign only. */
let mine: SdkResults;
let theirs: SdkResults;
let signing: SdkResults;
let networkKey: string;

beforeAll(async () => {
  await installSdk();
  network = await startTestNetwork();
  node = await network.start({
    role: 'bootstrap',
    networkJson: network.configWith({ rawQuotes: 'greeting' }),
  });
  await network.allow(node);
  ({ networkKey } = await network.bootstrap(node));
  agent = await startAgent(node, [greeting, other, signer]);
  mine = await callSdk(await agent.folderOf('greeting'));
  theirs = await callSdk(await agent.folderOf('other'));
  signing = await callSdk(await agent.folderOf('signer'));
});
afterAll(async () => {
  agent?.stop();
  await network?.stop();
});

const bytes = (value: unknown) => fromHex(value as string);
const chainOf = (result: Record<string, unknown>) =>
  (result.signature_chain as string[]).map((link) => fromHex(link));
const publicOf = (type: 'secp256k1' | 'ed25519', key: unknown): Uint8Array => {
  if (type === 'secp256k1') return publicKeyOf(bytes(key));
  const pkcs8 = Buffer.from(`302e020100300506032b657004220420${key}`, 'hex');
  const spki = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
  return new Uint8Array(spki.export({ format: 'der', type: 'spki' }).subarray(-32));
};
/** The verifier's word for a quote of this node over 64 bytes. */
const evidenceOf = (quote: unknown, reportData: Uint8Array) =>
  verify(bytes(quote), {
    trustRoot: SIMULATED_ROOT,
    now: new Date(),
    depth: 'signatures',
    measurement: node.measurement,
    rtmr3: replay(expectedJoinedLog('sim', node.config)),
    reportData,
  }).evidence;

describe('keys', () => {
  test("follow from path and algorithm; the purpose is in the chain, which leads to the contract's key", async () => {
    expect(mine.getKey!.key).toBe(mine.getKeyOther!.key);
    const keys = [mine.getKey, mine.getKeyEd25519, mine.getKeyEmpty, theirs.getKey].map((one) => one!.key);
    expect(new Set(keys).size).toBe(4);
    const contract = new Contract(network.contract, networkJsonAbi, network.rpc);
    expect((await contract.getFunction('network')()).networkKey).toBe(networkKey);
    for (const [results, app, name, type, purpose] of [
      [mine, 'greeting', 'getKey', 'secp256k1', 'eth'],
      [mine, 'greeting', 'getKeyOther', 'secp256k1', 'other'],
      [mine, 'greeting', 'getKeyEd25519', 'ed25519', 'eth'],
      [mine, 'greeting', 'getKeyEmpty', 'secp256k1', ''],
      [theirs, 'other', 'getKey', 'secp256k1', 'eth'],
    ] as const) {
      const publicKey = publicOf(type, results[name]!.key);
      const chain = { app, purpose, publicKey, chain: chainOf(results[name]!) };
      expect(signerOfKeyChain(network.domain, chain)).toBe(networkKey);
      expect(signerOfKeyChain(network.domain, { ...chain, app: 'third' })).not.toBe(networkKey);
    }
  });

  test('of TLS are fresh, with a certificate of the authority of the app', () => {
    const { key, certificate_chain: chain } = mine.getTlsKey as unknown as {
      key: string;
      certificate_chain: string[];
    };
    const [leaf, root] = chain.map((pem) => new X509Certificate(pem));
    expect(leaf!.checkPrivateKey(createPrivateKey(key))).toBe(true);
    expect(leaf!.verify(root!.publicKey) && root!.verify(root!.publicKey)).toBe(true);
    expect(leaf!.subjectAltName).toBe('DNS:api.example, IP Address:10.0.0.1');
    expect(leaf!.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect(mine.info!.app_cert).toBe(chain[1]);
    const links = /([0-9a-f]{130})\.([0-9a-f]{130})/.exec(root!.raw.toString('latin1'))!.slice(1);
    const publicKey = new Uint8Array(root!.publicKey.export({ format: 'der', type: 'spki' }));
    const link = { app: 'greeting', purpose: 'app-ca', publicKey, chain: links.map((one) => fromHex(one)) };
    expect(signerOfKeyChain(network.domain, link)).toBe(networkKey);
    expect(theirs.info!.app_cert).not.toBe(mine.info!.app_cert);
  });

  test('of TLS carry a quote over the statement of the app, if it is asked for', () => {
    const { certificate_chain: chain } = mine.getTlsKeyAll as unknown as { certificate_chain: string[] };
    const leaf = new X509Certificate(chain[0]!);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect([leaf.validFrom, leaf.validTo].map((date) => Date.parse(date) / 1000)).toEqual([
      1_700_000_000, 1_900_000_000,
    ]);
    const hash = manifestHash(manifestOf(greeting));
    const spki = leaf.publicKey.export({ format: 'der', type: 'spki' });
    const data = new Uint8Array(Buffer.concat([Buffer.from('dstack/v1/app-certificate:'), spki]));
    expect(leaf.raw.includes(Buffer.from(appReportData('greeting', hash, data)))).toBe(true);
    expect(leaf.raw.toString('latin1')).toContain(`greeting ${toHex(hash)}`);
  });

  test('of the older client follow from the path', () => {
    expect(mine.deriveKey!.key).toBe(mine.deriveKeyAgain!.key);
    expect(mine.deriveKey!.key).not.toBe(mine.deriveKeyOther!.key);
    expect(mine.deriveKey!.key).not.toBe(theirs.deriveKey!.key);
    const leaf = new X509Certificate((mine.deriveKey!.certificate_chain as string[])[0]!);
    expect(leaf.checkPrivateKey(createPrivateKey(mine.deriveKey!.key as string))).toBe(true);
    expect([leaf.subject, leaf.subjectAltName]).toEqual(['CN=old', 'DNS:old.example']);
  });
});

describe('quotes', () => {
  test("over raw report data, for the app that network.json names: the log replays to the quote's registers", () => {
    const reportData = new Uint8Array(64);
    reportData.set(utf8('user:alice:nonce123'));
    const { quote, report_data, event_log, replayRtmrs, vm_config } = mine.getQuote!;
    expect(report_data).toBe(toHex(reportData));
    const { registers } = evidenceOf(quote, reportData);
    expect(replayRtmrs).toEqual(
      [registers.rtmr0, registers.rtmr1, registers.rtmr2, registers.rtmr3].map(toHex),
    );
    expect(replayRtmrs).not.toContain('00'.repeat(48));
    const names = (JSON.parse(event_log as string) as { imr: number; event: string }[])
      .filter(({ imr }) => imr === 3)
      .map(({ event }) => event);
    expect(names).toEqual(['flavour', 'config', 'joined']);
    expect(JSON.parse(vm_config as string)).toMatchObject({ config: toHex(node.config), flavour: 'sim' });
  });

  test('by the older client', () => {
    // It pads on the left.
    const padded = new Uint8Array(64);
    padded.set(utf8('some data'), 64 - 9);
    evidenceOf(mine.tdxQuote!.quote, padded);
    expect(mine.tdxQuote!.replayRtmrs).toEqual(mine.getQuote!.replayRtmrs);
    evidenceOf(mine.tdxQuoteHashed!.quote, sha512(utf8('app-data:some data')));
    expect(mine.tdxQuoteHashed).toMatchObject({ hash_algorithm: 'sha512', prefix: 'app-data:' });
  });

  test('for any other app are refused, with the name of the setting', () => {
    for (const name of ['getQuote', 'tdxQuote', 'tdxQuoteHashed'])
      expect(theirs[name]!.rejected).toMatch(/^RAW_QUOTES_OFF: .*rawQuotes of network\.json/);
  });
});

test('attest: the call of the contract that says yes', async () => {
  for (const [results, app] of [
    [mine, 'greeting'],
    [theirs, 'other'],
  ] as const) {
    const data = `0x${results.attest!.attestation}`;
    const contract = new Contract(network.contract, networkJsonAbi, network.rpc);
    const [said, tag, what] = contract.interface.decodeFunctionData('verifyAttestation', data);
    expect([Buffer.from(said.slice(2), 'hex').toString().replace(/\0+$/, ''), tag]).toEqual([app, 'attest']);
    expect(Buffer.from(what.slice(2), 'hex').toString()).toBe('app-state-snapshot');
    expect(BigInt(await network.rpc.call({ to: network.contract, data }))).toBe(1n);
    const altered = data.replace(
      Buffer.from('snapshot').toString('hex'),
      Buffer.from('snapshoT').toString('hex'),
    );
    expect(BigInt(await network.rpc.call({ to: network.contract, data: altered }))).toBe(0n);
  }
});

test('info: what the quote shows, and the manifest that the contract names', () => {
  const info = mine.info as unknown as Record<string, unknown> & { tcb_info: Record<string, unknown> };
  const hash = toHex(manifestHash(manifestOf(greeting)));
  expect(info).toMatchObject({
    app_id: toHex(ecosystemAppId(network.domain, 'greeting')),
    app_name: 'greeting',
    compose_hash: hash,
    composeHash: hash,
    device_id: node.quoting.platformId,
    instance_id: expect.stringMatching(/^[0-9a-f]{40}$/),
    key_provider_info: JSON.stringify({ name: 'dstack-network', id: networkKey }),
  });
  const reportData = new Uint8Array(64);
  reportData.set(utf8('user:alice:nonce123'));
  const { registers } = evidenceOf(mine.getQuote!.quote, reportData);
  const { tcb_info } = info;
  for (const name of ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'] as const)
    expect(tcb_info[name]).toBe(toHex(registers[name]));
  expect(tcb_info).toMatchObject({
    compose_hash: hash,
    mr_aggregated: toHex(node.measurement),
    device_id: node.quoting.platformId,
    os_image_hash: toHex(sha256(registers.mrtd, registers.rtmr1, registers.rtmr2)),
    event_log: JSON.parse(mine.getQuote!.event_log as string),
  });
  expect(tcb_info.app_compose).toBe(new TextDecoder().decode(manifestOf(greeting)));
  expect(mine.version).toMatchObject({ version: '0.5.8', rev: 'dstack/v1' });
  expect(mine.isReachable!.reachable && mine.tappdReachable!.reachable).toBe(true);
});

test('signatures: by one key for each algorithm, whose chain leads to the contract', () => {
  for (const [results, app] of [
    [mine, 'greeting'],
    [signing, 'signer'],
  ] as const) {
    for (const [name, algorithm, data] of [
      ['sign', 'secp256k1', utf8('hello dstack')],
      ['signEd25519', 'ed25519', utf8('hello dstack')],
      ['signPrehashed', 'secp256k1_prehashed', new Uint8Array(32).fill(7)],
    ] as const) {
      const { signature, public_key } = results[name]!;
      expect(verifySignature(algorithm, data, bytes(signature), bytes(public_key))).toBe(true);
      const [first, ...chain] = chainOf(results[name]!);
      expect(toHex(first!)).toBe(signature);
      const link = { app, purpose: 'signing', publicKey: bytes(public_key), chain };
      expect(signerOfKeyChain(network.domain, link)).toBe(networkKey);
    }
  }
  expect(mine.sign!.public_key).toBe(mine.signPrehashed!.public_key);
  expect(mine.sign!.public_key).not.toBe(signing.sign!.public_key);
  expect(mine.verify).toMatchObject({ right: true, wrong: false });
});

test('emitEvent is rejected: the register is closed', () => {
  expect(mine.emitEvent!.rejected).toBe('failed to parse response');
});

test('an app whose manifest grants one word has one thing', () => {
  const rejected = Object.keys(signing).filter((name) => 'rejected' in signing[name]!);
  expect(rejected.sort()).toEqual(
    [
      ...['attest', 'emitEvent', 'getKey', 'getKeyEd25519', 'getKeyEmpty', 'getKeyOther', 'getQuote', 'info'],
      ...['tdxQuote', 'tdxQuoteHashed'],
    ].sort(),
  );
  // The client does not look whether it was refused.
  for (const name of ['deriveKey', 'getTlsKey', 'getTlsKeyAll']) {
    expect(signing[name]!.error).toMatch(/^API_NOT_GRANTED/);
    expect(signing[name]).not.toHaveProperty('key');
  }
  expect(signing.attest!.rejected).toMatch(/^API_NOT_GRANTED: .*its api needs "attest"/);
  expect(signing.getQuote!.rejected).toMatch(/^API_NOT_GRANTED/);
});

test('no call waits for a time-out of the client or of the connection', () => {
  for (const results of [mine, theirs, signing])
    for (const [name, { milliseconds }] of Object.entries(results))
      expect([name, milliseconds < 4_000]).toEqual([name, true]);
});

test('after a restart of the agent the same folder leads to the same keys', async () => {
  const folder = await agent.folderOf('greeting');
  await agent.restart();
  // Nobody asks for the folder again: the agent finds out by itself who is there.
  await expect
    .poll(() =>
      callSdk(folder).then(
        ({ version }) => version!.version,
        () => undefined,
      ),
    )
    .toBe('0.5.8');
  const after = await callSdk(folder);
  for (const name of ['getKey', 'getKeyEd25519', 'sign', 'signEd25519', 'deriveKey'])
    for (const field of ['key', 'signature', 'signature_chain'])
      expect(after[name]![field]).toEqual(mine[name]![field]);
  expect(Object.keys(after).filter((name) => 'rejected' in after[name]!)).toEqual(['emitEvent']);
  expect(after.info).toEqual({ ...mine.info, milliseconds: after.info!.milliseconds });
});
