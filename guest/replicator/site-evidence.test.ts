/** Evidence of one node, with a contract and a machine that the test plays. */
import { beforeEach, describe, expect, test } from 'vitest';
import { SIMULATED_ROOT } from '../../lib/attestation/certificates/trust-roots.ts';
import { expectedJoinedLog, replay } from '../../lib/attestation/registers/event-log.ts';
import { createSimulatedPlatform, SIMULATED_FMSPC } from '../../lib/attestation/simulated/platform.ts';
import { PUBLISHED_SIMULATED_COLLATERAL } from '../../lib/attestation/simulated/published.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { fromHex, sha256, sha384, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { DstackError } from '../../lib/protocol/errors.ts';
import { parseAddress } from '../../lib/protocol/hex.ts';
import { tlsKey } from '../../lib/protocol/keys.ts';
import { check } from '../../lib/protocol/schema.ts';
import { recover } from '../../lib/protocol/secp256k1.ts';
import {
  p256PublicKey,
  reportDataOfSite,
  SiteEvidenceSchema,
  siteOf,
} from '../../lib/protocol/site-evidence.ts';
import { siteDigest } from '../../lib/protocol/typed-data.ts';
import type { Attestor } from './attestor.ts';
import type { Identity } from './identity.ts';
import { keyring } from './keyring.ts';
import { secretHolder } from './secret.ts';
import { siteWitness } from './site-evidence.ts';

const domain = { chainId: 7, contract: parseAddress(`0x${'11'.repeat(20)}`) };
const config = sha256(utf8('network.json'));
const identity = {
  image: { version: 1, flavour: 'sim', builtAt: 0 },
  config,
  domain,
  network: {},
  trustRoot: SIMULATED_ROOT,
} as unknown as Identity;
const secret = () => sha256(utf8('the secret'));
const keys = secretHolder(keyring(new Map([[3, secret()]])), domain);
const digest = (word: string) => sha384(utf8(word));
const registers = { mrtd: digest('mrtd'), rtmr0: digest('0'), rtmr1: digest('1'), rtmr2: digest('2') };
const nonce = sha256(utf8('a nonce'));
const NOW = Date.parse('2026-06-01T00:00:00Z') / 1000;

let world: {
  networkKey: string;
  epoch: number;
  stale: boolean;
  joined: boolean;
  reads: number;
  quoted: Uint8Array[];
};
let clock: number;
beforeEach(() => {
  clock = 0;
  world = { networkKey: keys.networkKey, epoch: 3, stale: false, joined: true, reads: 0, quoted: [] };
});

const reader = {
  chain: {
    head: async () => {
      world.reads += 1;
      return { number: 40 + world.reads, hash: to0x(sha256(utf8(`block ${40 + world.reads}`))) };
    },
    now: () => {
      if (world.stale) throw new DstackError('CHAIN_STALE', 'the chain stands still');
      return NOW;
    },
  },
  network: async () => ({ networkKey: world.networkKey, epoch: world.epoch, onboarded: true }),
} as unknown as NetworkReader;
const platform = createSimulatedPlatform({ ppid: new Uint8Array(16).fill(4) });
const attestor: Attestor = {
  async quote(reportData) {
    world.quoted.push(reportData);
    const log = expectedJoinedLog('sim', config).slice(0, world.joined ? 3 : 2);
    return platform.signQuote({ registers: { ...registers, rtmr3: replay(log) }, reportData });
  },
  joined: async () => {},
  firmwareLog: async () => [],
};
const witness = () => siteWitness(identity, reader, attestor, keys, () => clock);

test("it names the node's own key, network and block; the quote carries it, and the network key signs it", async () => {
  const evidence = check(SiteEvidenceSchema, await witness().evidence(nonce), 'TEST', 'evidence');
  expect(evidence).toMatchObject({
    ...domain,
    epoch: 3,
    networkKey: keys.networkKey,
    publicKey: toHex(p256PublicKey(tlsKey(secret(), 3))),
    nonce: toHex(nonce),
    config: toHex(config),
    platform: toHex(platform.platformId),
    blockNumber: 41,
    blockHash: toHex(sha256(utf8('block 41'))),
  });
  expect(world.quoted.map(toHex)).toEqual([toHex(reportDataOfSite(domain, evidence))]);
  const { r, vs } = evidence.signature;
  expect(recover(siteDigest(domain, siteOf(evidence)), fromHex(r), fromHex(vs))).toBe(keys.networkKey);
  expect(JSON.stringify(evidence)).not.toContain(toHex(tlsKey(secret(), 3)));
});

