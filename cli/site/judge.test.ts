/**
 * What is refused even though the network's own key signed it, over quotes of the simulated platform and a contract that the
 * test plays: each check of judge.ts with a lie that only it can see.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { simulatedCollateral, simulatedTcbInfo } from '../../lib/attestation/simulated/collateral.ts';
import type { NetworkReader } from '../../lib/chain/network-reader.ts';
import { sha256, to0x, toHex, utf8 } from '../../lib/protocol/encoding.ts';
import { codeOf } from '../../lib/protocol/errors.ts';
import { type Address, parseAddress, parseHex } from '../../lib/protocol/hex.ts';
import { networkKey, tlsKey } from '../../lib/protocol/keys.ts';
import { appReportData } from '../../lib/protocol/report-data.ts';
import { p256PublicKey, type SiteEvidence } from '../../lib/protocol/site-evidence.ts';
import { forgeSite, type SiteLies, type SiteScene } from '../../test/support/forge-site.ts';
import { judgeSite, type SiteQuestion } from './judge.ts';
import { keptKey } from './keys.ts';

const secret = sha256(utf8('the secret'));
const nonce = sha256(utf8('a nonce'));
const word = parseHex('11'.repeat(32));
const hashOf = (number: number) => to0x(sha256(utf8(`block ${number}`)));
const scene: SiteScene = {
  domain: { chainId: 7, contract: parseAddress(`0x${'ab'.repeat(20)}`) },
  networkJson: '{}',
  ppid: new Uint8Array(16).fill(4),
  block: { number: 100, hash: hashOf(100) },
};

let world: {
  epoch: number;
  networkKey: Address;
  /** Seconds since the newest block that the node knew. */
  blockAge: number;
  allowed: { measurement: boolean; config: boolean; platform: boolean };
};
beforeEach(() => {
  world = {
    epoch: 1,
    networkKey: networkKey(secret, 1).address,
    blockAge: 10,
    allowed: { measurement: true, config: true, platform: true },
  };
});
const now = () => Math.floor(Date.now() / 1000);
const reader = {
  chain: {
    head: async () => ({ number: 103, hash: hashOf(103), timestamp: now() }),
    block: async (number: number) => ({ number, hash: hashOf(number), timestamp: now() - world.blockAge }),
  },
  network: async () => ({ epoch: world.epoch, networkKey: world.networkKey, onboarded: true }),
  tcbPolicy: async () => ({ statuses: ['UpToDate'], minimumTcbEvaluationDataNumber: 0 }),
  fmspcDenied: async () => false,
  isAllowed: async () => ({
    measurementAllowed: world.allowed.measurement,
    configAllowed: world.allowed.config,
    platformAllowed: world.allowed.platform,
  }),
} as unknown as NetworkReader;

/** The code with which it is refused. */
const judged = (evidence: SiteEvidence, changes: Partial<SiteQuestion> = {}): Promise<string> =>
  judgeSite({
    evidence,
    network: scene.domain,
    reader,
    flavour: 'sim',
    publicKey: p256PublicKey(tlsKey(secret, 1)),
    nonce,
    collateral: undefined,
    ...changes,
  }).then(() => 'accepted', codeOf);
const forged = (lies: SiteLies = {}) => forgeSite(scene, secret, nonce, lies);
const expired = simulatedCollateral({
  tcbInfo: { ...simulatedTcbInfo(), nextUpdate: '2021-01-01T00:00:00Z' },
});

test.each<[string, SiteLies, string]>([
  ['nothing but the truth', {}, 'accepted'],
  [
    'a quote that was made for an app',
    { reportData: appReportData('greeting', new Uint8Array(32), sha256(utf8('x'))) },
    'REPORT_DATA_MISMATCH',
  ],
  ['a quote of a machine that has not joined', { joined: false }, 'RTMR3_MISMATCH'],
  ["another measurement than the quote's", { signed: { measurement: word } }, 'SITE_CLAIM'],
  ["another platform than the quote's", { signed: { platform: word } }, 'SITE_CLAIM'],
  ["another quote's hash", { signed: { quoteHash: word } }, 'QUOTE_HASH_MISMATCH'],
  ['a debug TD', { debug: true }, 'TD_DEBUG'],
  ["a block that is not the chain's", { said: { blockHash: word } }, 'SITE_BLOCK'],
  ['another epoch', { epoch: 2, said: { publicKey: toHex(p256PublicKey(tlsKey(secret, 1))) } }, 'SITE_EPOCH'],
  [
    "another network's key",
    { said: { networkKey: parseAddress(`0x${'11'.repeat(20)}`) } },
    'SITE_NETWORK_KEY',
  ],
  ['another chain', { said: { chainId: 8 } }, 'SITE_OTHER_NETWORK'],
  ['another contract', { said: { contract: parseAddress(`0x${'11'.repeat(20)}`) } }, 'SITE_OTHER_NETWORK'],
  ['another nonce', { said: { nonce: word } }, 'SITE_REPLAYED'],
  ['another TLS key', { said: { publicKey: toHex(p256PublicKey(tlsKey(secret, 2))) } }, 'SITE_TLS_ENDED'],
  ['no collateral', { collateral: 'none' }, 'COLLATERAL_MISSING'],
  ['collateral that ran out', { collateral: expired }, 'TCB_INFO_EXPIRED'],
])('%s', async (_, lies, code) => {
  expect(await judged(forged(lies))).toBe(code);
});

