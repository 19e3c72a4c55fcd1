import { TypedDataEncoder } from 'ethers';
import { describe, expect, test } from 'vitest';
import { sha256, to0x, toHex, utf8 } from './encoding.ts';
import { parseAddress, parseHex } from './hex.ts';
import { ledgerKey, networkKey } from './keys.ts';
import {
  type LedgerStatement,
  ledgerKeyOf,
  parseLedgerEvidence,
  reportDataOfLedger,
  signLedgerEvidence,
} from './ledger-evidence.ts';
import { sign } from './secp256k1.ts';
import { ledgerDigest } from './typed-data.ts';

const secret = new Uint8Array(32).fill(7);
const network = { chainId: 31337, contract: parseAddress(`0x${'ab'.repeat(20)}`) };
const key = networkKey(secret, 1);
const word = (text: string) => parseHex(toHex(sha256(utf8(text))));
const by =
  ({ privateKey }: { privateKey: Uint8Array }) =>
  (digest: Uint8Array) =>
    sign(digest, privateKey);
const said: LedgerStatement = {
  ...network,
  networkKey: key.address,
  epoch: 1,
  log: parseHex('03'.repeat(16)),
  publicKey: parseHex(toHex(ledgerKey(secret, 1, new Uint8Array(16)))),
  quoted: { config: word('config'), blockHash: word('block'), quote: parseHex('0102') },
};
const evidence = signLedgerEvidence(said, by(key));
const { quoted: _, ...unquoted } = evidence;
const refusal = (code: string) => expect.objectContaining({ code });

test('the typed data hashes as ethers hashes it', () => {
  const [publicKey, quoteHash] = [sha256(utf8('key')), sha256(utf8('quote'))];
  const domain = { name: 'Dstack', version: '1', chainId: 31337, verifyingContract: network.contract };
  const fields = ['bytes16 log', 'bytes32 publicKey', 'bytes32 quoteHash', 'uint64 epoch'].map((field) =>
    field.split(' '),
  );
  const types = { Ledger: fields.map(([type, name]) => ({ type: type!, name: name! })) };
  const log = new Uint8Array(16).fill(3);
  const value = { log: to0x(log), publicKey: to0x(publicKey), quoteHash: to0x(quoteHash), epoch: 5 };
  const ours = ledgerDigest(network, { log, publicKey, quoteHash, epoch: 5 });
  expect(to0x(ours)).toBe(TypedDataEncoder.hash(domain, types, value));
});

test('a key that the network key vouches for, read from text', () => {
  const read = parseLedgerEvidence(JSON.stringify(evidence));
  expect(toHex(ledgerKeyOf(read, network, key.address))).toBe(said.publicKey);
  const { quoted, ...plain } = said;
  expect(quoted).toBeDefined();
  expect(toHex(ledgerKeyOf(signLedgerEvidence(plain, by(key)), network, key.address))).toBe(said.publicKey);
});

describe('refused', () => {
  const other = networkKey(secret, 2);
  test.each([
    ['another chain', { ...evidence, chainId: 1 }, 'LEDGER_OTHER_NETWORK'],
    ['another contract', { ...evidence, contract: key.address }, 'LEDGER_OTHER_NETWORK'],
    ['another key', { ...evidence, publicKey: word('x') }, 'LEDGER_KEY_UNSIGNED'],
    ['another log', { ...evidence, log: parseHex('04'.repeat(16)) }, 'LEDGER_KEY_UNSIGNED'],
    ['another epoch', { ...evidence, epoch: 2 }, 'LEDGER_KEY_UNSIGNED'],
    [
      'another quote',
      { ...evidence, quoted: { ...said.quoted!, quote: parseHex('0103') } },
      'LEDGER_KEY_UNSIGNED',
    ],
    ['the quote left out', unquoted, 'LEDGER_KEY_UNSIGNED'],
    ['signed by another', signLedgerEvidence(said, by(other)), 'LEDGER_KEY_UNSIGNED'],
    ['another network key named', { ...evidence, networkKey: other.address }, 'LEDGER_KEY_UNSIGNED'],
  ])('%s', (_, forged, code) => {
    expect(() => ledgerKeyOf(forged, network, key.address)).toThrowError(refusal(code));
  });

  test('text of another form', () => {
    for (const text of ['', '{}', JSON.stringify({ ...evidence, more: 1 })])
      expect(() => parseLedgerEvidence(text)).toThrowError(refusal('LEDGER_EVIDENCE'));
  });
});

test('each thing that is said is in what is quoted', () => {
  const config = sha256(utf8('config'));
  const quoted = (changed: Partial<LedgerStatement>, block = config) =>
    toHex(reportDataOfLedger({ ...said, ...changed }, config, block));
  const all = [
    quoted({}),
    quoted({ chainId: 1 }),
    quoted({ contract: key.address }),
    quoted({ networkKey: network.contract }),
    quoted({ epoch: 2 }),
    quoted({ log: parseHex('04'.repeat(16)) }),
    quoted({ publicKey: word('x') }),
    quoted({}, sha256(utf8('block'))),
  ];
  expect(new Set(all).size).toBe(all.length);
});
