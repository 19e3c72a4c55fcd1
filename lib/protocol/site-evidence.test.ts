import { randomBytes } from 'node:crypto';
import { TypedDataEncoder } from 'ethers';
import { describe, expect, test } from 'vitest';
import published from '../../testdata/protocol/site.json' with { type: 'json' };
import { fromHex, lengthPrefixed, sha256, sha512, to0x, toHex, utf8 } from './encoding.ts';
import { parseAddress } from './hex.ts';
import { appReportData, bootstrapReportData, registerReportData } from './report-data.ts';
import { p256PublicKey, reportDataOfSite, siteOf } from './site-evidence.ts';
import {
  attestationDigest,
  bootstrapDigest,
  type Domain,
  onboardDigest,
  requestDigest,
  siteDigest,
} from './typed-data.ts';

/** As a parser would give them. */
type Vector = Parameters<typeof siteOf>[0] &
  Record<'privateKey' | 'publicKeyHash' | 'reportData' | 'digest', string>;
const vectors = published.vectors as unknown as Vector[];
const [first] = vectors;
const digestOfSite = (domain: Domain, said: Parameters<typeof siteOf>[0]) => siteDigest(domain, siteOf(said));
const claims = { type: 'site', version: 1 } as const;

test.each(vectors)('key, report data and digest match their vectors (epoch $epoch)', (vector) => {
  const domain = { chainId: vector.chainId, contract: vector.contract };
  expect(toHex(p256PublicKey(fromHex(vector.privateKey)))).toBe(vector.publicKey);
  expect(toHex(sha256(fromHex(vector.publicKey)))).toBe(vector.publicKeyHash);
  expect(toHex(reportDataOfSite(domain, vector))).toBe(vector.reportData);
  expect(toHex(digestOfSite(domain, { ...claims, ...vector }))).toBe(vector.digest);
});

test('any value of the typed data hashes as ethers hashes it', () => {
  const word = () => new Uint8Array(randomBytes(32));
  const value = {
    publicKeyHash: word(),
    nonce: word(),
    quoteHash: word(),
    measurement: word(),
    config: word(),
    platform: word(),
    blockNumber: 123_456_789,
    blockHash: word(),
    epoch: 7,
    hostImpersonable: true,
  };
  const words = Object.entries(value).map(([name, part]) => ({
    name,
    type: { number: 'uint64', boolean: 'bool' }[typeof part as string] ?? 'bytes32',
  }));
  const shown = Object.fromEntries(
    Object.entries(value).map(([name, part]) => [name, part instanceof Uint8Array ? to0x(part) : part]),
  );
  const domain = { chainId: 1, contract: parseAddress(`0x${'ab'.repeat(20)}`) };
  const theirs = { name: 'Dstack', version: '1', chainId: 1, verifyingContract: domain.contract };
  expect(to0x(siteDigest(domain, value))).toBe(TypedDataEncoder.hash(theirs, { Site: words }, shown));
});

describe('each field is in what is quoted, and in what is signed', () => {
  const domain = { chainId: first!.chainId, contract: first!.contract };
  const other = toHex(new Uint8Array(randomBytes(32)));
  const changed = {
    networkKey: `0x${'11'.repeat(20)}`,
    epoch: 2,
    publicKey: vectors[1]!.publicKey,
    nonce: other,
    config: other,
    blockHash: other,
    hostImpersonable: false,
  };

  test.each(Object.entries(changed))('%s', (name, value) => {
    expect(toHex(reportDataOfSite(domain, { ...first!, [name]: value }))).not.toBe(first!.reportData);
    // Of the network key it is the signature itself that tells.
    if (name === 'networkKey') return;
    expect(toHex(digestOfSite(domain, { ...claims, ...first!, [name]: value }))).not.toBe(first!.digest);
  });

  test('rawQuotes: in what is quoted, and so in the hash that is signed', () => {
    const named = (rawQuotes: string) => toHex(reportDataOfSite(domain, { ...first!, rawQuotes }));
    expect(new Set([first!.reportData, named('greeting'), named('other')]).size).toBe(3);
  });

  test.each([
    ['quoteHash', other],
    ['measurement', other],
    ['platform', other],
    ['blockNumber', 5],
  ])('the digest alone: %s', (name, value) => {
    expect(toHex(digestOfSite(domain, { ...claims, ...first!, [name]: value }))).not.toBe(first!.digest);
  });

  test.each([
    ['chain', { ...domain, chainId: 2 }],
    ['contract', { ...domain, contract: parseAddress(`0x${'22'.repeat(20)}`) }],
  ])('another %s', (_, elsewhere) => {
    expect(toHex(reportDataOfSite(elsewhere, first!))).not.toBe(first!.reportData);
    expect(toHex(digestOfSite(elsewhere, { ...claims, ...first! }))).not.toBe(first!.digest);
  });
});

test('no other purpose has its report data or its digest, whatever an app chooses', () => {
  const domain = { chainId: first!.chainId, contract: first!.contract };
  const [config, blockHash, nonce] = [first!.config, first!.blockHash, first!.nonce].map((hex) =>
    fromHex(hex),
  ) as [Uint8Array, Uint8Array, Uint8Array];
  const publicKey = fromHex(first!.publicKey);
  const { networkKey, epoch } = first!;
  const site = reportDataOfSite(domain, first!);
  // The whole of the other list, in every place where an app may put bytes of its own.
  const list = lengthPrefixed([utf8('dstack/v1/site'), publicKey, nonce]);
  const quoted = [
    appReportData('dstack/v1/site', config, list),
    appReportData('site', nonce, publicKey),
    bootstrapReportData({ ...domain, networkKey, config, epoch, blockHash }),
    registerReportData({ ...domain, node: networkKey, kemPublicKey: publicKey, config, epoch, blockHash }),
    sha512(list),
  ];
  expect(new Set([site, ...quoted].map(toHex)).size).toBe(quoted.length + 1);

  const typed = {
    publicKeyHash: sha256(publicKey),
    nonce,
    quoteHash: nonce,
    measurement: config,
    config,
    platform: config,
    blockNumber: 1,
    blockHash,
    epoch,
    hostImpersonable: true,
  };
  const signed = [
    siteDigest(domain, typed),
    attestationDigest(domain, { app: config, tag: 'Site', data: list }),
    onboardDigest(domain, {
      node: networkKey,
      requestHash: nonce,
      measurement: config,
      config,
      platform: config,
      answerHash: blockHash,
    }),
    bootstrapDigest(domain, { networkKey, ...typed }),
    requestDigest(domain, nonce),
  ];
  expect(new Set(signed.map(toHex)).size).toBe(signed.length);
});