describe('the contract decides', () => {
  test.each(['measurement', 'config', 'platform'] as const)('which %s is allowed', async (what) => {
    world.allowed[what] = false;
    expect(await judged(forged())).toBe(`${what.toUpperCase()}_NOT_ALLOWED`);
  });

  test("which key is the network's: of a superseded one nothing is believed", async () => {
    world.networkKey = networkKey(secret, 2).address;
    expect(await judged(forged())).toBe('SITE_NETWORK_KEY');
    expect(await judged(forged({ said: { networkKey: world.networkKey } }))).toBe('SITE_SIGNATURE');
    world.epoch = 2;
    expect(await judged(forged())).toBe('SITE_EPOCH');
  });

  test("how old the node's view of it may be", async () => {
    world.blockAge = 3_600;
    expect(await judged(forged())).toBe('accepted');
    world.blockAge = 2 * 3_600;
    expect(await judged(forged())).toBe('SITE_BLOCK');
  });
});

test('whatever is changed afterwards, the signature is none', async () => {
  const evidence = forged();
  for (const name of ['measurement', 'config', 'platform', 'quoteHash', 'blockHash'] as const) {
    expect(await judged({ ...evidence, [name]: word }), name).toBe('SITE_SIGNATURE');
  }
  expect(await judged({ ...evidence, blockNumber: 99 })).toBe('SITE_SIGNATURE');
  // Who is on the way would like it to say that nobody could be.
  expect(await judged({ ...evidence, hostImpersonable: false })).toBe('SITE_SIGNATURE');
  const quoted = forged({ signed: { hostImpersonable: false } });
  expect(await judged(quoted)).toBe('REPORT_DATA_MISMATCH');
  const { r, vs } = evidence.signature;
  expect(await judged({ ...evidence, signature: { r: vs, vs: r } })).toBe('SITE_SIGNATURE');
  expect(await judged({ ...evidence, quote: forged({ image: 'another' }).quote })).toBe(
    'QUOTE_HASH_MISMATCH',
  );
});

test('a production network takes no simulated quote', async () => {
  expect(await judged(forged(), { flavour: 'production' })).toBe('PCK_CHAIN_ROOT');
});

test("the asker's own collateral goes before what the node brings", async () => {
  const collateral = simulatedCollateral();
  expect(await judged(forged({ collateral: 'none' }), { collateral })).toBe('accepted');
  expect(await judged(forged(), { collateral: expired })).toBe('TCB_INFO_EXPIRED');
});

describe('a key in kept evidence', () => {
  const networkKeys = new Map([1, 2].map((epoch) => [epoch, networkKey(secret, epoch).address]));
  const kept = (evidence: SiteEvidence) =>
    keptKey(evidence, 'a file', { network: scene.domain, flavour: 'sim', networkKeys, reader }).then(
      (key) => key.sha256,
      codeOf,
    );

  test('is known for the epoch whose network key signed it, whatever nonce and connection it was for', async () => {
    for (const epoch of [1, 2]) {
      const publicKey = p256PublicKey(tlsKey(secret, epoch));
      expect(await kept(forged({ epoch, said: { nonce: word } }))).toBe(toHex(sha256(publicKey)));
    }
  });

  test.each<[string, SiteLies, string]>([
    ["another network's", { said: { chainId: 8 } }, 'SITE_OTHER_NETWORK'],
    ['of an epoch that never was', { epoch: 3 }, 'SITE_EPOCH'],
    ['of another epoch than its key', { epoch: 2, said: { epoch: 1 } }, 'SITE_SIGNATURE'],
    ["of an app's quote", { reportData: new Uint8Array(64) }, 'REPORT_DATA_MISMATCH'],
    ['of another quote', { signed: { quoteHash: word } }, 'QUOTE_HASH_MISMATCH'],
    ['of another machine than its quote', { signed: { platform: word } }, 'SITE_CLAIM'],
  ])('is not, when it is %s', async (_, lies, code) => {
    expect(await kept(forged(lies))).toBe(code);
  });
});