test('that an app gets quotes over any report data is in it, and in its quote', async () => {
  const network = { ...identity.network, rawQuotes: 'greeting' };
  const open = siteWitness({ ...identity, network }, reader, attestor, keys, () => clock);
  const evidence = check(SiteEvidenceSchema, await open.evidence(nonce), 'TEST', 'evidence');
  expect(evidence.rawQuotes).toBe('greeting');
  expect(toHex(world.quoted.at(-1)!)).toBe(toHex(reportDataOfSite(domain, evidence)));
  const { rawQuotes: _, ...silent } = evidence;
  expect(toHex(world.quoted.at(-1)!)).not.toBe(toHex(reportDataOfSite(domain, silent)));
});

test("nobody's nonce is zeros", async () => {
  expect((await witness().evidence()).nonce).toBe('00'.repeat(32));
});

describe('no evidence is given', () => {
  test('when the contract has another key, or is in another epoch', async () => {
    world.networkKey = `0x${'22'.repeat(20)}`;
    await expect(witness().evidence(nonce)).rejects.toMatchObject({ code: 'KEY_SUPERSEDED' });
    world.networkKey = keys.networkKey;
    world.epoch = 4;
    await expect(witness().evidence(nonce)).rejects.toMatchObject({ code: 'KEY_SUPERSEDED' });
    expect(world.quoted).toEqual([]);
  });

  test('while the chain stands still', async () => {
    world.stale = true;
    await expect(witness().evidence(nonce)).rejects.toMatchObject({ code: 'CHAIN_STALE' });
  });

  test('by a machine whose RTMR3 does not say that it has joined', async () => {
    world.joined = false;
    await expect(witness().evidence(nonce)).rejects.toMatchObject({ code: 'RTMR3_MISMATCH' });
  });

  test('once the secret is wiped', async () => {
    const gone = secretHolder(keyring(new Map([[3, secret()]])), domain);
    gone.wipe();
    await expect(siteWitness(identity, reader, attestor, gone).evidence(nonce)).rejects.toThrow();
  });
});

test('however often strangers ask, the contract is looked at once in ten seconds', async () => {
  const asked = witness();
  for (clock = 0; clock < 10_000; clock += 1_000) await asked.evidence(nonce);
  expect(world.reads).toBe(1);
  expect((await asked.evidence(nonce)).blockNumber).toBe(42);
  world.networkKey = `0x${'22'.repeat(20)}`;
  clock += 10_000;
  await expect(asked.evidence(nonce)).rejects.toMatchObject({ code: 'KEY_SUPERSEDED' });
});

test('collateral: the kind of platform is told, and what was brought last is added', async () => {
  const asked = witness();
  expect(await asked.platformKind()).toEqual({ tee: 'tdx', fmspc: toHex(SIMULATED_FMSPC), ca: 'platform' });
  expect(await asked.evidence(nonce)).not.toHaveProperty('collateral');
  asked.takeCollateral(PUBLISHED_SIMULATED_COLLATERAL);
  expect((await asked.evidence(nonce)).collateral).toEqual(PUBLISHED_SIMULATED_COLLATERAL);
  const newer = { ...PUBLISHED_SIMULATED_COLLATERAL, tcb_info: '{}' };
  asked.takeCollateral(newer);
  expect((await asked.evidence(nonce)).collateral).toEqual(newer);
});

test('that no host could have a certificate is said for five minutes after it was found, and not a moment longer', async () => {
  const asked = witness();
  expect((await asked.evidence(nonce)).hostImpersonable).toBe(true);
  asked.takeCaa(false);
  const free = await asked.evidence(nonce);
  expect(free.hostImpersonable).toBe(false);
  const { r, vs } = free.signature;
  expect(recover(siteDigest(domain, siteOf(free)), fromHex(r), fromHex(vs))).toBe(keys.networkKey);
  expect(world.quoted.at(-1)).toEqual(reportDataOfSite(domain, free));
  clock = 299_999;
  expect((await asked.evidence(nonce)).hostImpersonable).toBe(false);
  clock = 300_000;
  expect((await asked.evidence(nonce)).hostImpersonable).toBe(true);
  asked.takeCaa(false);
  asked.takeCaa(true);
  expect((await asked.evidence(nonce)).hostImpersonable).toBe(true);
});
