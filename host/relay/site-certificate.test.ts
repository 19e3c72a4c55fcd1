/** Real relays between the websites of two nodes: what one node has, the other gets; and what strangers send costs them nothing. */

import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Anvil, startAnvil } from '../../contracts/local-node.ts';
import { openStore } from '../../lib/framework/store.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { newPrivateKey } from '../../lib/protocol/secp256k1.ts';
import { p256PublicKey } from '../../lib/protocol/site-evidence.ts';
import { signingRequest } from '../../lib/site/signing-request.ts';
import { type KeyPair, TestAuthority } from '../../test/support/authority.ts';
import { bootstrappedNetwork, Chain, TestGuest, type TestNetwork } from '../../test/support/guest.ts';
import { eventually } from '../../test/support/network.ts';
import { RelayHost } from '../../test/support/relay.ts';
import { SiteNode } from '../../test/support/site-node.ts';
import type { Message } from '../gossip/message-kind.ts';
import { SiteCertificateCourier } from './site-certificate.ts';

const NAMES = ['site.example'];
const DAY = 86_400;
const now = Math.floor(Date.now() / 1000);
const scratch = mkdtempSync(join(tmpdir(), 'site-certificate-'));
const cleanups: (() => Promise<void>)[] = [];
const authority = new TestAuthority();
const privateKey = newPrivateKey();
const key = keyPairOf(privateKey);

let anvil: Anvil;
let network: TestNetwork;
beforeAll(async () => {
  anvil = await startAnvil({ args: ['--block-time', '1', '--slots-in-an-epoch', '1'] });
  network = await bootstrappedNetwork(new Chain(anvil.url), 50);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(async () => {
  await anvil.stop();
  rmSync(scratch, { recursive: true });
});

function keyPairOf(scalar: Uint8Array): KeyPair {
  const spki = { key: Buffer.from(p256PublicKey(scalar)), format: 'der', type: 'spki' } as const;
  const publicKey = createPublicKey(spki);
  const d = Buffer.from(scalar).toString('base64url');
  return {
    publicKey,
    privateKey: createPrivateKey({ key: { ...publicKey.export({ format: 'jwk' }), d }, format: 'jwk' }),
  };
}

/** Of the network's key, as an authority issues it. */
const issued = (serial: number, from: number, more = {}): string =>
  authority.issue({ key, serial, from, to: from + 90 * DAY, names: NAMES, ...more });

interface Host {
  relay: RelayHost;
  guest: TestGuest;
  site: SiteNode;
}

let hosts = 0;
async function host(
  state: 'joined' | 'requesting',
  peers: string[] = [],
  chain?: string,
  roots = [authority.pem],
): Promise<Host> {
  const guest = await TestGuest.start(network, state);
  const site = await SiteNode.start({ privateKey, names: NAMES, roots });
  if (chain !== undefined) site.take(chain);
  const stateDir = join(scratch, `host-${hosts++}`);
  mkdirSync(join(stateDir, 'volume'), { recursive: true });
  const config = {
    version: 1,
    ...network.domain,
    confirmation: { depth: 0 },
    endpoints: ['http://127.0.0.1:1'],
    quorum: 1,
    site: { domains: NAMES, roots: [authority.pem] },
  };
  writeFileSync(join(stateDir, 'volume/network.json'), JSON.stringify(config));
  const relay = await RelayHost.create({
    rpcUrl: anvil.url,
    domain: network.domain,
    nodeUrl: guest.url,
    siteUrl: site.url,
    stateDir,
    peers,
    settings: { DSTACK_VM_VOLUME_DIR: join(stateDir, 'volume') },
  });
  cleanups.push(
    () => guest.stop(),
    () => site.stop(),
    () => relay.kill(),
  );
  relay.start();
  await relay.serves();
  return { relay, guest, site };
}

const serialOf = ({ site }: Host): string | undefined => site.certificate?.serial;
const push = async ({ relay }: Host, chain: string): Promise<{ status: number; code?: string }> => {
  const response = await fetch(`${relay.gossipUrl}/v1/gossip`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'certificate', ...network.domain, chain }),
  });
  const { code } = (await response.json()) as { code?: string };
  return { status: response.status, ...(code === undefined ? {} : { code }) };
};
/** The relay takes it once its node has said what it must be. */
const accepted = (one: Host, chain: string): Promise<void> =>
  eventually(async () => {
    const { status, code } = await push(one, chain);
    if (code !== undefined && code !== 'GOSSIP_NO_SITE') throw new Error(code);
    return status === 200;
  }, 'the relay takes it');
/** Its node has said what a certificate must be. */
const knows = (one: Host): Promise<void> =>
  eventually(async () => (await push(one, 'garbage')).code === 'CERT_MALFORMED', 'the relay knows the key');
const heldBy = async ({ relay }: Host): Promise<unknown[]> => {
  const { messages } = (await (await fetch(`${relay.gossipUrl}/v1/gossip`)).json()) as {
    messages: { type: string }[];
  };
  return messages.filter(({ type }) => type === 'certificate');
};
const metric = async ({ relay }: Host, line: RegExp): Promise<string | undefined> =>
  line.exec(await (await fetch(`${relay.adminUrl}/metrics`)).text())?.[1];

test('what one node has ordered, the other serves; and a newer one follows', async () => {
  const newer = issued(2, now);
  const b = await host('joined');
  await knows(b);
  const a = await host('joined', [b.relay.gossipUrl], issued(1, now - DAY));
  await eventually(async () => serialOf(b) === '01', 'b has it');
  expect(await push(b, newer)).toEqual({ status: 200 });
  await eventually(async () => serialOf(a) === '02', 'a has the newer one');
  await eventually(async () => serialOf(b) === '02', 'and b');
  for (const one of [a, b]) {
    await eventually(async () => (await heldBy(one)).length === 1, 'one is held');
    expect(await heldBy(one)).toEqual([expect.objectContaining({ chain: newer })]);
  }
  const ends = await metric(b, /^dstack_relay_certificate_not_after\{[^}]*\} (\d+)$/m);
  expect([now + 90 * DAY, now + 89 * DAY]).toContain(Number(ends));
  expect(await metric(a, /^dstack_relay_certificates_given_total\{[^}]*outcome="taken"\} (\d+)$/m)).toBe('1');
});

test('garbage, forgeries and old ones are neither kept nor spread, and no node is asked about them', async () => {
  const a = await host('joined');
  const b = await host('joined', [a.relay.gossipUrl]);
  await accepted(b, issued(5, now));
  await eventually(async () => serialOf(a) === '05' && serialOf(b) === '05', 'both have it');
  const forger = new TestAuthority();
  const forged = forger.issue({ key, serial: 6, from: now + 60, to: now + 900 * DAY, names: NAMES });
  const hostile: [string, string][] = [
    [forged + forger.pem, 'CERT_CHAIN'],
    [issued(7, now + 60, { key: keyPairOf(newPrivateKey()) }), 'CERT_KEY'],
    [issued(7, now + 60, { names: ['other.example'] }), 'CERT_NAME'],
    [issued(7, now - 91 * DAY), 'CERT_EXPIRED'],
    [issued(4, now - DAY), 'CERT_OLDER'],
    ['garbage', 'CERT_MALFORMED'],
    ['x'.repeat(17_000), 'GOSSIP_MALFORMED'],
  ];
  for (const [chain, code] of hostile) expect(await push(a, chain), code).toEqual({ status: 400, code });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  for (const one of [a, b]) {
    expect(one.site.brought).toEqual(['05']);
    expect(await heldBy(one)).toHaveLength(1);
  }
});

test('a node that refuses what its relay takes has it once, and gossip carries it no further', async () => {
  // Its roots are other ones than those its relay goes by.
  const a = await host('joined', [], undefined, [new TestAuthority().pem]);
  const chain = issued(1, now);
  await accepted(a, chain);
  await eventually(async () => a.site.brought.length === 1, 'the node was asked');
  await eventually(async () => (await heldBy(a)).length === 0, 'it is dropped');
  expect(a.site.brought).toEqual(['CERT_CHAIN']);
  expect(await push(a, chain)).toEqual({ status: 200 });
  expect(await heldBy(a)).toHaveLength(0);
  expect(a.relay.log()).toContain('the node refuses a certificate');
});

test('a relay whose node has not joined takes none, and has it soon after', async () => {
  const chain = issued(1, now);
  const late = await host('requesting');
  expect(await push(late, chain)).toEqual({ status: 400, code: 'GOSSIP_NO_SITE' });
  late.guest.state = 'joined';
  await accepted(late, chain);
  await eventually(async () => serialOf(late) === '01', 'its node has it');
  // A new process knows the key still, while its node is away.
  await late.relay.kill();
  await late.guest.stop();
  late.relay.start();
  await late.relay.serves();
  expect(await push(late, issued(2, now + 60))).toMatchObject({ status: 200 });
});

test('what the node shows is published at once, and again each minute for those who had no use for it', async () => {
  let clock = 0;
  let shown: string | undefined = issued(1, now);
  const published: number[] = [];
  const courier = new SiteCertificateCourier({
    client: {
      request: async () => signingRequest(privateKey, NAMES),
      chain: async () => shown,
      give: async () => {},
    },
    gossip: {
      publish: async (message) => {
        published.push(clock);
        return { sequence: 1, id: '', message };
      },
    },
    messages: { about: () => [], refuse: () => {} },
    store: openStore(':memory:'),
    domain: network.domain,
    extraRoots: () => [],
    metrics: { count: () => {}, gauge: () => {} },
    log: { info: () => {}, warn: () => {} },
    monotonic: () => clock,
  });
  expect(courier.rule()).toBeUndefined();
  for (clock of [0, 59_999, 60_000, 60_001]) await courier.bring(clock === 0);
  expect(published).toEqual([0, 60_000]);
  expect(courier.rule()).toMatchObject({ names: NAMES, publicKey: p256PublicKey(privateKey) });
  courier.arrived();
  clock += 1;
  await courier.bring(false);
  shown = undefined;
  clock += 60_000;
  await courier.bring(false);
  expect(published).toEqual([0, 60_000, 60_002]);
});

test('one that is not valid yet by the clock of the node is brought to it again, and dropped for another reason alone', async () => {
  const given: string[] = [];
  const refused: string[] = [];
  let code = 'CERT_EXPIRED';
  let clock = 0;
  const chain = issued(1, now - 60);
  const courier = new SiteCertificateCourier({
    client: {
      request: async () => signingRequest(privateKey, NAMES),
      chain: async () => undefined,
      give: async () => {
        given.push(code);
        throw new DstackError(code, 'no');
      },
    },
    gossip: { publish: async () => expect.fail('there is nothing to publish') },
    messages: {
      about: <M extends Message>() =>
        (refused.length > 0 ? [] : [{ type: 'certificate', ...network.domain, chain }]) as unknown as M[],
      refuse: (id) => void refused.push(id),
    },
    store: openStore(':memory:'),
    domain: network.domain,
    extraRoots: () => [authority.pem],
    metrics: { count: () => {}, gauge: () => {} },
    log: { info: () => {}, warn: () => {} },
    monotonic: () => clock,
  });
  for (clock of [0, 60_000]) await courier.bring(false);
  expect([given, refused]).toEqual([['CERT_EXPIRED', 'CERT_EXPIRED'], []]);
  code = 'CERT_CHAIN';
  for (clock of [120_000, 180_000]) await courier.bring(false);
  expect(given.slice(2)).toEqual(['CERT_CHAIN']);
  expect(refused).toHaveLength(1);
});
